"""The capability's place in Django."""

from django.apps import AppConfig


class UpstreamsConfig(AppConfig):
    name = "smarthost.control.upstreams"
    label = "upstreams"
