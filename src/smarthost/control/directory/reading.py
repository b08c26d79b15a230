"""The directory as the web process reads it: one snapshot, replaced as a whole when its version changes.

The version is read for every request, which is one small read of the store; so a token that was revoked, or a
role that was taken away, is worthless with the next request. Everything else comes from memory.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from smarthost.control.accounts.models import Role, Token, User
from smarthost.control.directory.models import PrincipalSecret
from smarthost.control.spooling import spool
from smarthost.errors import StoreUnavailable
from smarthost.routing import Directory, Principal, decode_directory, decode_principal
from smarthost.spool import now_us

MOST_CALLERS = 20_000
HOUR_US = 3600 * 1_000_000


@dataclass(slots=True)
class Caller:
    """Who asks, and what this credential lets them do. role is "" for an application."""

    principal: Principal
    scopes: frozenset[str]
    role: str = ""
    expires_at: int | None = None
    token: str = ""
    touched: int = 0

    @property
    def administers(self) -> bool:
        """Whether servers, applications and everybody's messages may be managed with this credential."""
        return self.role in (Role.OWNER, Role.ADMIN) and "admin" in self.scopes

    @property
    def sees_all(self) -> bool:
        """Whether everybody's message log may be read with this credential."""
        return self.administers or (self.role == Role.AUDITOR and "messages:read" in self.scopes)

    @property
    def actor(self) -> str:
        """How this caller stands in events."""
        return self.principal.id


@dataclass(slots=True)
class Snapshot:
    """One version of the directory with the callers that were seen under it."""

    directory: Directory
    callers: dict[str, Caller] = field(default_factory=dict)
    principals: dict[str, Principal] = field(default_factory=dict)

    def caller(self, secret_hash: str) -> Caller | None:
        """Whose unexpired token this is; None for everything else. Unknown ones are not remembered."""
        found = self.callers.get(secret_hash)
        if found is None:
            found = _load_caller(secret_hash)
            if found is None:
                return None
            if len(self.callers) >= MOST_CALLERS:
                self.callers.clear()
            self.callers[secret_hash] = found
        now = now_us()
        if found.expires_at is not None and found.expires_at <= now:
            return None
        if now - found.touched > HOUR_US:
            found.touched = now
            _touch(found.token)
        return found

    def principal(self, id: str) -> Principal | None:
        """A principal that may send, by its id."""
        found = self.principals.get(id)
        if found is None:
            body = spool().principal(id)
            if body is None:
                return None
            found = decode_principal(body)
            if len(self.principals) >= MOST_CALLERS:
                self.principals.clear()
            self.principals[id] = found
        return found if found.enabled else None


_lock = threading.Lock()
_snapshot: Snapshot | None = None


def current() -> Snapshot:
    """The newest committed directory. Raises StoreUnavailable while there is none."""
    global _snapshot  # noqa: PLW0603 - one snapshot for each process is the point
    version = spool().directory_version()
    found = _snapshot
    if found is not None and found.directory.version == version:
        return found
    with _lock:
        body = spool().directory()
        if body is None:
            raise StoreUnavailable("This installation is not ready yet; try again")
        _snapshot = Snapshot(decode_directory(body))
        return _snapshot


def _load_caller(secret_hash: str) -> Caller | None:
    row = PrincipalSecret.objects.filter(hash=secret_hash).select_related("principal").first()
    if row is None:
        return None
    principal = decode_principal(row.principal.body)
    if not principal.enabled:
        return None
    role = User.objects.filter(id=principal.id).values_list("role", flat=True).first()
    token = Token.objects.filter(hash=secret_hash).values_list("id", flat=True).first()
    return Caller(principal, frozenset(row.scopes.split()), role or "", row.expires_at, token or "")


def _touch(token: str) -> None:
    """Note a use, at most hourly and process: enough to tell a live token from a forgotten one."""
    from django.utils import timezone

    Token.objects.filter(id=token).update(last_used_at=timezone.now())
