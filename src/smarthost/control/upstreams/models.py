"""The stored form of an upstream. Its fields are those of `routing.Upstream`, which the directory holds."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Upstream(models.Model):
    """An SMTP server. `password` and `client_key` are sealed for exactly this destination (see vault).

    origin  where it is described: "" when an administrator set it here, else "file x.toml, line 4" or the
            variable. Such a row follows its file until an administrator sets the server, unless `locked`.
    """

    id = models.CharField(primary_key=True, max_length=40, editable=False)
    name = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=16, default="shared")
    host = models.CharField(max_length=255)
    port = models.PositiveIntegerField(default=587)
    encryption = models.CharField(max_length=16, default="starttls")
    verify = models.BooleanField(default=True)
    enabled = models.BooleanField(default=True)
    is_default = models.BooleanField(default=False)
    ca_pem = models.TextField(default="", blank=True)
    pin = models.CharField(max_length=64, default="", blank=True)
    client_cert_pem = models.TextField(default="", blank=True)
    client_key = models.TextField(default="", blank=True)
    helo = models.CharField(max_length=255, default="", blank=True)
    mechanism = models.CharField(max_length=32, default="auto")
    username = models.CharField(max_length=1024, default="", blank=True)
    password = models.TextField(default="", blank=True)
    from_address = models.CharField(max_length=320, default="", blank=True)
    from_name = models.CharField(max_length=255, default="", blank=True)
    connections = models.PositiveIntegerField(default=8)
    rate = models.PositiveIntegerField(default=0)
    quota = models.PositiveIntegerField(default=0)
    max_size = models.PositiveBigIntegerField(default=0)
    max_recipients = models.PositiveIntegerField(default=100)
    unknown = models.CharField(max_length=8, default="retry")
    owner = models.CharField(max_length=40, default="", blank=True)
    origin = models.CharField(max_length=500, default="", blank=True)
    locked = models.BooleanField(default=False)
    version = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "upstream"
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=models.Q(is_default=True), name="upstream_one_default"
            ),
        ]

    def __str__(self) -> str:
        return self.name
