"""One module a scenario; each `run(folder, scale)` returns its rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.scenarios import backlog, http, large, link, memory, relay, start, urgent
from bench.table import Row

ALL: dict[str, Callable[[Path, float], list[Row]]] = {
    "relay": relay.run,
    "http": http.run,
    "link": link.run,
    "urgent": urgent.run,
    "backlog": backlog.run,
    "large": large.run,
    "memory": memory.run,
    "start": start.run,
}
