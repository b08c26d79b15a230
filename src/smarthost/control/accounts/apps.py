"""The capability's place in Django."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "smarthost.control.accounts"
    label = "accounts"
