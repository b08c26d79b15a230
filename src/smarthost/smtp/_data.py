"""Content on the wire: dot-stuffing out, the end-of-data scanner in.

Outwards nothing but CRLF may end a line, whatever the caller hands over: a CR or LF alone is made a CRLF,
because some server takes it for one and would read a smuggled end of data (RFC 5321 2.3.8, 4.5.2). A line
is stuffed when it begins with a dot, and also when it begins with NUL: a compliant receiver removes that
dot again, and a lax one that drops NULs does not find a lone dot.

Inwards only CRLF.CRLF ends the data. Content is searched and un-stuffed in blocks by `find` and `replace`,
never line by line: 30 MB of three-byte lines cost what 30 MB of prose do.

Both keep what a later piece may complete: never more than four bytes.
"""

from __future__ import annotations

import re

_plant_no_dot_stuffing = False  # the reliability campaign sets it; see tests/smtp/test_planted.py

_ANY_END = re.compile(rb"\r\n|\r|\n")
_END = b"\r\n.\r\n"
_SMALL = 16 * 1024


def only_crlf(data: bytes) -> bytes:
    """data with every line end CRLF. Where it is so already, which is nearly always, it only looks."""
    if len(data) <= _SMALL:  # the fastest way to look, but it makes an object of every line
        rest = b"".join(data.split(b"\r\n"))
        if b"\n" not in rest and b"\r" not in rest:
            return data
    else:
        ends = data.count(b"\r\n")
        if data.count(b"\r") == ends and data.count(b"\n") == ends:
            return data
    return _ANY_END.sub(b"\r\n", data)


class Outgoing:
    """Content of one message on its way out, in pieces. stuff: for DATA; BDAT needs none (RFC 3030 2)."""

    __slots__ = ("_at_line_start", "_cr", "_stuff")

    def __init__(self, *, stuff: bool) -> None:
        self._stuff = stuff and not _plant_no_dot_stuffing
        self._at_line_start = True
        self._cr = False

    def feed(self, data: bytes, *, last: bool) -> bytes:
        """What to write for this piece. The last one ends with CRLF, and for DATA the dot comes after it."""
        if self._cr:
            data = b"\r" + data
        self._cr = not last and data.endswith(b"\r")  # whose LF may be in the next piece
        if self._cr:
            data = data[:-1]
        data = only_crlf(data)
        starts_line = self._at_line_start
        if data:
            self._at_line_start = data.endswith(b"\r\n")
        if last and not self._at_line_start:
            data += b"\r\n"
        if self._stuff:
            data = _stuffed(data, starts_line)
        return data


def _stuffed(data: bytes, starts_line: bool) -> bytes:
    first = starts_line and data[:1] in (b".", b"\0")
    data = data.replace(b"\r\n.", b"\r\n..")
    if b"\0" in data:
        data = data.replace(b"\r\n\0", b"\r\n.\0")
    return b"." + data if first else data


class Incoming:
    """Content of one DATA on its way in."""

    __slots__ = ("_held", "_skip")

    def __init__(self) -> None:
        self._held = b"\r\n"  # the line end of the DATA command also begins a first line
        self._skip = 2  # bytes of that at the front of what is given out

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """(content, used): used is -1 while the end has not come, else how much of data is used up by it."""
        held = self._held
        block = held + data
        end = block.find(_END)
        if end >= 0:
            return block[: end + 2].replace(b"\r\n.", b"\r\n")[self._skip :], end + 5 - len(held)
        keep = _unfinished(block)
        cut = len(block) - keep
        self._held = block[cut:]
        if not cut:
            return b"", -1
        content = block[:cut].replace(b"\r\n.", b"\r\n")[self._skip :]
        self._skip = 0
        return content, -1


def _unfinished(block: bytes) -> int:
    """Length of the longest end of block that begins the end of data."""
    for size in (4, 3, 2, 1):
        if block.endswith(_END[:size]):
            return size
    return 0
