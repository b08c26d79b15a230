"""A program that sends, and what it is known by."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class Application(models.Model):
    """`id` is "app:" and a ULID: the principal's id. `hash` is the hex SHA-256 of its SMTP password.

    networks        CIDRs from which no credential is needed.
    clear_networks  CIDRs from which it may give its credential without TLS (old printers).
    uids            Unix users that stand for it at the sendmail socket.
    """

    id = models.CharField(primary_key=True, max_length=40, editable=False)
    name = models.CharField(max_length=100, unique=True)
    username = models.CharField(max_length=64, unique=True)
    hash = models.CharField(max_length=64)
    enabled = models.BooleanField(default=True)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="applications"
    )
    networks = models.JSONField(default=list)
    clear_networks = models.JSONField(default=list)
    uids = models.JSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "application"

    def __str__(self) -> str:
        return self.name
