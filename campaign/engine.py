"""`smarthost engine` under a supervisor without patience: what dies is started again at once.

The product's own supervisor waits longer after each death, as it should; a campaign of hundreds would only
wait. Whole groups with the supervisor in them are killed in `kill.groups`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from peers.ports import wait_for_port
from peers.service import Service

_COMMAND = str(Path(sys.executable).with_name("smarthost"))


class Engine:
    """The engine of an installation that was prepared and stopped; `deaths` counts how often it died."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.deaths = 0
        self._stopping = False

    def __enter__(self) -> Engine:
        self._start()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self.process.terminate()
        self._thread.join(45)
        self.process.kill()
        self.process.wait()

    def wait_ready(self) -> None:
        """Return once it greets. Raises TimeoutError with the end of its log."""
        try:
            wait_for_port(self.service.smtp, 30)
        except TimeoutError:
            raise TimeoutError(f"the engine does not come back:\n{self.log_end()}") from None

    def kill(self) -> None:
        """SIGKILL, now; returns when the next one has been started."""
        before = self.deaths
        try:
            os.kill(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it died of itself this very moment
        while self.deaths == before:
            time.sleep(0.002)

    def log_end(self) -> str:
        return self.service.log.read_text(errors="replace")[-2000:]

    def _start(self) -> None:
        with self.service.log.open("ab") as log:
            self.process = subprocess.Popen(
                [_COMMAND, "engine"],
                env=self.service.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.service.folder,
            )

    def _watch(self) -> None:
        while True:
            self.process.wait()
            if self._stopping:
                return
            self._start()
            self.deaths += 1
