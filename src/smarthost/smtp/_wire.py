"""What a client wrote and what it waits for, in step.

Every command that is written leaves one `Expected` in a queue, and every reply takes the oldest one out.
Three counters keep hostile servers honest: a reply to a command that `drain` has not given out yet cannot be
one (a server that answers the final dot before it was sent would make us forget a message that nobody has).
The same counters say, when a connection is lost, whether the final bytes of a transaction were given out.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from smarthost.smtp._transcript import Transcript
from smarthost.smtp._types import Reply, Stage


class OutOfStepError(Exception):
    """A reply to nothing, or one that cannot be the answer to what was asked."""


class Expected(NamedTuple):
    """One command without its reply: what it was, and to which transaction and recipient it belongs."""

    stage: Stage
    owner: Any = None
    place: int = 0


class Wire:
    """The queue of commands without replies, and the bytes that are to be written."""

    __slots__ = ("_out", "drained", "expected", "popped", "pushed", "transcript")

    def __init__(self, transcript: Transcript) -> None:
        self.transcript = transcript
        self.expected: deque[Expected] = deque()
        self._out: list[bytes] = []
        self.pushed = self.drained = self.popped = 0

    def say(self, data: bytes, *expected: Expected, shown: bytes | None = None) -> None:
        """Write commands. shown is what the transcript gets instead where they hold a secret."""
        self._out.append(data)
        self.expected.extend(expected)
        self.pushed += len(expected)
        self.transcript.wrote(data if shown is None else shown)

    def content(self, data: bytes) -> None:
        """Write content, which no transcript keeps."""
        self._out.append(data)

    def wait_for(self, stage: Stage) -> None:
        """Expect a reply to something that needs no bytes: the greeting."""
        self.expected.append(Expected(stage))
        self.pushed += 1
        self.drained = self.pushed

    def drain(self) -> bytes:
        """Give out what is to be written."""
        if not self._out:
            return b""
        self.drained = self.pushed
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        return data

    def given_out(self, number: int) -> bool:
        """Whether the command with this number (`pushed` after it was said) has been given out."""
        return 0 < number <= self.drained

    @property
    def oldest(self) -> Expected | None:
        """The oldest command that was given out and has no reply."""
        return self.expected[0] if self.popped < self.drained else None

    def answered(self, reply: Reply) -> Expected:
        """Take out what this reply answers. Raises OutOfStepError."""
        if self.popped >= self.drained:
            raise OutOfStepError(f"an answer to nothing: {reply}")
        self.popped += 1
        return self.expected.popleft()
