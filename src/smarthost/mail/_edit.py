"""The declared header edits, made when a message is sent. Nothing else changes; the body is identical."""

from __future__ import annotations

import re

from smarthost.errors import AddressError, HeaderError
from smarthost.mail._mailbox import parse_mailbox, parse_mailbox_list
from smarthost.mail._read import FIELD, HIDDEN
from smarthost.mail._steering import PREFIX
from smarthost.mail._write import mailbox_field, token_field

_ADDRESSES = re.compile(rb"(?:^|\n)(from|reply-to)[ \t]*:", re.IGNORECASE)


def edit_headers(
    first_chunk: bytes,
    header_size: int,
    *,
    trace: bytes = b"",
    add_date: str | None = None,
    add_message_id: str | None = None,
    strip_hidden: bool = False,
    header_from: str | None = None,
    add_from: str | None = None,
    reply_to: str | None = None,
) -> bytes:
    """The first chunk as it is sent.

    trace           our Received field, complete; it goes on top.
    add_date, add_message_id   written at the end of the section; the caller knows that they are missing.
    strip_hidden    Bcc, Resent-Bcc, Return-Path and X-Smarthost-* are left out.
    header_from     a whole From value that replaces the written one (Force-From).
    add_from        a whole From value, written only where there is none.
    reply_to        a whole Reply-To value, written only where there is none.

    Where the section has no blank line of its own, one is written. Raises HeaderError.
    """
    blank = header_size == 2 or first_chunk.endswith(b"\r\n\r\n", 0, header_size)
    if not (strip_hidden or header_from or add_from or reply_to):
        if blank and not add_date and not add_message_id:
            return trace + first_chunk
        fields = first_chunk[: header_size - 2 * blank]
        present: set[bytes] = set()
    else:
        fields = first_chunk[: header_size - 2 * blank]
        present = {found.lower() for found in _ADDRESSES.findall(fields)}
        fields = _without(fields, strip_hidden, header_from is not None and header_from != "")
    parts = [trace, fields]
    if header_from:
        parts.append(_mailboxes("From", header_from))
    elif add_from and b"from" not in present:
        parts.append(_mailboxes("From", add_from))
    if reply_to and b"reply-to" not in present:
        parts.append(_mailboxes("Reply-To", reply_to))
    if add_date:
        parts.append(token_field("Date", add_date))
    if add_message_id:
        parts.append(token_field("Message-ID", add_message_id))
    parts.append(b"\r\n")
    parts.append(first_chunk[header_size:])
    return b"".join(parts)


def _without(fields: bytes, hidden: bool, author: bool) -> bytes:
    """The section without hidden fields and, where it is replaced, without From."""
    kept = []
    for found in FIELD.finditer(fields):
        name = found[1].lower()
        if hidden and (name in HIDDEN or name.startswith(PREFIX)):
            continue
        if author and name == b"from":
            continue
        kept.append(found[0])
    return b"".join(kept)


def _mailboxes(name: str, value: str) -> bytes:
    try:
        found = (parse_mailbox(value),) if name == "From" else parse_mailbox_list(value)
    except AddressError as error:
        raise HeaderError(error.public, field=name) from error
    return mailbox_field(name, found)
