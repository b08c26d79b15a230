"""Replies on the wire: read by the client with caps, written by the server without surprises.

A reply is one or more lines "ddd-text", the last "ddd text" or "ddd" (RFC 5321 4.2). A reader that guesses
what a malformed one means gets out of step with what it asked, and then believes the wrong answer; so all
lines must carry one code, and anything else is a `GarbageError`. Only the line end is forgiving: LF alone
counts, because it cannot move the border between two replies to another place.
"""

from __future__ import annotations

import re
from functools import lru_cache

from smarthost.smtp._types import Reply

_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.DOTALL)
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: +|$)", re.ASCII)
_UNSAFE = re.compile(r"[^\t\x20-\x7e\u00a0-\U0010ffff]|[\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 480  # bytes of text in a reply line that we write: under 512 with code, status and CRLF


class GarbageError(Exception):
    """What came is not SMTP, or over a cap. The text says which."""


class ReplyReader:
    """Cuts what a server sends into replies. Holds at most one unfinished reply, bounded by the caps."""

    def __init__(self, max_bytes: int, max_lines: int) -> None:
        self._max_bytes = max_bytes
        self._max_lines = max_lines
        self._buffer = b""
        self._position = 0
        self._lines: list[bytes] = []  # of the unfinished reply
        self._code = b""
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether bytes were taken in that belong to no reply given out yet."""
        return self._position < len(self._buffer) or bool(self._lines)

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._position :] + data
        self._position = 0

    def next(self) -> Reply | None:
        """The next whole reply, or None. Raises GarbageError."""
        while True:
            start = self._position
            end = self._buffer.find(b"\n", start)
            if end < 0:
                if self._size + len(self._buffer) - start > self._max_bytes:
                    raise GarbageError(f"a reply of more than {self._max_bytes} bytes")
                if not self._lines and not _could_begin(self._buffer[start : start + 4]):
                    raise _not_smtp(self._buffer[start:])
                return None
            self._position = end + 1
            if end > start and self._buffer[end - 1] == 13:
                end -= 1
            line = self._buffer[start:end]
            if not self._lines and line[3:4] != b"-" and end - start <= 128:
                return parse_line(line)
            reply = self._more(line)
            if reply is not None:
                return reply

    def _more(self, line: bytes) -> Reply | None:
        match = _LINE.fullmatch(line)
        if match is None or (self._lines and match[1] != self._code):
            raise _not_smtp(line)
        self._code = match[1]
        self._size += len(line) + 2
        self._lines.append(match[3] or b"")
        if self._size > self._max_bytes:
            raise GarbageError(f"a reply of more than {self._max_bytes} bytes")
        if len(self._lines) > self._max_lines:
            raise GarbageError(f"a reply of more than {self._max_lines} lines")
        if match[2] == b"-":
            return None
        lines, self._lines, self._size = self._lines, [], 0
        return _make(int(self._code), lines)


@lru_cache(maxsize=512)
def parse_line(line: bytes) -> Reply:
    """A reply of one short line; servers say the same few ones all day long."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise _not_smtp(line)
    return _make(int(match[1]), [match[3] or b""])


def _not_smtp(line: bytes) -> GarbageError:
    return GarbageError(f"what the server says is not SMTP: {clean(line[:60].decode('utf-8', 'replace'))!r}")


def _could_begin(start: bytes) -> bool:
    return all(byte in b"0123456789" for byte in start[:3]) and start[3:] in (b"", b" ", b"-", b"\r")


def _make(code: int, lines: list[bytes]) -> Reply:
    texts = [clean(line.decode("utf-8", "replace")) for line in lines]
    match = _ENHANCED.match(texts[-1])
    if match is None or int(match[1]) != code // 100:
        return Reply(code, "", "\n".join(texts))
    enhanced = match[0].strip()
    rest = [text[len(enhanced) :].strip() if text.startswith(enhanced) else text for text in texts]
    return Reply(code, enhanced, "\n".join(rest))


def clean(text: str) -> str:
    """Text of a stranger made safe for logs, pages and replies: no control or direction characters."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub("\ufffd", text)


def encode(reply: Reply, *, utf8: bool = False) -> bytes:
    """A reply as a server writes it. Non-ASCII only where the client speaks SMTPUTF8 (RFC 6531 3.7.4.2)."""
    text = reply.text
    if text.isascii() and text.isprintable() and len(text) <= _LONGEST:
        space = " " if reply.enhanced and text else ""
        return f"{reply.code} {reply.enhanced}{space}{text}\r\n".encode("ascii")
    lines = [piece for line in text.split("\n") for piece in _fold(line, utf8)][:100]
    status = f"{reply.enhanced} " if reply.enhanced else ""
    head = [f"{reply.code}-{status}".encode("ascii") + line for line in lines[:-1]]
    return b"\r\n".join([*head, f"{reply.code} {status}".encode("ascii") + lines[-1], b""])


def _fold(line: str, utf8: bool) -> list[bytes]:
    safe = clean(line.rstrip("\r")).replace("\t", " ")
    if not utf8:
        safe = safe.encode("ascii", "replace").decode("ascii")
    pieces, piece, size = [], "", 0
    for character in safe:
        width = len(character.encode("utf-8", "replace"))
        if size + width > _LONGEST:
            pieces.append(piece.encode("utf-8", "replace"))
            piece, size = "", 0
        piece, size = piece + character, size + width
    pieces.append(piece.encode("utf-8", "replace"))
    return pieces
