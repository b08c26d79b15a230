"""Bytes of a client, cut into lines or taken as content.

What is fed waits in a list and is joined when it is needed, so that neither many small pieces nor a driver
that feeds while an answer is due cost more than their bytes. A line ends with CRLF and nothing else: one
that ends with LF alone is an error, however it goes on (RFC 5321 2.3.8). Of a line longer than allowed only
the length is kept.
"""

from __future__ import annotations

from collections.abc import Callable

from smarthost.smtp._command import CommandError
from smarthost.smtp._events import AbortReason
from smarthost.smtp._types import Reply

_MOST_OF_A_LINE = 64 * 1024  # bytes of one line that is too long, after which nobody waits for its end
_HANDSHAKE = b"\x16\x03"  # how a TLS handshake begins (RFC 8446 5.1)


class HopelessError(Exception):
    """What comes cannot become a session any more."""

    def __init__(self, reason: AbortReason, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reason = reason
        self.reply = reply


class Input:
    """What a client sent and nobody has taken yet."""

    __slots__ = ("_buffer", "_dropped", "_fed", "_position")

    def __init__(self) -> None:
        self._fed: list[bytes] = []
        self.drop()

    def drop(self) -> None:
        """Forget everything."""
        self._fed.clear()
        self._buffer, self._position = b"", 0
        self._dropped = 0  # bytes of the present line that were too many to keep

    def feed(self, data: bytes) -> None:
        self._fed.append(data)

    @property
    def spoken(self) -> bool:
        """Whether anything was fed that waits to be joined."""
        return bool(self._fed)

    def gather(self) -> None:
        """Join what was fed; call it before anything is taken."""
        if self._fed:
            rest = self._buffer[self._position :]
            self._buffer = b"".join((rest, *self._fed)) if rest or len(self._fed) > 1 else self._fed[0]
            self._position = 0
            self._fed.clear()

    def rest(self) -> bytes:
        """All that waits; `use` says how much of it was taken."""
        return self._buffer[self._position :] if self._position else self._buffer

    def use(self, size: int) -> None:
        self._position += size

    def take(self, most: int) -> bytes:
        """At most so many bytes, taken."""
        data = self._buffer[self._position : self._position + most]
        self._position += len(data)
        return data

    def line(self, longest: Callable[[bytes], int]) -> bytes | None:
        """The next line without its CRLF, taken; None where its end has not come.

        longest gives the bytes that a line with this beginning may have. Raises CommandError for a line that
        is none, HopelessError where no line will come.
        """
        buffer, start = self._buffer, self._position
        end = buffer.find(b"\n", start)
        if end < 0:
            self._wait(longest)
            return None
        self._position = end + 1
        line = buffer[start : end - 1]
        too_long = self._dropped or end + 1 - start > longest(line)
        self._dropped = 0
        if buffer[end - 1 : end] != b"\r" or end == start:
            if buffer.startswith(_HANDSHAKE, start):
                raise _handshake()
            raise CommandError(500, "5.5.2", "A line ends with CRLF")
        if too_long:
            raise CommandError(500, "5.5.2", "The line is too long")
        return line

    def _wait(self, longest: Callable[[bytes], int]) -> None:
        """No line end yet: keep what came, unless no line may be that long, or it is none."""
        waiting = self.rest()
        if waiting.startswith(_HANDSHAKE):
            raise _handshake()
        if len(waiting) > longest(waiting[:8]) or self._dropped:
            kept = b"\r" if waiting.endswith(b"\r") else b""
            self._dropped += len(waiting) - len(kept)
            self._buffer, self._position = kept, 0
            if self._dropped > _MOST_OF_A_LINE:
                raise HopelessError(AbortReason.BYTES, Reply(421, "4.5.0", "The line is too long"))


def _handshake() -> HopelessError:
    text = "This port begins in clear; use STARTTLS"
    return HopelessError(AbortReason.NOT_SMTP, Reply(421, "4.7.0", text))
