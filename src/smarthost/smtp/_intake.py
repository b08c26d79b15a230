"""Content of one message on its way into a server: whole where it is small, in pieces where it is large."""

from __future__ import annotations

from smarthost.smtp._events import Chunk, Content

_GRACE = 64 * 1024


class Intake:
    """Gathers content; keeps at most one piece. Over max_size (0: no bound) it only counts.

    endless tells that the client goes on far beyond that, and is not worth listening to.
    """

    __slots__ = ("_kept", "_limit", "_piece", "_pieces", "size")

    def __init__(self, max_size: int, piece: int) -> None:
        self._limit = max_size
        self._piece = piece
        self._pieces = False
        self._kept: bytes | bytearray = b""
        self.size = 0

    @property
    def too_large(self) -> bool:
        return 0 < self._limit < self.size

    @property
    def endless(self) -> bool:
        return 0 < 2 * self._limit + _GRACE < self.size if self._limit else False

    def add(self, content: bytes) -> Chunk | None:
        """Take content in; a piece of it where there is enough for one."""
        self.size += len(content)
        if self.too_large:
            self._kept = b""
            return None
        if not self._kept:
            self._kept = content
        else:
            if isinstance(self._kept, bytes):
                self._kept = bytearray(self._kept)
            self._kept += content
        if len(self._kept) <= self._piece:
            return None
        return self._give()

    def _give(self) -> Chunk:
        chunk = Chunk(bytes(self._kept))
        self._kept = b""
        self._pieces = True
        return chunk

    def finish(self) -> tuple[Chunk | None, Content]:
        """The last piece, if there were pieces, and the end."""
        if not self._pieces:
            return None, Content(bytes(self._kept), self.size)
        return self._give() if self._kept else None, Content(None, self.size)
