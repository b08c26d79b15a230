"""What commands, API and pages do with applications. Every function that changes something names its actor.

An application is known by a generated user name and password, or by where it comes from: a network, or a
Unix user at the sendmail socket. Then it has no password at all, and nothing to leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import IntegrityError

from smarthost.control.accounts.models import Token, User
from smarthost.control.accounts.services import new_token
from smarthost.control.applications.models import Application
from smarthost.control.directory.services import changing
from smarthost.control.ids import fresh
from smarthost.control.security import parse_networks
from smarthost.errors import ConfigError, Conflict, NotFound
from smarthost.routing import hash_secret
from smarthost.vault import random_secret


@dataclass(frozen=True, slots=True)
class Created:
    """A new application with its secrets, which are shown this once. None: it has no such credential."""

    application: Application
    username: str | None
    password: str | None
    token: str | None


def add(
    name: str,
    *,
    actor: str,
    networks: Iterable[str] = (),
    uids: Iterable[int] = (),
    clear_networks: Iterable[str] = (),
    token: bool = False,
    owner: User | None = None,
) -> Created:
    """Make an application. A network or a Unix user replaces its credential; `token` adds one for HTTP.

    clear_networks  from there it may give its credential without TLS.
    Raises ConfigError (name, network, uid; one that another application has), Conflict where it exists.
    """
    if not name or len(name) > 100 or not name.isprintable() or name != name.strip():
        raise ConfigError("An application's name is 1 to 100 printable characters", field="name")
    nets, clear, users = (
        _networks(networks, "networks"),
        _networks(clear_networks, "clear_networks"),
        _uids(uids),
    )
    password = None if nets or users else random_secret()
    username = (
        f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[:40] or 'app'}-{random_secret(4).lower()}"
    )
    row = Application(
        id=fresh("app"),
        name=name,
        username=username,
        hash=hash_secret(password) if password else "",
        owner=owner,
        networks=nets,
        clear_networks=clear,
        uids=users,
    )
    secret = None
    try:
        with changing(actor) as change:
            row.save(force_insert=True)
            change.touch(row.id)
            change.record(
                row.id, f"Application {name} was added", {"networks": ([], nets), "uids": ([], users)}
            )
            if token:
                scopes = ("messages:send", "messages:read", "messages:act")
                _, secret = new_token(change, row.id, name, scopes)
    except IntegrityError:
        raise Conflict(f"There is an application {name} already", field="name") from None
    return Created(row, username if password else None, password, secret)


def find(text: str) -> Application:
    """The application of this name or id. Raises NotFound."""
    row = Application.objects.filter(name=text).first() or Application.objects.filter(id=text).first()
    if row is None:
        raise NotFound(f"There is no application {text}")
    return row


def list_applications() -> list[Application]:
    """All applications, by name."""
    return list(Application.objects.order_by("name").select_related("owner"))


def show(row: Application) -> dict[str, object]:
    """What may be known of an application: everything but its secrets."""
    return {
        "id": row.id,
        "name": row.name,
        "username": row.username if row.hash else None,
        "enabled": row.enabled,
        "networks": row.networks,
        "clear_networks": row.clear_networks,
        "uids": row.uids,
        "owner": row.owner.username if row.owner else None,
        "tokens": Token.objects.filter(principal=row.id).count(),
        "created_at": row.created_at.isoformat(),
    }


def remove(text: str, *, actor: str) -> None:
    """Remove an application with its credentials; its messages stay. Raises NotFound."""
    with changing(actor) as change:
        row = find(text)
        Token.objects.filter(principal=row.id).delete()
        change.touch(row.id)
        change.record(row.id, f"Application {row.name} was removed", {"name": (row.name, "")})
        row.delete()


def rotate(text: str, *, actor: str) -> Created:
    """Give a new password; the old one is worthless at once. Raises NotFound."""
    password = random_secret()
    with changing(actor) as change:
        row = find(text)
        row.hash = hash_secret(password)
        row.save(update_fields=["hash"])
        change.touch(row.id)
        change.record(row.id, f"Application {row.name} got a new password", {"password": ("", "changed")})
    return Created(row, row.username, password, None)


def set_enabled(text: str, enabled: bool, *, actor: str) -> Application:
    """Switch an application on or off; off, it can send nothing. Raises NotFound."""
    with changing(actor) as change:
        row = find(text)
        change.touch(row.id)
        change.record(row.id, f"Application {row.name} was switched", {"enabled": (row.enabled, enabled)})
        row.enabled = enabled
        row.save(update_fields=["enabled"])
    return row


def _networks(texts: Iterable[str], field: str) -> list[str]:
    try:
        return sorted({str(network) for network in parse_networks(texts)})
    except ValueError as error:
        raise ConfigError(f"{error}: a network is written like 192.0.2.0/24", field=field) from None


def _uids(values: Iterable[int]) -> list[int]:
    found = sorted(set(values))
    if any(isinstance(uid, bool) or not 0 <= uid < 2**32 - 1 for uid in found):
        raise ConfigError("A Unix user id is a number from 0 to 4294967294", field="uids")
    return found
