"""From rows and settings to what `admit` reads. Only reading happens here; `services` writes what comes out.

An application's or a user's principal holds the hashes that its programs present over SMTP: the generated
password, and every token that may send and does not expire (the directory knows no clock). Over HTTP a token
is looked up by its hash, with its scopes and expiry.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from smarthost.config import compile_directory
from smarthost.control.accounts.models import Token, User
from smarthost.control.applications.models import Application
from smarthost.control.directory import policy
from smarthost.control.upstreams.models import Upstream as UpstreamRow
from smarthost.errors import ConfigError
from smarthost.routing import Directory, Encryption, Principal, UnknownPolicy, Upstream, UpstreamKind


@dataclass(frozen=True, slots=True)
class Secret:
    """A credential for HTTP. scopes: words with a space between; expires_at: microseconds or None."""

    hash: str
    scopes: str
    expires_at: int | None


def directory(version: int) -> Directory:
    """Compile the whole directory as the rows of this transaction describe it.

    Raises ConfigError with every reason why it must not be published, names in place of ids.
    """
    rows = list(UpstreamRow.objects.all())
    networks: list[tuple[str, str]] = []
    clear: set[str] = set()
    uids: dict[int, str] = {}
    apps = Application.objects.filter(enabled=True).exclude(networks=[], uids=[], clear_networks=[])
    for id, nets, users, unencrypted in apps.order_by("id").values_list(
        "id", "networks", "uids", "clear_networks"
    ):
        clear.update(unencrypted)
        networks += [(network, id) for network in nets]
        for uid in users:
            if uid in uids:
                raise ConfigError(
                    _named(f"Unix user {uid} belongs to both {uids[uid]} and {id}"), field="uids"
                )
            uids[uid] = id
    try:
        compiled = compile_directory(
            policy.settings(),
            version=version,
            mode=policy.mode(),
            machine=policy.machine(),
            upstreams=[upstream(row) for row in rows],
            default_upstream=next((row.id for row in rows if row.is_default), ""),
            networks=networks,
            uids=uids,
        )
    except ConfigError as error:
        raise ConfigError(_named(error.public), origin=error.origin, field=error.field) from None
    return msgspec.structs.replace(compiled, clear_networks=tuple(sorted(clear)))


def upstream(row: UpstreamRow) -> Upstream:
    """The server as the directory holds it; its secrets stay sealed."""
    return Upstream(
        id=row.id,
        name=row.name,
        host=row.host,
        kind=UpstreamKind(row.kind),
        port=row.port,
        encryption=Encryption(row.encryption),
        verify=row.verify,
        enabled=row.enabled,
        ca_pem=row.ca_pem,
        pin=row.pin,
        client_cert_pem=row.client_cert_pem,
        client_key=row.client_key,
        helo=row.helo,
        mechanism=row.mechanism,
        username=row.username,
        password=row.password,
        from_address=row.from_address,
        from_name=row.from_name,
        connections=row.connections,
        rate=row.rate,
        quota=row.quota,
        max_size=row.max_size,
        max_recipients=row.max_recipients,
        unknown=UnknownPolicy(row.unknown),
        owner=row.owner,
        version=row.version,
    )


def principal(id: str, version: int) -> tuple[Principal, list[Secret]] | None:
    """Compile one principal with its HTTP credentials; None where there is nobody of this id."""
    tokens = list(Token.objects.filter(principal=id))
    sending = tuple(t.hash for t in tokens if "messages:send" in t.scopes and t.expires_at is None)
    secrets = [
        Secret(
            token.hash,
            " ".join(token.scopes),
            int(token.expires_at.timestamp() * 1_000_000) if token.expires_at else None,
        )
        for token in tokens
    ]
    compile_one = _application if id.startswith("app:") else _user
    compiled = compile_one(id, sending, version)
    return None if compiled is None else (compiled, secrets)


def _application(id: str, sending: tuple[str, ...], version: int) -> Principal | None:
    row = Application.objects.filter(id=id).select_related("owner").first()
    if row is None:
        return None
    return Principal(
        id=id,
        name=row.name,
        login=row.username,
        enabled=row.enabled,
        secrets=((row.hash,) if row.hash else ()) + sending,
        owner_address=row.owner.email if row.owner and row.owner.is_active else "",
        networks=tuple(row.networks),
        clear_networks=tuple(row.clear_networks),
        uids=tuple(row.uids),
        version=version,
    )


def _user(id: str, sending: tuple[str, ...], version: int) -> Principal | None:
    row = User.objects.filter(id=id).first()
    if row is None:
        return None
    identities = tuple(row.addresses.filter(verified=True).order_by("id").values_list("address", flat=True))
    return Principal(
        id=id,
        name=row.username,
        login=row.username,
        enabled=row.is_active,
        secrets=sending,
        identities=identities,
        owner_address=row.email,
        version=version,
    )


def _named(problem: str) -> str:
    """A problem's sentence with names in place of ids, for people."""
    for id, name in Application.objects.values_list("id", "name"):
        problem = problem.replace(id, name)
    return problem
