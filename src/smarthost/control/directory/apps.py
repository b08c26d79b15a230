"""The capability's place in Django."""

from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    name = "smarthost.control.directory"
    label = "directory"
