"""The client's side of a session.

Setting up is a ladder of single commands, driven by `CLIENT_STEPS` (see `_states`); once READY, replies
belong to the transactions of `_pipeline`. Rules that keep it safe:

- STARTTLS is said whenever it is configured, or the session is refused; nothing is believed that came before
  the handshake, and bytes behind the 220 refuse the session (RFC 3207 4.2, 6).
- AUTH is said only under TLS, or where Security.NONE was configured; 235 is its only success, and for SCRAM
  only with the server's proof; 503 is none (RFC 4954 4, 6). A refused password is not tried in another way.
- A reply that cannot be the answer to what was given out ends the session, with `UNKNOWN` for what is in
  doubt (see `_wire`, `_pipeline`).
- After `Refused` or `Ended` nothing more is taken in, and nothing raises.
"""

from __future__ import annotations

import base64

from smarthost.smtp._capabilities import NOTHING, Capabilities, parse_capabilities
from smarthost.smtp._events import ClientEvent, Ended, Ready, Refused, StartTls
from smarthost.smtp._pipeline import Pipeline
from smarthost.smtp._reply import GarbageError, ReplyReader
from smarthost.smtp._sasl import MECHANISMS, Mechanism, SaslError, choose, explain, from_base64
from smarthost.smtp._states import CLIENT_STAGES, CLIENT_STEPS, ClientState, Move
from smarthost.smtp._transcript import REDACTED, Transcript
from smarthost.smtp._types import (
    ClientOptions,
    LocalError,
    Login,
    RefusedReason,
    Reply,
    Security,
    Stage,
    Transaction,
)
from smarthost.smtp._wire import Expected, OutOfStepError, Wire

_LONGEST_INITIAL = 12288 - 40  # RFC 4954 4: of an AUTH line
_SETTING_UP = frozenset(ClientState) - {ClientState.READY, ClientState.LEAVING, ClientState.CLOSED}
_AUTH_NOT_UNDERSTOOD = frozenset({500, 501, 502, 503, 530, 538})  # 5yz that say nothing about the credentials


class Client:
    """One session with a server, from its greeting to QUIT.

    capabilities  of the last EHLO; those before STARTTLS are forgotten.

    LocalError: helo or login hold what cannot be said, or the mechanism is none of ours.
    """

    def __init__(self, options: ClientOptions) -> None:
        if (
            not options.helo
            or not options.helo.isascii()
            or not options.helo.isprintable()
            or " " in options.helo
        ):
            raise LocalError("the EHLO name is not a host name")
        if options.login is not None:
            _check_login(options.login)
        self.options = options
        self.state = ClientState.BANNER
        self.capabilities: Capabilities = NOTHING
        self._transcript = Transcript(options.login)
        self._wire = Wire(self._transcript)
        self._wire.wait_for(Stage.BANNER)
        self._reader = ReplyReader(options.max_reply, options.max_lines)
        self._pipeline = Pipeline(self._wire, NOTHING, ahead=False)
        self._secure = options.security is Security.TLS
        self._mechanism: Mechanism | None = None
        self._refused_mechanisms: list[str] = []
        self._steps = 0

    @property
    def stage(self) -> Stage:
        """What is waited for now: the oldest command without a reply."""
        if self._wire.expected:
            return self._wire.expected[0].stage
        return Stage.BODY if self._pipeline.wants_body else CLIENT_STAGES[self.state]

    @property
    def room(self) -> int:
        """How many transactions may be given now: 0, 1 or 2. 0 for good where `worn_out` or not READY."""
        return self._pipeline.room if self.state is ClientState.READY else 0

    @property
    def worn_out(self) -> bool:
        """Whether the server's MAILMAX is used up: QUIT and connect anew."""
        return self._pipeline.worn_out

    @property
    def in_doubt(self) -> tuple[Transaction, ...]:
        """Transactions whose final bytes were given out and are not answered."""
        return self._pipeline.in_doubt

    @property
    def transcript(self) -> tuple[str, ...]:
        """The dialogue's last lines, "> " ours and "< " theirs, without secrets and without content."""
        return self._transcript.lines()

    def receive(self, data: bytes) -> list[ClientEvent]:
        """Take bytes from the server."""
        events: list[ClientEvent] = []
        if self.state is ClientState.CLOSED:
            return events
        if self.state is ClientState.TLS:
            self._injected(events)
            return events
        self._reader.feed(data)
        try:
            while (reply := self._reader.next()) is not None:
                self._take(reply, events)
                if self.state is not ClientState.READY and self._over(events):
                    break
        except (GarbageError, OutOfStepError) as error:
            self._lost(self._transcript.scrub(str(error)), RefusedReason.PROTOCOL, events)
        return events

    def eof(self, text: str = "the connection was lost") -> list[ClientEvent]:
        """The connection is lost, or given up for the reason in text. Once over, nothing more happens."""
        events: list[ClientEvent] = []
        if self.state is not ClientState.CLOSED:
            self._lost(text, RefusedReason.CLOSED, events)
        return events

    def tls_started(self) -> list[ClientEvent]:
        """The handshake that `StartTls` asked for is done. All capabilities are forgotten (RFC 3207 4.2)."""
        if self.state is ClientState.CLOSED:
            return []
        if self.state is not ClientState.TLS:
            raise LocalError("no handshake was asked for")
        self._transcript.note("TLS started")
        self._secure = True
        self.capabilities = NOTHING
        self._reader = ReplyReader(self.options.max_reply, self.options.max_lines)
        self._say_hello(ClientState.EHLO)
        return []

    def send(self, transaction: Transaction) -> list[ClientEvent]:
        """Begin a transaction. Done at once where nothing of it can be offered to this server.

        LocalError: there is no room, no recipient, or an address with a control character.
        """
        if self.state is not ClientState.READY:
            raise LocalError("the session takes no transaction")
        return self._pipeline.send(transaction)

    def body(self, transaction: Transaction, data: bytes, *, last: bool) -> list[ClientEvent]:
        """Give a piece of the content that `WantBody` asked for; ignored where the transaction is over."""
        return self._pipeline.body(transaction, data, last=last)

    def quit(self) -> None:
        """Say QUIT after the last open transaction. No room from now on. Before READY: nothing is said."""
        if self.state is ClientState.READY:
            self.state = ClientState.LEAVING
            self._leave_if_idle()
        elif self.state in _SETTING_UP:
            self.state = ClientState.CLOSED

    def data_to_send(self) -> bytes:
        """What to write now; it counts as given out."""
        return self._wire.drain()

    # --- replies

    def _over(self, events: list[ClientEvent]) -> bool:
        """Whether nothing more may be read: the session is over, or the handshake comes next."""
        if self.state is ClientState.TLS and self._reader.pending:
            self._injected(events)
        return self.state in (ClientState.TLS, ClientState.CLOSED)

    def _take(self, reply: Reply, events: list[ClientEvent]) -> None:
        in_auth = self.state is ClientState.AUTH and reply.code == 334
        if in_auth:
            self._transcript.challenged()
        else:
            reply = self._transcript.replied(reply)
        if reply.code == 421:
            self._closed_by_server(reply, events)
            return
        expected = self._wire.answered(reply)
        if expected.owner is not None:
            self._pipeline.take(expected, reply, events)
            if self.state is ClientState.LEAVING:
                self._leave_if_idle()
        elif self.state is ClientState.LEAVING:
            self._end(reply, "goodbye", events, clean=True)
        else:
            self._climb(reply, events)

    def _climb(self, reply: Reply, events: list[ClientEvent]) -> None:
        move = CLIENT_STEPS.get((self.state, reply.code))
        match move:
            case None:
                self._refused_by(reply, events)
            case Move.SAY_EHLO:
                self._say_hello(ClientState.EHLO)
            case Move.SAY_HELO:
                self._say_hello(ClientState.HELO)
            case Move.ADVANCE:
                if self.state is ClientState.EHLO:
                    self.capabilities = parse_capabilities(reply.text)
                self._advance(events)
            case Move.HANDSHAKE:
                self.state = ClientState.TLS
                events.append(StartTls())
            case Move.CHALLENGED:
                self._challenged(reply, events)
            case Move.SUCCEEDED:
                self._authenticated(reply, events)
            case Move.NEXT_MECHANISM:
                self._start_auth(events, reply)

    def _say_hello(self, state: ClientState) -> None:
        self.state = state
        word = "HELO" if state is ClientState.HELO else "EHLO"
        self._wire.say(f"{word} {self.options.helo}\r\n".encode("ascii"), Expected(Stage.EHLO))

    def _advance(self, events: list[ClientEvent]) -> None:
        """EHLO is answered: what comes next."""
        if self.options.security is Security.STARTTLS and not self._secure:
            if not self.capabilities.starttls:
                text = "The server does not offer STARTTLS, which is required; nothing was sent in clear"
                self._refuse(RefusedReason.NO_STARTTLS, Stage.EHLO, None, text, events)
                return
            self.state = ClientState.STARTTLS
            self._wire.say(b"STARTTLS\r\n", Expected(Stage.STARTTLS))
        elif self.options.login is not None:
            self._start_auth(events, None)
        else:
            self._ready(events)

    def _ready(self, events: list[ClientEvent]) -> None:
        self.state = ClientState.READY
        self._pipeline = Pipeline(self._wire, self.capabilities, ahead=self.options.ahead)
        events.append(Ready(self.capabilities))

    # --- AUTH

    def _start_auth(self, events: list[ClientEvent], refusal: Reply | None) -> None:
        """Say AUTH with the best mechanism that is left. refusal: what the server said to the one before."""
        login = self.options.login
        if login is None:  # only asked with one
            return
        offered = self.capabilities.auth
        names = choose(login, offered, self.options.security, self._refused_mechanisms)
        if not names:
            if "AUTH" not in self.capabilities.extensions:
                text = "The server does not offer AUTH here, and a login is configured"
                self._refuse(RefusedReason.NO_AUTH, Stage.AUTH, refusal, text, events)
            else:
                text = explain(login, offered, self._refused_mechanisms)
                self._refuse(RefusedReason.NO_MECHANISM, Stage.AUTH, refusal, text, events)
            return
        name = names[0]
        self._refused_mechanisms.append(name)
        self._mechanism = MECHANISMS[name](login, self.options.host, self.options.port)
        self._steps = 0
        self.state = ClientState.AUTH
        line, shown = f"AUTH {name}", f"AUTH {name}"
        if self._mechanism.initial is not None:
            initial = base64.b64encode(self._mechanism.initial).decode("ascii") or "="
            if len(initial) <= _LONGEST_INITIAL:
                line, shown = f"{line} {initial}", f"{shown} {REDACTED}"
        self._wire.say(f"{line}\r\n".encode("ascii"), Expected(Stage.AUTH), shown=shown.encode("ascii"))

    def _challenged(self, reply: Reply, events: list[ClientEvent]) -> None:
        self._steps += 1
        mechanism = self._mechanism
        try:
            if mechanism is None or self._steps > mechanism.most_steps + 1:
                raise SaslError("the server goes on asking")
            challenge = from_base64(" ".join(filter(None, (reply.enhanced, reply.text))).strip().encode())
            if challenge is None:
                raise SaslError("the server's challenge is not base64")
            answer = mechanism.respond(challenge)
        except SaslError as error:
            self._auth_broken(error, events)
            return
        line = base64.b64encode(answer) + b"\r\n"
        self._wire.say(line, Expected(Stage.AUTH), shown=REDACTED.encode("ascii"))

    def _auth_broken(self, error: SaslError, events: list[ClientEvent]) -> None:
        reason = RefusedReason.SERVER_UNVERIFIED if error.unverified else RefusedReason.AUTH_PROTOCOL
        self._refuse(reason, Stage.AUTH, None, f"The login failed: {error}", events, polite=False)

    def _authenticated(self, reply: Reply, events: list[ClientEvent]) -> None:
        if self._mechanism is not None and not self._mechanism.satisfied:
            text = "the server said yes before the dialogue was over"
            self._auth_broken(SaslError(text, unverified=self._mechanism.proves_server), events)
            return
        self._ready(events)

    # --- endings

    def _refused_by(self, reply: Reply, events: list[ClientEvent]) -> None:
        """A reply that sets up no session."""
        stage = CLIENT_STAGES[self.state]
        if reply.code < 400:
            raise OutOfStepError(f"not an answer to {stage.value}: {reply}")
        if self.state is ClientState.STARTTLS:
            reason, said = RefusedReason.STARTTLS_FAILED, "The server offered STARTTLS and then refused it"
        elif self.state is not ClientState.AUTH:
            reason = RefusedReason.BUSY if reply.temporary else RefusedReason.REJECTED
            said = "The server does not want this connection"
        elif reply.temporary:
            reason, said = RefusedReason.AUTH_TEMPORARY, "The server cannot check the login now"
        elif reply.code in _AUTH_NOT_UNDERSTOOD:
            reason, said = RefusedReason.AUTH_PROTOCOL, "The server does not take a login now"
        else:
            reason, said = RefusedReason.CREDENTIALS, "The server refused the user name or password"
        text = f"{said}: {reply}"
        if self._mechanism is not None and self._mechanism.error:
            text += f" ({self._transcript.scrub(self._mechanism.error)})"
        self._refuse(reason, stage, reply, text, events)

    def _refuse(
        self,
        reason: RefusedReason,
        stage: Stage,
        reply: Reply | None,
        text: str,
        events: list[ClientEvent],
        *,
        polite: bool = True,
    ) -> None:
        if polite:
            self._wire.say(b"QUIT\r\n")
        self.state = ClientState.CLOSED
        events.append(Refused(stage, reply, reason, text))

    def _injected(self, events: list[ClientEvent]) -> None:
        events[:] = [event for event in events if not isinstance(event, StartTls)]
        text = "Clear text came behind the answer to STARTTLS: somebody is tampering with the connection"
        self._refuse(RefusedReason.INJECTED, Stage.STARTTLS, None, text, events, polite=False)

    def _closed_by_server(self, reply: Reply, events: list[ClientEvent]) -> None:
        if self.state in _SETTING_UP:
            text = f"The server closes the connection: {reply}"
            self._refuse(RefusedReason.BUSY, CLIENT_STAGES[self.state], reply, text, events, polite=False)
            return
        clean = self.state is ClientState.LEAVING and self._pipeline.idle
        self._pipeline.closed_by_server(reply, events)
        self._end(reply, f"the server closes the connection: {reply}", events, clean=clean)

    def _lost(self, text: str, reason: RefusedReason, events: list[ClientEvent]) -> None:
        self._transcript.note(text)
        if self.state in _SETTING_UP:
            self._refuse(reason, self.stage, None, text, events, polite=False)
            return
        clean = self.state is ClientState.LEAVING and self._pipeline.idle
        self._pipeline.lost(Reply(421, "4.4.2", text, local=True), events)
        self._end(None, text, events, clean=clean)

    def _end(self, reply: Reply | None, text: str, events: list[ClientEvent], *, clean: bool) -> None:
        self.state = ClientState.CLOSED
        events.append(Ended(reply, text, clean))

    def _leave_if_idle(self) -> None:
        if self._pipeline.idle and not any(one.stage is Stage.QUIT for one in self._wire.expected):
            self._wire.say(b"QUIT\r\n", Expected(Stage.QUIT))


def _check_login(login: Login) -> None:
    if login.mechanism != "auto" and login.mechanism.upper() not in MECHANISMS:
        raise LocalError("the mechanism is not known")
    try:
        MECHANISMS["PLAIN"](login, "", 0)
    except ValueError as error:
        raise LocalError(str(error)) from None
