"""One kept connection to an upstream: the sans-I/O client on a socket.

There is one task a connection, which resolves, connects and shakes hands, and none a message: bytes that
arrive drive the client, what it reports goes to the lane, and the lane puts the next jobs in before anything
is written, so that one write carries the next message too. Only large content, which stands in chunks, is
streamed by a task of its own, as fast as the peer reads.

Invariants: after `over` nothing is written and the lane was told exactly once (`lane.gone`); every job that
was given comes back through `lane.done`, also when the connection breaks. With a job open nothing is written
unless the engine's heartbeat is fresh: an engine that slept past its lease must not send what another one
took over.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from smarthost import faults
from smarthost.engine.delivery._classify import Fault, classify
from smarthost.engine.delivery._connect import ConnectFailed, connect
from smarthost.engine.delivery._tls import pin_mismatch
from smarthost.errors import SmarthostError
from smarthost.routing import Encryption
from smarthost.smtp import (
    Client,
    ClientEvent,
    Done,
    Ended,
    LocalError,
    Ready,
    Refused,
    RefusedReason,
    Stage,
    StartTls,
    WantBody,
)

if TYPE_CHECKING:
    from smarthost.engine.delivery._lane import Lane
    from smarthost.engine.delivery._prepare import Job

NEVER = float("inf")
WATCHED = faults.point.__module__ != faults.__name__  # the campaign looks
BEFORE_DATA = (Stage.MAIL, Stage.RCPT)

REASONS: dict[RefusedReason, Fault] = {
    RefusedReason.REJECTED: Fault.SESSION,
    RefusedReason.NO_STARTTLS: Fault.TLS,
    RefusedReason.STARTTLS_FAILED: Fault.TLS,
    RefusedReason.INJECTED: Fault.TLS,
    RefusedReason.NO_AUTH: Fault.CREDENTIALS,
    RefusedReason.NO_MECHANISM: Fault.CREDENTIALS,
    RefusedReason.CREDENTIALS: Fault.CREDENTIALS,
    RefusedReason.SERVER_UNVERIFIED: Fault.CREDENTIALS,
    RefusedReason.AUTH_PROTOCOL: Fault.CREDENTIALS,
    RefusedReason.PROTOCOL: Fault.SESSION,
    RefusedReason.CLOSED: Fault.SESSION,
}  # BUSY and AUTH_TEMPORARY depend on the words


class Session(asyncio.Protocol):
    """A connection of `lane`. `ready` once jobs may be given."""

    __slots__ = (
        "_began",
        "_drained",
        "_failure",
        "_paused",
        "_stage",
        "_stage_name",
        "_wears",
        "accepted",
        "born",
        "client",
        "deadline",
        "idle_since",
        "lane",
        "largest",
        "leaving",
        "messages",
        "name",
        "open",
        "over",
        "ready",
        "room",
        "setup_by",
        "tasks",
        "timings",
        "transport",
    )  # fmt: skip

    def __init__(self, lane: Lane, name: str) -> None:
        now = time.monotonic()
        self.lane = lane
        self.name = name
        self.client: Client | None = None
        self.transport: asyncio.Transport | None = None
        self.ready = self.leaving = self.over = False
        self.open = 0
        self.room = 0  # jobs that may be given now
        self.messages = self.accepted = 0
        self.largest = 1
        self.born = self._began = self.idle_since = now
        self.setup_by = now + lane.deadlines.setup
        self.deadline = NEVER
        self.timings = "{"
        self._stage: Stage | None = None
        self._stage_name = "connect"
        self._failure: tuple[Fault, str, str] | None = None
        self._wears = False  # the server takes so many messages a session and no more (RFC 9422)
        self._paused = False
        self._drained: asyncio.Future[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Session {self.name} {self._stage_name} open={self.open} messages={self.messages}>"

    # --- set-up

    def start(self) -> None:
        """Begin to connect. The lane hears `opened` or `gone`."""
        self._spawn(self._connect())

    async def _connect(self) -> None:
        lane, upstream, limits = self.lane, self.lane.upstream, self.lane.deadlines
        loop = asyncio.get_running_loop()
        sock = None
        try:
            options, context = lane.access()
            sock = await connect(upstream.host, upstream.port, limits.connect, lane.own_addresses())
            self._lap("connect")
            faults.point("during-handshake")
            self.client = Client(options)
            if upstream.encryption is Encryption.TLS:
                self._stage_name = "tls"
                await loop.create_connection(
                    lambda: self,
                    sock=sock,
                    ssl=context,
                    server_hostname=upstream.host,
                    ssl_handshake_timeout=limits.tls,
                )
            else:
                await loop.create_connection(lambda: self, sock=sock)
        except ConnectFailed as error:
            self.fail(error.fault, error.stage, error.text)
        except SmarthostError as error:
            self.fail(Fault.CONFIG, "connect", error.public)
        except LocalError as error:
            self.fail(Fault.CONFIG, "connect", f"The settings cannot be used: {error}")
        except (OSError, ssl.SSLError, TimeoutError) as error:
            with contextlib.suppress(OSError):
                if sock is not None:
                    sock.close()
            self._handshake_failed(error)
        except asyncio.CancelledError:
            if sock is not None and self.transport is None:
                sock.close()
            raise

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=256 * 1024)
        if self.over:
            self.transport.abort()
            return
        if self.lane.upstream.encryption is Encryption.TLS and not self._trusted():
            return
        self._send(progress=True)

    def _trusted(self) -> bool:
        """Whether the peer is the pinned one, if one is; before EHLO and before any secret."""
        assert self.transport is not None
        self._lap("tls")
        why = pin_mismatch(self.lane.upstream.pin, self.transport.get_extra_info("ssl_object"))
        if why is not None:
            self.fail(Fault.TLS, "tls", why)
        return why is None

    async def _upgrade(self) -> None:
        """STARTTLS was answered 220: shake hands on this connection (RFC 3207)."""
        assert self.transport is not None and self.client is not None
        lane, loop = self.lane, asyncio.get_running_loop()
        self._stage_name = "tls"
        self.deadline = NEVER
        try:
            _, context = lane.access()
            assert context is not None
            transport = await loop.start_tls(
                self.transport,
                self,
                context,
                server_hostname=lane.upstream.host,
                ssl_handshake_timeout=lane.deadlines.tls,
            )
        except SmarthostError as error:
            self.fail(Fault.CONFIG, "tls", error.public)
            return
        except (OSError, ssl.SSLError, TimeoutError) as error:
            self._handshake_failed(error)
            return
        if transport is None or self.over:
            if not self.over:
                self._handshake_failed(ConnectionResetError("the connection was lost in the TLS handshake"))
            return
        self.transport = transport
        self.transport.set_write_buffer_limits(high=256 * 1024)
        if self._trusted():
            self._take(self.client.tls_started())

    def _handshake_failed(self, error: BaseException) -> None:
        if self._stage_name != "tls":
            self.fail(Fault.CONNECT, "connect", f"{self.lane.upstream.host}: {error}")
            return
        if isinstance(error, ssl.SSLCertVerificationError):
            text = f"The server's certificate is refused: {error.verify_message}"
        elif isinstance(error, ssl.SSLError):
            text = f"The TLS handshake failed: {error.reason or error}"
        else:
            text = f"The TLS handshake failed: {str(error) or type(error).__name__}"
        self.fail(Fault.TLS, "tls", text)

    # --- bytes in, bytes out

    def data_received(self, data: bytes) -> None:
        if not self.over and self.client is not None:
            self._take(self.client.receive(data))

    def _take(self, events: list[ClientEvent]) -> None:
        """Do what the client reports, let the lane put in more, write once."""
        under_way = self.open
        for event in events:
            kind = type(event)
            if kind is Done:
                self._done(cast(Done, event))
            elif kind is WantBody:
                self._spawn(self._stream(cast("Job", cast(WantBody, event).transaction.tag)))
            elif kind is Ready:
                self._lap("ready")
                self.ready = True
                self.room = self._room()
                self._wears = cast(Ready, event).capabilities.mail_max > 0
                self.lane.opened(self)
            elif kind is StartTls:
                self._send(progress=True)
                faults.point("during-handshake")
                if not self.over:
                    self._spawn(self._upgrade())
                return
            elif kind is Refused:
                self._refused(cast(Refused, event))
            elif kind is Ended:
                self._ended(cast(Ended, event), under_way)
        if self.over:
            return
        if self.ready and not self.leaving:
            self.lane.feed(self)
        assert self.client is not None
        if self._wears and not self.open and self.client.worn_out:
            self.quit()
            return
        if self._stage in BEFORE_DATA and self.client.stage not in BEFORE_DATA:
            faults.point("after-upstream-rcpt")
        self._send(progress=bool(events))

    def give(self, job: Job) -> None:
        """Begin a job; the caller checked `room`. Nothing is written before `flush`."""
        assert self.client is not None
        job.given_at = time.monotonic()
        self.largest = max(self.largest, len(job.deliveries))
        events = self.client.send(job.transaction)
        self.open += 1
        self.room = self.client.room
        for event in events:
            if type(event) is Done:
                self._done(event)
            elif type(event) is WantBody:
                self._spawn(self._stream(job))

    @property
    def takes_jobs(self) -> bool:
        """Whether it is ready and stays so."""
        return self.ready and not self.leaving and not self.over

    def _room(self) -> int:
        return self.client.room if self.client is not None and not self.leaving and not self.over else 0

    def flush(self) -> None:
        """Write what jobs that were given from outside need."""
        if not self.over:
            self._send(progress=True)

    def _send(self, *, progress: bool) -> None:
        """Write, and see what is waited for now."""
        client = self.client
        if client is None or self.transport is None or self.over:
            return
        if self.open and not self.lane.fresh():
            self.drop("this engine could not renew its lease in time")
            return
        data = client.data_to_send()
        if data:
            self.transport.write(data)
            if WATCHED and self.open and client.in_doubt:
                faults.point("after-upstream-dot")
        self._mark(progress=progress)

    def _done(self, event: Done) -> None:
        job = cast("Job", event.transaction.tag)
        job.done = True
        self.open -= 1
        self.messages += 1
        self.idle_since = time.monotonic()
        self.room = self._room()
        self.lane.done(self, job, event.results)
        del job.transaction  # they refer to each other, and content should not wait for the collector

    async def _stream(self, job: Job) -> None:
        """Give content that stands in chunks, as fast as the peer takes it."""
        assert self.client is not None and job.first is not None
        piece, lease = job.first, job.lease
        try:
            for n in range(lease.chunks):
                if n:
                    faults.point("mid-body")
                    piece = await self.lane.chunk(lease.message_id, n)
                while self._paused and not self.over:
                    self._drained = asyncio.get_running_loop().create_future()
                    await self._drained
                if job.done or self.over:
                    return
                self._take(self.client.body(job.transaction, piece, last=n == lease.chunks - 1))
                self._mark(progress=True)
        except SmarthostError as error:
            self.drop(f"the content could not be read from the store: {error.public}")

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._release()

    def _release(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    # --- deadlines

    def _mark(self, *, progress: bool) -> None:
        """A new stage, or an answer, begins a new deadline; bytes alone do not."""
        assert self.client is not None
        stage = self.client.stage
        if stage is not self._stage:
            self._stage = stage
            self._stage_name = stage.value
        elif not progress:
            return
        if stage is Stage.IDLE:
            self.deadline = NEVER
            return
        limit = self.lane.deadlines.stage(stage.value)
        if stage is Stage.RCPT:
            limit += self.lane.deadlines.recipient * self.largest
        self.deadline = time.monotonic() + limit

    def sweep(self, now: float) -> None:
        """Look at the deadlines; end what is idle or old. `now` in seconds of the monotonic clock."""
        limits = self.lane.deadlines
        if now > self.deadline or (not self.ready and now > self.setup_by):
            self._timed_out(self._stage_name)
        elif (
            self.ready
            and not self.leaving
            and (
                now - self.born > limits.age
                or self.messages >= limits.messages
                or (not self.open and now - self.idle_since > limits.idle)
            )
        ):
            self.quit()

    def _timed_out(self, stage: str) -> None:
        text = f"the server did not answer in time (waiting for {stage.upper()})"
        if self.ready:
            self.drop(text)
        else:
            self.fail(Fault.TLS if stage in ("tls", "starttls") else Fault.SESSION, stage, text)

    # --- the end

    def quit(self) -> None:
        """Take no more jobs, finish those that are open, say QUIT."""
        if self.leaving or self.over:
            return
        self.leaving = True
        self.room = 0
        if not self.ready or self.client is None:
            self.drop("no longer needed")
            return
        self.client.quit()
        self._send(progress=True)

    def drop(self, why: str) -> None:
        """Break the connection now. Open jobs end as the client judges them."""
        if self.over:
            return
        if self.ready and self.client is not None:
            self._take(self.client.eof(why))
        self._finish()

    def fail(self, fault: Fault, stage: str, text: str, *, polite: bool = False) -> None:
        """The session could not be set up."""
        if not self.over:
            self._failure = (fault, stage, text)
            self._finish(polite=polite)

    def _refused(self, event: Refused) -> None:
        reply = event.reply
        text = f"{event.text} ({reply})" if reply is not None and str(reply) not in event.text else event.text
        fault = REASONS.get(event.reason)
        if fault is None or (fault is Fault.SESSION and reply is not None):
            words = reply.text if reply is not None else event.text
            fault = classify(
                event.stage.value, reply.code if reply else 0, reply.enhanced if reply else "", words
            )
            if fault is Fault.MESSAGE:
                fault = Fault.SESSION
        self.fail(fault, event.stage.value, text, polite=True)

    def _ended(self, event: Ended, under_way: int) -> None:
        if not self.ready:
            self._failure = self._failure or (Fault.SESSION, self._stage_name, event.text)
        elif under_way or not self.messages:  # else the server closed what was idle: ordinary
            reply = event.reply
            self.lane.broke(self, reply.code if reply else 0, reply.enhanced if reply else "", event.text)
        self._finish()

    def eof_received(self) -> bool:
        self._lost("the server closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(f"the connection was lost: {exc}" if exc else "the server closed the connection")

    def _lost(self, text: str) -> None:
        if self.over:
            return
        if self._stage_name == "tls" and not self.ready and self._stage is Stage.TLS:
            self.fail(Fault.TLS, "tls", f"The TLS handshake failed: {text}")
        elif self.client is None:
            self.fail(Fault.CONNECT, "connect", text)
        else:
            self._take(self.client.eof(text))
            self._finish()

    def _finish(self, *, polite: bool = False) -> None:
        """Close, and tell the lane once. polite: the client still has its QUIT to say."""
        if self.over:
            return
        self.over = True
        self.room = 0
        self.deadline = NEVER
        self._release()
        if self.transport is not None:
            if polite and self.client is not None and (data := self.client.data_to_send()):
                self.transport.write(data)
                self.transport.close()
                asyncio.get_running_loop().call_later(1, self.transport.abort)
            else:
                self.transport.abort()
        current = asyncio.current_task()
        for task in self.tasks:
            if task is not current:
                task.cancel()
        self.lane.gone(self, self._failure)

    @property
    def transcript(self) -> str:
        """The dialogue's last lines, redacted by the client when they were captured."""
        return "\n".join(self.client.transcript) if self.client is not None else ""

    def _lap(self, name: str) -> None:
        now = time.monotonic()
        self.timings += f'"{name}":{int((now - self._began) * 1e6)},'
        self._began = now

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        """A bug in one session ends that session, is logged, and gives its jobs back."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.lane.crashed(self, error)
            self.drop("an error of our own")
