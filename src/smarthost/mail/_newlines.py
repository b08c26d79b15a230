"""Line ends: what is stored has CRLF and nothing else, so that nobody downstream sees another message.

A server that takes a bare LF or CR for a line end finds an end of data where we saw text (SMTP smuggling).
Hence every CRLF, bare CR and bare LF becomes one CRLF before anything is stored (RFC 5321 2.3.8). NUL goes
too: it is legal in no 7bit or 8bit content (RFC 2045 2.7), and a reader that skips it would see a lone dot
in CRLF NUL dot CRLF.
"""

from __future__ import annotations


def normalise_newlines(data: bytes) -> bytes:
    """Whole content with CRLF line ends, its last line ended. Empty stays empty, clean content the same."""
    data = _clean(data)
    return data if not data or data.endswith(b"\r\n") else data + b"\r\n"


class NewlineNormaliser:
    """The same for content that comes in pieces; how it is cut changes nothing.

    A CR at the end of a piece waits for the next one, because a LF may follow.
    """

    __slots__ = ("_ended", "_held")

    def __init__(self) -> None:
        self._held = False
        self._ended = True

    def feed(self, data: bytes) -> bytes:
        """Take a piece, give what is certain of it."""
        if b"\0" in data:
            data = data.replace(b"\0", b"")
        if self._held:
            data = b"\r" + data
        self._held = data.endswith(b"\r")
        if self._held:
            data = data[:-1]
        data = _clean(data)
        if data:
            self._ended = data.endswith(b"\r\n")
        return data

    def finish(self) -> bytes:
        """What is still missing so that the content ends with CRLF. Ready for another content afterwards."""
        missing = b"\r\n" if self._held or not self._ended else b""
        self._held = False
        self._ended = True
        return missing


def _clean(data: bytes) -> bytes:
    if b"\0" in data:
        data = data.replace(b"\0", b"")
    pairs = data.count(b"\r\n")
    if data.count(b"\n") == pairs and data.count(b"\r") == pairs:
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
