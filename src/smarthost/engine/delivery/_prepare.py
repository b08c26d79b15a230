"""From a lease to what a session sends. Pure.

What goes out is what was accepted plus the declared header edits, which depend on the upstream and therefore
are made here and not before storage. Recipients whose edits differ need different bytes, so they become
separate transactions; nearly always there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from smarthost.mail import date_text, edit_headers
from smarthost.routing import Edits, decode_edits
from smarthost.smtp import Recipient, Transaction
from smarthost.spool import Flag, Lease, LeasedDelivery

NO_EDITS = Edits()

_DATE = Flag.ADD_DATE.value
_ID = Flag.ADD_MESSAGE_ID.value
_HIDDEN = Flag.STRIP_HIDDEN.value
_EDITED = _DATE | _ID | _HIDDEN
_UTF8 = Flag.SMTPUTF8.value
_EIGHT_BIT = Flag.EIGHT_BIT.value


@dataclass(slots=True, eq=False)
class Job:
    """One transaction of a lease on its way. first: the edited first chunk where the rest is streamed."""

    lease: Lease
    deliveries: list[LeasedDelivery]
    transaction: Transaction = field(init=False)
    first: bytes | None = None
    given_at: float = 0.0
    done: bool = False


def jobs(lease: Lease, hostname: str) -> list[Job]:
    """The transactions of a lease. Raises HeaderError where its edits cannot be written."""
    by_edits: dict[str | None, list[LeasedDelivery]] = {}
    for delivery in lease.deliveries:
        by_edits.setdefault(delivery.edits, []).append(delivery)
    return [_job(lease, deliveries, edits, hostname) for edits, deliveries in by_edits.items()]


def _job(lease: Lease, deliveries: list[LeasedDelivery], edits_text: str | None, hostname: str) -> Job:
    edits = NO_EDITS if edits_text is None else _edits(edits_text)
    first = lease.first
    assert first is not None, "a damaged lease has no deliveries"
    flags = int(lease.flags)
    if edits is NO_EDITS and not flags & _EDITED:
        edited = edit_headers(first, lease.header_size, trace=lease.trace)
    else:
        edited = edit_headers(
            first,
            lease.header_size,
            trace=lease.trace,
            add_date=date_text(lease.created_at) if flags & _DATE else None,
            add_message_id=stable_message_id(lease.message_id, hostname) if flags & _ID else None,
            strip_hidden=bool(flags & _HIDDEN),
            header_from=edits.header_from or None,
            add_from=edits.header_from_if_missing or None,
            reply_to=edits.reply_to or None,
        )
    whole = lease.chunks == 1
    job = Job(lease, deliveries, None if whole else edited)
    job.transaction = Transaction(
        job,
        edits.sender or lease.sender,
        tuple([_recipient(delivery) for delivery in deliveries]),
        lease.size - len(first) + len(edited),
        edited if whole else None,
        bool(flags & _EIGHT_BIT) or not edited.isascii(),
        bool(flags & _UTF8),
        lease.dsn_ret or "",
        lease.dsn_envid or "",
    )
    return job


_edits = lru_cache(maxsize=1024)(decode_edits)


def _recipient(delivery: LeasedDelivery) -> Recipient:
    if not delivery.dsn:
        return Recipient(delivery.recipient)
    return Recipient(delivery.recipient, *dsn_parts(delivery.dsn))


def dsn_parts(text: str) -> tuple[str, str]:
    """NOTIFY and ORCPT of "NOTIFY=…;ORCPT=…", "" where missing (ORCPT holds a semicolon itself)."""
    before, found, orcpt = text.partition("ORCPT=")
    return before.removeprefix("NOTIFY=").rstrip(";"), orcpt if found else ""


def stable_message_id(message_id: str, hostname: str) -> str:
    """The Message-ID of a message that came without: the same for every attempt and every recipient."""
    return f"<{message_id.lower()}@{hostname}>"
