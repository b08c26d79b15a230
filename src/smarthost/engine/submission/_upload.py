"""Large content on its way into the spool, piece by piece while it arrives.

Pieces of exactly CHUNK bytes are written under the message's id before the message exists; they become
visible with its row, or are purged. One write is out at a time and the connection is not read meanwhile, so
a slow store slows the sender down instead of filling memory. The header section must lie in the first chunk.
An error in the middle (store full, malformed header) is kept and the rest swallowed: SMTP can only answer
after the final dot.
"""

from __future__ import annotations

import hashlib
from asyncio import Future
from collections.abc import Callable
from dataclasses import replace

from smarthost.errors import SmarthostError, StoreUnavailable
from smarthost.mail import HeaderFacts, NewlineNormaliser
from smarthost.spool import CHUNK, AsyncSpool, NewMessage
from smarthost.spool.intake import too_large


class Upload:
    """Content of one message. After each `feed` wait until `writing` is None; then `failure` may be set.

    examine  reads the header section from the first chunk and may raise.
    """

    def __init__(
        self, spool: AsyncSpool, id: str, examine: Callable[[bytes], HeaderFacts], limit: int
    ) -> None:
        self._spool = spool
        self._examine = examine
        self._limit = limit
        self._normaliser = NewlineNormaliser()
        self._hash = hashlib.sha256()
        self._rest = bytearray()
        self.ended = False
        self.id = id
        self.facts: HeaderFacts | None = None
        self.failure: SmarthostError | None = None
        self.eight_bit = False
        self.size = 0
        self.chunks = 0
        self.writing: Future[None] | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the content."""
        return self._hash.digest()

    def feed(self, data: bytes) -> None:
        """Take what the client sent, as it sent it."""
        self._take(self._normaliser.feed(data))

    def finish(self) -> None:
        """There is no more. When `writing` is None afterwards, everything is written."""
        self._take(self._normaliser.finish())
        self.ended = True
        self.next()

    def _take(self, data: bytes) -> None:
        if self.failure is not None or not data:
            return
        self.size += len(data)
        if self._limit and self.size > self._limit:
            self.fail(too_large(self._limit))
            return
        self.eight_bit = self.eight_bit or not data.isascii()
        self._hash.update(data)
        self._rest += data
        self.next()

    def next(self) -> None:
        """Begin to write the next chunk if one is due and none is being written."""
        if self.writing is not None or self.failure is not None:
            return
        if len(self._rest) >= CHUNK or (self.ended and self._rest):
            piece = bytes(memoryview(self._rest)[:CHUNK])
            del self._rest[:CHUNK]
            if self.facts is None:
                try:
                    self.facts = self._examine(piece)
                except SmarthostError as error:
                    self.fail(error)
                    return
            self.writing = self._spool.write_chunk(self.id, self.chunks, piece)
            self.chunks += 1

    def written(self) -> None:
        """The write is over; take its result and begin the next one."""
        future, self.writing = self.writing, None
        if future is None:
            return
        error = None if future.cancelled() else future.exception()
        if isinstance(error, SmarthostError):
            self.fail(error)
        elif error is not None or future.cancelled():
            self.fail(StoreUnavailable("The message could not be stored.", private=repr(error)))
        self.next()

    def fail(self, error: SmarthostError) -> None:
        """Keep the first error; swallow the rest."""
        self.failure = self.failure or error
        self._rest.clear()


async def store_large(spool: AsyncSpool, message: NewMessage) -> NewMessage:
    """Write a message's content as chunks; gives the message that refers to them. Raises as `write_chunk`."""
    content = memoryview(message.content or b"")
    count = 0
    for start in range(0, len(content), CHUNK):
        await spool.write_chunk(message.id, count, bytes(content[start : start + CHUNK]))
        count += 1
    return replace(message, content=None, size=len(content), chunks=count)
