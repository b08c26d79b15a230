"""The engine's view of the directory: one snapshot, and the principals that were asked for.

The control plane compiles the directory in the transaction of each change and wakes topic "directory". Then
`refresh` compares versions, which is one small read, and replaces the snapshot as a whole: who reads
`current` sees the old or the new one, never a mixture. Principals are kept apart since there may be 100,000:
each is loaded when first asked for and forgotten with the next version, the least used one when too many
are held. `get` answers from memory and never waits: the hot path uses it first.

Before the first directory was ever compiled, the engine runs on `empty()`: capture mode and nobody known.
"""

from __future__ import annotations

import socket
from typing import Protocol

from smarthost.routing import Directory, Mode, Principal, decode_directory, decode_principal

MOST_PRINCIPALS = 20_000
"""Principals held in memory, some 10 MB."""

LOCAL = Principal(id="app:local", name="Local (capture mode)", login="")
"""Who a peer on loopback is in capture mode, where no credential is asked for. It is in no store."""


class Source(Protocol):
    """Where the directory stands: the part of AsyncSpool that is used here."""

    async def directory(self) -> bytes | None: ...
    async def directory_version(self) -> int: ...
    async def principal(self, id: str, /) -> bytes | None: ...
    async def principal_by_login(self, login: str, /) -> bytes | None: ...


def empty() -> Directory:
    """The directory before there is one."""
    hostname = socket.getfqdn()
    return Directory(version=0, mode=Mode.CAPTURE, hostname=hostname, domain=hostname, upstreams={})


class DirectoryCache:
    """`current` is the snapshot. Call `refresh` at start and whenever topic "directory" wakes."""

    def __init__(self, source: Source, current: Directory | None = None) -> None:
        self._source = source
        self._by_id: dict[str, Principal | None] = {LOCAL.id: LOCAL}
        self._by_login: dict[str, str] = {}
        self.current = current or empty()

    async def refresh(self) -> bool:
        """Take over a newer directory; whether there was one."""
        version = await self._source.directory_version()
        if version == self.current.version:
            return False
        body = await self._source.directory()
        if not body:
            return False
        self.current = decode_directory(body)
        self._forget()
        return True

    def _forget(self) -> None:
        self._by_id = {LOCAL.id: LOCAL}
        self._by_login = {}

    def get(self, id: str) -> Principal | None:
        """The principal if it is in memory, without waiting."""
        return self._by_id.get(id)

    def get_by_login(self, login: str) -> Principal | None:
        """The principal of this login if it is in memory, without waiting."""
        found = self._by_login.get(login)
        return None if found is None else self._by_id.get(found)

    async def principal(self, id: str) -> Principal | None:
        """The principal, or None where there is none."""
        if (known := self._by_id.get(id)) is not None:
            return known
        asked_of = self.current
        return self._keep(await self._source.principal(id), asked_of)

    async def principal_by_login(self, login: str) -> Principal | None:
        """The principal that signs in with this login, or None."""
        if (known := self.get_by_login(login)) is not None:
            return known
        asked_of = self.current
        return self._keep(await self._source.principal_by_login(login), asked_of)

    def _keep(self, body: bytes | None, asked_of: Directory) -> Principal | None:
        """Absent ones are not kept: guesses at names must not fill the memory.

        Nor is one that was read while the directory changed: it may be the old one, and would stay.
        """
        if not body:
            return None
        found = decode_principal(body)
        if asked_of is not self.current:
            return found
        if len(self._by_id) >= MOST_PRINCIPALS:
            self._forget()
        self._by_id[found.id] = found
        if found.login:
            self._by_login[found.login] = found.id
        return found
