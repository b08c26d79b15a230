"""A submission side in this process on a thread of its own, and a client that says exactly what it is told."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from smarthost.config import Listen, ProcessSettings
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.engine.submission import Settings, Submission, Throttle
from smarthost.errors import IdempotencyConflict, SmarthostError
from smarthost.routing import (
    Directory,
    Mode,
    Principal,
    Upstream,
    encode_directory,
    encode_principal,
    hash_secret,
)
from smarthost.spool import Acceptance, Accepted, AsyncSpool, NewMessage, Spool

SECRET = "a-generated-secret-of-many-characters"
APP = Principal(
    id="app:1",
    name="Printer",
    login="printer",
    secrets=(hash_secret(SECRET),),
    clear_networks=("10.0.0.0/8",),
)
LIVE = Directory(
    version=1,
    mode=Mode.LIVE,
    hostname="mail.example.test",
    domain="example.test",
    upstreams={"up:1": Upstream(id="up:1", name="Relay", host="relay.example.test")},
    default_upstream="up:1",
    aliases={"root": "admin@example.test"},
    contact="admin@example.test",
)
CAPTURE = Directory(
    version=1, mode=Mode.CAPTURE, hostname="mail.example.test", domain="example.test", upstreams={}
)
MAIL = b"From: a@example.test\r\nSubject: hello\r\n\r\nbody\r\n"


@dataclass
class Store:
    """What a submission side needs of a spool, in memory. `gate` closed: commits wait for it."""

    directory_now: Directory
    principals: list[Principal]
    messages: list[NewMessage] = field(default_factory=list)
    chunks: dict[str, dict[int, bytes]] = field(default_factory=dict)
    discarded: list[str] = field(default_factory=list)
    events: list[object] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[bytes, str]] = field(default_factory=dict)
    failure: SmarthostError | None = None
    gate: asyncio.Event | None = None

    def accept(self, message: NewMessage) -> asyncio.Future[Accepted]:
        return asyncio.ensure_future(self._accept(message))

    async def _accept(self, message: NewMessage) -> Accepted:
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if message.idempotency is not None:
            key = (message.principal, message.idempotency.key)
            known = self.keys.setdefault(key, (message.idempotency.fingerprint, message.id))
            if known[0] != message.idempotency.fingerprint:
                raise IdempotencyConflict("This key was used for another message.")
            if known[1] != message.id:
                return Accepted(known[1], Acceptance.REPEATED)
        self.messages.append(message)
        return Accepted(message.id)

    def write_chunk(self, message_id: str, n: int, data: bytes) -> asyncio.Future[None]:
        return asyncio.ensure_future(self._write_chunk(message_id, n, data))

    async def _write_chunk(self, message_id: str, n: int, data: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.chunks.setdefault(message_id, {})[n] = data

    async def discard(self, message_id: str) -> None:
        self.discarded.append(message_id)
        self.chunks.pop(message_id, None)

    async def record(self, events: object) -> None:
        self.events.append(events)

    async def directory_version(self) -> int:
        return self.directory_now.version

    async def directory(self) -> bytes | None:
        return encode_directory(self.directory_now)

    async def principal(self, principal_id: str) -> bytes | None:
        return next((encode_principal(one) for one in self.principals if one.id == principal_id), None)

    async def principal_by_login(self, login: str) -> bytes | None:
        return next((encode_principal(one) for one in self.principals if one.login == login), None)

    def content(self, message: NewMessage) -> bytes:
        if message.content is not None:
            return message.content
        return b"".join(self.chunks[message.id][n] for n in range(message.chunks))


class Door:
    """The submission side, listening. Use as a context; `store`, `log` and `submission` may be looked into."""

    def __init__(
        self,
        data: Path,
        *,
        directory: Directory = LIVE,
        principals: tuple[Principal, ...] = (APP,),
        settings: Settings | None = None,
        throttle: Throttle | None = None,
        tls: tuple[Path, Path] | None = None,
        spool: Callable[[asyncio.AbstractEventLoop], tuple[Spool, AsyncSpool]] | None = None,
    ) -> None:

        self.data = data
        self.store = Store(directory, list(principals))
        self.make_spool = spool
        self.opened: Spool | None = None
        self.settings = settings or Settings()
        self.throttle = throttle or Throttle(first=0.01, longest=0.05)
        self.tls = tls
        self.loop = uvloop.new_event_loop()
        self.process = ProcessSettings(
            data=data,
            database_url="",
            http=None,
            smtp=Listen("127.0.0.1", 0),
            smtps=Listen("127.0.0.1", 0) if tls else None,
            tls_cert=tls[0] if tls else None,
            tls_key=tls[1] if tls else None,
            public_url="",
            trusted_proxies=(),
            secret_key_file=data / "secret.key",
            config=None,
            lock=(),
        )
        self._read, self._write = os.pipe()
        self._log: list[bytes] = []
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.errors: list[dict[str, object]] = []

    def __enter__(self) -> Door:
        self._log_reader.start()
        self._thread.start()
        self.loop.call_soon_threadsafe(
            self.loop.set_exception_handler, lambda _, context: self.errors.append(context)
        )
        self.run(self._start())
        self.addresses = self.submission.addresses()
        return self

    async def _start(self) -> None:
        self.log = Log(self._write)
        self.log.bind(self.loop)
        self.spool = self.store
        if self.make_spool is not None:
            self.opened, self.spool = self.make_spool(self.loop)
        self.directory = DirectoryCache(self.spool)
        await self.directory.refresh()
        self.submission = Submission(self, self.settings, self.throttle)
        await self.submission.start()

    def __exit__(self, *exc: object) -> None:
        self.run(self.submission.stop())
        if self.opened is not None:
            self.opened.close()
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        os.close(self._write)
        self._log_reader.join()
        os.close(self._read)
        assert not self.errors
        assert "connection-failed" not in self.logs and "submission-failed" not in self.logs, self.logs

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    def change(self, directory: Directory) -> None:
        """A new directory, as the control plane would publish it."""
        self.store.directory_now = replace_directory(directory, self.directory.current.version + 1)
        self.run(self.directory.refresh())

    def _read_log(self) -> None:
        while data := os.read(self._read, 65536):
            self._log.append(data)

    @property
    def logs(self) -> str:
        return b"".join(self._log).decode()

    def line(self, event: str, seconds: float = 5) -> str:
        """The first log line of this event; waits for it."""
        deadline = threading.Event()
        for _ in range(int(seconds / 0.01)):
            if found := re.search(rf"^.* event={event}( .*)?$", self.logs, re.MULTILINE):
                return found[0]
            deadline.wait(0.01)
        raise AssertionError(f"no {event} in {self.logs}")

    def client(self, *, tls: bool = False, unix: bool = False, greet: bool = True) -> Client:
        if unix:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(self.data / "sendmail.sock"))
        else:
            sock = socket.create_connection(self.addresses["smtps" if tls else "smtp"])
        sock.settimeout(15)
        if tls:
            sock = untrusting().wrap_socket(sock)
        client = Client(sock)
        if greet:
            client.reply()
        return client

    def ready(self, **kind: bool) -> Client:
        """A client that said EHLO and logged in."""
        client = self.client(**kind)
        assert client.say("EHLO client.example.test").startswith("250")
        if self.directory.current.mode is Mode.LIVE and not kind.get("unix"):
            assert client.login() == "235"
        return client


def replace_directory(directory: Directory, version: int) -> Directory:
    import msgspec

    return msgspec.structs.replace(directory, version=version)


def untrusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Client:
    """A socket and whole SMTP replies."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.sock.close()

    def send(self, data: bytes | str) -> None:
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def say(self, line: str | bytes) -> str:
        data = line if isinstance(line, bytes) else line.encode()
        self.send(data + b"\r\n")
        return self.reply()

    def reply(self) -> str:
        """One whole reply; "" at the end of the connection."""
        lines = []
        while True:
            while b"\n" not in self._buffer:
                try:
                    data = self.sock.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    return "\n".join(lines)
                self._buffer += data
            line, _, self._buffer = self._buffer.partition(b"\n")
            lines.append(line.decode().rstrip("\r"))
            if lines[-1][3:4] != "-":
                return "\n".join(lines)

    def codes(self, count: int) -> list[str]:
        return [self.reply()[:3] for _ in range(count)]

    def closed(self) -> bool:
        """Whether the server closed; waits for it."""
        try:
            while data := self.sock.recv(65536):
                self._buffer += data
        except ConnectionResetError:
            pass
        return True

    def login(self, login: str = "printer", secret: str = SECRET) -> str:
        from base64 import b64encode

        return self.say(b"AUTH PLAIN " + b64encode(f"\0{login}\0{secret}".encode()))[:3]

    def starttls(self) -> str:
        answer = self.say("STARTTLS")
        self.sock = untrusting().wrap_socket(self.sock)
        self._buffer = b""
        return answer

    def mail(self, *recipients: str, sender: str = "a@example.test", content: bytes = MAIL) -> str:
        """A whole transaction by DATA; the last reply."""
        for line in (
            f"MAIL FROM:<{sender}>",
            *(f"RCPT TO:<{one}>" for one in recipients or ("b@example.net",)),
        ):
            answer = self.say(line)
            if answer[:1] != "2":
                return answer
        if (answer := self.say("DATA"))[:3] != "354":
            return answer
        self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.reply()


__all__ = ["APP", "CAPTURE", "LIVE", "MAIL", "SECRET", "Client", "Door", "Store", "replace", "untrusting"]
