"""Rows of figures, the machine they were taken on, and how both are shown."""

from __future__ import annotations

import json
import os
import platform
import ssl
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import pysqlite3


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio` is against the peer named in `note`, where there is one."""

    scenario: str
    subject: str
    value: float
    unit: str
    ratio: float | None = None
    note: str = ""


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    postfix = (
        subprocess.run(
            ["postconf", "-h", "mail_version"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if _has("postconf")
        else "not installed"
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit,
        "machine": f"{os.cpu_count()} × {cpu}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": pysqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION.split()[1],
        "uvloop": version("uvloop"),
        "postfix": postfix,
    }


def _has(program: str) -> bool:
    from shutil import which

    return which(program) is not None


def markdown(rows: list[Row]) -> str:
    """The table as people read it."""
    lines = ["| scenario | what | figure | unit | ratio | note |", "|---|---|---:|---|---:|---|"]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}×"
        figure = f"{row.value:,.0f}" if row.value >= 100 else f"{row.value:.2f}"
        lines.append(f"| {row.scenario} | {row.subject} | {figure} | {row.unit} | {ratio} | {row.note} |")
    return "\n".join(lines)


def save(path: Path, about: dict[str, str], rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
