"""The capability's place in Django."""

from django.apps import AppConfig


class ApplicationsConfig(AppConfig):
    name = "smarthost.control.applications"
    label = "applications"
