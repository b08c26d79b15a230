"""The engine's log: one line an event, for grep, journald and fail2ban.

    time=2026-11-21T09:42:11.123Z level=warning event=login-refused ip=192.0.2.7 door=smtp login="a b"

Fields are `name=value` (logfmt). A value that is not plain printable ASCII is quoted and escaped, so that no
sender can begin a line of its own, end a quote or colour a terminal; it is cut at 256 characters. What a
stranger chose always stands behind what we measured (ip before login), so a pattern anchored at the
line's begin cannot be led astray.

Lines collect during one turn of the event loop and go out in one write at its end: a write for each line
would cost the hot path more than the line. Without a loop each line is written at once.
"""

from __future__ import annotations

import os
import re
import time
from asyncio import AbstractEventLoop
from collections.abc import Callable

_PLAIN = re.compile(r"[!#-<>-\[\]-~]+").fullmatch  # printable ASCII without space, quote, "=" and backslash
LONGEST = 256
"""Characters of a value that are kept."""


def quote(value: object) -> str:
    """The value as it stands in a line: bare where that is unmistakable, quoted and escaped elsewhere."""
    text = value if type(value) is str else str(value)
    if len(text) > LONGEST:
        text = text[:LONGEST] + "…"
    if _PLAIN(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in escaped) + '"'


class Log:
    """Writes lines to a file descriptor (standard error unless said). Not for use from several threads."""

    def __init__(self, descriptor: int = 2, *, clock: Callable[[], float] = time.time) -> None:
        self._descriptor = descriptor
        self._clock = clock
        self._loop: AbstractEventLoop | None = None
        self._lines: list[str] = []
        self._second = -1
        self._stamp = ""

    def bind(self, loop: AbstractEventLoop) -> None:
        """Collect from now on, and write at the end of each turn of `loop`."""
        self._loop = loop

    def info(self, event: str, **fields: object) -> None:
        """What went as it should."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What somebody may have to look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What must not happen."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line = f"time={self._stamp}.{int(now * 1000) % 1000:03d}Z level={level} event={event}"
        for name, value in fields.items():
            if type(value) is str:
                if value:
                    line += f" {name}={value if len(value) <= LONGEST and _PLAIN(value) else quote(value)}"
            elif type(value) is int:
                line += f" {name}={value}"
            elif value is not None:
                line += f" {name}={quote(value)}"
        lines = self._lines
        if not lines and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon(self.flush)
        lines.append(line + "\n")
        if self._loop is None or len(lines) > 1000:
            self.flush()

    def flush(self) -> None:
        """Write what was collected. A log that cannot be written stops nothing."""
        lines, self._lines = self._lines, []
        if not lines:
            return
        data = "".join(lines).encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            return
