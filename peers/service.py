"""A whole Smarthost in a temporary folder, started and steered as its users do: by its commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from peers.ports import free_port, wait_for_port

_COMMAND = str(Path(sys.executable).with_name("smarthost"))


@dataclass
class Service:
    """`smarthost run` with its data in `folder`; `environ` adds variables."""

    folder: Path
    database_url: str | None = None
    environ: dict[str, str] = field(default_factory=dict)
    http: int = field(default_factory=free_port)
    smtp: int = field(default_factory=free_port)

    def environment(self) -> dict[str, str]:
        own = {
            "SMARTHOST_DATA": str(self.folder),
            "SMARTHOST_HTTP": f"127.0.0.1:{self.http}",
            "SMARTHOST_SMTP": f"127.0.0.1:{self.smtp}",
        }
        if self.database_url:
            own["SMARTHOST_DATABASE_URL"] = self.database_url
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SMARTHOST_")}
        return inherited | own | self.environ

    def start(self, *, ready: float = 30.0) -> Service:
        """Start it and wait until it says it is ready. Raises TimeoutError with what it printed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "run.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [_COMMAND, "run"],
                env=self.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.folder,
            )
        deadline = time.monotonic() + ready
        while not self.ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.kill()
                raise TimeoutError(f"not ready:\n{self.log.read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)
        wait_for_port(self.smtp)
        return self

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def stop(self, seconds: float = 40.0) -> int:
        """SIGTERM, and wait for the drain; the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL to every process of its session, until none is left."""
        while left := session_of(self.process.pid):
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.process.poll()
            time.sleep(0.005)
        self.process.wait()

    def __enter__(self) -> Service:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self.kill()

    def command(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `smarthost WORDS` on this installation."""
        done = subprocess.run(
            [_COMMAND, *words],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=self.folder,
        )
        if check and done.returncode:
            raise RuntimeError(
                f"smarthost {' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def json(self, *words: str, stdin: str = "") -> Any:
        return json.loads(self.command(*words, "--json", stdin=stdin).stdout)

    def counts(self) -> dict[str, int]:
        return {key: value for key, value in self.json("queue", "list")["counts"].items() if value}

    def pids(self) -> dict[str, int]:
        """Process ids of the service by role: supervisor, web, engine."""
        found = {"supervisor": self.process.pid}
        for pid in session_of(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            for role in ("web", "engine"):
                if role.encode() in words and pid != self.process.pid:
                    found.setdefault(role, pid)
        return found

    def memory(self) -> dict[str, float]:
        """Peak resident size of each process so far, in MiB."""
        sizes = {}
        for role, pid in self.pids().items():
            status = Path(f"/proc/{pid}/status").read_text()
            sizes[role] = int(status.split("VmHWM:")[1].split()[0]) / 1024
        return sizes


def session_of(leader: int) -> list[int]:
    """Process ids that live in the session that `leader` began, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue
            if int(session) == leader and state != "Z":
                found.append(int(entry.name))
    return sorted(found)
