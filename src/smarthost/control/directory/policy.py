"""Settings in their layers, and the servers that files and variables describe.

The serving process reads configuration files and its environment; what it last read without a problem is kept
in the store (without secrets). Every process compiles from those kept layers and never from its own
environment: an administrator's shell is not the service's. Until the service ran once, a command reads for
itself. A file that is broken changes nothing: the last good layers stay, and an event says what is wrong.

A server of a file becomes a row of its own, sealed like any other, that follows its file. When an
administrator changes it here it is theirs (origin "") and follows no longer; when they remove it, the file's
shows again. What is locked cannot be changed here, and a locked server follows its file in any case.
"""

from __future__ import annotations

import socket
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from django.conf import settings as django_settings

from smarthost.config import (
    UPSTREAM,
    Layer,
    Settings,
    UpstreamSource,
    check_value,
    decode_layer,
    encode_layer,
    load,
    resolve,
    stored_layer,
)
from smarthost.control.directory.models import Layer as LayerRow
from smarthost.control.directory.models import Setting
from smarthost.errors import ConfigError
from smarthost.routing import Mode

if TYPE_CHECKING:
    from smarthost.control.directory.services import Change

MODE = "mode"
KEYS = {field.field: field.key for field in UPSTREAM}
"""Field of a server → its key in files."""


def settings() -> Settings:
    """The effective settings with their origins, as this transaction sees them. Raises ConfigError."""
    kept = {row.name: row.body for row in LayerRow.objects.all()}
    if "files" in kept:
        layers = (decode_layer(kept["files"]), decode_layer(kept["environment"]))
        lock = tuple(msgspec.json.decode(kept["lock"], type=list[str]))
    else:
        loaded = load(django_settings.PROCESS)
        if loaded.problems:
            raise loaded.problems[0]
        layers = (loaded.files, loaded.environment)
        lock = django_settings.PROCESS.lock
    stored, _ = stored_layer(
        (row.name, row.value, row.set_by, row.set_at.isoformat(timespec="seconds"))
        for row in Setting.objects.exclude(name=MODE)
    )
    return resolve((*layers, stored), lock)


def keep(files: Layer, environment: Layer) -> bool:
    """Keep these layers in the store; whether they differ from what was kept."""
    bodies = {
        "files": encode_layer(files),
        "environment": encode_layer(environment),
        "lock": msgspec.json.encode(django_settings.PROCESS.lock).decode(),
    }
    if {row.name: row.body for row in LayerRow.objects.all()} == bodies:
        return False
    for name, body in bodies.items():
        LayerRow.objects.update_or_create(name=name, defaults={"body": body})
    return True


def store(change: Change, name: str, value: object) -> None:
    """Set a scalar or an alias above files and variables. Raises ConfigError: unknown, unfit, locked."""
    canonical = check_value(name, value)
    now = settings()
    _refuse_locked(now, name)
    before = now.values.get(name)
    Setting.objects.update_or_create(name=name, defaults={"value": canonical, "set_by": change.actor})
    change.record(name, f"{name} was set", {name: (before.value if before else "", canonical)})


def restore(change: Change, name: str) -> None:
    """Let the layer below show again. Raises ConfigError where it is locked; nothing set is fine."""
    now = settings()
    _refuse_locked(now, name)
    row = Setting.objects.filter(name=name).exclude(name=MODE).first()
    if row is not None:
        row.delete()
        change.record(name, f"{name} is what files or defaults say", {name: (row.value, "")})


def mode() -> Mode:
    """The stored mode: capture until the first server is set."""
    row = Setting.objects.filter(name=MODE).first()
    return Mode(row.value) if row else Mode.CAPTURE


def store_mode(change: Change, wanted: Mode) -> None:
    """Enter or leave capture mode."""
    before = mode()
    Setting.objects.update_or_create(name=MODE, defaults={"value": wanted.value, "set_by": change.actor})
    if before != wanted:
        text = "Mail is sent from now on" if wanted is Mode.LIVE else "Mail is captured from now on, not sent"
        change.record(MODE, text, {MODE: (before.value, wanted.value)}, severity="warning")


def end_capture(change: Change) -> None:
    """The first server ends capture mode; where an administrator chose a mode, that stays."""
    if not Setting.objects.filter(name=MODE).exists():
        store_mode(change, Mode.LIVE)


def lock_of(now: Settings, server: str, field: str) -> str | None:
    """Where this field of a server is locked, as an origin for people; None where it may be changed."""
    if not now.locked(f"upstream.{server}.{KEYS[field]}"):
        return None
    source = next((row for row in now.upstreams if row.name == server), None)
    value = source.fields.get(field) if source else None
    return value.origin if value and value.origin != "default" else "SMARTHOST_LOCK or delivery.driver"


def source_of(now: Settings, server: str) -> UpstreamSource | None:
    """What files and variables say of this server."""
    return next((row for row in now.upstreams if row.name == server), None)


@lru_cache(maxsize=1)
def machine() -> str:
    """This machine's own name, "localhost" only where it has no other. Asked for once: it can be slow."""
    full = socket.getfqdn().lower()
    return socket.gethostname().lower() if full.partition(".")[0] == "localhost" else full


def _refuse_locked(now: Settings, name: str) -> None:
    if now.locked(name):
        value = now.values.get(name)
        origin = value.origin if value and value.origin != "default" else "SMARTHOST_LOCK"
        raise ConfigError(f"{name} is locked by {origin}; change it there", origin=origin, field=name)
