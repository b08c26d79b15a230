"""The capability's place in Django."""

from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "smarthost.control.api"
    label = "api"
