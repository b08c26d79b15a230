"""A sink that offers PIPELINING and CHUNKING, in a process of its own: smtp-sink knows no BDAT.

Its protocol side is a few lines of its own, not Smarthost's server: a peer must be able to disagree with us.
Each accepted message is noted in a file as a line "monotonic-time recipient".
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from peers.ports import free_port, wait_for_port

_CAPABILITIES = (
    b"250-peer.example.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-CHUNKING\r\n250 SIZE 104857600\r\n"
)


class _Session(asyncio.Protocol):
    def __init__(self, note: int, pause: float) -> None:
        self._note, self._pause = note, pause
        self._buffer = bytearray()
        self._need = -1  # bytes of a BDAT chunk still to come, −1 outside
        self._last = False
        self._data = False
        self._recipient = b"-"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(b"220 peer.example.test ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        answers: list[bytes] = []
        while self._step(answers):
            pass
        if answers:
            if self._pause and any(b"queued" in answer for answer in answers):
                loop = asyncio.get_running_loop()
                loop.call_later(self._pause, self._transport.write, b"".join(answers))
            else:
                self._transport.write(b"".join(answers))

    def _step(self, answers: list[bytes]) -> bool:
        buffer = self._buffer
        if self._need >= 0:
            taken = min(self._need, len(buffer))
            del buffer[:taken]
            self._need -= taken
            if self._need:
                return False
            self._need = -1
            answers.append(self._accept() if self._last else b"250 chunk\r\n")
            return True
        if self._data:
            end = buffer.find(b"\r\n.\r\n")
            if end < 0:
                del buffer[: max(0, len(buffer) - 4)]
                return False
            del buffer[: end + 5]
            self._data = False
            answers.append(self._accept())
            return True
        end = buffer.find(b"\r\n")
        if end < 0:
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        verb = line[:4].upper()
        if verb == b"EHLO":
            answers.append(_CAPABILITIES)
        elif verb == b"RCPT":
            found = re.search(rb"<(.*?)>", line)
            self._recipient = found.group(1) if found else b"-"
            answers.append(b"250 ok\r\n")
        elif verb == b"BDAT":
            words = line.split()
            self._need, self._last = int(words[1]), len(words) > 2
        elif verb == b"DATA":
            self._data = True
            answers.append(b"354 go\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"".join(answers) + b"221 bye\r\n")
            answers.clear()
            self._transport.close()
            return False
        else:
            answers.append(b"250 ok\r\n")
        return True

    def _accept(self) -> bytes:
        os.write(self._note, b"%.6f %s\n" % (time.monotonic(), self._recipient))
        return b"250 queued\r\n"


class ChunkingSink:
    """The sink in a child process. `pause` delays each acceptance by so many seconds."""

    def __init__(self, pause: float = 0.0) -> None:
        self.port = free_port()
        self._pause = pause
        self._notes = Path(tempfile.mkstemp(prefix="chunking-")[1])

    def __enter__(self) -> ChunkingSink:
        self._pid = os.spawnv(
            os.P_NOWAIT,
            sys.executable,
            [sys.executable, "-m", "peers.chunking", str(self.port), str(self._notes), str(self._pause)],
        )
        wait_for_port(self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._notes.unlink(missing_ok=True)

    def notes(self) -> list[tuple[float, str]]:
        """(monotonic time, last recipient) of every accepted message, in order."""
        lines = self._notes.read_text().splitlines()
        return [(float(at), recipient) for at, _, recipient in (line.partition(" ") for line in lines)]

    def wait(self, count: int, seconds: float) -> float:
        """The monotonic time at which message number `count` was accepted.

        Raises TimeoutError saying how many had come.
        """
        deadline = time.monotonic() + seconds
        while (seen := self._notes.read_bytes().count(b"\n")) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} of {count} messages reached the sink in {seconds:.0f} s")
            time.sleep(0.01)
        return self.notes()[count - 1][0]


async def _serve(port: int, notes: str, pause: float) -> None:
    note = os.open(notes, os.O_WRONLY | os.O_APPEND)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Session(note, pause), "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
