"""What `smarthost.faults` finds when the campaign has put this folder on the path, and only then.

SMARTHOST_FAULT_PLAN  a file with one line a kill, "point:n". A process reads the first line when it starts and
                    dies by SIGKILL the n-th time it comes to that point, having taken the line out, so that
                    what the supervisor starts again meets the next one. No line, no kill.
SMARTHOST_PLANTED   names of bugs to plant, with commas between.
"""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path

_PLAN = Path(os.environ["SMARTHOST_FAULT_PLAN"]) if "SMARTHOST_FAULT_PLAN" in os.environ else None
_PLANTED = frozenset(filter(None, os.environ.get("SMARTHOST_PLANTED", "").split(",")))


def _first() -> str:
    lines = _PLAN.read_text().splitlines() if _PLAN and _PLAN.exists() else []
    return lines[0] if lines else ""


_line = _first()
_name = _line.partition(":")[0]
_left = int(_line.partition(":")[2] or 1)


def point(name: str) -> None:
    """Die here if this is the point and the time."""
    global _left  # a process has one countdown
    if name != _name:
        return
    _left -= 1
    if _left > 0 or _PLAN is None:
        return
    with _PLAN.open("r+") as plan:
        fcntl.flock(plan, fcntl.LOCK_EX)
        lines = plan.read().splitlines()
        if not lines or lines[0] != _line:
            return  # another process died of this line
        plan.seek(0)
        plan.truncate()
        plan.write("".join(f"{line}\n" for line in lines[1:]))
    os.kill(os.getpid(), signal.SIGKILL)


def planted(name: str) -> bool:
    """Whether this bug is planted in this process."""
    return name in _PLANTED
