"""Notices about mail that failed or still waits: multipart/report after RFC 3464, 3462 and 6533.

A notice answers a program or a person who never asked us for one, so it tells little and repeats less: only
the header section of the original, cut at a field, without its hidden fields; what the other server said as
one printable line of ASCII; plain text only. It is marked auto-replied (RFC 3834 5) and is sent with the null
sender, so that nothing answers it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from smarthost.mail._address import Address
from smarthost.mail._mailbox import Mailbox
from smarthost.mail._mime import Head, encoded_part, multipart, text_part
from smarthost.mail._read import FIELD, HIDDEN
from smarthost.mail._stamp import date_text
from smarthost.mail._steering import PREFIX
from smarthost.mail._words import safe_text
from smarthost.mail._write import text_field, token_field

_MAX_QUOTED = 16 * 1024
_MAX_REPLY = 400
_MAX_LISTED = 50
_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{1,900}>")


class Action(StrEnum):
    """What became of a recipient, in RFC 3464's words."""

    FAILED = "failed"
    DELAYED = "delayed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRecipient:
    """One recipient that did not get it (yet).

    code, enhanced, reply  the server's answer, or ours with code 0. expired: given up for its age.
    server  the upstream's host, "" where none was reached; original  ORCPT as submitted (RFC 3461), or "".
    last_attempt, until  microseconds since the epoch, 0 for unknown: the last try, and how long we go on.
    """

    address: str
    code: int = 0
    enhanced: str = ""
    reply: str = ""
    expired: bool = False
    server: str = ""
    original: str = ""
    last_attempt: int = 0
    until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What to say, and about what.

    sender    who the notice is from; to whom it goes.
    headers   the original's first chunk; its first `header_size` octets are the header section.
    id        the original's id here; arrived  microseconds since the epoch; envid  as submitted, or "".
    """

    action: Action
    hostname: str
    sender: Mailbox
    to: Address
    recipients: Sequence[NoticeRecipient]
    headers: bytes
    header_size: int
    id: str
    arrived: int
    subject: str = ""
    message_id: str = ""
    envid: str = ""
    contact: str = ""


def build_notice(notice: Notice, *, message_id: str, date: str) -> bytes:
    """The whole notice with CRLF line ends, pure ASCII unless `to` is not. Send it with the null sender."""
    failed = notice.action is Action.FAILED
    head = Head()
    head.mailboxes("From", (notice.sender,))
    head.mailboxes("To", (Mailbox("", notice.to),))
    about = safe_text(notice.subject, 150)
    head.text(
        "Subject", ("Not delivered" if failed else "Not delivered yet") + (f": {about}" if about else "")
    )
    head.token("Date", date)
    head.token("Message-ID", message_id)
    if _MESSAGE_ID.fullmatch(notice.message_id):
        head.token("References", notice.message_id)
    head.token("Auto-Submitted", "auto-replied")
    head.token("MIME-Version", "1.0")
    report = multipart(
        "report",
        [
            text_part("plain", _for_people(notice), "text"),
            encoded_part("message/delivery-status", {}, _status(notice)),
            encoded_part(
                "text/rfc822-headers", {"charset": "utf-8"}, _quoted(notice.headers, notice.header_size)
            ),
        ],
        {"report-type": "delivery-status"},
    )
    return head.checked() + report.fields + b"\r\n" + report.body


def _for_people(notice: Notice) -> str:
    failed = notice.action is Action.FAILED
    subject = safe_text(notice.subject, 150)
    lines = [
        f"This is Smarthost at {notice.hostname}.",
        "",
        "Your message" + (f' "{subject}"' if subject else "") + f" of {date_text(notice.arrived)}",
        "could not be delivered to:" if failed else "has not been delivered yet to:",
        "",
    ]
    for recipient in notice.recipients[:_MAX_LISTED]:
        lines.append(f"  {safe_text(recipient.address, 330)}")
        said = _line(recipient.reply)
        if recipient.expired:
            lines.append("    It was tried until its time was over.")
        if said:
            code = f"{recipient.code} " if recipient.code else ""
            lines.append(f"    {_server(recipient) if recipient.code else 'The reason'}: {code}{said}")
        if recipient.until and not failed:
            lines.append(f"    It will be tried until {date_text(recipient.until)}.")
    if len(notice.recipients) > _MAX_LISTED:
        lines.append(f"  and {len(notice.recipients) - _MAX_LISTED} more; the report below names them all.")
    lines += ["", "It will not be tried again." if failed else "You need not send it again."]
    if notice.contact:
        lines.append(f"Questions: {safe_text(notice.contact, 330)}")
    lines.append(f"The message's id here is {notice.id}.")
    return "\n".join(lines) + "\n"


def _server(recipient: NoticeRecipient) -> str:
    return f"{safe_text(recipient.server, 255)} said" if recipient.server else "The server said"


def _status(notice: Notice) -> bytes:
    """The fields of RFC 3464 2.2 and 2.3, written like any header field."""
    groups = [token_field("Reporting-MTA", f"dns; {notice.hostname}")]
    if notice.envid:
        groups[0] += token_field("Original-Envelope-Id", _line(notice.envid))
    groups[0] += token_field("Arrival-Date", date_text(notice.arrived))
    groups += [_recipient(notice.action, recipient) for recipient in notice.recipients]
    return b"\r\n".join(groups)


def _recipient(action: Action, recipient: NoticeRecipient) -> bytes:
    fields = []
    if recipient.original:
        fields.append(("Original-Recipient", _line(recipient.original)))
    fields.append(("Final-Recipient", _typed(recipient.address)))
    fields.append(("Action", action.value))
    fields.append(("Status", _enhanced(action, recipient)))
    if recipient.server:
        fields.append(("Remote-MTA", f"dns; {_line(recipient.server)}"))
    if recipient.reply:
        kind = f"smtp; {recipient.code} " if recipient.code else "x-smarthost; "
        fields.append(("Diagnostic-Code", kind + _line(recipient.reply)))
    if recipient.last_attempt:
        fields.append(("Last-Attempt-Date", date_text(recipient.last_attempt)))
    if recipient.until and action is Action.DELAYED:
        fields.append(("Will-Retry-Until", date_text(recipient.until)))
    return b"".join(
        token_field(name, value) if "=?" not in value else text_field(name, value) for name, value in fields
    )


def _typed(address: str) -> str:
    """rfc822; or, where it is not ASCII, utf-8; with RFC 6533's \\x{…} so that the report stays ASCII."""
    if address.isascii():
        return f"rfc822; {_line(address)}"
    return "utf-8; " + "".join(char if char.isascii() else f"\\x{{{ord(char):04X}}}" for char in address)


def _enhanced(action: Action, recipient: NoticeRecipient) -> str:
    wanted = "5" if action is Action.FAILED else "4"
    if recipient.expired:
        return f"{wanted}.4.7"
    if not _ENHANCED.fullmatch(recipient.enhanced):
        return f"{wanted}.0.0"
    return wanted + recipient.enhanced[1:]


def _line(text: str) -> str:
    """What somebody else said, as one printable line of ASCII without long words."""
    line = safe_text(text, _MAX_REPLY).encode("ascii", "replace").decode("ascii")
    return " ".join(word[:200] for word in line.split())


def _quoted(first_chunk: bytes, header_size: int) -> bytes:
    """The original's header section without hidden fields, whole fields only, at most 16 KiB."""
    kept, size = [], 0
    for found in FIELD.finditer(first_chunk, 0, header_size):
        name = found[1].lower()
        if name in HIDDEN or name.startswith(PREFIX):
            continue
        size += len(found[0])
        if size > _MAX_QUOTED:
            break
        kept.append(found[0].replace(b"\0", b""))
    return b"".join(kept) or b"\r\n"
