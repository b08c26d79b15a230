"""Light reading of a submitted header section: what admission and sending must know, and nothing more.

The section is cut into fields by one regular expression in linear time; MIME is never looked at, because
parsing it is where mail software falls over. Only what every reader cuts into the same fields is accepted:
no NUL, no bare CR or LF, no white space before a colon, no line that is neither field nor continuation. One
exception: content whose very first line is no field has no header section at all (`echo hi | sendmail bob`);
`edit_headers` then writes the blank line that makes all of it body for everybody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import msgspec

from smarthost.errors import AddressError, HeaderError, LoopError
from smarthost.mail import _steering
from smarthost.mail._address import LOCAL_DOMAINS, Address, parse_address, shown
from smarthost.mail._mailbox import Mailbox, read_field
from smarthost.mail._words import decode_words, safe_text, text_of

FIELD = re.compile(rb"([!-9;-~]++):([^\r\n\0]*+(?:\r\n[ \t][^\r\n\0]*+)*+)\r\n")
FOLD = re.compile(rb"\r\n(?=[ \t])")
HIDDEN = frozenset({b"bcc", b"resent-bcc", b"return-path"})

_FIRST_FIELD = re.compile(rb"[!-9;-~]++[ \t]*+:|\r\n")
_BULK = re.compile(rb"bulk|list|junk", re.IGNORECASE)
_MAX_ADDRESS_FIELD = 64 * 1024


class HeaderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the header section says.

    header_size      octets of the section with its blank line; 0 where there is none.
    header_from      the one From address; None where there is no From.
    from_completed   a whole From value to write instead, where the written one was local (cron's "root").
    subject          decoded, one printable line of at most 250 characters.
    message_id       as written, with its brackets, or "".
    hidden           Bcc, Resent-Bcc, Return-Path or X-Smarthost-* stand there and must not be sent.
    hops             number of Received fields.
    automatic        Auto-Submitted other than "no", Precedence bulk, list or junk, List-Id, or an empty
                     Return-Path (RFC 3834 2): never answer it.
    eight_bit, utf8  octets above 127 stand in the section; and they are UTF-8, so it needs SMTPUTF8.
    idempotency_key, priority, send_at   from X-Smarthost-… fields (see `_steering`): None or "" where there
                     is none; send_at in microseconds since the epoch.
    """

    header_size: int
    header_from: Address | None = None
    from_completed: str = ""
    subject: str = ""
    message_id: str = ""
    has_date: bool = False
    has_message_id: bool = False
    hidden: bool = False
    hops: int = 0
    automatic: bool = False
    eight_bit: bool = False
    utf8: bool = False
    idempotency_key: str | None = None
    priority: str = ""
    send_at: int | None = None

    @property
    def add_date(self) -> bool:
        return not self.has_date

    @property
    def add_message_id(self) -> bool:
        return not self.has_message_id

    @property
    def add_from(self) -> bool:
        return self.header_from is None

    @property
    def strip_hidden(self) -> bool:
        return self.hidden


def read_headers(
    first_chunk: bytes,
    *,
    max_header: int,
    max_hops: int,
    complete: Callable[[str], Address] | None = None,
) -> HeaderFacts:
    """Read the header section that `first_chunk` begins with (CRLF line ends, whole in this chunk).

    complete  reads an address as a local program writes it (see `mail.complete`); None: strict only.

    Raises HeaderError (malformed, too long, no or several From mailboxes in From, …) and LoopError.
    """
    size = section_size(first_chunk, max_header)
    section = first_chunk[:size]
    fields = FIELD.findall(section)
    froms: list[bytes] = []
    seen: dict[bytes, bytes] = {}
    hops = length = 0
    hidden = automatic = False
    for name, value in fields:
        length += len(name) + len(value) + 3
        lower = name.lower()
        if lower not in _INTERESTING:
            if not lower.startswith(_steering.PREFIX):
                continue
            hidden = True
            own = _steering.FIELDS.get(lower)
            if own and seen.setdefault(lower, value) != value:
                raise HeaderError(f"The message has two different {own} fields.", field=own)
        elif lower == b"from":
            froms.append(value)
        elif lower == b"received":
            hops += 1
        elif lower in HIDDEN:
            hidden = True
            automatic = automatic or (lower == b"return-path" and value.strip() == b"<>")
        elif lower in _AUTOMATIC:
            automatic = automatic or _says_automatic(lower, value)
        else:
            seen.setdefault(lower, value)
    blank = 2 if size == 2 or section.endswith(b"\r\n\r\n") else 0
    if length + blank != size:
        raise _malformed(section)
    if hops > max_hops:
        raise LoopError(
            f"This message has been through {hops} servers; more than {max_hops} means that it loops."
        )
    eight_bit = not section.isascii()
    author = _author(froms, complete) if froms else None
    message_id = seen.get(b"message-id", b"").strip()
    wish = _steering.steering(seen) if hidden else _steering.NONE
    return HeaderFacts(
        header_size=size,
        header_from=author[0].address if author else None,
        from_completed=str(author[0]) if author and author[1] else "",
        subject=_subject(seen[b"subject"]) if b"subject" in seen else "",
        message_id=safe_text(text_of(message_id, 1000), 1000) if message_id else "",
        has_date=bool(seen.get(b"date", b"").strip()),
        has_message_id=bool(message_id),
        hidden=hidden,
        hops=hops,
        automatic=automatic,
        eight_bit=eight_bit,
        utf8=eight_bit and _is_utf8(section),
        idempotency_key=wish.idempotency_key,
        priority=wish.priority,
        send_at=wish.send_at,
    )


_AUTOMATIC = frozenset({b"auto-submitted", b"precedence", b"list-id"})
_INTERESTING = HIDDEN | _AUTOMATIC | {b"from", b"received", b"subject", b"message-id", b"date"}


def header_recipients(
    first_chunk: bytes, complete: Callable[[str], Address] | None = None, *, max_header: int = 256 * 1024
) -> list[Address]:
    """Whom To, Cc and Bcc name, each once, in order: `sendmail -t`. Resent fields change nothing.

    Raises HeaderError, and AddressError that names the first address which is none.
    """
    section = first_chunk[: section_size(first_chunk, max_header)]
    found: dict[Address, None] = {}
    for name, value in FIELD.findall(section):
        if name.lower() in (b"to", b"cc", b"bcc"):
            for mailbox in read_field(_address_text(name.decode("ascii"), value), complete or parse_address):
                found[mailbox.address] = None
    return list(found)


def section_size(first_chunk: bytes, max_header: int) -> int:
    """Length of the section with its blank line; 0 where the first line is no field. Raises HeaderError."""
    if not _FIRST_FIELD.match(first_chunk, 0, max_header):
        if first_chunk.startswith(b"From ") and FIELD.match(first_chunk, first_chunk.find(b"\n") + 1):
            raise HeaderError('The content begins with an mbox line ("From ..."); remove that line.')
        return 0
    if first_chunk.startswith(b"\r\n"):
        return 2
    end = first_chunk.find(b"\r\n\r\n", 0, max_header)
    if end >= 0:
        return end + 4
    if len(first_chunk) > max_header or not first_chunk.endswith(b"\r\n"):
        raise HeaderError(
            f"The header section is longer than {max_header} bytes.", code=552, enhanced="5.3.4"
        )
    return len(first_chunk)


def _malformed(section: bytes) -> HeaderError:
    """Find the first octet that no field covers, for the message."""
    at = 0
    while found := FIELD.match(section, at):
        at = found.end()
    line = section[at : at + 200].split(b"\r\n")[0]
    number = section.count(b"\n", 0, at) + 1
    what = (
        "holds a NUL or a bare line break"
        if re.search(rb"[\0\r\n]", line)
        else "is neither a field nor its continuation"
    )
    return HeaderError(f"Line {number} of the header section {what}: {shown(line.decode('latin-1'), 60)}.")


def _says_automatic(name: bytes, value: bytes) -> bool:
    if name == b"auto-submitted":
        return value.partition(b";")[0].strip().lower() not in (b"no", b"")
    return name == b"list-id" or bool(_BULK.fullmatch(value.strip()))


def _author(froms: list[bytes], complete: Callable[[str], Address] | None) -> tuple[Mailbox, bool]:
    """The one mailbox of the one From field, and whether it had to be completed."""
    if len(froms) > 1:
        raise HeaderError(f"The message has {len(froms)} From fields; exactly one is allowed.", field="From")
    known = _strict_author(froms[0]) if len(froms[0]) < 1000 else None
    if known and (complete is None or known.address.domain not in LOCAL_DOMAINS):
        return known, False
    text = _address_text("From", froms[0])
    completed = False

    def read(address: str) -> Address:
        nonlocal completed
        if complete is None:
            return parse_address(address)
        found = complete(address)
        completed = not _is(address, found)
        return found

    try:
        mailboxes = read_field(text, read)
    except AddressError as error:
        raise HeaderError(f"The From field cannot be read. {error.public}", field="From") from error
    if len(mailboxes) != 1:
        raise HeaderError(
            f"The From field names {len(mailboxes)} mailboxes; exactly one is allowed.", field="From"
        )
    return mailboxes[0], completed


@lru_cache(maxsize=4096)
def _strict_author(value: bytes) -> Mailbox | None:
    """The common From: one mailbox that needs no completion. The same few come again and again."""
    try:
        found = read_field(_address_text("From", value), parse_address)
    except (AddressError, HeaderError):
        return None
    return found[0] if len(found) == 1 else None


def _is(text: str, address: Address) -> bool:
    try:
        return parse_address(text) == address
    except AddressError:
        return False


def _address_text(name: str, value: bytes) -> str:
    if len(value) > _MAX_ADDRESS_FIELD and name == "From":
        raise HeaderError("The From field is too long.", field=name)
    try:
        return FOLD.sub(b"", value).decode("utf-8").strip(" \t")
    except UnicodeDecodeError:
        raise HeaderError(f"The {name} field is not UTF-8.", field=name) from None


def _subject(value: bytes) -> str:
    return safe_text(decode_words(text_of(FOLD.sub(b"", value[:4096]))), 250)


def _is_utf8(section: bytes) -> bool:
    try:
        section.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
