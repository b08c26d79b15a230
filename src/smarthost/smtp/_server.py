"""The server's side of a session.

Bytes wait in `_input`; `next_event` takes one command, or one piece of content, at a time, answers what
it can by itself, and stops at an event that only the driver can answer. So however a client pipelines,
commands are followed in order, one at a time, and answers gather until the driver writes them.

What keeps it safe, each with a test:

- A command line ends with CRLF and nothing else; a bare LF or CR, NUL or control character in it is an error,
  and nothing of such a line is followed (RFC 5321 2.3.8).
- Content ends where `_data.Incoming` says, or where BDAT's count says; never anywhere else. A BDAT line that
  cannot be understood ends the session: what follows it would be content read as commands.
- STARTTLS forgets everything: what was buffered, EHLO, login, transaction (RFC 3207 4.2).
- Whoever speaks before the greeting, speaks HTTP, or begins a TLS handshake in clear, is cut off.
- Memory is bounded by one line, one piece of content and what the driver chose to read; no limit is kept by
  remembering what a client said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from smarthost.smtp._command import (
    CommandError,
    parse_hello,
    parse_mail_params,
    parse_path,
    parse_rcpt_params,
    speaks_http,
    verb_of,
)
from smarthost.smtp._data import Incoming
from smarthost.smtp._events import (
    Abort,
    AbortReason,
    Auth,
    Content,
    Hello,
    Mail,
    Quit,
    Rcpt,
    Reset,
    ServerEvent,
    StartTls,
)
from smarthost.smtp._input import HopelessError, Input
from smarthost.smtp._intake import Intake
from smarthost.smtp._login import LoginDialogue
from smarthost.smtp._reply import encode
from smarthost.smtp._states import SERVER_ORDER, ServerState
from smarthost.smtp._types import NEED_ANSWER, NEED_DATA, LocalError, Need, Reply, ServerOptions

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_UNREAD = frozenset({ServerState.GREETING, ServerState.TLS, ServerState.CLOSED})
_BEFORE_TLS = frozenset({b"EHLO", b"HELO", b"NOOP", b"STARTTLS", b"QUIT"})
_WITH_PARAMETERS = (b"MAIL ", b"RCPT ")

_OK = b"250 2.0.0 Ok\r\n"
_CONTINUE = b"354 End data with <CRLF>.<CRLF>\r\n"


@dataclass(slots=True)
class _BdatChunk:
    """The chunk that is being read: bytes left, whether it is the last, and why it is refused, if it is."""

    left: int
    last: bool
    refusal: Reply | None


class Server:
    """One session with a client, from our greeting to the end.

    secure   TLS from the first byte. trusted: no login is needed (a trusted network, a Unix socket).
    closing  write what is to be written, then close; nothing is read any more.
    hello, esmtp, authenticated, smtputf8, recipients  what was said, of the session and of the transaction.
    """

    def __init__(self, options: ServerOptions, *, secure: bool = False, trusted: bool = False) -> None:
        self.options = options
        self.secure = secure
        self.trusted = trusted
        self.state = ServerState.GREETING
        self.closing = False
        self.authenticated = False
        self.hello = ""
        self.esmtp = False
        self.smtputf8 = False
        self.recipients = 0
        self._input = Input()
        self._out: list[bytes] = []
        self._events: list[ServerEvent] = []  # found together with one that was given out first
        self._asked: ServerEvent | None = None
        self._mail_utf8 = False
        self._intake: Intake | None = None  # of the transaction's content, once that has begun
        self._scanner: Incoming | None = None  # while DATA is read
        self._chunk: _BdatChunk | None = None  # while a BDAT chunk is read
        self._login: LoginDialogue | None = None
        self._commands = self._errors = self._auth_failures = self._messages = 0

    @property
    def protocol(self) -> str:
        """The word for a Received field: "SMTP", "ESMTPSA", "UTF8SMTPS", … (RFC 3848, RFC 6531 4.3)."""
        if not self.esmtp:
            return "SMTP"
        word = "UTF8SMTP" if self.smtputf8 else "ESMTP"
        return word + ("S" if self.secure else "") + ("A" if self.authenticated else "")

    @property
    def busy(self) -> bool:
        """Whether a transaction is under way."""
        return self.state in (ServerState.MAIL, ServerState.RCPT, ServerState.CHUNKS, ServerState.DATA)

    def greet(self, refuse: Reply | None = None) -> None:
        """Write the greeting, or a refusal (421 or 554) and end."""
        if self.state is not ServerState.GREETING:
            raise LocalError("the greeting was said")
        if refuse is not None:
            self.shut(refuse)
        elif self._input.spoken:
            self._abort(AbortReason.PREGREET, Reply(554, "5.5.0", "You spoke before the greeting"))
        else:
            self.state = ServerState.START
            self._out.append(f"220 {self.options.hostname} ESMTP\r\n".encode("ascii", "replace"))

    def receive(self, data: bytes) -> None:
        """Take bytes from the client. What comes in clear behind STARTTLS is dropped."""
        if data and self.state is not ServerState.TLS and not self.closing:
            self._input.feed(data)

    def next_event(self) -> ServerEvent | Need:
        """The next event, NEED_DATA, or NEED_ANSWER while an event marked * is not answered."""
        while True:
            if self._events:
                return self._events.pop(0)
            if self._asked is not None:
                return NEED_ANSWER
            if self.state in _UNREAD:
                return NEED_DATA
            self._input.gather()
            if self._intake is not None and (self._scanner is not None or self._chunk is not None):
                event = self._take_content(self._intake)
            else:
                event = self._take_line()
            if event is not None:
                return event

    def answer(self, reply: Reply) -> None:
        """Answer the last event marked *. LocalError: nothing to answer. 421 ends the session."""
        asked, self._asked = self._asked, None
        if asked is None:
            raise LocalError("there is nothing to answer")
        if reply.code == 421:
            self.shut(reply)
            return
        self._out.append(encode(reply, utf8=self.smtputf8))
        match asked:
            case Rcpt():
                if reply.positive:
                    self.recipients += 1
                    self.state = ServerState.RCPT
            case Mail():
                if reply.positive:
                    self.state = ServerState.MAIL
                    self.smtputf8 = self._mail_utf8
            case Content():
                self._end_transaction(accepted=reply.positive)
            case _:
                self._answer_auth(reply)

    def tls_started(self) -> None:
        """The handshake that `StartTls` asked for is done: all is forgotten (RFC 3207 4.2)."""
        if self.state is not ServerState.TLS:
            raise LocalError("no handshake was asked for")
        self.secure = True
        self.authenticated = False
        self.hello, self.esmtp = "", False
        self.state = ServerState.START

    def shut(self, reply: Reply) -> None:
        """End the session with this reply (421: shutting down, timed out). Whatever is under way is gone."""
        if self.closing:
            return
        self._out.append(encode(reply))
        self._close()

    def data_to_send(self) -> bytes:
        """What to write now."""
        if not self._out:
            return b""
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    # --- lines

    def _take_line(self) -> ServerEvent | Need | None:
        try:
            line = self._input.line(self._longest)
            if line is None:
                return NEED_DATA
            if self._login is not None:
                return self._go_on_login(self._login.take(line))
            return self._take_command(line)
        except CommandError as error:
            self._leave_login()
            return self._error(error.reply)
        except HopelessError as error:
            return self._abort(error.reason, error.reply)

    def _longest(self, line: bytes) -> int:
        limits = self.options.limits
        head = line[:5].upper()
        if self._login is not None or head == b"AUTH ":
            return limits.auth_line
        return limits.line + limits.parameters if head in _WITH_PARAMETERS else limits.line

    def _error(self, reply: Reply) -> ServerEvent | None:
        """Answer an error of the client, or end the session when there were too many."""
        self._errors += 1
        self._out.append(encode(reply))
        if 0 < self.options.limits.errors < self._errors:
            return self._abort(AbortReason.ERRORS, Reply(421, "4.7.0", "Too many errors"))
        return None

    def _take_command(self, line: bytes) -> ServerEvent | None:
        self._commands += 1
        if _CONTROL.search(line):
            return self._error(Reply(500, "5.5.2", "A control character in a command"))
        verb, rest = verb_of(line)
        if 0 < self.options.limits.commands < self._commands:
            return self._abort(AbortReason.COMMANDS, Reply(421, "4.7.0", "Too many commands"))
        handler = _HANDLERS.get(verb)
        if handler is None:
            return self._take_unknown(verb, rest)
        if self.options.tls_required and not self.secure and verb not in _BEFORE_TLS:
            return self._error(Reply(530, "5.7.0", "Say STARTTLS first"))
        order = SERVER_ORDER.get(verb)
        if order is not None and self.state in order and verb != b"BDAT":  # whose bytes must be read first
            return self._error(order[self.state])
        return handler(self, rest)

    def _take_unknown(self, verb: bytes, rest: bytes) -> ServerEvent | None:
        if speaks_http(verb, rest):
            text = "This is a mail server"
            return self._abort(AbortReason.NOT_SMTP, Reply(421, "4.7.0", text))
        return self._error(Reply(500, "5.5.1", "The command is not known"))

    # --- commands

    def _ehlo(self, rest: bytes) -> ServerEvent:
        self.hello, self.esmtp = parse_hello(rest), True
        extensions = ["PIPELINING", f"SIZE {self.options.max_size}", "8BITMIME", "SMTPUTF8", "DSN"]
        extensions += ["ENHANCEDSTATUSCODES", "CHUNKING"]
        if self.options.starttls and not self.secure:
            extensions.append("STARTTLS")
        if self._auth_offered:
            extensions.append("AUTH PLAIN LOGIN")
        limits = (("MAILMAX", self.options.limits.transactions), ("RCPTMAX", self.options.limits.recipients))
        told = [f"{name}={limit}" for name, limit in limits if limit]
        if told:
            extensions.append(" ".join(["LIMITS", *told]))
        lines = [self.options.hostname, *extensions]
        last = len(lines) - 1
        text = "".join(f"250{' ' if place == last else '-'}{line}\r\n" for place, line in enumerate(lines))
        self._out.append(text.encode("ascii", "replace"))
        return self._greeted()

    def _helo(self, rest: bytes) -> ServerEvent:
        self.hello, self.esmtp = parse_hello(rest), False
        self._out.append(f"250 {self.options.hostname}\r\n".encode("ascii", "replace"))
        return self._greeted()

    def _greeted(self) -> ServerEvent:
        hello = Hello(self.hello, self.esmtp)
        reset = self._end_transaction()
        self.state = ServerState.READY
        if reset is None:
            return hello
        self._events.append(hello)
        return reset

    @property
    def _auth_offered(self) -> bool:
        return self.options.auth and not self.authenticated and (self.secure or self.options.auth_in_clear)

    def _mail(self, rest: bytes) -> ServerEvent | None:
        options = self.options
        if options.auth_required and not (self.authenticated or self.trusted):
            in_clear = options.auth and not self._auth_offered and not self.secure
            text = "Say STARTTLS and AUTH first" if in_clear else "Authentication is required"
            return self._error(Reply(530, "5.7.0", text))
        if 0 < options.limits.transactions <= self._messages:
            return self._abort(
                AbortReason.TRANSACTIONS, Reply(421, "4.7.0", "Too many messages, connect again")
            )
        path, text = parse_path(rest, b"FROM:")
        if text and not self.esmtp:
            raise CommandError(555, "5.5.4", "Parameters need EHLO")
        params = parse_mail_params(text)
        if not params.smtputf8 and not path.isascii():
            raise CommandError(553, "5.6.7", "An address in UTF-8 needs SMTPUTF8")
        if params.size is not None and 0 < options.max_size < params.size:
            return self._error(self._too_large())
        self._mail_utf8 = params.smtputf8
        self._asked = Mail(path, params)
        return self._asked

    def _rcpt(self, rest: bytes) -> ServerEvent | None:
        if 0 < self.options.limits.recipients <= self.recipients:
            self._out.append(b"452 4.5.3 Too many recipients\r\n")
            return None
        path, text = parse_path(rest, b"TO:")
        if not path:
            raise CommandError(501, "5.1.3", "A recipient is an address")
        if text and not self.esmtp:
            raise CommandError(555, "5.5.4", "Parameters need EHLO")
        if not self.smtputf8 and not path.isascii():
            raise CommandError(553, "5.6.7", "An address in UTF-8 needs SMTPUTF8")
        self._asked = Rcpt(path, parse_rcpt_params(text))
        return self._asked

    def _data(self, rest: bytes) -> ServerEvent | None:
        if rest.strip(b" "):
            raise CommandError(501, "5.5.4", "DATA takes no parameters")
        self.state = ServerState.DATA
        self._intake = Intake(self.options.max_size, self.options.limits.piece)
        self._scanner = Incoming()
        self._out.append(_CONTINUE)
        return None

    def _bdat(self, rest: bytes) -> ServerEvent | None:
        words = rest.split()
        last = len(words) == 2 and words[1].upper() == b"LAST"
        if not words or len(words) > 1 + last or not words[0].isdigit() or len(words[0]) > 18:
            text = "BDAT needs a number of bytes, and what follows cannot be told from commands"
            return self._abort(AbortReason.DESYNC, Reply(421, "4.5.4", text))
        refusal = SERVER_ORDER[b"BDAT"].get(self.state)
        if self.state is ServerState.RCPT or refusal is not None:
            self._intake = Intake(self.options.max_size, self.options.limits.piece)
        if refusal is None:
            self.state = ServerState.CHUNKS
        self._chunk = _BdatChunk(int(words[0]), last, refusal)
        return None

    def _rset(self, rest: bytes) -> ServerEvent | None:
        self._out.append(_OK)
        return self._end_transaction()

    def _noop(self, rest: bytes) -> None:
        self._out.append(_OK)

    def _vrfy(self, rest: bytes) -> None:
        self._out.append(b"252 2.1.5 Send some mail, and see\r\n")

    def _help(self, rest: bytes) -> None:
        self._out.append(b"214 2.0.0 RFC 5321\r\n")

    def _expn(self, rest: bytes) -> ServerEvent | None:
        raise CommandError(502, "5.5.1", "The command is not offered")

    def _quit(self, rest: bytes) -> ServerEvent:
        busy = self.busy
        self._out.append(b"221 2.0.0 Bye\r\n")
        self._close()
        if busy:
            self._events.append(Quit())
            return Reset()
        return Quit()

    def _starttls(self, rest: bytes) -> ServerEvent:
        if rest.strip(b" "):
            raise CommandError(501, "5.5.4", "STARTTLS takes no parameters")
        if self.secure:
            raise CommandError(503, "5.5.1", "TLS is in use")
        if not self.options.starttls:
            raise CommandError(502, "5.5.1", "The command is not offered")
        reset = self._end_transaction()
        self._input.drop()
        self._out.append(b"220 2.0.0 Ready to start TLS\r\n")
        self.state = ServerState.TLS
        if reset is not None:
            self._events.append(StartTls())
            return reset
        return StartTls()

    # --- AUTH

    def _auth(self, rest: bytes) -> ServerEvent | None:
        if self.authenticated:
            raise CommandError(503, "5.5.1", "You are logged in")
        if not self.options.auth:
            raise CommandError(502, "5.5.1", "The command is not offered")
        if not self._auth_offered:
            raise CommandError(538, "5.7.11", "Encryption is required for that; say STARTTLS first")
        word, _, initial = rest.strip(b" ").partition(b" ")
        self._login = LoginDialogue(word.upper())
        self.state = ServerState.AUTH
        return self._go_on_login(self._login.begin(initial))

    def _go_on_login(self, step: bytes | Auth) -> ServerEvent | None:
        if isinstance(step, Auth):
            self._asked = step
            return step
        self._out.append(step)
        return None

    def _leave_login(self) -> None:
        self._login = None
        if self.state is ServerState.AUTH:
            self.state = ServerState.READY

    def _answer_auth(self, reply: Reply) -> None:
        self._leave_login()
        if reply.positive:
            self.authenticated = True
        elif reply.permanent:
            self._auth_failures += 1
            if 0 < self.options.limits.auth_failures <= self._auth_failures:
                refusal = Reply(421, "4.7.0", "Too many failed logins")
                self._events.append(self._abort(AbortReason.AUTH_FAILURES, refusal))

    # --- content

    def _take_content(self, intake: Intake) -> ServerEvent | Need | None:
        """A piece of DATA or of a BDAT chunk; what comes of it goes to `_events`, in order."""
        if self._chunk is not None:
            return self._take_chunk(intake, self._chunk)
        data = self._input.rest()
        if self._scanner is None or not data:
            return NEED_DATA
        content, used = self._scanner.feed(data)
        self._input.use(used if used >= 0 else len(data))
        self._keep(intake, content)
        if intake.endless:
            return self._endless()
        return self._complete(intake) if used >= 0 else None

    def _take_chunk(self, intake: Intake, chunk: _BdatChunk) -> ServerEvent | Need | None:
        content = self._input.take(chunk.left)
        chunk.left -= len(content)
        if chunk.refusal is None:
            self._keep(intake, content)
        else:
            intake.size += len(content)
        if intake.endless:
            return self._endless()
        if chunk.left:
            return None if content else NEED_DATA
        self._chunk = None
        if chunk.refusal is not None:
            error = self._error(chunk.refusal)
            return error or (self._end_transaction() if chunk.last else None)
        if chunk.last or intake.too_large:
            return self._complete(intake)
        self._out.append(b"250 2.0.0 Chunk taken\r\n")
        return None

    def _keep(self, intake: Intake, content: bytes) -> None:
        piece = intake.add(content)
        if piece is not None:
            self._events.append(piece)

    def _complete(self, intake: Intake) -> ServerEvent | None:
        self._scanner = None
        if intake.too_large:
            reset = self._end_transaction()
            return self._error(self._too_large()) or reset
        self._intake = None
        piece, content = intake.finish()
        if piece is not None:
            self._events.append(piece)
        self._events.append(content)
        self._asked = content
        return None

    def _endless(self) -> ServerEvent:
        """Not worth listening to any longer; a temporary answer would bring the same again and again."""
        return self._abort(AbortReason.BYTES, self._too_large())

    def _too_large(self) -> Reply:
        return Reply(552, "5.3.4", f"The message is larger than {self.options.max_size} bytes")

    # --- endings

    def _end_transaction(self, *, accepted: bool = False) -> Reset | None:
        """Forget the transaction; Reset where there was one."""
        busy = self.busy
        self.recipients = 0
        self.smtputf8 = False
        self._intake = self._scanner = None
        self._chunk = None
        if accepted:
            self._messages += 1
            self._commands = self._errors = 0
        if busy:
            self.state = ServerState.READY
            return Reset()
        return None

    def _abort(self, reason: AbortReason, reply: Reply) -> Abort:
        self._out.append(encode(reply))
        self._close()
        return Abort(reason, reply.text)

    def _close(self) -> None:
        self._end_transaction()
        self._input.drop()
        self._events.clear()
        self._asked = self._login = None
        self.state = ServerState.CLOSED
        self.closing = True


_HANDLERS: dict[bytes, Callable[[Server, bytes], ServerEvent | None]] = {
    b"EHLO": Server._ehlo,
    b"HELO": Server._helo,
    b"MAIL": Server._mail,
    b"RCPT": Server._rcpt,
    b"DATA": Server._data,
    b"BDAT": Server._bdat,
    b"RSET": Server._rset,
    b"NOOP": Server._noop,
    b"VRFY": Server._vrfy,
    b"EXPN": Server._expn,
    b"HELP": Server._help,
    b"QUIT": Server._quit,
    b"STARTTLS": Server._starttls,
    b"AUTH": Server._auth,
}
