"""From what an API caller asked for to a message that the spool can keep, all in this process's memory.

The same rooms as every other door: addresses by the one parser, content by our own writer, `admit`, and
`spool.intake.prepare`. Nothing is accepted in part: every address that cannot be used, and every recipient
that policy refuses, is named together.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

import msgspec

from smarthost.control.api.problems import FieldError, Invalid
from smarthost.control.api.schemas import AttachmentIn, MessageIn
from smarthost.errors import SmarthostError, TooManyRecipients
from smarthost.mail import (
    Address,
    Attachment,
    Composition,
    Mailbox,
    build,
    date_text,
    header_recipients,
    new_message_id,
    parse_mailbox,
    received,
)
from smarthost.routing import Decision, Directory, Principal, Submission, admit, to_error
from smarthost.spool import Door, NewMessage, Priority, new_id, now_us
from smarthost.spool.intake import FURTHEST_US, examine, fingerprint, prepare

_INDEX = re.compile(r"\[(\d+)\]")
_canonical = msgspec.json.Encoder(order="deterministic").encode


def compose(
    message: MessageIn,
    directory: Directory,
    principal: Principal,
    *,
    key: str = "",
    peer: str = "",
    door: Door = Door.HTTP,
) -> NewMessage:
    """The message, admitted and ready for the spool.

    key   idempotency key, "" for that of `raw`.  peer  the address that asked, for our Received field.
    Raises Invalid naming every field, Refused naming every recipient, TooLarge, HeaderError, ContentError.
    """
    now = now_us()
    id = new_id()
    if len(key) > 255 or not key.isprintable() or not key.isascii():
        raise Invalid([FieldError("Idempotency-Key", "must be at most 255 printable ASCII characters")])
    fields = _Fields(message, directory.limits.max_recipients)
    if message.raw is not None:
        raw = fields.raw_content()
    else:
        fields.refuse_unsafe()
        raw = fields.built(message_id=new_message_id(directory.hostname), date=date_text(now))
    content, facts = examine(raw, directory.limits)
    key = key or facts.idempotency_key or ""
    recipients = fields.recipients
    if message.raw is not None and not recipients:
        recipients = dict.fromkeys(header_recipients(content), "raw")
        _limit(len(recipients), directory.limits.max_recipients)
    if not recipients:
        raise Invalid([FieldError("to", "a message needs at least one recipient")])
    sender = fields.sender.address if fields.sender else facts.header_from
    submission = Submission(
        principal=principal,
        door=door.value,
        sender=sender,
        recipients=tuple(recipients),
        header_from=facts.header_from,
        size=len(content),
        smtputf8=True,
    )
    decision = admit(directory, {}, now, submission)
    _refuse(decision, recipients)
    return prepare(
        decision,
        submission,
        facts,
        id=id,
        now=now,
        door=door,
        trace=received(
            hostname=directory.hostname,
            protocol="HTTP" if door is Door.HTTP else "local",
            id=id,
            at_us=now,
            peer=peer,
            by_login=principal.name,
        ),
        content=content,
        priority=Priority[message.priority.upper()] if "priority" in message.model_fields_set else None,
        send_at=_send_at(message.send_at, now),
        key=key,
        fingerprint=fingerprint("", (), _asked(message)) if key else b"",
    )


def was_captured(message: NewMessage) -> bool:
    """Whether nothing of it will be sent."""
    return all(delivery.state.word == "captured" for delivery in message.deliveries)


class _Fields:
    """The fields of one request, read with every problem collected."""

    def __init__(self, message: MessageIn, limit: int) -> None:
        self.message = message
        self.errors: list[FieldError] = []
        _limit(len(message.to) + len(message.cc) + len(message.bcc), limit)
        self.sender = self._one("from", message.sender) if message.sender else None
        self.to, self.cc, self.bcc = (
            self._many(name, getattr(message, name)) for name in ("to", "cc", "bcc")
        )
        self.reply_to = self._many("reply_to", message.reply_to[:100])
        self.recipients: dict[Address, str] = {}
        for name, boxes in (("to", self.to), ("cc", self.cc), ("bcc", self.bcc)):
            for n, box in enumerate(boxes):
                self.recipients.setdefault(box.address, f"{name}.{n}")
        if self.errors:
            raise Invalid(self.errors, slug="address-invalid")

    def _one(self, field: str, text: str) -> Mailbox | None:
        try:
            return parse_mailbox(text)
        except SmarthostError as error:
            self.errors.append(FieldError(field, error.public, error.slug))
            return None

    def _many(self, field: str, texts: Iterable[str]) -> tuple[Mailbox, ...]:
        found = (self._one(f"{field}.{n}", text) for n, text in enumerate(texts))
        return tuple(box for box in found if box is not None)

    def raw_content(self) -> bytes:
        """`raw` as it is; it says everything itself, so nothing may stand beside it but the envelope."""
        said = self.message.model_fields_set - {"raw", "sender", "to", "cc", "bcc", "priority", "send_at"}
        if said:
            raise Invalid([FieldError(name, "cannot be given together with raw") for name in sorted(said)])
        return self.message.raw or b""

    def refuse_unsafe(self) -> None:
        """What is wrong without building anything."""
        if self.message.text is None and self.message.html is None and not self.message.attachments:
            raise Invalid([FieldError("text", "a message needs text, html or an attachment (or raw)")])

    def built(self, *, message_id: str, date: str) -> bytes:
        """The message of its parts. What cannot be written is named as everything in a request is."""
        try:
            return build(self.composition(), message_id=message_id, date=date)
        except SmarthostError as error:
            if error.field:
                error.field = _INDEX.sub(r".\1", error.field)
            raise

    def composition(self) -> Composition:
        message = self.message
        return Composition(
            sender=self.sender,
            to=self.to,
            cc=self.cc,
            bcc=self.bcc,
            reply_to=self.reply_to,
            subject=message.subject,
            text=message.text,
            html=message.html,
            attachments=tuple(_attachment(n, item) for n, item in enumerate(message.attachments)),
            headers=message.headers,
        )


def _attachment(n: int, item: AttachmentIn) -> Attachment:
    if item.inline and not item.content_id:
        raise Invalid([FieldError(f"attachments.{n}.content_id", "an inline attachment needs a content_id")])
    return Attachment(
        filename=item.filename, data=item.content, content_type=item.content_type, content_id=item.content_id
    )


def _limit(count: int, limit: int) -> None:
    if count > limit:
        raise TooManyRecipients(f"{count} recipients; one message may have {limit} here", field="to")


def _send_at(at: dt.datetime | None, now: int) -> int | None:
    """Microseconds; a time without zone would be read in two ways, so it is refused."""
    if at is None:
        return None
    if at.tzinfo is None:
        raise Invalid([FieldError("send_at", "needs a time zone, such as 2027-01-31T08:00:00Z")])
    try:
        wanted = int(at.timestamp() * 1_000_000)
    except (OverflowError, ValueError):
        wanted = now + FURTHEST_US + 1
    if wanted > now + FURTHEST_US:
        raise Invalid([FieldError("send_at", "is more than a year ahead")])
    return wanted


def _refuse(decision: Decision, places: dict[Address, str]) -> None:
    """Raise with every refused recipient by its place in the request, and the first one's status and slug."""
    refusals = decision.refusals
    if not refusals:
        return
    errors = [
        FieldError(
            places.get(entry.recipient, "to") if entry.recipient else "message", entry.text, entry.slug
        )
        for entry in dict.fromkeys(refusals)
    ]
    first = to_error(refusals[0])
    said = "; ".join(list(dict.fromkeys(error.message for error in errors))[:20])
    raise Invalid(errors, public=said, slug=first.slug, http=first.http)


def _asked(message: MessageIn) -> bytes:
    """The request in one canonical form: built mail has a new date and id each time."""
    return _canonical(message.model_dump(mode="python"))
