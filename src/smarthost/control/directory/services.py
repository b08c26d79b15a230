"""Changes of anything that decides, and the directory compiled in the same transaction.

    with changing(actor) as change:
        …rows are written…
        change.touch(application.id)                      # its principal row is compiled anew, or removed
        change.record(application.id, "…", {"enabled": (True, False)})

The one row of `directory` is locked first, so changes happen one after another and the version that `admit`
sees names exactly one state. Either all of it is committed (rows, directory, principals, event) or nothing;
the engine is woken after the commit. What the directory must not contain is refused here, and the change
with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from django.db import transaction
from django.utils import timezone

from smarthost import faults
from smarthost.control.directory import compiling, policy
from smarthost.control.directory.models import Directory, Principal, PrincipalSecret
from smarthost.control.messages.models import Event
from smarthost.control.spooling import wake
from smarthost.errors import ConfigError
from smarthost.routing import decode_directory, encode_directory, encode_principal
from smarthost.spool import now_us


@dataclass(slots=True)
class Change:
    """A change under way. `version` is the one that the directory will have; `unchanged`: none is needed."""

    actor: str
    version: int
    unchanged: bool = False
    touched: set[str] = field(default_factory=set)

    def touch(self, principal: str) -> None:
        """Compile this principal's row anew at the end; a principal that is gone loses it."""
        self.touched.add(principal)

    def record(
        self,
        subject: str,
        text: str,
        changes: Mapping[str, tuple[object, object]] | None = None,
        *,
        kind: str = "config.changed",
        severity: str = "info",
    ) -> None:
        """Note who changed what, from what to what. The caller gives secrets as "changed"."""
        data = {"changes": {name: {"from": old, "to": new} for name, (old, new) in (changes or {}).items()}}
        Event.objects.create(
            at=now_us(),
            kind=kind,
            subject=subject if ":" in subject else f"setting:{subject}",
            text=text,
            severity=severity,
            actor=self.actor,
            data=json.dumps(data, default=str),
        )


@contextmanager
def changing(actor: str, *, compiles: bool = True) -> Iterator[Change]:
    """A transaction that changes what decides. compiles False: only the event is needed.

    Raises ConfigError where the directory would be impossible, such as one network for two applications.
    """
    with transaction.atomic():
        row = _locked() if compiles else None
        change = Change(actor, row.version + 1 if row else 0)
        yield change
        if row is not None and not change.unchanged:
            _publish(row, change)
            transaction.on_commit(lambda: wake("directory"))


def ensure_compiled() -> None:
    """Compile what is missing, or what another version of Smarthost wrote and this one cannot read."""
    row = Directory.objects.filter(id=1).first()
    try:
        if row is not None:
            decode_directory(row.body)
            return
    except ConfigError:
        pass
    with changing("start") as change:
        for id in Principal.objects.values_list("id", flat=True):
            change.touch(id)


def _locked() -> Directory:
    Directory.objects.get_or_create(id=1, defaults={"version": 0, "body": ""})
    return Directory.objects.select_for_update().get(id=1)


def _publish(row: Directory, change: Change) -> None:
    directory = compiling.directory(change.version)
    row.version, row.body, row.compiled_at = (
        change.version,
        encode_directory(directory).decode(),
        timezone.now(),
    )
    row.save()
    faults.point("during-config")
    for id in sorted(change.touched):
        _publish_principal(id, change.version)
    faults.point("during-config")


def _publish_principal(id: str, version: int) -> None:
    compiled = compiling.principal(id, version)
    if compiled is None:
        Principal.objects.filter(id=id).delete()
        return
    principal, secrets = compiled
    if Principal.objects.filter(login=principal.login).exclude(id=id).exists():
        raise ConfigError(f"The login {principal.login} belongs to somebody else", field="username")
    Principal.objects.update_or_create(
        id=id,
        defaults={
            "login": principal.login,
            "body": encode_principal(principal).decode(),
            "version": version,
        },
    )
    PrincipalSecret.objects.filter(principal_id=id).delete()
    PrincipalSecret.objects.bulk_create(
        PrincipalSecret(hash=secret.hash, principal_id=id, scopes=secret.scopes, expires_at=secret.expires_at)
        for secret in secrets
    )


def set_setting(name: str, value: object, *, actor: str) -> None:
    """Set a scalar or an alias. Raises ConfigError: unknown, unfit, locked with its origin."""
    with changing(actor) as change:
        policy.store(change, name, value)


def restore_setting(name: str, *, actor: str) -> None:
    """Take back what was set here, so that files, variables or the default show."""
    with changing(actor) as change:
        policy.restore(change, name)
