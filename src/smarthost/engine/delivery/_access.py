"""How a session gets into an upstream: options, login and TLS context, from its settings."""

from __future__ import annotations

import ssl

from smarthost.engine.delivery._tls import make_context
from smarthost.engine.log import Log
from smarthost.routing import Encryption, UnknownPolicy, Upstream, destination
from smarthost.smtp import ClientOptions, Login, Security
from smarthost.vault import Key, unseal

SECURITY = {
    Encryption.NONE: Security.NONE,
    Encryption.STARTTLS: Security.STARTTLS,
    Encryption.TLS: Security.TLS,
}

Access = tuple[ClientOptions, ssl.SSLContext | None]


def make_access(upstream: Upstream, key: Key, hostname: str, log: Log) -> Access:
    """Made once a version of the upstream's settings. Raises SecretError and ConfigError."""
    where = destination(upstream)
    login = None
    if upstream.username and upstream.mechanism != "none":
        login = Login(upstream.username, unseal(key, upstream.password, where), upstream.mechanism)
    context = None
    if upstream.encryption is not Encryption.NONE:
        client_key = unseal(key, upstream.client_key, where) if upstream.client_key else ""
        context = make_context(upstream, client_key)
        if not upstream.verify and not upstream.pin:
            log.warning("upstream-unverified", upstream=upstream.name, text="certificate verification is off")
    elif login is not None:
        log.warning(
            "upstream-login-in-clear", upstream=upstream.name, text="the login is sent without encryption"
        )
    options = ClientOptions(
        helo=upstream.helo or hostname,
        security=SECURITY[upstream.encryption],
        login=login,
        ahead=upstream.unknown is UnknownPolicy.RETRY,
        host=upstream.host,
        port=upstream.port,
    )
    return options, context
