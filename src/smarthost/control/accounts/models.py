"""Users, the addresses they may write as, their tokens and sign-in links.

A secret that a program presents (token, sign-in link) is generated, and only its SHA-256 is stored: it has
256 bits of its own, so a slow hash would protect nothing. A password is a person's, and Django hashes it.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models
from django.utils import timezone


class Role(models.TextChoices):
    """What a user may do here. An owner is an admin who cannot be removed by one; an auditor reads all."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    AUDITOR = "auditor"


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(username=username)


class User(AbstractBaseUser):
    """A person. `id` is "user:" and a ULID: it is the principal's id everywhere.

    email      the primary address, canonical; the same text is one of `addresses`. "" for an owner whom
               the first link let in and who has none yet.
    email_key  the address in lower case, as policy compares it: one account an address.
    """

    id = models.CharField(primary_key=True, max_length=40, editable=False)
    username = models.CharField(max_length=254, unique=True)
    email = models.CharField(max_length=320, blank=True)
    email_key = models.CharField(max_length=320, unique=True, null=True)
    role = models.CharField(max_length=16, choices=Role.choices, default=Role.MEMBER)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = UserManager()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["email"]

    class Meta:
        db_table = "account"

    @property
    def administers(self) -> bool:
        """Whether this user may change servers, applications and people."""
        return self.is_active and self.role in (Role.OWNER, Role.ADMIN)

    @property
    def sees_all(self) -> bool:
        """Whether this user may read everybody's message log (never bodies, without an audited reveal)."""
        return self.is_active and self.role in (Role.OWNER, Role.ADMIN, Role.AUDITOR)

    def __str__(self) -> str:
        return self.username


class EmailAddress(models.Model):
    """An address of a user. Only a verified one is an identity that the user may write as."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="addresses")
    address = models.CharField(max_length=320)
    key = models.CharField(max_length=320)
    verified = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "account_address"
        constraints = [
            models.UniqueConstraint(fields=["user", "key"], name="account_address_once"),
            # Two people may claim an address, only one can have proven it.
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(verified=True), name="account_address_verified"
            ),
        ]

    def __str__(self) -> str:
        return self.address


class Token(models.Model):
    """A generated credential of a principal for HTTP, and for SMTP where its scopes hold messages:send.

    principal     "user:…" or "app:…".
    hash          hex SHA-256 of the secret; the secret itself was shown once.
    last_used_at  coarse: written at most once an hour.
    """

    id = models.CharField(primary_key=True, max_length=40, editable=False)
    principal = models.CharField(max_length=40, db_index=True)
    name = models.CharField(max_length=100)
    hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "account_token"

    def __str__(self) -> str:
        return self.name


class SignInLink(models.Model):
    """A link that signs its user in once. It is consumed by POST alone: link scanners only GET."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="links")
    hash = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "account_link"

    def __str__(self) -> str:
        return f"link of {self.user_id}"
