"""What both sides speak of: replies, what a client is asked to do, what either side reports.

Everything here is an immutable value. Addresses are plain text between the angle brackets: whoever uses
this package parses them with one parser of its own, before and after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum


class LocalError(Exception):
    """The caller broke a rule of this package, such as sending without room. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply (RFC 5321 4.2), its lines joined by "\\n", control characters replaced.

    enhanced is "" or such as "5.7.1" (RFC 3463), and then no longer part of the text. local is True where
    no server said this: the client made it up to explain what happened, with the code that fits.
    """

    code: int
    enhanced: str = ""
    text: str = ""
    local: bool = False

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.enhanced, self.text) if part)


class Security(StrEnum):
    """NONE: in clear. STARTTLS: required, never skipped. TLS: the handshake came first (RFC 8314)."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials of a session. secret is the password, or the access token of the two OAuth mechanisms.

    mechanism  "auto", or exactly one of "plain", "login", "cram-md5", "scram-sha-256", "xoauth2",
    "oauthbearer", and then no other is tried. "auto" prefers SCRAM, and never chooses OAuth.
    """

    username: str
    secret: str
    mechanism: str = "auto"

    def __repr__(self) -> str:
        return f"Login({self.username!r}, mechanism={self.mechanism!r})"


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How a session is to be set up.

    helo       what EHLO says: a host name or an address literal.
    ahead      whether a second transaction may be written before the first one's last reply.
    host, port only named in OAUTHBEARER (RFC 7628 3.1).
    max_reply  bytes, max_lines lines of one reply; beyond them the session fails.
    """

    helo: str
    security: Security = Security.STARTTLS
    login: Login | None = None
    ahead: bool = True
    host: str = ""
    port: int = 0
    max_reply: int = 64 * 1024
    max_lines: int = 200


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT. notify: "" or RFC 3461's list ("FAILURE,DELAY", "NEVER"). orcpt: "" or "rfc822;a@b", decoded.

    Both are left out where the server does not offer DSN.
    """

    address: str
    notify: str = ""
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Transaction:
    """One message for a client to send.

    tag         whatever helps the caller to find it again.
    sender      "" is the null sender.
    size        bytes of the content (an estimate is fine), for SIZE; 0 where unknown.
    content     all of it with CRLF line ends, or None: given piece by piece through `Client.body`.
    eight_bit   the content has bytes above 127.
    smtputf8    the header section holds UTF-8. Addresses are looked at by the client itself.
    ret, envid  DSN (RFC 3461): "FULL", "HDRS" or ""; the envelope id decoded, or "".
    """

    tag: object
    sender: str
    recipients: tuple[Recipient, ...]
    size: int = 0
    content: bytes | None = field(default=None, repr=False)
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


class Verdict(StrEnum):
    """What became of one recipient.

    ACCEPTED   the server took responsibility for it.
    TEMPORARY  refused for now (4yz), or the session ended before its final bytes were given out.
    PERMANENT  refused for good (5yz).
    UNSENT     not offered at all, or behind a transaction that the session did not survive: no attempt.
    UNKNOWN    its final bytes were given out and no reply to them was read (RFC 1047).
    """

    ACCEPTED = "accepted"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    UNSENT = "unsent"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    """What a client waits for; `Client.stage` tells a driver which deadline holds (RFC 5321 4.5.3.2)."""

    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    TLS = "tls"
    AUTH = "auth"
    IDLE = "idle"  # nothing: ready for a transaction
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"  # for the driver to give content
    DOT = "dot"
    RSET = "rset"
    QUIT = "quit"
    CLOSED = "closed"


class Warn(StrEnum):
    """EIGHT_BIT: sent as it is to a server that does not offer 8BITMIME."""

    EIGHT_BIT = "eight-bit"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one recipient: the verdict, the reply that decided, and what it was the reply to."""

    recipient: Recipient
    verdict: Verdict
    reply: Reply
    stage: Stage
    warnings: tuple[Warn, ...] = ()


class RefusedReason(StrEnum):
    """Why a session could not be set up. The value is stable; all but the first are faults of the route."""

    BUSY = "busy"  # 4yz to the connection or to EHLO
    REJECTED = "rejected"  # 5yz to the connection or to EHLO
    NO_STARTTLS = "no-starttls"  # required, and not offered
    STARTTLS_FAILED = "starttls-failed"  # offered, and then answered with something but 220
    INJECTED = "injected"  # clear text behind the 220 to STARTTLS: somebody is on the line
    NO_AUTH = "no-auth"  # a login is configured and AUTH is not offered
    NO_MECHANISM = "no-mechanism"  # AUTH is offered, but no mechanism that may be used
    CREDENTIALS = "credentials"  # 5yz to AUTH: refused credentials
    AUTH_TEMPORARY = "auth-temporary"  # 4yz to AUTH
    AUTH_PROTOCOL = "auth-protocol"  # a dialogue that no mechanism knows, 503 included
    SERVER_UNVERIFIED = "server-unverified"  # SCRAM: the server does not know the password either
    PROTOCOL = "protocol"  # not SMTP, or over the caps
    CLOSED = "closed"  # the connection ended


class Need(Enum):
    """What `Server.next_event` returns where there is no event."""

    DATA = "data"
    ANSWER = "answer"


NEED_DATA = Need.DATA
NEED_ANSWER = Need.ANSWER


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one session; 0 is no bound.

    commands      commands since the last accepted message.
    errors        answers of 5yz that the client caused since the last accepted message.
    auth_failures refused credentials in the session.
    recipients    accepted recipients of one transaction; more are answered 452 4.5.3.
    transactions  accepted messages in the session, told as MAILMAX (RFC 9422).
    line          bytes of a command line with CRLF (RFC 5321 4.5.3.1.4); `parameters` are allowed on top of
                  that to MAIL and RCPT (RFC 1870, 3461, 4954, 6152, 6531), and AUTH lines have `auth_line`
                  (RFC 4954 4).
    piece         bytes from which content is given out in pieces instead of whole.
    """

    commands: int = 5000
    errors: int = 20
    auth_failures: int = 5
    recipients: int = 1000
    transactions: int = 0
    line: int = 512
    parameters: int = 1536
    auth_line: int = 12288
    piece: int = 256 * 1024


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server offers.

    max_size       bytes of one message, told as SIZE; 0 is no bound.
    starttls       whether STARTTLS is offered while in clear.
    auth           whether AUTH (PLAIN, LOGIN) is offered at all; in clear only with auth_in_clear.
    auth_required  MAIL before a login is refused (530), unless the session is trusted.
    tls_required   everything but EHLO, NOOP, STARTTLS, QUIT is refused in clear (530).
    """

    hostname: str
    max_size: int = 50 * 1024 * 1024
    starttls: bool = False
    auth: bool = False
    auth_in_clear: bool = False
    auth_required: bool = False
    tls_required: bool = False
    limits: ServerLimits = ServerLimits()


@dataclass(frozen=True, slots=True)
class MailParams:
    """ESMTP parameters of MAIL, decoded. size is what the client declared, None where it did not."""

    size: int | None = None
    eight_bit: bool = False
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""


@dataclass(frozen=True, slots=True)
class RcptParams:
    """ESMTP parameters of RCPT, decoded: notify like "FAILURE,DELAY", orcpt like "rfc822;a@b", or ""."""

    notify: str = ""
    orcpt: str = ""
