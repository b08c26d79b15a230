"""One client's connection: bytes to the protocol core, its events to decisions, answers back.

There is no task and no await for a command. `data_received` feeds the core and handles its events at once, so a
pipelined message costs one read, one commit and one write. Four things take time, and while one of them is
under way the connection *waits*: its events stay in the core, a little more input is held, then reading
pauses. Whatever it was calls `_go_on`, which takes up the events where they stopped.

    PRINCIPAL  a principal that is not in memory is loaded      LOGIN  a wrong or unknown login has its delay
    UPLOAD     a chunk of large content is being written        STORE  the message is being committed
    TLS        the handshake of STARTTLS

Invariants: the positive reply to content is given only after the commit's future says so. What was committed is
never taken back, also when the client is gone. Every exit forgets the upload's chunks and the bytes counted.

Deadlines need no timers: each turn with an event sets `_progress` to the hub's clock, and the hub's sweep asks
every connection once a second whether it may stay. RFC 5321 4.5.3.2, RFC 3207, RFC 4954.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
import traceback
from asyncio import Future
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from smarthost import faults
from smarthost.engine.directory import LOCAL
from smarthost.engine.submission._envelope import SENDER_OK, Envelope, begin, reader, said
from smarthost.engine.submission._listener import Peer
from smarthost.engine.submission._upload import Upload
from smarthost.errors import SmarthostError
from smarthost.mail import HeaderFacts, read_headers, received
from smarthost.routing import Directory, Mode, Principal, hash_secret, network_principal
from smarthost.smtp import (
    NEED_ANSWER,
    NEED_DATA,
    Abort,
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
from smarthost.spool import CHUNK, Acceptance, Accepted, Door, NewMessage, new_id, now_us
from smarthost.spool.intake import examine

if TYPE_CHECKING:
    from smarthost.engine.submission._submission import Submission

ACK_BEFORE_COMMIT = faults.planted("ack-before-commit")
WRITE_HIGH = 64 * 1024
IN_CONTENT = frozenset({ServerState.DATA, ServerState.CHUNKS})

LOGGED_IN = Reply(235, "2.7.0", "Authentication succeeded")
LOGIN_REFUSED = Reply(535, "5.7.8", "Authentication credentials invalid")
LOGIN_LATER = Reply(454, "4.7.0", "Temporary authentication failure; try again later")
LOGIN_TOO_OFTEN = Reply(421, "4.7.0", "Too many failed logins; try again later")
LOGIN_NEEDED = Reply(530, "5.7.0", "Authentication required")
ENCRYPT_FIRST = Reply(538, "5.7.11", "Encryption required for authentication")
BUSY = Reply(452, "4.3.1", "Too much mail is coming in at once; try again in a minute")
NO_STORE = Reply(451, "4.3.0", "The message could not be stored; try again later")
STOPPING = Reply(421, "4.3.2", "Shutting down; try again later")
TOO_SLOW = Reply(421, "4.4.2", "Too slow; closing the connection")
IDLE = Reply(421, "4.4.2", "Timed out waiting for a command")
UNKNOWN_UID = Reply(550, "5.7.1", "This user may not send: no application is set for its uid")

ABSENT = ("0" * 64,)
"""Compared with where there is no such login, so that it takes as long as where there is."""


class Wait(Enum):
    """What a connection waits for."""

    NOTHING = 0
    PRINCIPAL = 1
    LOGIN = 2
    UPLOAD = 3
    STORE = 4
    TLS = 5


class Connection(asyncio.Protocol):
    """Made by the hub for each accepted socket; the hub's sets and counters know it until it is lost."""

    __slots__ = (
        "_blocked_at",
        "_counted",
        "_envelope",
        "_eof",
        "_held",
        "_hub",
        "_identity",
        "_lost",
        "_network",
        "_network_of",
        "_opened",
        "_paused",
        "_peer",
        "_progress",
        "_secret",
        "_server",
        "_tls",
        "_transport",
        "_upload",
        "_wait",
        "_window",
        "_window_bytes",
    )

    def __init__(self, hub: Submission, peer: Peer) -> None:
        self._hub = hub
        self._peer = peer
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._server = Server(hub.options(peer), secure=peer.tls, trusted=peer.door is Door.SENDMAIL)
        self._identity = ""  # who logged in, and with which secret (its hash)
        self._secret = ""
        self._network: str | None = None
        self._network_of: Directory | None = None
        self._envelope: Envelope | None = None
        self._upload: Upload | None = None
        self._wait = Wait.NOTHING
        self._lost = self._eof = self._paused = False
        self._tls = ""
        self._held = 0  # bytes received while waiting
        self._counted = 0  # bytes of this connection in the hub's count
        self._window_bytes = 0
        self._opened = self._progress = self._window = hub.now
        self._blocked_at = 0.0

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._take_transport(cast(asyncio.Transport, transport))
        server, peer = self._server, self._peer
        if self._hub.stopping:
            server.greet(STOPPING)
        elif peer.uid is not None and self._principal_id() is None:
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

    def data_received(self, data: bytes) -> None:
        """Feed the core, and handle what comes of it unless something is waited for."""
        server = self._server
        if server.state in IN_CONTENT:
            self._hold(len(data))
        server.receive(data)
        if self._wait is Wait.NOTHING and not self._blocked_at:
            self._run()
            return
        self._held += len(data)
        if self._held > self._hub.settings.held and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _hold(self, size: int) -> None:
        """Count content in memory. Far over the cap, whoever brings more has to go."""
        hub = self._hub
        hub.in_flight += size
        self._counted += size
        self._window_bytes += size
        if hub.in_flight > 2 * hub.settings.in_flight:
            hub.log.warning("too-much-in-flight", ip=self._peer.ip, bytes=hub.in_flight)
            self._end(Reply(421, "4.3.1", BUSY.text))

    def eof_received(self) -> bool:
        """A client that closed its half still gets the answer that it waits for."""
        self._eof = True
        return self._wait in (Wait.STORE, Wait.UPLOAD) and not self._tls

    def pause_writing(self) -> None:
        """The client does not read our replies: handle no more of its commands until it does."""
        self._blocked_at = self._hub.now or 1e-9

    def resume_writing(self) -> None:
        self._blocked_at = 0.0
        if self._wait is Wait.NOTHING:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._drop()
        self._hub.forget(self)

    # --- events

    def _run(self) -> None:
        """Handle events until none is left or one has to wait; then write."""
        server = self._server
        try:
            event = server.next_event()
            if event is not NEED_DATA:
                self._progress = self._hub.now
            while event is not NEED_DATA and event is not NEED_ANSWER:
                if HANDLERS[type(event)](self, event):
                    break
                event = server.next_event()
            else:
                if server.state in IN_CONTENT:
                    faults.point("mid-data")
        except Exception as error:
            self.fail(error)
            return
        self._flush()

    def fail(self, error: BaseException) -> None:
        """A mistake of ours costs this connection, never the others."""
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        self._hub.log.error("connection-failed", ip=self._peer.ip, error=repr(error), where=where)
        self._drop()
        self._transport.abort()

    def _flush(self) -> None:
        data = self._server.data_to_send()
        transport = self._transport
        if data and not transport.is_closing():
            transport.write(data)
        if (self._server.closing or self._eof) and self._wait is Wait.NOTHING:
            self._drop()
            transport.close()

    def _go_on(self) -> None:
        """What was waited for is there."""
        self._wait = Wait.NOTHING
        self._held = 0
        self._progress = self._window = self._hub.now
        self._window_bytes = 0
        if self._lost:
            return
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if self._hub.stopping and not self._server.busy:
            self._end(STOPPING)
            return
        self._run()

    def _on_mail(self, event: Mail) -> bool:
        hub = self._hub
        who = self._principal_id()
        if who is None:
            self._server.answer(LOGIN_NEEDED)
        elif hub.in_flight > hub.settings.in_flight:
            self._server.answer(BUSY)
        elif (principal := hub.directory.get(who)) is not None:
            self._begin(principal, event)
        else:
            self._wait = Wait.PRINCIPAL
            hub.spawn(self._load(who, event), self)
            return True
        return False

    async def _load(self, who: str, event: Mail) -> None:
        try:
            principal = await self._hub.directory.principal(who)
        except SmarthostError as error:
            self._answer(said(error))
        else:
            if principal is None:
                self._identity = ""
                self._answer(LOGIN_NEEDED)
            elif not self._lost:
                self._begin(principal, event)
        self._go_on()

    def _begin(self, principal: Principal, event: Mail) -> None:
        if self._secret and self._secret not in principal.secrets:  # taken back since the login
            self._identity = self._secret = ""
            self._server.answer(LOGIN_NEEDED)
            return
        try:
            self._envelope = begin(self._hub.directory.current, principal, self._peer.door, event)
        except SmarthostError as error:
            self._server.answer(self._refused(error))
            return
        self._server.answer(SENDER_OK)
        faults.point("after-mail")

    def _on_rcpt(self, event: Rcpt) -> bool:
        envelope = self._envelope
        assert envelope is not None
        try:
            reply = envelope.add(self._hub.directory.current, event, now_us())
        except SmarthostError as error:
            reply = said(error)
        if reply.code >= 400:
            self._log_refusal(reply, recipient=event.path)
        self._server.answer(reply)
        faults.point("after-rcpt")
        return False

    def _on_chunk(self, event: Chunk) -> bool:
        self._unhold()
        upload = self._upload
        if upload is None:
            upload = self._upload = self._new_upload()
        upload.feed(event.data)
        return self._write_on(upload)

    def _on_content(self, event: Content) -> bool:
        faults.point("after-dot")
        self._unhold()
        hub, upload = self._hub, self._upload
        if event.data is not None and upload is None:
            directory = hub.directory.current
            try:
                content, facts = examine(event.data, directory.limits, reader(directory))
            except SmarthostError as error:
                self._refuse_content(error)
                return False
            if len(content) <= CHUNK:
                return self._store(facts, content, None)
            upload = self._upload = self._new_upload()
            upload.feed(content)
        if upload is None:
            upload = self._upload = self._new_upload()
        upload.finish()
        return self._write_on(upload) or self._uploaded(upload)

    def _on_reset(self, event: Reset | Quit) -> bool:
        self._drop()
        return False

    def _on_abort(self, event: Abort) -> bool:
        self._hub.log.warning("aborted", ip=self._peer.ip, uid=self._peer.uid, reason=event.reason.value)
        self._drop()
        return False

    def _on_hello(self, event: Hello) -> bool:
        return False

    # --- content

    def _new_upload(self) -> Upload:
        directory = self._hub.directory.current
        limits = directory.limits

        def look(first: bytes) -> HeaderFacts:
            return read_headers(
                first, max_header=limits.max_header, max_hops=limits.max_hops, complete=reader(directory)
            )

        return Upload(self._hub.spool, new_id(), look, limits.max_size)

    def _write_on(self, upload: Upload) -> bool:
        """Wait for the write under way, if there is one."""
        if upload.writing is None:
            return False
        self._wait = Wait.UPLOAD
        upload.writing.add_done_callback(partial(self._written, upload))
        return True

    def _written(self, upload: Upload, future: Future[None]) -> None:
        upload.written()
        if upload is not self._upload:
            if upload.writing is None:
                self._hub.discard(upload.id)
            return
        if self._write_on(upload):
            return
        self._wait = Wait.NOTHING
        if not upload.ended or not self._uploaded(upload):
            self._go_on()

    def _uploaded(self, upload: Upload) -> bool:
        if upload.failure is not None:
            self._refuse_content(upload.failure)
            return False
        return self._store(upload.facts or HeaderFacts(header_size=0), None, upload)

    def _store(self, facts: HeaderFacts, content: bytes | None, upload: Upload | None) -> bool:
        """Hand the message in and wait for its commit."""
        hub, envelope, peer, server = self._hub, self._envelope, self._peer, self._server
        assert envelope is not None
        directory = hub.directory.current
        now = now_us()
        id = upload.id if upload else new_id()
        trace = received(
            hostname=directory.hostname,
            protocol=server.protocol,
            id=id,
            at_us=now,
            helo=server.hello if peer.ip else "",
            peer=peer.ip,
            tls=self._tls,
            by_login=envelope.principal.name,
        )
        try:
            message = envelope.message(
                directory,
                facts,
                id=id,
                now=now,
                trace=trace,
                content=content,
                size=upload.size if upload else len(content or b""),
                chunks=upload.chunks if upload else 1,
                digest=upload.digest if upload else None,
                eight_bit=upload.eight_bit if upload else False,
            )
        except SmarthostError as error:
            self._refuse_content(error)
            return False
        self._envelope = None
        self._upload = None
        hub.in_flight += message.size if upload is None else 0
        self._wait = Wait.STORE
        future = hub.spool.accept(message)
        if ACK_BEFORE_COMMIT:
            early: Future[Accepted] = hub.loop.create_future()
            early.set_result(Accepted(message.id))
            future = early
        future.add_done_callback(partial(self._stored, message))
        return True

    def _stored(self, message: NewMessage, future: Future[Accepted]) -> None:
        """The commit is over: now, and not before, the client may hear yes."""
        hub = self._hub
        if message.content is not None:
            hub.in_flight -= message.size
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            reply = said(error) if isinstance(error, SmarthostError) else NO_STORE
            private = getattr(error, "private", None) or repr(error)
            self._log_refusal(reply, id=message.id, cause=private)
            if message.content is None:
                hub.discard(message.id)
        else:
            accepted = future.result()
            reply = self._yes(message, accepted)
        if self._lost:
            return
        faults.point("before-reply")
        self._server.answer(reply)
        self._go_on()
        faults.point("after-reply")

    def _yes(self, message: NewMessage, accepted: Accepted) -> Reply:
        repeated = accepted.how is Acceptance.REPEATED
        if repeated and message.content is None and accepted.id != message.id:
            self._hub.discard(message.id)
        captured = not message.deliveries[0].upstream
        self._hub.log.info(
            "captured" if captured else "accepted",
            id=accepted.id,
            repeated=1 if repeated else None,
            door=message.door.value,
            ip=self._peer.ip,
            principal=message.principal,
            size=message.size,
            recipients=len(message.deliveries),
            sender=message.sender or "<>",
            reply="lost" if self._lost else None,
        )
        return Reply(250, "2.0.0", f"{'captured, not sent, as' if captured else 'queued as'} {accepted.id}")

    def _refuse_content(self, error: SmarthostError) -> None:
        self._drop()
        self._server.answer(self._refused(error))

    def _refused(self, error: SmarthostError) -> Reply:
        reply = said(error)
        self._log_refusal(reply)
        return reply

    def _log_refusal(self, reply: Reply, **fields: object) -> None:
        peer = self._peer
        self._hub.log.info(
            "refused",
            door=peer.door.value,
            ip=peer.ip,
            principal=self._principal_id(),
            code=reply.code,
            enhanced=reply.enhanced,
            **fields,
            text=reply.text,
        )

    # --- who it is

    def _principal_id(self) -> str | None:
        """Who sends: a login or uid, else the peer's network, else anybody local in capture mode."""
        if self._identity:
            return self._identity
        directory = self._hub.directory.current
        peer = self._peer
        if peer.uid is not None and peer.uid in directory.uids:
            return directory.uids[peer.uid]
        if peer.ip and self._network_of is not directory:
            self._network = network_principal(directory, peer.ip)
            self._network_of = directory
        if self._network:
            return self._network
        return LOCAL.id if peer.loopback and directory.mode is Mode.CAPTURE else None

    def _on_auth(self, event: Auth) -> bool:
        hub = self._hub
        wait = hub.throttle.wait(self._peer.ip, event.username, hub.loop.time())
        if wait == 0.0:
            principal = hub.directory.get_by_login(event.username)
            if principal is not None and self._encrypted_enough(principal) and self._knows(principal, event):
                self._logged_in(principal, event)
                self._server.answer(LOGGED_IN)
                return False
        self._wait = Wait.LOGIN
        hub.spawn(self._login(event, wait), self)
        return True

    async def _login(self, event: Auth, wait: float | None) -> None:
        """The slow way: whatever is wrong, the answer comes when its delay is over, not before."""
        hub, ip = self._hub, self._peer.ip
        if wait is None:
            self._answer(self._login_refused(event, LOGIN_TOO_OFTEN))
            self._go_on()
            return
        if wait:
            await asyncio.sleep(wait)
        started = hub.loop.time()
        try:
            principal = await hub.directory.principal_by_login(event.username)
        except SmarthostError as error:
            hub.log.error("login-unknown", ip=ip, cause=error.private or error.public)
            self._answer(LOGIN_LATER)
            self._go_on()
            return
        if not self._encrypted_enough(principal):
            reply = self._login_refused(event, ENCRYPT_FIRST)
        elif self._knows(principal, event) and principal is not None:
            self._logged_in(principal, event)
            self._answer(LOGGED_IN)
            self._go_on()
            return
        else:
            reply = self._login_refused(event, LOGIN_REFUSED)
        hold = hub.throttle.failed(ip, event.username, started)
        if hub.throttle.tell(ip, started):
            hub.record("login.refused", f"Refused login from {ip}", ip)
        await asyncio.sleep(max(0.0, started + hold - hub.loop.time()))
        self._answer(reply)
        self._go_on()

    def _encrypted_enough(self, principal: Principal | None) -> bool:
        """In clear only from this machine, or where the application may (old printers)."""
        if self._server.secure or self._peer.loopback:
            return True
        return principal is not None and self._hub.clear_for(principal, self._peer.ip)

    @staticmethod
    def _knows(principal: Principal | None, event: Auth) -> bool:
        """Compare with every secret, in constant time; with something where there is none."""
        given = hash_secret(event.password)
        secrets = principal.secrets if principal is not None and principal.enabled else ABSENT
        found = False
        for secret in secrets or ABSENT:
            found |= hmac.compare_digest(given, secret)
        return found and secrets is not ABSENT

    def _logged_in(self, principal: Principal, event: Auth) -> None:
        self._identity = principal.id
        self._secret = hash_secret(event.password)
        self._hub.throttle.succeeded(self._peer.ip, event.username)

    def _login_refused(self, event: Auth, reply: Reply) -> Reply:
        self._hub.log.warning(
            "login-refused",
            ip=self._peer.ip or "unix",
            door=self._peer.door.value,
            code=reply.code,
            mechanism=event.mechanism,
            login=event.username,
        )
        return reply

    def _answer(self, reply: Reply) -> None:
        if not self._lost:
            self._server.answer(reply)

    # --- TLS

    def _on_starttls(self, event: StartTls) -> bool:
        self._transport.pause_reading()
        data = self._server.data_to_send()
        self._transport.write(data)
        self._wait = Wait.TLS
        self._drop()
        self._hub.spawn(self._upgrade(), self)
        return True

    async def _upgrade(self) -> None:
        hub = self._hub
        assert hub.certificate is not None
        try:
            transport = await hub.loop.start_tls(
                self._transport,
                self,
                hub.certificate.context,
                server_side=True,
                ssl_handshake_timeout=hub.settings.handshake,
            )
        except (OSError, ssl.SSLError) as error:
            hub.log.info("tls-failed", ip=self._peer.ip, error=error)
            self._transport.abort()
            self.connection_lost(None)
            return
        if transport is None or self._lost:
            self.connection_lost(None)
            return
        self._take_transport(transport)
        self._server.tls_started()  # forgets all that was said and sent in clear
        self._paused = False
        self._go_on()

    # --- the hub's side

    def check(self, now: float) -> None:
        """Asked once a sweep: may this connection stay?"""
        settings = self._hub.settings
        if self._blocked_at:
            if now - self._blocked_at > settings.stalled_writer:
                self._transport.abort()
            return
        if self._wait is not Wait.NOTHING or self._transport is None:
            return
        if self._server.state in IN_CONTENT:
            if now - self._window >= settings.window:
                if self._window_bytes < settings.min_rate * settings.window:
                    self._end(TOO_SLOW)
                self._window, self._window_bytes = now, 0
            return
        self._window, self._window_bytes = now, 0
        known = self._principal_id() is not None
        if now - self._progress > (settings.idle if known else settings.stranger_idle) or (
            not known and now - self._opened > settings.stranger_session
        ):
            self._end(IDLE)

    def stop(self) -> None:
        """The hub stops: end now unless content is coming in or being committed."""
        if self._wait is Wait.NOTHING and self._server.state not in IN_CONTENT:
            self._end(STOPPING)

    def abort(self) -> bool:
        """The hub's grace is over. False where a commit is under way: that one still gets its answer."""
        if self._wait is Wait.STORE:
            return False
        self._transport.abort()
        return True

    def _end(self, reply: Reply) -> None:
        if self._transport.is_closing():
            self._transport.abort()
            return
        self._server.shut(reply)
        self._flush()

    def _unhold(self) -> None:
        """What was received is stored, or on its way there, or dropped."""
        self._hub.in_flight -= self._counted
        self._counted = 0

    def _drop(self) -> None:
        """Forget the transaction and what it holds."""
        self._envelope = None
        self._unhold()
        upload, self._upload = self._upload, None
        if upload is not None and upload.writing is None:
            self._hub.discard(upload.id)


HANDLERS: dict[type[object], Callable[[Connection, Any], bool]] = {
    Mail: Connection._on_mail,
    Rcpt: Connection._on_rcpt,
    Chunk: Connection._on_chunk,
    Content: Connection._on_content,
    Auth: Connection._on_auth,
    StartTls: Connection._on_starttls,
    Hello: Connection._on_hello,
    Reset: Connection._on_reset,
    Quit: Connection._on_reset,
    Abort: Connection._on_abort,
}
