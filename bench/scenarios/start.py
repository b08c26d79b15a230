"""From `smarthost run` to ready, on a new folder and on one that is set up."""

from __future__ import annotations

import time
from pathlib import Path

from bench.table import Row
from peers.service import Service


def run(folder: Path, scale: float) -> list[Row]:
    rows = []
    for note in ("new data folder, migrations included", "existing data folder"):
        begun = time.monotonic()
        with Service(folder / "data"):
            rows.append(Row("start to ready", "smarthost", time.monotonic() - begun, "s", None, note))
    return rows
