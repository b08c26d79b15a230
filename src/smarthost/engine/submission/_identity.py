"""Who is at the other end of a connection, and how a login is checked.

Asked again for each message, since the directory may have changed: a login that was taken back, a network
that is no longer trusted, capture mode that ended all count from the next MAIL on.

A login is compared with every secret of the principal in constant time, or with something where there is
none. The right one is answered at once; everything else, whatever is wrong with it, when its delay is over.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

from smarthost.engine.directory import LOCAL
from smarthost.engine.submission._listener import Peer
from smarthost.errors import SmarthostError
from smarthost.routing import Directory, Mode, Principal, hash_secret, network_principal
from smarthost.smtp import Auth, Reply

if TYPE_CHECKING:
    from smarthost.engine.submission._submission import Submission

LOGGED_IN = Reply(235, "2.7.0", "Authentication succeeded")
REFUSED = Reply(535, "5.7.8", "Authentication credentials invalid")
LATER = Reply(454, "4.7.0", "Temporary authentication failure; try again later")
TOO_OFTEN = Reply(421, "4.7.0", "Too many failed logins; try again later")
ENCRYPT_FIRST = Reply(538, "5.7.11", "Encryption required for authentication")

ABSENT = ("0" * 64,)
"""Compared with where there is no such login, so that it takes as long as where there is."""


class Identity:
    """Who a peer is, by the strongest proof: login, Unix user, trusted network, or local in capture mode.

    secure  whether the connection is encrypted by now.
    """

    __slots__ = ("_hub", "_login", "_network", "_network_of", "_peer", "_secret", "secure")

    def __init__(self, hub: Submission, peer: Peer) -> None:
        self._hub = hub
        self._peer = peer
        self.secure = peer.tls
        self._login = ""  # the principal's id, and the hash that it logged in with
        self._secret = ""
        self._network: str | None = None
        self._network_of: Directory | None = None

    def principal_id(self) -> str | None:
        """The principal's id, or None for a stranger."""
        if self._login:
            return self._login
        directory, peer = self._hub.directory.current, self._peer
        if peer.uid is not None:
            found = directory.uids.get(peer.uid)
        else:
            if self._network_of is not directory:
                self._network = network_principal(directory, peer.ip)
                self._network_of = directory
            found = self._network
        if found is None and peer.loopback and directory.mode is Mode.CAPTURE:
            return LOCAL.id
        return found

    def still(self, principal: Principal) -> bool:
        """Whether what this session logged in with was not taken back since."""
        return not self._secret or self._secret in principal.secrets

    def login_at_once(self, event: Auth, wait: float | None) -> bool:
        """Whether this is a right login of a principal in memory that nothing delays."""
        if wait != 0.0:
            return False
        principal = self._hub.directory.get_by_login(event.username)
        if principal is None or not self._encrypted_enough(principal) or not _knows(principal, event):
            return False
        self._enter(principal, event)
        return True

    async def login(self, event: Auth, wait: float | None) -> Reply:
        """The slow way. `wait` is what the throttle says about this attempt."""
        hub, ip = self._hub, self._peer.ip
        if wait is None:
            return self._log(event, TOO_OFTEN)
        await asyncio.sleep(wait)
        started = hub.loop.time()
        try:
            principal = await hub.directory.principal_by_login(event.username)
        except SmarthostError as error:
            hub.log.error("login-unchecked", ip=ip, cause=error.private or error.public)
            return LATER
        reply = REFUSED
        if not self._encrypted_enough(principal):
            reply = ENCRYPT_FIRST
        elif principal is not None and _knows(principal, event):
            self._enter(principal, event)
            return LOGGED_IN
        elif principal is None:
            _knows(None, event)
        self._log(event, reply)
        hold = hub.throttle.failed(ip, event.username, started)
        if hub.throttle.tell(ip, started):
            hub.record("login.refused", f"Logins from {ip} were refused", ip)
        await asyncio.sleep(max(0.0, started + hold - hub.loop.time()))
        return reply

    def _encrypted_enough(self, principal: Principal | None) -> bool:
        """In clear only from this machine, or from where the application may (old printers)."""
        if self.secure or self._peer.loopback:
            return True
        return principal is not None and self._hub.inside(principal.clear_networks, self._peer.ip)

    def _enter(self, principal: Principal, event: Auth) -> None:
        self._login = principal.id
        self._secret = hash_secret(event.password)
        self._hub.throttle.succeeded(self._peer.ip, event.username)

    def _log(self, event: Auth, reply: Reply) -> Reply:
        self._hub.log.warning(
            "login-refused",
            ip=self._peer.ip,
            door=self._peer.door.value,
            code=reply.code,
            mechanism=event.mechanism,
            login=event.username,
        )
        return reply


def _knows(principal: Principal | None, event: Auth) -> bool:
    """Compare with every secret there is, or with one that nothing hashes to."""
    given = hash_secret(event.password)
    found = False
    for secret in (principal.secrets if principal is not None else ()) or ABSENT:
        found |= hmac.compare_digest(given, secret)
    return found and principal is not None and principal.enabled
