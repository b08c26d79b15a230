"""Commands without Python's and Django's start, which take most of a command's second.

A process loads everything once and stays. For each command it forks, and the child runs `smarthost.cli.main`
with standard input, output and error of its own, as the program would. What depends on the start itself (what
is imported, pipes that close early, another Unix user) runs the real program.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from peers.service import Service

_LOADED = """
import atexit, json, os, sys
asked, told = os.fdopen(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "w")
from smarthost.control.boot import setup
setup()
from django.db import connections
from smarthost.cli import main
from smarthost.control import spooling
from smarthost.control.accounts import services
from smarthost.control.api import messages
from smarthost.control.applications import services
from smarthost.control.upstreams import services
spooling.close()
connections.close_all()

def run(words, folder):
    for fd, name in enumerate(("in", "out", "err")):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if fd else os.O_RDONLY
        os.dup2(os.open(f"{folder}/{name}", flags, 0o600), fd)
    sys.argv[:] = ["smarthost", *words]
    try:
        code = main(words)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)

for line in asked:
    words, folder = json.loads(line)
    pid = os.fork()
    if not pid:
        try:
            run(words, folder)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), file=told, flush=True)
"""


class Preloaded(Service):
    """A service whose commands start at once."""

    def __enter__(self) -> Preloaded:
        super().__enter__()
        their_end, self._asks = os.pipe()
        self._answers, their_answer = os.pipe()
        self._loaded = subprocess.Popen(
            [sys.executable, "-c", _LOADED, str(their_end), str(their_answer)],
            env=self.environment(),
            pass_fds=(their_end, their_answer),
            cwd=self.folder,
        )
        os.close(their_end)
        os.close(their_answer)
        self._ask, self._answer = os.fdopen(self._asks, "w"), os.fdopen(self._answers)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ask.close()
        self._loaded.wait(30)
        self._answer.close()
        super().__exit__(kind, error, trace)

    def command(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory(prefix="command-") as name:
            folder = Path(name)
            (folder / "in").write_text(stdin)
            print(json.dumps((words, name)), file=self._ask, flush=True)
            code = int(self._answer.readline())
            done = subprocess.CompletedProcess(
                ["smarthost", *words], code, (folder / "out").read_text(), (folder / "err").read_text()
            )
        if check and code:
            raise RuntimeError(f"smarthost {' '.join(words)}: exit {code}\n{done.stdout}{done.stderr}")
        return done
