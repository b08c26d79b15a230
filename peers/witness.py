"""A sink that remembers what it accepted, in a process of its own; it offers PIPELINING and CHUNKING.

Its protocol side is a few lines of its own, not Smarthost's server: a peer must be able to disagree with us.
Each accepted recipient is one line "monotonic-time recipient sha256-of-body". A line is written before the
acceptance is answered: what a killed sender never learnt was still accepted.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import cast

from peers.ports import free_port, wait_for_port

_PATH = re.compile(rb"<(.*?)>")


@dataclass(frozen=True, slots=True)
class Note:
    """One recipient of one accepted message. `answered` is False where the reply was withheld on purpose."""

    at: float
    recipient: str
    body: str
    answered: bool


def body_hash(content: bytes) -> str:
    """SHA-256 of what follows the header section."""
    return hashlib.sha256(content.partition(b"\r\n\r\n")[2]).hexdigest()


@dataclass(frozen=True, slots=True)
class Manner:
    """How the sink behaves: seconds of `pause` before each acceptance; shares of messages whose acceptance
    is answered by a lost connection (`lost`), of recipients refused for now (`deferred`) or for good (`refused`)."""

    chunking: bool = True
    pause: float = 0.0
    lost: float = 0.0
    deferred: float = 0.0
    refused: float = 0.0


class _Session(asyncio.Protocol):
    def __init__(self, notes: int, manner: Manner, chance: random.Random) -> None:
        self._notes, self._manner, self._chance = notes, manner, chance
        self._buffer = bytearray()
        self._content = bytearray()
        self._need = -1  # bytes of a BDAT chunk still to come, −1 outside
        self._last = False
        self._data = False
        self._recipients: list[bytes] = []
        self._delayed: list[bytes] = []
        self._ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(b"220 witness.example.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        if self._ending:
            return
        self._buffer += data
        answers: list[bytes] = []
        while not self._ending and not self._transport.is_closing() and self._step(answers):
            pass
        if not answers or self._transport.is_closing():
            return
        paused = self._manner.pause and any(b"queued" in answer for answer in answers)
        if self._delayed:  # behind what waits already: answers keep their order
            self._delayed += answers
        elif paused:
            self._delayed += answers
            asyncio.get_running_loop().call_later(self._manner.pause, self._release)
        else:
            self._transport.write(b"".join(answers))

    def _release(self) -> None:
        delayed, self._delayed = b"".join(self._delayed), []
        if delayed and not self._transport.is_closing():
            self._transport.write(delayed)

    def _hang_up(self, answers: list[bytes]) -> None:
        """End the connection behind the answers given so far: only the one to this message is withheld."""
        self._ending = True
        self._delayed += answers
        answers.clear()
        self._release()
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(0.3, self._transport.abort)

    def _step(self, answers: list[bytes]) -> bool:
        """Take one command, chunk or body from the buffer; whether there may be more."""
        buffer = self._buffer
        if self._need >= 0:
            taken = min(self._need, len(buffer))
            self._content += buffer[:taken]
            del buffer[:taken]
            self._need -= taken
            if self._need:
                return False
            self._need = -1
            if self._last:
                self._accept(bytes(self._content), answers)
            else:
                answers.append(b"250 chunk\r\n")
            return True
        if self._data:
            end = 0 if buffer.startswith(b".\r\n") else buffer.find(b"\r\n.\r\n")
            if end < 0:
                return False
            content = bytes(buffer[: end + 2]) if end else b""
            del buffer[: end + (5 if end else 3)]
            self._data = False
            if content.startswith(b"."):
                content = content[1:]
            self._accept(content.replace(b"\r\n.", b"\r\n"), answers)
            return True
        end = buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        return self._command(line, answers)

    def _command(self, line: bytes, answers: list[bytes]) -> bool:
        match line[:4].upper():
            case b"EHLO":
                chunking = b"250-CHUNKING\r\n" if self._manner.chunking else b""
                answers.append(
                    b"250-witness.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n"
                    + chunking
                    + b"250 SIZE 104857600\r\n"
                )
            case b"MAIL" | b"RSET":
                self._recipients.clear()
                self._content.clear()
                answers.append(b"250 ok\r\n")
            case b"RCPT" if self._chance.random() < self._manner.deferred:
                answers.append(b"450 4.2.0 not now\r\n")
            case b"RCPT" if self._chance.random() < self._manner.refused:
                answers.append(b"550 5.1.1 nobody of that name\r\n")
            case b"RCPT":
                found = _PATH.search(line)
                self._recipients.append(found.group(1) if found else b"-")
                answers.append(b"250 ok\r\n")
            case b"BDAT":
                words = line.split()
                self._need, self._last = int(words[1]), len(words) > 2
            case b"DATA" if not self._recipients:
                answers.append(b"503 no recipients\r\n")
            case b"DATA":
                self._data = True
                answers.append(b"354 go\r\n")
            case b"QUIT":
                self._delayed += [*answers, b"221 bye\r\n"]
                answers.clear()
                self._release()
                self._transport.close()
                return False
            case _:
                answers.append(b"250 ok\r\n")
        return True

    def _accept(self, content: bytes, answers: list[bytes]) -> None:
        if not self._recipients:
            answers.append(b"503 no recipients\r\n")
            return
        lost = self._chance.random() < self._manner.lost
        line = b"%.6f %%s %s %d\n" % (time.monotonic(), body_hash(content).encode(), not lost)
        os.write(self._notes, b"".join(line.replace(b"%s", recipient) for recipient in self._recipients))
        self._recipients.clear()
        self._content.clear()
        if lost:
            self._hang_up(answers)
        else:
            answers.append(b"250 queued\r\n")


class Witness:
    """The sink in a child process; `notes()` is what it accepted."""

    def __init__(self, manner: Manner | None = None, *, seed: int = 1) -> None:
        self.port = free_port()
        self._manner = manner or Manner()
        self._seed = seed
        self._file = Path(tempfile.mkstemp(prefix="witness-")[1])

    def __enter__(self) -> Witness:
        words = [self.port, self._file, self._seed, json.dumps(asdict(self._manner))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "peers.witness", *(str(word) for word in words)]
        )
        self.pid = self._process.pid
        wait_for_port(self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._file.unlink(missing_ok=True)

    def stop(self) -> None:
        """Be gone: nobody listens any more. Its notes stay."""
        self._process.kill()
        self._process.wait()

    def notes(self) -> list[Note]:
        """Every accepted recipient, in order."""
        found = []
        for line in self._file.read_text().splitlines():
            at, recipient, body, answered = line.split(" ")
            found.append(Note(float(at), recipient, body, answered == "1"))
        return found

    def wait(self, count: int, seconds: float) -> float:
        """The monotonic time at which recipient number `count` was accepted.

        Raises TimeoutError saying how many had come.
        """
        deadline = time.monotonic() + seconds
        while (seen := self._file.read_bytes().count(b"\n")) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} of {count} recipients reached the sink in {seconds:.0f} s")
            time.sleep(0.01)
        return self.notes()[count - 1].at


async def _serve(port: int, file: str, manner: Manner, chance: random.Random) -> None:
    notes = os.open(file, os.O_WRONLY | os.O_APPEND)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Session(notes, manner, chance), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL: never outlive a campaign that was ended
    _port, _name, _seed, _manner = sys.argv[1:]
    uvloop.run(_serve(int(_port), _name, Manner(**json.loads(_manner)), random.Random(int(_seed))))
