"""What reading the spool gives, and what selects in it. Times are microseconds since the epoch, UTC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from smarthost.spool._types import Door, Flag, NewMessage, Priority, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which deliveries a list shows; what is left out does not restrict. `text` looks into subject,
    sender and recipient without regard to ASCII case. Addresses are canonical and compared in lower case.
    """

    states: tuple[State, ...] = ()
    upstream: str | None = None
    principal: str | None = None
    recipient: str | None = None
    sender: str | None = None
    message: str | None = None
    text: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries an action is for: at least one field must be set, and all that are set must hold."""

    messages: tuple[str, ...] = ()
    deliveries: tuple[int, ...] = ()
    states: tuple[State, ...] = ()
    upstream: str | None = None
    principal: str | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """One line of a list: one recipient of one message, with the last reply that it got ("" where none)."""

    id: int
    message_id: str
    created_at: int
    principal: str
    principal_name: str
    door: Door
    sender: str
    header_from: str
    subject: str
    size: int
    recipient: str
    upstream: str
    priority: Priority
    state: State
    due_at: int | None
    attempts: int
    updated_at: int
    code: int
    reply: str


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try for one recipient, as its Outcome said. `cursor` continues `Spool.attempts` after it."""

    id: int
    delivery: int
    message_id: str
    at: int
    state: State
    counts: bool
    code: int
    enhanced: str
    reply: str
    stage: str
    local: bool
    session: str
    timings: str
    transcript: str | None
    cursor: str


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One recipient of a message and everything that was tried for it, oldest first."""

    id: int
    recipient: str
    upstream: str
    state: State
    due_at: int | None
    expires_at: int
    attempts: int
    unknown_ends: int
    updated_at: int
    edits: str | None
    dsn: str | None
    tries: tuple[AttemptView, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageView:
    """A message with its deliveries. `has_content` is False once retention purged the content.

    header  the header section as accepted (at most 64 KiB of it), for failure notices; else b"".
    """

    id: str
    created_at: int
    principal: str
    principal_name: str
    door: Door
    sender: str
    header_from: str
    subject: str
    message_id: str
    size: int
    header_size: int
    chunks: int
    trace: bytes
    flags: Flag
    priority: Priority
    send_at: int | None
    expires_at: int
    dsn_ret: str | None
    dsn_envid: str | None
    noticed: bool
    has_content: bool
    deliveries: tuple[DeliveryView, ...] = field(default_factory=tuple)
    header: bytes = b""


@dataclass(frozen=True, slots=True)
class EventRow:
    """A recorded event. `cursor` continues `Spool.events` after it."""

    id: int
    at: int
    kind: str
    subject: str
    text: str
    severity: str
    actor: str
    data: str
    cursor: str


@dataclass(frozen=True, slots=True)
class Route:
    """What all engines know of an upstream's health; no row means healthy.

    paused_until  nothing is leased for it before; None: not paused.
    probe_at      when one engine may next probe it (see `claim_probe`).
    detail        JSON text of whoever wrote it, for people and for the next decision.
    """

    upstream: str
    paused_until: int | None = None
    reason: str = ""
    text: str = ""
    since: int = 0
    failures: int = 0
    probe_at: int | None = None
    detail: str = "{}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that `durability` looked at. severity: ok, warning (works, but less safe), error (a
    promise cannot be kept). `name` is a stable slug; `text` says what is so and what to do about it.
    """

    name: str
    severity: str
    text: str


@dataclass(frozen=True, slots=True)
class Space:
    """Free bytes in the data folder and the floor under which nothing is accepted or delivered."""

    free: int
    floor: int

    @property
    def full(self) -> bool:
        return self.free < self.floor


@dataclass(frozen=True, slots=True)
class Purged:
    """How much one call of `purge` removed. `more` is True where another call would find more."""

    contents: int = 0
    messages: int = 0
    orphans: int = 0
    others: int = 0
    more: bool = False


NoticeBuilder = Callable[[MessageView], NewMessage | None]
"""Makes the failure notice for a message whose last delivery is final and of which some failed. Called by
the committer inside the transaction of that last outcome, at most once a message, only for mail that came
by SMTP or sendmail: it must be quick, do no I/O and not call the spool. None: no notice is due."""
