"""From an admitted submission to a message that the spool can keep.

Every door (SMTP, HTTP, command line, drop folder) ends here, so that the same mail becomes the same row
whichever way it came. Pure: no I/O and no clock; the caller brings the id, the time and our Received field.

    content, facts = examine(raw, directory.limits)
    decision = admit(directory, usage, now, submission)
    message = prepare(decision, submission, facts, id=…, now=…, door=…, trace=…, content=content)

A message is one row with one delivery for each recipient, whatever their upstreams. If policy refuses any
recipient there is no message: `prepare` raises one error whose text names every refused address.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import msgspec

from smarthost.errors import HeaderError, SmarthostError, TooLarge
from smarthost.mail import Address, HeaderFacts, normalise_newlines, read_headers
from smarthost.routing import Admitted, Decision, Edits, Limits, Refusal, Submission, encode_edits, to_error
from smarthost.spool._types import (
    Charge,
    Door,
    Flag,
    Idempotency,
    NewDelivery,
    NewMessage,
    Priority,
    State,
)

LIFETIME_US = 7 * 24 * 3600 * 1_000_000
"""How long a message tries: at least 4 to 5 days (RFC 5321 4.5.4.1); seven here."""

FURTHEST_US = 366 * 24 * 3600 * 1_000_000
"""How far ahead a message's `send_at` may be."""

MAX_KEY = 255
"""Longest idempotency key in characters."""


def examine(
    raw: bytes, limits: Limits, complete: Callable[[str], Address] | None = None
) -> tuple[bytes, HeaderFacts]:
    """Make submitted bytes into content (CRLF line ends) and read its header section.

    complete  how a From without a domain is read (see `mail.complete`); None: it is refused.

    Raises TooLarge over `limits.max_size`; HeaderError and LoopError as `read_headers` does.
    """
    if len(raw) > limits.max_size:
        raise too_large(limits.max_size)
    content = normalise_newlines(raw)
    return content, read_headers(
        content, max_header=limits.max_header, max_hops=limits.max_hops, complete=complete
    )


def too_large(limit: int) -> TooLarge:
    """The one text for a message over the size limit."""
    return TooLarge(f"The message is larger than the {limit} bytes that are accepted here.")


def fingerprint(
    sender: str, recipients: Iterable[str], content: bytes = b"", *, digest: bytes | None = None
) -> bytes:
    """SHA-256 of what was asked for, to tell a repeated request from another one under the same key.

    `content` is the content as accepted (without our trace), or any other canonical form of a request (HTTP:
    the request's JSON, since built mail has a new date). digest is its SHA-256 where it was streamed.
    """
    envelope = "\n".join((sender, *sorted(recipients), "")).encode()
    return hashlib.sha256(envelope + (digest or hashlib.sha256(content).digest())).digest()


def refused(refusals: Iterable[Refusal]) -> SmarthostError:
    """One error that names every refused recipient; its codes are the first one's."""
    entries = list(refusals)
    error = to_error(entries[0])
    error.public = "; ".join(dict.fromkeys(_sentence(entry) for entry in entries))
    return error


def _sentence(entry: Refusal) -> str:
    if entry.recipient is None or str(entry.recipient) in entry.text:
        return entry.text
    return f"{entry.recipient}: {entry.text}"


def prepare(
    decision: Decision,
    submission: Submission,
    facts: HeaderFacts,
    *,
    id: str,
    now: int,
    door: Door,
    trace: bytes,
    content: bytes | None,
    size: int | None = None,
    chunks: int = 1,
    priority: Priority | None = None,
    send_at: int | None = None,
    key: str = "",
    fingerprint: bytes = b"",
    notify: Mapping[str, str] | None = None,
    dsn_ret: str | None = None,
    dsn_envid: str | None = None,
    charges: tuple[Charge, ...] = (),
    flags: Flag = Flag.NONE,
) -> NewMessage:
    """Make the message. Raises the refusals' error (see `refused`) when the decision refuses anybody.

    now, send_at  microseconds since the epoch; a time that has come is now.
    priority, send_at  None: what the message's X-Smarthost-… fields say.
    content None: `size` bytes were streamed in `chunks` chunks.
    key           idempotency key, "" for none; then `fingerprint` is needed too.
    notify        canonical recipient → "NOTIFY=…;ORCPT=…" (RFC 3461).
    flags         further flags: ONE_TIME_LINK, and EIGHT_BIT where streamed content has such bytes.
    """
    if refusals := decision.refusals:
        raise refused(refusals)
    send_at = _due(facts.send_at if send_at is None else send_at, now)
    if priority is None:
        priority = Priority[facts.priority.upper()] if facts.priority else Priority.NORMAL
    return NewMessage(
        id=id,
        created_at=now,
        principal=submission.principal.id,
        principal_name=submission.principal.name,
        door=door,
        sender=str(submission.sender) if submission.sender else "",
        deliveries=_deliveries(decision, facts, notify),
        size=len(content) if content is not None else size or 0,
        header_size=facts.header_size,
        trace=trace,
        expires_at=max(now, send_at or 0) + LIFETIME_US,
        content=content,
        chunks=chunks,
        header_from=str(facts.header_from) if facts.header_from else "",
        subject=facts.subject,
        message_id=facts.message_id,
        flags=_flags(submission, facts, content, flags.value),
        priority=priority,
        send_at=send_at,
        dsn_ret=dsn_ret,
        dsn_envid=dsn_envid,
        idempotency=Idempotency(key, fingerprint) if key else None,
        charges=charges,
    )


def _due(send_at: int | None, now: int) -> int | None:
    """The time to wait for, or None. Raises HeaderError for one that is further away than any plan."""
    if send_at is None or send_at <= now:
        return None
    if send_at > now + FURTHEST_US:
        field = "X-Smarthost-Send-At"
        raise HeaderError(f"{field} is more than a year ahead.", field=field)
    return send_at


def _deliveries(
    decision: Decision, facts: HeaderFacts, notify: Mapping[str, str] | None
) -> tuple[NewDelivery, ...]:
    """One a recipient, in the order asked; a recipient named twice gets one copy (the first one's entry)."""
    found: dict[str, NewDelivery] = {}
    for entry in decision.recipients:
        recipient = str(entry.recipient)
        if recipient in found or not isinstance(entry, Admitted):
            continue
        found[recipient] = NewDelivery(
            recipient,
            "" if entry.captured else entry.upstream,
            State.CAPTURED if entry.captured else State.QUEUED,
            _edits(entry.edits, facts),
            notify.get(recipient) if notify else None,
        )
    return tuple(found.values())


def _edits(edits: Edits | None, facts: HeaderFacts) -> str | None:
    """What policy asks for, and a From that a local program wrote without a domain in its completed form."""
    if facts.from_completed and (edits is None or not edits.header_from):
        edits = msgspec.structs.replace(edits or Edits(), header_from=facts.from_completed)
    return None if edits is None else encode_edits(edits)


def _flags(submission: Submission, facts: HeaderFacts, content: bytes | None, found: int) -> Flag:
    """What the content is, found once so that sending needs no second look; added to `found`."""
    if not facts.has_date:
        found |= Flag.ADD_DATE.value
    if not facts.has_message_id:
        found |= Flag.ADD_MESSAGE_ID.value
    if facts.hidden:
        found |= Flag.STRIP_HIDDEN.value
    if facts.header_from is None:
        found |= Flag.ADD_FROM.value
    if facts.eight_bit or (content is not None and not content.isascii()):
        found |= Flag.EIGHT_BIT.value
    if facts.utf8:
        found |= Flag.SMTPUTF8.value
    if facts.automatic or submission.sender is None:
        found |= Flag.AUTOMATIC.value
    return Flag(found)
