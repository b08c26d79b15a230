from django.apps import AppConfig


class MessagesConfig(AppConfig):
    """The label differs from the folder: `messages` is Django's own."""

    name = "smarthost.control.messages"
    label = "spool"
    default_auto_field = "django.db.models.BigAutoField"
