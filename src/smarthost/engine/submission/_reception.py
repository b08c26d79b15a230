"""The content of one message, from its first byte to the answer.

Small content comes whole: normalised, its header section read, admitted, handed to the spool. Large content
comes in pieces, which an `Upload` writes while more arrives. Either way there is exactly one answer, given by
the commit's future and never before it; what was committed is never taken back, also when the client is gone.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from smarthost import faults
from smarthost.engine.submission._envelope import Envelope, reader, said
from smarthost.engine.submission._listener import Peer
from smarthost.engine.submission._upload import Upload
from smarthost.errors import SmarthostError, StoreUnavailable
from smarthost.mail import HeaderFacts, read_headers
from smarthost.smtp import Reply
from smarthost.spool import CHUNK, Acceptance, Accepted, NewMessage, new_id, now_us
from smarthost.spool.intake import examine

if TYPE_CHECKING:
    from smarthost.engine.submission._submission import Submission

ACK_BEFORE_COMMIT = faults.planted("ack-before-commit")


class Reception:
    """Feed it, finish it, or drop it.

    trace    makes our Received field from the message's id and the time.
    answer   called once with the reply to the content.
    go_on    called when a piece that had to be waited for is written.
    """

    __slots__ = (
        "_answer",
        "_dropped",
        "_envelope",
        "_finished",
        "_go_on",
        "_hub",
        "_peer",
        "_trace",
        "_upload",
    )

    def __init__(
        self,
        hub: Submission,
        peer: Peer,
        envelope: Envelope,
        *,
        trace: Callable[[str, int], bytes],
        answer: Callable[[Reply], None],
        go_on: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._peer = peer
        self._envelope = envelope
        self._trace = trace
        self._answer = answer
        self._go_on = go_on
        self._upload: Upload | None = None
        self._finished = self._dropped = False

    def feed(self, data: bytes) -> bool:
        """Take a piece of large content; whether to wait for `go_on` before the next one."""
        upload = self._upload
        if upload is None:
            upload = self._upload = self._begin_upload()
        upload.feed(data)
        return self._wait_for(upload)

    def finish(self, data: bytes | None) -> None:
        """There is no more: `data` is all of it, or None after pieces. The answer comes now or later."""
        self._finished = True
        if data is not None:
            directory = self._hub.directory.current
            try:
                content, facts = examine(data, directory.limits, reader(directory))
            except SmarthostError as error:
                self.refuse(error)
                return
            if len(content) <= CHUNK:
                self._store(facts, content, None)
                return
            self.feed(content)
        upload = self._upload
        if upload is None:
            upload = self._upload = self._begin_upload()
        upload.finish()
        if data is not None and upload.writing is not None:
            return  # feed() above waits for it already
        if not self._wait_for(upload):
            self._uploaded(upload)

    def drop(self) -> None:
        """Forget it and what was written of it. A commit under way is not undone."""
        self._dropped = True
        upload, self._upload = self._upload, None
        if upload is not None and upload.writing is None:
            self._hub.discard(upload.id)

    def refuse(self, error: SmarthostError) -> None:
        """Answer with this error."""
        self.drop()
        reply = said(error)
        self._hub.log_refusal(self._peer, self._envelope.principal.id, reply, cause=error.private)
        self._answer(reply)

    # --- large content

    def _begin_upload(self) -> Upload:
        directory = self._hub.directory.current
        limits, complete = directory.limits, reader(directory)

        def look(first: bytes) -> HeaderFacts:
            return read_headers(
                first, max_header=limits.max_header, max_hops=limits.max_hops, complete=complete
            )

        return Upload(self._hub.spool, new_id(), look, limits.max_size)

    def _wait_for(self, upload: Upload) -> bool:
        if upload.writing is None:
            return False
        upload.writing.add_done_callback(partial(self._written, upload))
        return True

    def _written(self, upload: Upload, _: Future[None]) -> None:
        upload.written()
        if self._dropped:
            if upload.writing is not None:
                self._wait_for(upload)
            else:
                self._hub.discard(upload.id)
        elif not self._wait_for(upload):
            if self._finished:
                self._uploaded(upload)
            else:
                self._go_on()

    def _uploaded(self, upload: Upload) -> None:
        if upload.failure is not None:
            self.refuse(upload.failure)
        else:
            self._store(upload.facts or HeaderFacts(header_size=0), None, upload)

    # --- the commit

    def _store(self, facts: HeaderFacts, content: bytes | None, upload: Upload | None) -> None:
        hub = self._hub
        now = now_us()
        id = upload.id if upload else new_id()
        try:
            message = self._envelope.message(
                hub.directory.current,
                facts,
                id=id,
                now=now,
                trace=self._trace(id, now),
                content=content,
                size=upload.size if upload else len(content or b""),
                chunks=upload.chunks if upload else 1,
                digest=upload.digest if upload else None,
                eight_bit=upload is not None and upload.eight_bit,
            )
        except SmarthostError as error:
            self.refuse(error)
            return
        self._upload = None
        if content is not None:
            hub.in_flight += message.size
        future = hub.spool.accept(message)
        if ACK_BEFORE_COMMIT:
            future = hub.loop.create_future()
            future.set_result(Accepted(message.id))
        future.add_done_callback(partial(self._stored, message))

    def _stored(self, message: NewMessage, future: Future[Accepted]) -> None:
        hub = self._hub
        if message.content is not None:
            hub.in_flight -= message.size
        error = None if future.cancelled() else future.exception()
        if error is not None or future.cancelled():
            if message.content is None:
                hub.discard(message.id)
            if not isinstance(error, SmarthostError):
                error = StoreUnavailable("The message could not be stored.", private=repr(error))
            self.refuse(error)
            return
        accepted = future.result()
        repeated = accepted.how is Acceptance.REPEATED
        if repeated and message.content is None and accepted.id != message.id:
            hub.discard(message.id)
        captured = not message.deliveries[0].upstream
        hub.log.info(
            "captured" if captured else "accepted",
            id=accepted.id,
            repeated=1 if repeated else None,
            door=message.door.value,
            ip=self._peer.ip,
            principal=message.principal,
            size=message.size,
            recipients=len(message.deliveries),
            sender=message.sender or "<>",
        )
        how = "captured, not sent, as" if captured else "queued as"
        self._answer(Reply(250, "2.0.0", f"{how} {accepted.id}"))
