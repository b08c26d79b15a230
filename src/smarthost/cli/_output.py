"""What commands print: one JSON text for programs, or aligned tables and sentences for people.

Both come from the same data. People see times relative to now; JSON has them exact, in ISO 8601, UTC.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Output:
    """Where a command's result goes. `as_json`: the caller asked for JSON."""

    as_json: bool

    def result(self, data: Any, text: str = "") -> None:
        """Print the result: `data` as JSON, or `text` for people ("" prints nothing)."""
        if self.as_json:
            print(json.dumps(data, indent=2, ensure_ascii=False))
        elif text:
            print(safe(text))

    def note(self, text: str) -> None:
        """Say something beside the result, on standard error; programs that read JSON are spared."""
        if not self.as_json:
            print(safe(text), file=sys.stderr)


def safe(text: str) -> str:
    """Text without control characters: a subject or a server's reply must not steer a terminal."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs") else "�"
        for char in text
    )


def table(header: Sequence[str], rows: Iterable[Sequence[object]], empty: str = "Nothing.") -> str:
    """Rows under a header, columns aligned and two spaces apart; `empty` where there are no rows."""
    cells = [[_cell(value) for value in row] for row in rows]
    if not cells:
        return empty
    lines = [list(header), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values of one thing, a line each; empty values are left out."""
    shown = [(name, _cell(value)) for name, value in pairs if value not in ("", None, (), [])]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in shown)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(entry) for entry in value) or "-"
    return safe(str(value)).replace("\n", " ").replace("\t", " ")


def iso(us: int | None) -> str | None:
    """A time (microseconds since the epoch) as ISO 8601 in UTC with milliseconds, or None."""
    if us is None:
        return None
    text = datetime.fromtimestamp(us / 1_000_000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def relative(us: int | None, now: int) -> str:
    """A time as people say it: "3 min ago", "in 2 h", "now"; "-" where there is none."""
    if us is None:
        return "-"
    seconds = (us - now) / 1_000_000
    amount = duration(abs(seconds))
    if amount == "0 s":
        return "now"
    return f"in {amount}" if seconds > 0 else f"{amount} ago"


def duration(seconds: float) -> str:
    """Seconds in the largest unit that gives at least 1."""
    for size, unit in _STEPS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return "0 s"


def shorten(text: str, width: int) -> str:
    """At most `width` characters."""
    return text if len(text) <= width else text[: width - 1] + "…"
