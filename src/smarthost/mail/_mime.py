"""Writing MIME, and reading back what was written before anybody gets it (RFC 2045, 2046, 2183).

A `Part` is header fields and an encoded body, both bytes with CRLF. Boundaries are random and checked to be
absent from what they separate. Nothing here parses MIME of others.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from smarthost.errors import ContentError, HeaderError
from smarthost.mail._address import parse_address
from smarthost.mail._mailbox import Mailbox, read_field
from smarthost.mail._newlines import normalise_newlines
from smarthost.mail._read import FIELD, FOLD
from smarthost.mail._words import decode_words
from smarthost.mail._write import mailbox_field, parameter_field, text_field, token_field

_LONG_LINE = re.compile(rb"[^\r\n]{999}")


@dataclass(frozen=True, slots=True)
class Part:
    fields: bytes
    body: bytes


class Head:
    """Header fields in the making; `checked` reads them back and compares (CVE-2024-6923 and its like)."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._expected: list[tuple[str, str | tuple[Mailbox, ...]]] = []

    def text(self, name: str, value: str) -> None:
        self._add(text_field, name, value, value.strip(" "))

    def token(self, name: str, value: str) -> None:
        self._add(token_field, name, value, value.strip(" "))

    def mailboxes(self, name: str, value: Sequence[Mailbox]) -> None:
        self._lines.append(mailbox_field(name, value))
        plain = tuple(Mailbox(" ".join(each.name.split()), each.address) for each in value)
        self._expected.append((name, plain))

    def _add(self, write: Callable[[str, str], bytes], name: str, value: str, expected: str) -> None:
        self._lines.append(write(name, value))
        self._expected.append((name, expected))

    def checked(self) -> bytes:
        """The fields written so far. Raises HeaderError where a reader would read something else."""
        section = b"".join(self._lines)
        found = FIELD.findall(section)
        if len(found) != len(self._expected) or sum(len(n) + len(v) + 3 for n, v in found) != len(section):
            raise HeaderError("The header cannot be written so that it reads back the same.")
        for (name, value), (wanted_name, wanted) in zip(found, self._expected, strict=True):
            text = FOLD.sub(b"", value).decode("utf-8").strip(" ")
            if isinstance(wanted, tuple):
                same = tuple(read_field(text, parse_address)) == wanted
            else:
                same = decode_words(text) == wanted
            if name.decode("ascii") != wanted_name or not same:
                raise HeaderError(
                    f"{wanted_name} cannot be written so that it reads back the same.", field=wanted_name
                )
        return section


def text_part(subtype: str, text: str, field: str) -> Part:
    """text/plain or text/html in UTF-8, in the plainest encoding that carries it. Raises ContentError."""
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        raise ContentError(f"{field} holds half a surrogate pair.", field=field) from None
    if b"\0" in octets:
        raise ContentError(f"{field} holds a NUL character.", field=field)
    return encoded_part(f"text/{subtype}", {"charset": "utf-8"}, normalise_newlines(octets))


def encoded_part(kind: str, parameters: dict[str, str], octets: bytes, extra: bytes = b"") -> Part:
    """Text octets with CRLF, as 7bit where they are, else quoted-printable or base64."""
    if octets.isascii() and not _LONG_LINE.search(octets):
        encoding, body = "7bit", octets
    elif sum(octet > 126 for octet in octets[:20000]) * 4 < len(octets[:20000]):
        encoding, body = "quoted-printable", normalise_newlines(binascii.b2a_qp(octets, istext=True))
    else:
        encoding, body = "base64", base64_lines(octets)
    fields = parameter_field("Content-Type", kind, parameters) + token_field(
        "Content-Transfer-Encoding", encoding
    )
    return Part(fields + extra, body)


def multipart(subtype: str, parts: Sequence[Part], parameters: dict[str, str] | None = None) -> Part:
    """Parts under one boundary that none of them holds."""
    while True:
        boundary = "=_" + secrets.token_hex(16)
        mark = boundary.encode("ascii")
        if not any(mark in part.body or mark in part.fields for part in parts):
            break
    pieces = []
    for part in parts:
        pieces += [b"--", mark, b"\r\n", part.fields, b"\r\n", part.body, b"\r\n"]
    pieces += [b"--", mark, b"--\r\n"]
    named = {**(parameters or {}), "boundary": boundary}
    fields = parameter_field("Content-Type", f"multipart/{subtype}", named)
    return Part(fields, b"".join(pieces))


def base64_lines(octets: bytes) -> bytes:
    """Base64 in lines of 76 (RFC 2045 6.8)."""
    text = base64.b64encode(octets)
    return b"".join(text[at : at + 76] + b"\r\n" for at in range(0, len(text), 76))
