"""Our own header writer. It never lets a line break out of a value, whatever the value is.

Every value is checked character by character before a line is made of it, every name against RFC 5322's
ftext; line breaks come from `_fold` alone. Non-ASCII text becomes encoded words (RFC 2047), and so does
ASCII text that looks like one, because readers would decode it into something nobody wrote. Lines stay
within 78 octets where there is a place to fold and within 998 always.
"""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Iterable

from smarthost.errors import HeaderError
from smarthost.mail._address import shown
from smarthost.mail._mailbox import Mailbox, quoted_name

_NAME = re.compile(r"[!-9;-~]{1,76}")
_SOFT, _HARD = 78, 998
_WORD = 72  # octets of one encoded word at most (RFC 2047 2 allows 75, and 76 a line)
_REFUSED = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BREAKABLE = re.compile(r" (?=[^ ])")
_PLAIN_VALUE = re.compile(r"[A-Za-z0-9 ()+,./=?@_-]{0,60}")  # any reader takes it out of quotes unchanged
_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")


def check_name(name: str) -> str:
    """A field name as it may stand on the wire (RFC 5322 2.2). Raises HeaderError."""
    if not _NAME.fullmatch(name):
        raise HeaderError(f"{shown(name)} is not a header name.", field=name if name.isprintable() else None)
    return name


def check_text(name: str, value: str) -> str:
    """A value without anything that a reader may take for a line end. Raises HeaderError naming the field."""
    if value.isascii() and value.isprintable():
        return value
    for char in value:
        if unicodedata.category(char) in _REFUSED:
            raise HeaderError(f"{name} holds the control character U+{ord(char):04X}.", field=name)
    return value


def text_field(name: str, value: str) -> bytes:
    """An unstructured field: Subject, Comments, X-…. Spaces at its ends go."""
    check_name(name)
    value = check_text(name, value).strip(" ")
    if value.isascii() and "=?" not in value and max(map(len, value.split(" "))) < 900:
        return _fold(name, _BREAKABLE.sub("\0 ", value))
    return _fold(name, "\0 ".join(encoded_words(value, _WORD - len(name) - 2)))


def token_field(name: str, value: str) -> bytes:
    """A structured ASCII field written as given: Message-ID, List-Unsubscribe (RFC 8058 3.1), …."""
    check_name(name)
    value = check_text(name, value).strip(" ")
    if not value.isascii():
        raise HeaderError(f"{name} must be ASCII.", field=name)
    if len(name) + len(value) + 2 <= _SOFT:
        return f"{name}: {value}\r\n".encode("ascii")
    return _fold(name, _BREAKABLE.sub("\0 ", value))


def mailbox_field(name: str, mailboxes: Iterable[Mailbox]) -> bytes:
    """An address field: From, To, Cc, Reply-To, …."""
    check_name(name)
    return _fold(name, ",\0 ".join(_mailbox(name, mailbox) for mailbox in mailboxes))


def parameter_field(name: str, value: str, parameters: dict[str, str]) -> bytes:
    """Content-Type and its like; a parameter that is not plain ASCII is written after RFC 2231."""
    parts = [check_text(name, value)]
    for key, text in parameters.items():
        check_text(name, text)
        if _PLAIN_VALUE.fullmatch(text) and "=?" not in text:
            parts.append(f'{key}="{text}"')
        else:
            parts.extend(_rfc2231(key, text))
    return _fold(check_name(name), ";\0 ".join(parts))


def encoded_words(text: str, first: int = _WORD) -> list[str]:
    """RFC 2047 words in UTF-8, cut between characters; `first` is the room for the first one."""
    octets = text.encode("utf-8")
    plain = sum(octet in _Q_SAFE or octet == 0x20 for octet in octets)
    quoted = plain * 3 >= len(octets) * 2
    words: list[str] = []
    piece: list[str] = []
    used, room = 0, max(first, 30)
    for char in text:
        cost = _q_cost(char) if quoted else len(char.encode("utf-8"))
        if piece and used + cost > (room - 12 if quoted else (room - 12) // 4 * 3):
            words.append(_word("".join(piece), quoted))
            piece, used, room = [], 0, _WORD
        piece.append(char)
        used += cost
    words.append(_word("".join(piece), quoted))
    return words


def _q_cost(char: str) -> int:
    return sum(1 if octet in _Q_SAFE or octet == 0x20 else 3 for octet in char.encode("utf-8"))


def _word(text: str, quoted: bool) -> str:
    octets = text.encode("utf-8")
    if not quoted:
        return f"=?utf-8?b?{base64.b64encode(octets).decode('ascii')}?="
    payload = "".join(
        chr(octet) if octet in _Q_SAFE else "_" if octet == 0x20 else f"={octet:02X}" for octet in octets
    )
    return f"=?utf-8?q?{payload}?="


def _mailbox(field: str, mailbox: Mailbox) -> str:
    name = check_text(field, mailbox.name).strip(" ")
    if not name:
        return str(mailbox.address)
    if name.isascii() and "=?" not in name and len(name) <= 200:
        return f"{quoted_name(name)}\0 <{mailbox.address}>"
    return "\0 ".join([*encoded_words(name, _WORD - len(field) - 2), f"<{mailbox.address}>"])


def _rfc2231(key: str, text: str) -> list[str]:
    """An extended parameter, in numbered pieces where it is long (RFC 2231 3 and 4)."""
    safe = _Q_SAFE - frozenset(b"*/") | frozenset(b"._~")
    units = [
        "".join(chr(octet) if octet in safe else f"%{octet:02X}" for octet in char.encode("utf-8"))
        for char in text
    ]
    pieces, piece = [], "utf-8''"
    for unit in units:
        if len(piece) + len(unit) > 60:
            pieces.append(piece)
            piece = ""
        piece += unit
    pieces.append(piece)
    if len(pieces) == 1:
        return [f"{key}*={pieces[0]}"]
    return [f"{key}*{number}*={piece}" for number, piece in enumerate(pieces)]


def _fold(name: str, value: str) -> bytes:
    """One field with its CRLF. NUL marks where a line may break; the value itself holds none."""
    lines, line = [], f"{name}:"
    for piece in (" " + value).split("\0"):
        if len(line) + len(piece) > _SOFT and line != f"{name}:" and line.strip(" "):
            lines.append(line)
            line = piece
        else:
            line += piece
    lines.append(line)
    if any(len(line.encode("utf-8")) > _HARD for line in lines):
        raise HeaderError(
            f"{name} holds a word longer than {_HARD} octets, where no line can end.", field=name
        )
    return ("\r\n".join(lines) + "\r\n").encode("utf-8")
