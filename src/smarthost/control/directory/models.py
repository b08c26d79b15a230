"""The compiled directory as everybody else reads it, and the stored settings that it is compiled from.

The engine reads `directory`, `principal` and `principal_secret` with SQL of its own: these names and columns
are a contract between the floors. Bodies are the JSON of `routing.encode_directory` and `encode_principal`.
"""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Directory(models.Model):
    """One row, id 1. `version` grows with every change of anything that decides."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    version = models.BigIntegerField()
    body = models.TextField()
    compiled_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "directory"

    def __str__(self) -> str:
        return f"directory {self.version}"


class Principal(models.Model):
    """One row for each who may send; `version` is the directory's version of its last change."""

    id = models.CharField(primary_key=True, max_length=40)
    login = models.CharField(max_length=254, unique=True)
    body = models.TextField()
    version = models.BigIntegerField()

    class Meta:
        db_table = "principal"

    def __str__(self) -> str:
        return self.id


class PrincipalSecret(models.Model):
    """A credential of a principal. `scopes` are words with a space between, `expires_at` microseconds."""

    hash = models.CharField(primary_key=True, max_length=64)
    principal = models.ForeignKey(Principal, on_delete=models.CASCADE, related_name="secrets")
    scopes = models.TextField(default="")
    expires_at = models.BigIntegerField(null=True)

    class Meta:
        db_table = "principal_secret"

    def __str__(self) -> str:
        return f"secret of {self.principal_id}"


class Setting(models.Model):
    """A scalar setting that was set in the pages or by a command; files and variables lie below it."""

    name = models.CharField(primary_key=True, max_length=100)
    value = models.JSONField()
    set_by = models.CharField(max_length=254)
    set_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "setting"

    def __str__(self) -> str:
        return self.name


class Layer(models.Model):
    """The settings that lie below the stored ones, as the serving process last read them without error.

    A command may run with another environment than the service; it compiles with these and not with its own.
    They are also what stays in force while a file is broken.
    """

    name = models.CharField(primary_key=True, max_length=20)  # "files" or "environment"
    body = models.TextField()
    read_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "setting_layer"

    def __str__(self) -> str:
        return self.name
