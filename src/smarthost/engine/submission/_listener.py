"""A listening socket that we accept on ourselves.

The loop's own servers hand a connection over when it is set up, TLS included. We count and cap a connection
from its accept, choose the certificate for each handshake, and ask a Unix peer who it is; so we accept.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from smarthost.config import Listen
from smarthost.errors import ConfigError
from smarthost.spool import Door

BACKLOG = 1024
AT_ONCE = 64
"""Connections accepted in one turn of the loop."""
BREATH = 0.2
"""Seconds without accepting after the process ran out of descriptors."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end. ip is "" and uid set for a Unix socket; tls: from the first byte."""

    door: Door
    ip: str = ""
    uid: int | None = None
    tls: bool = False
    loopback: bool = False


class Listener:
    """Accepts until `close`; gives each socket with its peer to `taken`.

    address  (host, port), or the path of a Unix socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        taken: Callable[[socket.socket, Peer], None],
        *,
        tls: bool = False,
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._taken = taken
        self._tls = tls
        self._open = True
        name = sock.getsockname()
        self.address: tuple[str, int] | str = name if isinstance(name, str) else (name[0], name[1])
        sock.setblocking(False)
        sock.listen(BACKLOG)
        loop.add_reader(sock.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more; connections in the backlog are reset by the kernel."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._loop.remove_reader(self._socket.fileno())
                    self._loop.call_later(BREATH, self._again)
                    return
                raise
            sock.setblocking(False)
            self._taken(sock, self._peer(sock, address))

    def _again(self) -> None:
        if self._open:
            self._loop.add_reader(self._socket.fileno(), self._accept)

    def _peer(self, sock: socket.socket, address: object) -> Peer:
        if sock.family == socket.AF_UNIX:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return Peer(Door.SENDMAIL, uid=struct.unpack("3i", credentials)[1], loopback=True)
        assert isinstance(address, tuple)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ip = str(address[0]).partition("%")[0].removeprefix("::ffff:")
        return Peer(Door.SMTP, ip=ip, tls=self._tls, loopback=ip_address(ip).is_loopback)


def tcp_socket(listen: Listen, variable: str) -> socket.socket:
    """A bound TCP socket. Raises ConfigError that names the variable."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        info = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = next((one for one in info if one[0] == family), info[0])
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"{variable}: {listen} cannot be listened on: {error}", origin=variable) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise ConfigError(
            f"{variable}: {listen} cannot be listened on: {error.strerror}. Is something else there?",
            origin=variable,
        ) from error
    return sock


def unix_socket(path: Path) -> socket.socket:
    """A bound Unix socket that every user may connect to; who they are is asked of the kernel."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o666)
    except OSError as error:
        sock.close()
        raise ConfigError(f"The socket {path} cannot be made: {error}", origin="SMARTHOST_DATA") from error
    return sock
