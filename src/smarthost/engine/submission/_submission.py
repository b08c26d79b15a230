"""The submission side as a whole: listeners, connections, what they share, and stopping.

Everything here lives on one event loop. A connection counts from its accept to its loss, so a peer that
never finishes its handshake holds a place as any other, until the sweep or the handshake's deadline frees it.
Caps are answered with 421 before anything is made for the connection.

Stopping: listeners close first, connections without content under way get 421, those in the middle of content
have `grace` seconds, and whoever waits for a commit is always answered.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Protocol

from smarthost.config import ProcessSettings
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.engine.submission._connection import Connection
from smarthost.engine.submission._drop import DropFolder
from smarthost.engine.submission._listener import Listener, Peer, tcp_socket, unix_socket
from smarthost.engine.submission._settings import Settings
from smarthost.engine.submission._throttle import Throttle, host_of
from smarthost.engine.submission._tls import Certificate
from smarthost.routing import Directory
from smarthost.smtp import Reply, ServerLimits, ServerOptions
from smarthost.spool import AsyncSpool, Door, Event, now_us

TOO_MANY = b"421 4.7.0 Too many connections; try again later\r\n"
CERTIFICATE_EVERY = 5.0
DROP_EVERY = 30.0
"""Seconds between two looks at the certificate's files, and at the drop folder."""


class Runtime(Protocol):
    """What the submission side needs of the engine."""

    @property
    def process(self) -> ProcessSettings: ...
    @property
    def spool(self) -> AsyncSpool: ...
    @property
    def directory(self) -> DirectoryCache: ...
    @property
    def log(self) -> Log: ...


class Submission:
    """Start it, stop it. `scan()` takes in the drop folder now (it is also done at start and every 30 s)."""

    def __init__(
        self, runtime: Runtime, settings: Settings | None = None, throttle: Throttle | None = None
    ) -> None:
        self.spool = runtime.spool
        self.directory = runtime.directory
        self.log = runtime.log
        self.settings = settings or Settings()
        self.throttle = throttle or Throttle()
        self.certificate: Certificate | None = None
        self.loop: asyncio.AbstractEventLoop
        self.now = 0.0  # the loop's clock as of the last sweep
        self.in_flight = 0
        self.stopping = False
        self._process = runtime.process
        self._listeners: dict[str, Listener] = {}
        self._connections: dict[Connection, Peer] = {}
        self._free = asyncio.Event()  # no connection is open
        self._free.set()
        self._hosts: dict[str, int] = {}
        self._options: dict[tuple[bool, bool, bool], ServerOptions] = {}
        self._options_of: Directory | None = None
        self._tasks: dict[asyncio.Task[None], Connection | None] = {}
        self._drop = DropFolder(self._process.data, self.spool, self.directory, self.log)
        self._sweeper: asyncio.TimerHandle | None = None
        self._certificate_at = self._drop_at = 0.0

    # --- life

    async def start(self) -> None:
        """Listen. Raises ConfigError naming the variable of what cannot be listened on or used."""
        self.loop = asyncio.get_running_loop()
        process = self._process
        if process.tls_cert and process.tls_key:
            self.certificate = Certificate(process.tls_cert, process.tls_key, self.log)
        sockets: dict[str, socket.socket] = {}
        try:
            if process.smtp:
                sockets["smtp"] = tcp_socket(process.smtp, "SMARTHOST_SMTP")
            if process.smtps:
                sockets["smtps"] = tcp_socket(process.smtps, "SMARTHOST_SMTPS")
            sockets["sendmail"] = unix_socket(process.data / "sendmail.sock")
            self._drop.make()
        except BaseException:
            for sock in sockets.values():
                sock.close()
            raise
        for name, sock in sockets.items():
            self._listeners[name] = Listener(self.loop, sock, self._taken, tls=name == "smtps")
        self._sweep()

    def addresses(self) -> dict[str, tuple[str, int] | str]:
        """What is listened on: "smtp", "smtps", "sendmail" → (host, port) or a path."""
        return {name: listener.address for name, listener in self._listeners.items()}

    def tcp_addresses(self) -> list[tuple[str, int]]:
        """Where mail comes in over the network: an upstream there would be ourselves."""
        return [one for one in self.addresses().values() if not isinstance(one, str)]

    @property
    def connections(self) -> int:
        """Open connections, unfinished handshakes included."""
        return len(self._connections)

    async def stop(self) -> None:
        """Take no more, let content under way finish within the grace, answer every commit.

        Harmless where `start` failed: then nothing is listened on, and the socket's file is another's.
        """
        self.stopping = True
        for listener in self._listeners.values():
            listener.close()
        if self._listeners:
            with suppress(OSError):
                (self._process.data / "sendmail.sock").unlink()
        for connection in list(self._connections):
            connection.stop()
        try:
            await asyncio.wait_for(self._free.wait(), self.settings.grace)
        except TimeoutError:
            self._cut_off()
            await self._free.wait()
        await self._drop.stop()
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.log.flush()

    def _cut_off(self) -> None:
        """End whatever is open, but for connections whose commit is under way."""
        for task, connection in list(self._tasks.items()):
            if connection is not None:
                task.cancel()
        for connection in list(self._connections):
            if not connection.committing:
                connection.abort()

    def reload(self) -> None:
        """Look at the certificate's files and at the drop folder now (SIGHUP)."""
        if self.certificate is not None:
            self.certificate.refresh()
        self.scan()

    def scan(self) -> None:
        """Take in the drop folder."""
        if not self.stopping:
            self.spawn(self._drop.scan())

    # --- connections

    def _taken(self, sock: socket.socket, peer: Peer) -> None:
        """A connection was accepted: count it, refuse it, or set it up."""
        host = "" if peer.loopback else host_of(peer.ip)
        count = len(self._connections)
        if count >= self.settings.connections or self._hosts.get(host, 0) >= self.settings.per_host:
            self.log.warning("too-many-connections", ip=peer.ip, connections=count)
            if not peer.tls:
                with suppress(OSError):
                    sock.send(TOO_MANY)
            sock.close()
            return
        if host:
            self._hosts[host] = self._hosts.get(host, 0) + 1
        connection = Connection(self, peer)
        self._connections[connection] = peer
        self._free.clear()
        self.spawn(self._open(sock, peer, connection), connection)

    async def _open(self, sock: socket.socket, peer: Peer, connection: Connection) -> None:
        context = self.certificate.context if peer.tls and self.certificate else None
        try:
            await self.loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=context,
                ssl_handshake_timeout=self.settings.handshake if context else None,
            )
        except BaseException as error:
            sock.close()
            self.forget(connection)
            if not isinstance(error, OSError):  # SSLError is one
                raise
            self.log.info("tls-failed", ip=peer.ip, error=error)

    def forget(self, connection: Connection) -> None:
        """The connection is gone. Safe to call twice."""
        peer = self._connections.pop(connection, None)
        if not self._connections:
            self._free.set()
        if peer is None or peer.loopback:
            return
        host = host_of(peer.ip)
        left = self._hosts.get(host, 1) - 1
        if left:
            self._hosts[host] = left
        else:
            self._hosts.pop(host, None)

    def options(self, peer: Peer) -> ServerOptions:
        """What is offered to this peer; made once a directory and kind of peer."""
        directory = self.directory.current
        if directory is not self._options_of:
            self._options.clear()
            self._options_of = directory
        tcp = peer.door is Door.SMTP
        clear = tcp and (peer.loopback or self.inside(directory.clear_networks, peer.ip))
        starttls = tcp and not peer.tls and self.certificate is not None
        options = self._options.get((tcp, clear, starttls))
        if options is None:
            options = self._options[tcp, clear, starttls] = ServerOptions(
                hostname=directory.hostname,
                max_size=directory.limits.max_size,
                starttls=starttls,
                auth=tcp,
                auth_in_clear=clear,
                limits=ServerLimits(recipients=directory.limits.max_recipients),
            )
        return options

    @staticmethod
    def inside(networks: tuple[str, ...], ip: str) -> bool:
        """Whether the address is in one of the networks."""
        return bool(networks and ip) and _inside(networks, ip)

    # --- what connections share

    def spawn(
        self, work: Coroutine[object, object, None], connection: Connection | None = None
    ) -> asyncio.Task[None]:
        """Run it, and keep it until it is done. A mistake in it costs its connection."""
        task = self.loop.create_task(work)
        self._tasks[task] = connection
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        connection = self._tasks.pop(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if connection is not None:
            connection.fail(error)
        else:
            self.log.error("submission-failed", error=repr(error))

    def discard(self, message_id: str) -> None:
        """Forget chunks that no message will have."""
        self.spawn(self.spool.discard(message_id))

    def log_refusal(self, peer: Peer, who: str | None, reply: Reply, **fields: object) -> None:
        """One line for mail that was not taken."""
        self.log.info(
            "refused",
            door=peer.door.value,
            ip=peer.ip,
            principal=who,
            code=reply.code,
            enhanced=reply.enhanced,
            text=reply.text,
            **fields,
        )

    def record(self, kind: str, text: str, subject: str) -> None:
        """Write an event for the pages. Its loss is no fault of mail."""
        event = Event(now_us(), kind, f"ip:{subject}", text, severity="warning")
        self.spawn(self.spool.record([event]))

    def _sweep(self) -> None:
        """Once a second: deadlines of all connections, the certificate, the drop folder."""
        self._sweeper = self.loop.call_later(self.settings.sweep, self._sweep)
        self.now = now = self.loop.time()
        for connection in list(self._connections):
            connection.check(now)
        if self.certificate is not None and now >= self._certificate_at:
            self._certificate_at = now + min(CERTIFICATE_EVERY, self.settings.sweep * 5)
            self.certificate.refresh()
        if now >= self._drop_at:
            self._drop_at = now + DROP_EVERY
            self.scan()


@lru_cache(maxsize=4096)
def _inside(networks: tuple[str, ...], ip: str) -> bool:
    address = ip_address(ip)
    return any(address in ip_network(network) for network in networks)
