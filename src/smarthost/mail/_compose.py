"""Build a message from its parts: text, HTML, attachments, inline images.

    multipart/mixed                where there are attachments
      multipart/alternative        where there are both text and HTML
        text/plain
        multipart/related          where HTML has inline images
          text/html, images …

Whoever calls knows the parts and not the header fields that they become, so the `field` of a refusal is the
part's own place ("from", "subject", "headers.X-A", "attachments[1].filename"). Bcc is never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from smarthost.errors import AddressError, ContentError, HeaderError
from smarthost.mail._mailbox import Mailbox, parse_mailbox_list
from smarthost.mail._mime import Head, Part, base64_lines, encoded_part, multipart, text_part
from smarthost.mail._newlines import normalise_newlines
from smarthost.mail._write import check_name, check_text, parameter_field, token_field

_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_CONTENT_ID = re.compile(r"[A-Za-z0-9!#$&'*+/=?^_{|}~.-]{1,120}(?:@[A-Za-z0-9.-]{1,120})?")
# Paths, tags, and the invisible characters that show "gnp.exe" as "exe.png".
_UNSAFE_IN_NAME = re.compile(r"[/\\<>\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_PLACES = {"From": "from", "Reply-To": "reply_to", "To": "to", "Cc": "cc", "Subject": "subject"}
_RESERVED = frozenset(
    [
        "from",
        "to",
        "cc",
        "bcc",
        "sender",
        "reply-to",
        "subject",
        "date",
        "message-id",
        "received",
        "return-path",
        "mime-version",
        "authentication-results",
        "dkim-signature",
        "delivered-to",
    ]
)
_RESERVED_PREFIXES = ("content-", "resent-", "x-smarthost-", "arc-")
_ADDRESSES = frozenset({"disposition-notification-to", "errors-to", "return-receipt-to", "mail-followup-to"})
_TOKENS = frozenset({"in-reply-to", "references", "auto-submitted", "precedence", "feedback-id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file. With `content_id` it is an inline image that the HTML names as `cid:…`."""

    filename: str
    data: bytes
    content_type: str = "application/octet-stream"
    content_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What to write. `sender` None leaves From out: it is added when sending. `headers`: further fields."""

    sender: Mailbox | None = None
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def build(composition: Composition, *, message_id: str, date: str) -> bytes:
    """The whole message with CRLF line ends, read back and compared before it is returned.

    Raises HeaderError or ContentError, whose `field` names what was wrong. RFC 5322, 2045-2047, 2183, 2231.
    """
    head = Head()
    for name, mailboxes in (
        ("From", (composition.sender,) if composition.sender is not None else ()),
        ("Reply-To", composition.reply_to),
        ("To", composition.to),
        ("Cc", composition.cc),
    ):
        if mailboxes:
            with _place(_PLACES[name]):
                head.mailboxes(name, mailboxes)
    if not composition.to and not composition.cc:
        head.token("To", "undisclosed-recipients:;")
    with _place("subject"):
        head.text("Subject", composition.subject)
    head.token("Date", date)
    head.token("Message-ID", message_id)
    _further(head, composition.headers)
    head.token("MIME-Version", "1.0")
    body = _body(composition)
    return _read_back(head) + body.fields + b"\r\n" + body.body


@contextmanager
def _place(place: str) -> Iterator[None]:
    """Whatever is refused within stands at this place of the composition."""
    try:
        yield
    except (AddressError, HeaderError) as error:
        error.field = place
        raise


def _read_back(head: Head) -> bytes:
    try:
        return head.checked()
    except HeaderError as error:
        if error.field:
            error.field = _PLACES.get(error.field, f"headers.{error.field}")
        raise


def _further(head: Head, headers: Mapping[str, str]) -> None:
    seen: set[str] = set()
    for name, value in headers.items():
        with _place(f"headers.{name}" if name.isprintable() else "headers"):
            _one_further(head, name, value, seen)


def _one_further(head: Head, name: str, value: str, seen: set[str]) -> None:
    lower = check_name(name).lower()
    if lower in _RESERVED or lower.startswith(_RESERVED_PREFIXES):
        raise HeaderError(f"{name} is written by Smarthost and cannot be given as a header.")
    if lower in seen:
        raise HeaderError(f"{name} is given twice.")
    seen.add(lower)
    if lower in _ADDRESSES:
        head.mailboxes(name, parse_mailbox_list(value))
    elif lower in _TOKENS or lower.startswith("list-"):
        head.token(name, value)
    else:
        head.text(name, value)


def _body(composition: Composition) -> Part:
    inline = [_attachment(n, each) for n, each in enumerate(composition.attachments) if each.content_id]
    files = [_attachment(n, each) for n, each in enumerate(composition.attachments) if not each.content_id]
    alternatives = []
    if composition.text is not None or composition.html is None:
        alternatives.append(text_part("plain", composition.text or "", "text"))
    if composition.html is not None:
        html = text_part("html", composition.html, "html")
        alternatives.append(multipart("related", [html, *inline], {"type": "text/html"}) if inline else html)
    else:
        files = inline + files
    body = alternatives[0] if len(alternatives) == 1 else multipart("alternative", alternatives)
    return multipart("mixed", [body, *files]) if files else body


def _attachment(number: int, given: Attachment) -> Part:
    where = f"attachments[{number}]"
    kind = given.content_type.strip().lower()
    if not _TYPE.fullmatch(kind) or kind.startswith("multipart/"):
        raise ContentError(
            f"{where}.content_type is not a media type that can be attached.", field=f"{where}.content_type"
        )
    check_text(f"{where}.filename", given.filename)
    filename = _UNSAFE_IN_NAME.sub("_", given.filename).strip(" .")[:200] or "attachment"
    extra = b""
    if given.content_id:
        content_id = given.content_id.strip().removeprefix("<").removesuffix(">")
        if not _CONTENT_ID.fullmatch(content_id):
            raise HeaderError(f"{where}.content_id is not a content id.", field=f"{where}.content_id")
        extra = token_field("Content-ID", f"<{content_id}>")
    disposition = "inline" if given.content_id else "attachment"
    extra += parameter_field("Content-Disposition", disposition, {"filename": filename})
    if kind.startswith("message/"):
        # RFC 2046 5.2.1: these may not be base64; what is not plain text is carried as a file of no type.
        octets = normalise_newlines(given.data)
        if octets.isascii() and b"\0" not in given.data and max(map(len, octets.split(b"\r\n"))) <= 998:
            return encoded_part(kind, {}, octets, extra)
        kind = "application/octet-stream"
    fields = parameter_field("Content-Type", kind, {}) + token_field("Content-Transfer-Encoding", "base64")
    return Part(fields + extra, base64_lines(given.data))
