"""The capability's place in Django."""

from django.apps import AppConfig


class PagesConfig(AppConfig):
    name = "smarthost.control.pages"
    label = "pages"
