"""What goes into the spool and what comes out of it: states, messages, leases, outcomes.

The message log is the queue: there is one `message` row a message and one `delivery` row a recipient,
content stands once in `chunk` rows, and what happened is one `attempt` row a try. A delivery row may be
leased exactly when its `rank` is not null; `rank` orders the ready ones within (upstream, priority) and
carries fairness between principals. A row that waits for a time has no rank but a `due_at`; the promoter
gives it a rank when that time has come.

All times are integers: microseconds since the epoch, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag, StrEnum


class State(IntEnum):
    """Where a recipient's delivery stands. The number is stored; the lower-case name is the public word."""

    QUEUED = 1
    SENDING = 2
    SENT = 3
    CAPTURED = 4
    DEFERRED = 5
    UNKNOWN = 6
    FAILED = 7
    EXPIRED = 8
    CANCELLED = 9
    HELD = 10

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def final(self) -> bool:
        """Whether nothing more will happen by itself. HELD and UNKNOWN may still be released or retried."""
        return self in FINAL


FINAL = frozenset({State.SENT, State.CAPTURED, State.FAILED, State.EXPIRED, State.CANCELLED})


class Priority(IntEnum):
    """Urgent goes before normal, normal before bulk; none starves (see `lease`)."""

    URGENT = 0
    NORMAL = 1
    BULK = 2


class Door(StrEnum):
    """How a message came in."""

    HTTP = "http"
    SMTP = "smtp"
    SENDMAIL = "sendmail"
    CLI = "cli"
    SYSTEM = "system"
    NOTICE = "notice"


class Flag(IntFlag):
    """Facts about the content, found once when it was accepted, so that sending needs no second look."""

    NONE = 0
    ADD_DATE = 1
    ADD_MESSAGE_ID = 2
    STRIP_HIDDEN = 4  # Bcc, Resent-Bcc, Return-Path or our own X-Smarthost-* stand in the header section
    EIGHT_BIT = 8
    SMTPUTF8 = 16  # header section holds UTF-8: the upstream must offer SMTPUTF8
    AUTOMATIC = 32  # null sender, Auto-Submitted other than "no", Precedence bulk/list/junk, or List-Id
    ADD_FROM = 64  # no From: the upstream's From address is written when sending
    ONE_TIME_LINK = 128  # system mail whose body is a credential: shown to nobody unless captured


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """One recipient of a new message, as `admit` decided it.

    recipient  canonical address: exactly what policy saw and what the RCPT line will say.
    upstream   id of the upstream that carries it; "" together with state CAPTURED.
    state      QUEUED, HELD or CAPTURED.
    edits      header and envelope edits that policy asks for (a JSON text, see routing.Edits), or None.
    dsn        "NOTIFY=…;ORCPT=…" as the submitter gave them (RFC 3461), or None.
    """

    recipient: str
    upstream: str
    state: State = State.QUEUED
    edits: str | None = None
    dsn: str | None = None


@dataclass(frozen=True, slots=True)
class Charge:
    """Use of a cap: `amount` on counter `key` in the window starting at `window`, refused above `limit`."""

    key: str
    window: int
    amount: int
    limit: int


@dataclass(frozen=True, slots=True)
class Idempotency:
    """key: as the caller gave it, at most 255 characters. fingerprint: SHA-256 of what was asked for."""

    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that was admitted and is to be made durable.

    id           26 characters, a ULID made by `new_id()`: ordered by time, 80 random bits, also the queue id.
    content      the whole content with CRLF line ends, or None where it was written before by
                 `Spool.write_chunk(id, n, …)` (large mail); `size` is its length in bytes in both cases.
    header_size  length of the header section with its blank line; always inside the first chunk.
    trace        our Received field, complete with its CRLF, written above the content when sending.
    sender       canonical envelope sender, "" for the null sender.
    principal    id of who sends ("app:…", "user:…", "system"); principal_name for people to read.
    send_at      not before this time; None is now.
    expires_at   when its own schedule gives up (RFC 5321 4.5.4.1).
    """

    id: str
    created_at: int
    principal: str
    principal_name: str
    door: Door
    sender: str
    deliveries: tuple[NewDelivery, ...]
    size: int
    header_size: int
    trace: bytes
    expires_at: int
    content: bytes | None = None
    chunks: int = 1
    header_from: str = ""
    subject: str = ""
    message_id: str = ""
    flags: Flag = Flag.NONE
    priority: Priority = Priority.NORMAL
    send_at: int | None = None
    dsn_ret: str | None = None
    dsn_envid: str | None = None
    idempotency: Idempotency | None = None
    charges: tuple[Charge, ...] = ()


class Acceptance(StrEnum):
    ACCEPTED = "accepted"
    REPEATED = "repeated"  # the same idempotency key and request came before; `id` is the first one's


@dataclass(frozen=True, slots=True)
class Accepted:
    """The durable yes. Returned only after commit."""

    id: str
    how: Acceptance = Acceptance.ACCEPTED


@dataclass(slots=True)
class LeasedDelivery:
    """One recipient of a lease; `id` and the lease's token fence its completion."""

    id: int
    recipient: str
    attempts: int
    unknown_ends: int
    edits: str | None = None
    dsn: str | None = None


@dataclass(slots=True)
class Lease:
    """One message for one upstream, up to its recipient limit, `sending` since the lease's commit.

    token  the fencing token: completion with another token than the row's changes nothing.
    first  the first chunk (the whole content where `chunks` is 1), or None where the checksum disagreed
           (then the deliveries are already HELD as damaged, and `deliveries` is empty).
    """

    message_id: str
    token: int
    upstream: str
    sender: str
    size: int
    header_size: int
    chunks: int
    trace: bytes
    flags: Flag
    priority: Priority
    created_at: int
    expires_at: int
    principal: str
    principal_name: str
    door: Door
    header_from: str
    dsn_ret: str | None
    dsn_envid: str | None
    first: bytes | None
    deliveries: list[LeasedDelivery] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt did to one recipient. It becomes the delivery's new state and one attempt row.

    state         SENT, DEFERRED, FAILED, EXPIRED, UNKNOWN, HELD, or QUEUED (given back: a fault of the
                  route, a drain; costs no attempt and writes no attempt row unless `reply` is set).
    due_at        when it may be tried again; needed for DEFERRED and for UNKNOWN that is to be retried.
    counts        whether it used up an attempt of the message.
    code, enhanced, reply   the server's words, or our own where nothing was answered (code 0).
    stage         connect, banner, ehlo, tls, auth, mail, rcpt, data, dot, or "" where none applies.
    local         whether the text is ours, not the server's.
    timings       microseconds by stage as JSON text; transcript: redacted lines, or None.
    """

    delivery: int
    token: int
    state: State
    at: int
    due_at: int | None = None
    counts: bool = True
    code: int = 0
    enhanced: str = ""
    reply: str = ""
    stage: str = ""
    local: bool = False
    session: str = ""
    timings: str = ""
    transcript: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to find later. `data` is JSON text without secrets."""

    at: int
    kind: str  # "route.paused", "login.refused", "config.changed", …
    subject: str  # what it is about: the id as stored ("upstream:01J…", "app:01J…"), "message:01J…", …
    text: str
    severity: str = "info"  # info, warning, error
    actor: str = ""
    data: str = "{}"
