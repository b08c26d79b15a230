"""What a client and a server report to their driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from smarthost.smtp._capabilities import Capabilities
from smarthost.smtp._types import MailParams, RcptParams, RefusedReason, Reply, Result, Stage, Transaction

# --- the client's


@dataclass(frozen=True, slots=True)
class StartTls:
    """Both sides: write what is to be written, do the handshake on the connection, call `tls_started()`."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is set up: there is room for transactions."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True)
class Refused:
    """The session cannot be set up; close the connection. text is one sentence for people, no secrets."""

    stage: Stage
    reply: Reply | None
    reason: RefusedReason
    text: str


@dataclass(frozen=True, slots=True)
class WantBody:
    """Give the content of this transaction through `Client.body` until its last piece or its `Done`."""

    transaction: Transaction


@dataclass(frozen=True, slots=True)
class Done:
    """This transaction is over: one result a recipient, in the order of the recipients."""

    transaction: Transaction
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over; close the connection. Every open transaction got its `Done` before.

    reply is the 421 or 221 that ended it, or None. clean is True where we said QUIT and nothing was open.
    """

    reply: Reply | None
    text: str
    clean: bool = False


ClientEvent = StartTls | Ready | Refused | WantBody | Done | Ended

# --- the server's; those marked * must be answered


@dataclass(frozen=True, slots=True)
class Hello:
    """EHLO (esmtp) or HELO, answered already."""

    name: str
    esmtp: bool


@dataclass(frozen=True, slots=True)
class Auth:
    """* Credentials to check: answer 235 or a refusal. Neither text has CR, LF or NUL."""

    mechanism: str
    username: str
    password: str

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r}, {self.username!r})"


@dataclass(frozen=True, slots=True)
class Mail:
    """* MAIL: path is what stands between the angle brackets, "" the null sender."""

    path: str
    params: MailParams


@dataclass(frozen=True, slots=True)
class Rcpt:
    """* RCPT: path is what stands between the angle brackets."""

    path: str
    params: RcptParams


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a large message, in order, without dot-stuffing, line ends as received."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Content:
    """* The message is complete: data is all of it, or None where it came in `Chunk`s before."""

    data: bytes | None = field(repr=False)
    size: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The transaction is gone (RSET, EHLO, or content that was refused here): discard its pieces."""


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT was answered: write what is to be written and close."""


class AbortReason(StrEnum):
    """Why a server ends a session by itself."""

    COMMANDS = "too-many-commands"
    ERRORS = "too-many-errors"
    AUTH_FAILURES = "too-many-auth-failures"
    TRANSACTIONS = "too-many-transactions"
    BYTES = "too-many-bytes"
    NOT_SMTP = "not-smtp"  # HTTP, or a TLS handshake on a port in clear
    PREGREET = "spoke-before-greeting"
    DESYNC = "out-of-step"  # BDAT that cannot be followed


@dataclass(frozen=True, slots=True)
class Abort:
    """The session is over; 421 (or 554, 501) is among what is to be written. Discard pieces, write, close."""

    reason: AbortReason
    text: str


ServerEvent = StartTls | Hello | Auth | Mail | Rcpt | Chunk | Content | Reset | Quit | Abort
