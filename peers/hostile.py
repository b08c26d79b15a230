"""A scripted upstream that misbehaves on command, and remembers what it took.

It is an ordinary SMTP server (PIPELINING, CHUNKING, STARTTLS, AUTH, … as asked) with one kind of hook: at each
of twelve states it may show one of eight faults, as often as told, and any reply may be replaced. Everything
that it took responsibility for, or that reached it completely before it failed, stands in `taken`; the
ground truth for "copies at most one plus the unknown ends".

    async with Hostile(Plan(faults=[Fault("dot", "close", times=3)])) as upstream:
        … deliver to 127.0.0.1:upstream.port …
        assert len(upstream.taken) == 4
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

STATES = (
    "connect", "banner", "ehlo", "starttls", "tls", "auth", "mail", "rcpt", "data", "body", "dot", "quit",
)  # fmt: skip
FAULTS = ("hang", "close", "rst", "garbage", "slow", "421", "5xx", "endless")

GARBAGE = b"\x00\xff\xfe\x80 this is not SMTP \x00\r\n\xc3\x28\x00\x00\r\n"


@dataclass(slots=True)
class Fault:
    """Show `kind` at `state`, `times` times (None: always), after letting `after` visits pass."""

    state: str
    kind: str
    times: int | None = 1
    after: int = 0

    def strikes(self, state: str) -> bool:
        if state != self.state or self.times == 0:
            return False
        if self.after:
            self.after -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Taken:
    """One message whose end reached the server. answered: whether it said 250 to it."""

    sender: str
    recipients: list[str]
    content: bytes
    answered: bool
    session: int


@dataclass(slots=True)
class Plan:
    """How the server behaves.

    extensions  EHLO keywords, besides STARTTLS and AUTH which follow from `tls` and `mechanisms`.
    tls         "none", "starttls" or "tls"; `context` is needed for the latter two.
    reply       called with (state, argument) before each reply; a string (or several lines) replaces ours.
                For "rcpt" the argument is the address, for "dot" the content.
    pause       seconds between two bytes of the fault "slow".
    inject      bytes sent in clear behind the 220 to STARTTLS.
    """

    faults: list[Fault] = field(default_factory=list)
    extensions: tuple[str, ...] = (
        "PIPELINING",
        "CHUNKING",
        "8BITMIME",
        "SMTPUTF8",
        "SIZE 52428800",
        "DSN",
        "ENHANCEDSTATUSCODES",
    )
    tls: str = "none"
    context: ssl.SSLContext | None = None
    mechanisms: tuple[str, ...] = ()
    auth_in_clear: bool = False
    users: dict[str, str] = field(default_factory=dict)
    reply: Callable[[str, str | bytes], str | None] | None = None
    pause: float = 1.0
    inject: bytes = b""
    delay: float = 0.0


class _Over(Exception):
    """This connection is over."""


class Hostile:
    """The server; an asynchronous context manager. `port` is chosen by the kernel."""

    def __init__(self, plan: Plan | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.plan = plan or Plan()
        self.host, self.port = host, port
        self.taken: list[Taken] = []
        self.commands: list[str] = []
        self.logins: list[tuple[str, str]] = []
        self.sessions = 0
        self.open = 0
        self.most_open = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Hostile:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop every connection; `start` again listens at the same port."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.sessions += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        session = _Session(self, self.sessions, reader, writer)
        try:
            await session.run()
        except (
            _Over,
            ConnectionError,
            asyncio.IncompleteReadError,
            asyncio.LimitOverrunError,
            ssl.SSLError,
            OSError,
        ):
            pass
        except asyncio.CancelledError:
            pass  # stop() cancels; a raised cancellation would be printed by the stream server
        finally:
            self._tasks.discard(task)
            self.open -= 1
            with contextlib.suppress(Exception):
                session.writer.transport.abort()

    @property
    def answered(self) -> list[Taken]:
        """What it said 250 to."""
        return [one for one in self.taken if one.answered]


class _Session:
    def __init__(
        self, server: Hostile, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server, self.plan, self.number = server, server.plan, number
        self.reader, self.writer = reader, writer
        self.secure = self.plan.tls == "tls"
        self.sender = ""
        self.recipients: list[str] = []
        self.body = bytearray()
        self.refused = False
        self.refusal = False

    async def run(self) -> None:
        await self.fault("connect")
        if self.plan.tls == "tls":
            await self.handshake()
        await self.say("banner", "220 hostile.example ESMTP")
        while True:
            line = await self.line()
            verb, _, rest = line.partition(" ")
            self.server.commands.append(line if not line.upper().startswith("AUTH") else verb)
            handler = getattr(self, f"do_{verb.lower()}", None)
            if handler is None:
                await self.write("500 5.5.1 what?")
            else:
                await handler(rest)

    async def line(self) -> str:
        return (await self.reader.readuntil(b"\r\n"))[:-2].decode("utf-8", "replace")

    async def write(self, text: str) -> None:
        if self.plan.delay:
            await asyncio.sleep(self.plan.delay)
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def say(self, state: str, text: str, argument: str | bytes = "") -> str:
        """Reply at a state: its fault first, then the plan's own words, then ours."""
        await self.fault(state)
        own = self.plan.reply(state, argument) if self.plan.reply else None
        if own == "DROP":
            raise _Over
        await self.write(own or text)
        if (own or "").startswith("421"):
            raise _Over
        return own or text

    async def fault(self, state: str) -> None:
        for one in self.plan.faults:
            if one.strikes(state):
                await self.misbehave(one.kind)
                return

    async def misbehave(self, kind: str) -> None:
        writer = self.writer
        if kind == "hang":
            await asyncio.Event().wait()
        elif kind == "rst":
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        elif kind == "garbage":
            writer.write(GARBAGE)
            await writer.drain()
            await asyncio.sleep(0.05)
        elif kind == "slow":
            while not writer.transport.is_closing():
                for byte in b"250-slowly ":
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(self.plan.pause)
        elif kind == "421":
            self.refusal = True
            await self.write("421 4.3.2 going down")
        elif kind == "5xx":
            self.refusal = True
            await self.write("554 5.3.0 no")
            await asyncio.sleep(0.05)
        elif kind == "endless":
            line = b"250-" + b"x" * 1000 + b"\r\n"
            while not writer.transport.is_closing():
                writer.write(line * 64)
                await writer.drain()
                await asyncio.sleep(0)
        raise _Over

    async def handshake(self) -> None:
        await self.fault("tls")
        assert self.plan.context is not None
        await self.writer.start_tls(self.plan.context, ssl_handshake_timeout=5)
        self.secure = True

    async def do_ehlo(self, _: str) -> None:
        words = ["hostile.example", *self.plan.extensions]
        if self.plan.tls == "starttls" and not self.secure:
            words.append("STARTTLS")
        if self.plan.mechanisms and (self.secure or self.plan.auth_in_clear or self.plan.tls == "none"):
            words.append("AUTH " + " ".join(self.plan.mechanisms))
        text = "\r\n".join(f"250{'-' if n < len(words) - 1 else ' '}{word}" for n, word in enumerate(words))
        await self.say("ehlo", text)

    async def do_helo(self, _: str) -> None:
        await self.say("ehlo", "250 hostile.example")

    async def do_starttls(self, _: str) -> None:
        said = await self.say("starttls", "220 2.0.0 go")
        if not said.startswith("220"):
            return
        if self.plan.inject:
            self.writer.write(self.plan.inject)
            await self.writer.drain()
        await self.handshake()

    async def do_auth(self, rest: str) -> None:
        mechanism, _, initial = rest.partition(" ")
        await self.fault("auth")
        ok = await getattr(self, "auth_" + mechanism.lower().replace("-", "_"))(initial)
        own = self.plan.reply("auth", mechanism) if self.plan.reply else None
        await self.write(own or ("235 2.7.0 yes" if ok else "535 5.7.8 authentication failed"))

    async def ask(self, challenge: bytes) -> bytes:
        await self.write("334 " + base64.b64encode(challenge).decode())
        return base64.b64decode(await self.line())

    def check(self, user: str, password: str) -> bool:
        self.server.logins.append((user, password))
        return self.plan.users.get(user) == password

    async def auth_plain(self, initial: str) -> bool:
        raw = base64.b64decode(initial) if initial else await self.ask(b"")
        _, user, password = raw.decode().split("\0")
        return self.check(user, password)

    async def auth_login(self, initial: str) -> bool:
        user = base64.b64decode(initial) if initial else await self.ask(b"Username:")
        return self.check(user.decode(), (await self.ask(b"Password:")).decode())

    async def auth_cram_md5(self, _: str) -> bool:
        challenge = b"<1.2@hostile.example>"
        user, _, digest = (await self.ask(challenge)).decode().rpartition(" ")
        wanted = hmac.new(self.plan.users.get(user, "").encode(), challenge, hashlib.md5).hexdigest()
        return user in self.plan.users and digest == wanted

    async def auth_scram_sha_256(self, initial: str) -> bool:
        first = (base64.b64decode(initial) if initial else await self.ask(b"")).decode()
        bare = first.split(",", 2)[2]
        fields = dict(part.split("=", 1) for part in bare.split(","))
        password = self.plan.users.get(fields["n"], "")
        salt, rounds = b"saltsaltsalt", 4096
        server_first = f"r={fields['r']}server,s={base64.b64encode(salt).decode()},i={rounds}"
        final = (await self.ask(server_first.encode())).decode()
        without, _, proof = final.rpartition(",p=")
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
        message = f"{bare},{server_first},{without}".encode()
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        wanted = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if fields["n"] not in self.plan.users or base64.b64decode(proof) != wanted:
            return False
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        await self.ask(b"v=" + base64.b64encode(verifier))
        return True

    async def do_mail(self, rest: str) -> None:
        said = await self.say("mail", "250 2.1.0 ok", rest)
        self.refused = not said.startswith("2")
        self.sender = rest[rest.index("<") + 1 : rest.index(">")]
        self.recipients = []
        self.body = bytearray()

    async def do_rcpt(self, rest: str) -> None:
        address = rest[rest.index("<") + 1 : rest.rindex(">") if rest.endswith(">") else rest.index(">")]
        if self.refused:
            await self.write("503 5.5.1 no MAIL")
            return
        said = await self.say("rcpt", "250 2.1.5 ok", address)
        if said.startswith("2"):
            self.recipients.append(address)

    async def do_data(self, _: str) -> None:
        if self.refused or not self.recipients:
            await self.write("554 5.5.1 no valid recipients")
            return
        said = await self.say("data", "354 go ahead")
        if not said.startswith("354"):
            return
        while (line := await self.reader.readuntil(b"\r\n")) != b".\r\n":
            if not self.body:
                await self.fault("body")
            self.body += line[1:] if line.startswith(b".") else line
        await self.end()

    async def do_bdat(self, rest: str) -> None:
        size, _, last = rest.partition(" ")
        self.body += await self.reader.readexactly(1 if int(size) else 0)
        await self.fault("body")
        self.body += await self.reader.readexactly(int(size) - 1 if int(size) else 0)
        if self.refused or not self.recipients:
            await self.write("554 5.5.1 no valid recipients")
        elif last.upper() == "LAST":
            await self.end()
        else:
            await self.write("250 2.0.0 chunk")

    async def end(self) -> None:
        taken = Taken(self.sender, self.recipients, bytes(self.body), answered=False, session=self.number)
        self.server.taken.append(taken)
        said = ""
        try:
            said = await self.say("dot", "250 2.0.0 taken as " + os.urandom(4).hex(), taken.content)
        finally:
            taken.answered = said.startswith("2")
            if self.refusal or (said and not said.startswith("2")):
                self.server.taken.remove(taken)  # refused in so many words: not its responsibility
        self.recipients, self.sender, self.refused = [], "", True

    async def do_rset(self, _: str) -> None:
        self.recipients, self.refused = [], False
        await self.write("250 2.0.0 reset")

    async def do_noop(self, _: str) -> None:
        await self.write("250 2.0.0 fine")

    async def do_quit(self, _: str) -> None:
        await self.say("quit", "221 2.0.0 bye")
        raise _Over
