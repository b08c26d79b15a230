"""One client's connection: bytes to the protocol core, its events to decisions, answers back.

There is no task and no await for a command. `data_received` feeds the core and handles its events at once,
so a pipelined message costs one read, one commit and one write. Some things take time, and while one of them
is under way the connection *waits*: its events stay in the core, a little more input is held, then reading
pauses. Whatever it was calls `_go_on`, which takes up the events where they stopped.

    PRINCIPAL  a principal that is not in memory is loaded      LOGIN  a wrong or unknown login has its delay
    PIECE      a piece of large content is being written        STORE  the message is being committed
    TLS        the handshake of STARTTLS

Deadlines need no timers: each turn with an event sets `_progress` to the hub's clock, and the hub's sweep
asks every connection once a second whether it may stay. RFC 5321 4.5.3.2, RFC 3207, RFC 4954.
"""

from __future__ import annotations

import asyncio
import ssl
import traceback
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from smarthost import faults
from smarthost.engine.submission._envelope import SENDER_OK, Envelope, begin, said
from smarthost.engine.submission._identity import LOGGED_IN, Identity
from smarthost.engine.submission._listener import Peer
from smarthost.engine.submission._reception import Reception
from smarthost.errors import SmarthostError
from smarthost.mail import received
from smarthost.routing import Principal
from smarthost.smtp import (
    NEED_ANSWER,
    NEED_DATA,
    Abort,
    AbortReason,
    Auth,
    Chunk,
    Content,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reply,
    Reset,
    Server,
    ServerState,
    StartTls,
)
from smarthost.spool import now_us

if TYPE_CHECKING:
    from smarthost.engine.submission._submission import Submission

WRITE_HIGH = 64 * 1024
IN_CONTENT = frozenset({ServerState.DATA, ServerState.CHUNKS})

LOGIN_NEEDED = Reply(530, "5.7.0", "Authentication required")
LOGIN_GONE = Reply(421, "4.7.0", "This login is no longer valid; connect again")
BUSY = Reply(452, "4.3.1", "Too much mail is coming in at once; try again in a minute")
BUSY_NOW = Reply(421, "4.3.1", BUSY.text)
STOPPING = Reply(421, "4.3.2", "Shutting down; try again later")
TOO_SLOW = Reply(421, "4.4.2", "The content comes in too slowly; closing the connection")
IDLE = Reply(421, "4.4.2", "Timed out waiting for a command")
UNKNOWN_UID = Reply(550, "5.7.1", "This user may not send: no application is set for its uid")


class Wait(Enum):
    """What a connection waits for."""

    NOTHING = 0
    PRINCIPAL = 1
    LOGIN = 2
    PIECE = 3
    STORE = 4
    TLS = 5


class Connection(asyncio.Protocol):
    """Made by the hub for each accepted socket; the hub counts it until it is lost."""

    __slots__ = (
        "_blocked_at",
        "_counted",
        "_deaf",
        "_envelope",
        "_eof",
        "_held",
        "_hub",
        "_identity",
        "_lost",
        "_opened",
        "_paused",
        "_peer",
        "_progress",
        "_reception",
        "_running",
        "_server",
        "_task",
        "_tls",
        "_transport",
        "_wait",
        "_window",
        "_window_bytes",
    )

    def __init__(self, hub: Submission, peer: Peer) -> None:
        self._hub = hub
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._server = Server(hub.options(peer), secure=peer.tls, trusted=peer.uid is not None)
        self._identity = Identity(hub, peer)
        self._envelope: Envelope | None = None
        self._reception: Reception | None = None
        self._wait = Wait.NOTHING
        self._running = self._lost = self._eof = self._paused = False
        self._task: asyncio.Task[None] | None = None  # what it waits for, where that is a task
        self._tls = ""
        self._held = 0  # bytes received while waiting
        self._counted = 0  # bytes of this connection in the hub's count
        self._opened = self._progress = self._window = hub.now
        self._window_bytes = 0
        self._blocked_at = 0.0
        self._deaf = 0.0  # since when what comes in is thrown away

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._take_transport(cast(asyncio.Transport, transport))
        server, peer = self._server, self._peer
        if self._hub.stopping:
            server.greet(STOPPING)
        elif peer.uid is not None and self._identity.principal_id() is None:
            self._hub.log.warning("sendmail-refused", uid=peer.uid)
            server.greet(UNKNOWN_UID)
        else:
            server.greet()
        self._flush()

    def _take_transport(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        if tls := transport.get_extra_info("ssl_object"):
            cipher = tls.cipher()
            self._tls = f"{tls.version()} {cipher[0] if cipher else ''}"
            self._identity.secure = True

    def data_received(self, data: bytes) -> None:
        """Feed the core, and handle what comes of it unless something is waited for."""
        server = self._server
        if server.state in IN_CONTENT:
            self._count(len(data))
        server.receive(data)
        if self._wait is Wait.NOTHING and not self._blocked_at:
            self._run()
            return
        self._held += len(data)
        if self._held > self._hub.settings.held and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """A client that closed its half still gets the answer that it waits for."""
        self._eof = True
        return self._wait in (Wait.STORE, Wait.PIECE) and not self._tls

    def pause_writing(self) -> None:
        """The client does not read our replies: handle no more of its commands until it does."""
        self._blocked_at = self._hub.now

    def resume_writing(self) -> None:
        self._blocked_at = 0.0
        if self._wait is Wait.NOTHING and not self._running:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._drop()
        self._hub.forget(self)
        if self._task is not None and self._wait in (Wait.LOGIN, Wait.PRINCIPAL):
            self._task.cancel()

    def _flush(self) -> None:
        """Write what there is to say; close when all is said."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        data = self._server.data_to_send()
        if data:
            transport.write(data)
        if self._wait is Wait.NOTHING and (self._server.closing or self._eof):
            self._drop()
            if not self._deaf or self._eof:
                transport.close()
            elif transport.can_write_eof():
                transport.write_eof()

    # --- events

    def _run(self) -> None:
        """Handle events until none is left or one has to wait; then write."""
        server = self._server
        self._running = True
        try:
            event = server.next_event()
            if event is not NEED_DATA:
                self._progress = self._hub.now
            while event is not NEED_DATA and event is not NEED_ANSWER:
                HANDLERS[type(event)](self, event)
                if self._wait is not Wait.NOTHING:
                    break
                event = server.next_event()
            if server.state in IN_CONTENT:
                faults.point("mid-data")
        except Exception as error:
            self.fail(error)
            return
        finally:
            self._running = False
        self._flush()

    def _go_on(self) -> None:
        """What was waited for is there."""
        self._wait = Wait.NOTHING
        if self._lost or self._transport is None:
            return
        self._held = self._window_bytes = 0
        self._progress = self._window = self._hub.now
        if self._blocked_at:
            self._flush()  # its replies are not read: `resume_writing` comes here again
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._hub.stopping and self._server.state not in IN_CONTENT:
            self._end(STOPPING)
        else:
            self._run()

    def _answer(self, reply: Reply) -> None:
        """Answer the event that was waited for, and go on."""
        if not self._lost:
            self._server.answer(reply)
            self._go_on()

    def _on_mail(self, event: Mail) -> None:
        hub = self._hub
        who = self._identity.principal_id()
        if who is None:
            self._server.answer(LOGIN_NEEDED)
        elif hub.in_flight > hub.settings.in_flight:
            self._server.answer(BUSY)
        elif (principal := hub.directory.get(who)) is not None:
            self._server.answer(self._begin(principal, event))
            faults.point("after-mail")
        else:
            self._wait = Wait.PRINCIPAL
            self._task = hub.spawn(self._load(who, event), self)

    async def _load(self, who: str, event: Mail) -> None:
        try:
            reply = self._begin(await self._hub.directory.principal(who), event)
        except SmarthostError as error:
            reply = said(error)
        self._answer(reply)

    def _begin(self, principal: Principal | None, event: Mail) -> Reply:
        """Open a transaction, or say why not."""
        if principal is None or not self._identity.still(principal):
            return LOGIN_GONE
        try:
            self._envelope = begin(self._hub.directory.current, principal, self._peer.door, event)
        except SmarthostError as error:
            reply = said(error)
            self._hub.log_refusal(self._peer, principal.id, reply)
            return reply
        return SENDER_OK

    def _on_rcpt(self, event: Rcpt) -> None:
        hub, envelope = self._hub, self._envelope
        assert envelope is not None
        try:
            reply = envelope.add(hub.directory.current, event, now_us())
        except SmarthostError as error:
            reply = said(error)
        if reply.code >= 400:
            hub.log_refusal(self._peer, envelope.principal.id, reply, recipient=event.path)
        self._server.answer(reply)
        faults.point("after-rcpt")

    def _on_chunk(self, event: Chunk) -> None:
        self._uncount()
        self._counted = len(event.data)  # until the next piece: one may still be under way
        self._hub.in_flight += self._counted
        reception = self._reception
        if reception is None:
            reception = self._reception = self._receive()
        if reception.feed(event.data):
            self._wait = Wait.PIECE

    def _on_content(self, event: Content) -> None:
        faults.point("after-dot")
        self._uncount()
        reception = self._reception
        if reception is None:
            reception = self._reception = self._receive()
        self._wait = Wait.STORE
        reception.finish(event.data)

    def _receive(self) -> Reception:
        assert self._envelope is not None
        return Reception(
            self._hub,
            self._peer,
            self._envelope,
            trace=self._trace,
            answer=self._decided,
            go_on=self._go_on,
        )

    def _decided(self, reply: Reply) -> None:
        """The answer to content: after the commit, or a refusal, which may come while events are handled."""
        self._envelope = self._reception = None
        if self._lost:
            return
        faults.point("before-reply")
        self._server.answer(reply)
        if self._running:
            self._wait = Wait.NOTHING
        else:
            self._go_on()
        faults.point("after-reply")

    def _trace(self, id: str, now: int) -> bytes:
        server, peer, envelope = self._server, self._peer, self._envelope
        return received(
            hostname=self._hub.directory.current.hostname,
            protocol=server.protocol if peer.ip else "local",
            id=id,
            at_us=now,
            helo=server.hello if peer.ip else "",
            peer=peer.ip,
            tls=self._tls,
            by_login=envelope.principal.name if envelope else "",
        )

    def _on_auth(self, event: Auth) -> None:
        hub = self._hub
        wait = hub.throttle.wait(self._peer.ip, event.username, hub.loop.time())
        if self._identity.login_at_once(event, wait):
            self._server.answer(LOGGED_IN)
        else:
            self._wait = Wait.LOGIN
            self._task = hub.spawn(self._login(event, wait), self)

    async def _login(self, event: Auth, wait: float | None) -> None:
        self._answer(await self._identity.login(event, wait))

    def _on_starttls(self, event: StartTls) -> None:
        assert self._transport is not None
        self._drop()
        self._transport.pause_reading()
        self._transport.write(self._server.data_to_send())
        self._wait = Wait.TLS
        self._task = self._hub.spawn(self._upgrade(self._transport), self)

    async def _upgrade(self, clear: asyncio.Transport) -> None:
        hub = self._hub
        assert hub.certificate is not None
        try:
            transport = await hub.loop.start_tls(
                clear,
                self,
                hub.certificate.context,
                server_side=True,
                ssl_handshake_timeout=hub.settings.handshake,
            )
        except (OSError, ssl.SSLError) as error:
            hub.log.info("tls-failed", ip=self._peer.ip, error=error)
            clear.abort()
            self.connection_lost(None)
            return
        if transport is None or self._lost:
            self.connection_lost(None)
            return
        self._identity = Identity(hub, self._peer)  # a login in clear is forgotten too
        self._take_transport(transport)
        self._server.tls_started()  # forgets all that was said and sent in clear
        self._paused = False
        self._go_on()

    def _on_other(self, event: Hello | Reset | Quit) -> None:
        """A transaction may have ended with it."""
        self._drop()

    def _on_abort(self, event: Abort) -> None:
        self._hub.log.warning("aborted", ip=self._peer.ip, uid=self._peer.uid, reason=event.reason.value)
        self._drop()
        if event.reason is AbortReason.BYTES:
            self._deaf = self._hub.now  # closed at once, its sender would see a reset and try again for ever

    # --- what it holds

    def _count(self, size: int) -> None:
        """Count content in memory. Far over the cap, whoever brings more has to go."""
        hub = self._hub
        hub.in_flight += size
        self._counted += size
        self._window_bytes += size
        if hub.in_flight > 2 * hub.settings.in_flight and self._wait is Wait.NOTHING:
            hub.log.warning("too-much-in-flight", ip=self._peer.ip, bytes=hub.in_flight)
            self._end(BUSY_NOW)

    def _uncount(self) -> None:
        """What was received is stored, or on its way there, or dropped."""
        self._hub.in_flight -= self._counted
        self._counted = 0

    def _drop(self) -> None:
        """Forget the transaction and what it holds."""
        self._uncount()
        self._envelope = None
        reception, self._reception = self._reception, None
        if reception is not None:
            reception.drop()

    # --- the hub's side

    def check(self, now: float) -> None:
        """Asked once a sweep: may this connection stay?"""
        settings = self._hub.settings
        if self._transport is None:
            return  # its handshake has its own deadline
        if self._deaf:
            if now - self._deaf > settings.linger:
                self._transport.abort()
        elif self._blocked_at:
            if now - self._blocked_at > settings.stalled_writer:
                self._transport.abort()
        elif self._wait is not Wait.NOTHING:
            return
        elif self._server.state in IN_CONTENT:
            if now - self._window >= settings.window:
                if self._window_bytes < settings.min_rate * settings.window:
                    self._end(TOO_SLOW)
                self._window, self._window_bytes = now, 0
        else:
            self._window, self._window_bytes = now, 0
            known = self._identity.principal_id() is not None
            idle = settings.idle if known else settings.stranger_idle
            if now - self._progress > idle or not (known or now - self._opened <= settings.stranger_session):
                self._end(IDLE)

    def stop(self) -> None:
        """The hub stops: end now unless content is coming in or something is waited for."""
        if (
            self._transport is not None
            and self._wait is Wait.NOTHING
            and self._server.state not in IN_CONTENT
        ):
            self._end(STOPPING)

    @property
    def committing(self) -> bool:
        """Whether a commit is under way, which will be answered."""
        return self._wait is Wait.STORE

    def abort(self) -> None:
        """Cut it off."""
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: BaseException) -> None:
        """A mistake of ours costs this connection, never the others."""
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        self._hub.log.error("connection-failed", ip=self._peer.ip, error=repr(error), where=where)
        self._drop()
        self.abort()

    def _end(self, reply: Reply) -> None:
        """Say why, and close; cut it off where that was said before and not read."""
        if self._transport is None or self._transport.is_closing() or self._deaf:
            self.abort()
            return
        self._server.shut(reply)
        self._flush()


HANDLERS: dict[type[object], Callable[[Connection, Any], None]] = {
    Mail: Connection._on_mail,
    Rcpt: Connection._on_rcpt,
    Chunk: Connection._on_chunk,
    Content: Connection._on_content,
    Auth: Connection._on_auth,
    StartTls: Connection._on_starttls,
    Hello: Connection._on_other,
    Reset: Connection._on_other,
    Quit: Connection._on_other,
    Abort: Connection._on_abort,
}
