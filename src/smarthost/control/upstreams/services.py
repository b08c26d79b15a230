"""What commands, API and pages do with servers. Every function that changes something names its actor.

A stored password stays only for the destination it was given for: whoever changes the host, the port, the
encryption, the verification, the user name or the mechanism has to give it again, so that nobody who may
edit a server can have its password sent to another one. What comes back from here never holds a secret.

The first server that is set ends capture mode; only `set_mode` enters it again.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings

from smarthost.config import server_problems
from smarthost.control.directory import policy
from smarthost.control.directory.services import Change, changing
from smarthost.control.ids import fresh
from smarthost.control.secret_key import installation_key
from smarthost.control.upstreams import checks
from smarthost.control.upstreams.models import Upstream
from smarthost.errors import ConfigError, NotFound
from smarthost.routing import Mode
from smarthost.vault import Destination, Key, seal, unseal

SECRETS = ("password", "client_key")
SETTABLE = tuple(field for field in checks.FIELDS if field not in SECRETS)
BOUND = ("host", "port", "encryption", "verify", "username", "mechanism")
"""What a sealed secret is bound to."""


def set_upstream(
    name: str | None,
    values: Mapping[str, object],
    *,
    actor: str,
    password: str | None = None,
    client_key: str | None = None,
    default: bool | None = None,
) -> dict[str, object]:
    """Create the server or change it; what `values` leaves out stays. Returns it as `show` does.

    name        None is the default server, or "default" where there is none yet.
    values      any of SETTABLE. password, client_key: in clear, None leaves the stored one, "" removes it.
    default     True makes it the default one; the first server becomes it in any case.
    Raises ConfigError naming the field (a password that must be given again: field password), or the origin
    of a locked server; AddressError for the From address.
    """
    if unknown := sorted(set(values) - set(SETTABLE)):
        raise ConfigError(f"A server has no setting {unknown[0]}", field=unknown[0])
    with changing(actor) as change:
        row, before = _row(name, values)
        for field, value in values.items():
            setattr(row, field, checks.check(field, value))
        _seal_secrets(row, before, password, client_key)
        _refuse_locked(row, before)
        _check_whole(row)
        _store(row, change, before, default)
        policy.end_capture(change)
    return show(row)


def show(row: Upstream) -> dict[str, object]:
    """Everything about a server but its secrets: of those only whether there is one."""
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "default": row.is_default,
        **{field: getattr(row, field) for field in SETTABLE},
        "has_password": bool(row.password),
        "has_client_key": bool(row.client_key),
        "origin": row.origin or "set here",
        "locked": row.locked,
        "version": row.version,
    }


def find(text: str | None) -> Upstream:
    """The server of this name or id; None is the default one. Raises NotFound."""
    rows = Upstream.objects.filter(kind="shared")
    if text is None:
        found = rows.filter(is_default=True).first()
    else:
        found = rows.filter(name=text).first() or rows.filter(id=text).first()
    if found is None:
        raise NotFound("There is no default server" if text is None else f"There is no server {text}")
    return found


def list_upstreams() -> list[dict[str, object]]:
    """All servers, by name, without their secrets."""
    return [show(row) for row in Upstream.objects.order_by("name")]


def remove(text: str, *, actor: str) -> None:
    """Remove a server. What waits for it waits until it is rerouted. A file's server shows
    again within two seconds while the web process runs.

    Raises NotFound, ConfigError for a locked one.
    """
    with changing(actor) as change:
        row = find(text)
        _refuse_locked(row)
        change.record(row.id, f"Server {row.name} was removed", {"name": (row.name, "")})
        row.delete()


def set_default(text: str, *, actor: str) -> None:
    """Make this the server that carries what no other rule claims. Raises NotFound."""
    with changing(actor) as change:
        make_default(find(text), change)


def set_mode(mode: str, *, actor: str) -> None:
    """Enter or leave capture mode. Raises ConfigError where the mode is locked or unknown."""
    if mode not in (Mode.CAPTURE, Mode.LIVE):
        raise ConfigError("The mode is live or capture", field="mode")
    with changing(actor) as change:
        policy.store_mode(change, Mode(mode))


def seal_for(row: Upstream, secret: str) -> str:
    """Seal a secret for this server's destination and no other."""
    return seal(_key(), secret, _destination(row)) if secret else ""


def open_secret(row: Upstream, field: str) -> str:
    """A sealed secret of this server in clear. Raises SecretError where it does not belong to it."""
    return unseal(_key(), getattr(row, field), _destination(row)) if getattr(row, field) else ""


def _destination(row: Upstream) -> Destination:
    return Destination(**{field: getattr(row, field) for field in BOUND})


def _key() -> Key:
    return installation_key(settings.PROCESS)


def _row(name: str | None, values: Mapping[str, object]) -> tuple[Upstream, dict[str, object]]:
    """The row to change and what it was before; a new one where there is none."""
    rows = Upstream.objects.filter(kind="shared")
    row = rows.filter(is_default=True).first() if name is None else rows.filter(name=name).first()
    if row is None:
        if not values.get("host"):
            raise ConfigError("A new server needs a host", field="host")
        row = Upstream(id=fresh("upstream"), name=checks.name(name or "default"), version=0)
        return row, {}
    return row, {field: getattr(row, field) for field in (*SETTABLE, *SECRETS)}


def _refuse_locked(row: Upstream, before: Mapping[str, object] | None = None) -> None:
    """What is locked keeps its value; a server of which anything is locked cannot be removed."""
    now = policy.settings()
    for field in (*SETTABLE, *SECRETS):
        changes = before is None or before.get(field, getattr(Upstream(), field)) != getattr(row, field)
        origin = policy.lock_of(now, row.name, field) if changes else None
        if origin is not None:
            raise ConfigError(
                f"{field} of the server {row.name} is locked by {origin}; change it there",
                origin=origin,
                field=field,
            )


def _check_whole(row: Upstream) -> None:
    """What no field shows alone."""
    if row.mechanism == "none" and row.username:
        raise ConfigError(
            "With authentication none there is neither user name nor password", field="mechanism"
        )
    for problem in server_problems({field: getattr(row, field) for field in (*SETTABLE, *SECRETS)}):
        raise problem


def _seal_secrets(
    row: Upstream, before: Mapping[str, object], password: str | None, client_key: str | None
) -> None:
    moved = bool(before) and any(before[field] != getattr(row, field) for field in BOUND)
    for field, given in (("password", password), ("client_key", client_key)):
        if given is not None:
            if field == "client_key" and given:
                checks.private_key(given)
            setattr(row, field, seal_for(row, checks.check(field, given)))
        elif moved and getattr(row, field):
            word = "password" if field == "password" else "client key"
            raise ConfigError(
                f"The stored {word} belongs to the server as it was. Give it again to use it with another"
                " host, port, encryption, verification, user name or mechanism.",
                field=field,
            )


def _store(row: Upstream, change: Change, before: Mapping[str, object], default: bool | None) -> None:
    row.version += 1
    row.origin = ""
    row.save()
    changes: dict[str, tuple[object, object]] = {}
    for field in (*SETTABLE, *SECRETS):
        old, new = before.get(field, ""), getattr(row, field)
        if old != new:
            secret = field in SECRETS or field.endswith("_pem")
            changes[field] = ("", "changed") if secret else (old, new)
    change.record(row.id, f"Server {row.name} was {'changed' if before else 'added'}", changes)
    if default or not Upstream.objects.filter(is_default=True).exists():
        make_default(row, change)


def make_default(row: Upstream, change: Change) -> None:
    """Within a change: this server is the default one, and no other."""
    if row.is_default:
        return
    old = Upstream.objects.filter(is_default=True).first()
    Upstream.objects.filter(is_default=True).update(is_default=False)
    row.is_default = True
    row.save(update_fields=["is_default"])
    change.record(
        row.id, f"{row.name} is the default server", {"default": (old.name if old else "", row.name)}
    )
