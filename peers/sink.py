"""Postfix's own test sink and source: fast C programs that accept, count and send mail."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from peers.ports import free_port, wait_for_port


def missing() -> str | None:
    """What keeps smtp-sink and smtp-source from running here and the command that helps, or None."""
    return None if shutil.which("smtp-sink") else "smtp-sink is missing: apt-get install postfix"


class Sink:
    """smtp-sink on a free loopback port, with its running count of accepted messages."""

    def __init__(self, *flags: str) -> None:
        self.port = free_port()
        self._flags = flags
        self._out = Path(tempfile.mkstemp(prefix="sink-")[1])

    def __enter__(self) -> Sink:
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(
                ["smtp-sink", "-u", "root", "-c", *self._flags, f"127.0.0.1:{self.port}", "512"],
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        wait_for_port(self.port)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._out.unlink(missing_ok=True)

    @property
    def count(self) -> int:
        """Messages accepted so far."""
        with self._out.open("rb") as out:
            out.seek(max(0, self._out.stat().st_size - 400))
            found = re.findall(rb"mesg=(\d+)", out.read())
        return int(found[-1]) if found else 0

    def wait(self, count: int, seconds: float) -> float:
        """Wait for `count` messages; the monotonic time at which they were seen.

        Raises TimeoutError saying how many had come.
        """
        deadline = time.monotonic() + seconds
        while (seen := self.count) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{seen} of {count} messages reached the sink in {seconds:.0f} s")
            time.sleep(0.005)
        return time.monotonic()


def source(port: int, messages: int, sessions: int, size: int = 4096, *flags: str) -> None:
    """Send `messages` of `size` bytes over `sessions` kept sessions; returns when all were acknowledged."""
    words = ["smtp-source", "-d", "-s", str(sessions), "-m", str(messages), "-l", str(size)]
    words += ["-f", "bench@example.test", "-t", "sink@example.net", *flags, f"127.0.0.1:{port}"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise RuntimeError(f"smtp-source: {done.stderr.strip()}")
