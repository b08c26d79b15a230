"""What `smarthost.faults` finds when the campaign has put this folder on the path, and only then.

SMARTHOST_FAULT_PLAN  a file with one line a kill, "point:n". A process reads the first line when it starts and
                    dies by SIGKILL the n-th time it comes to that point, having taken the line out, so that
                    what is started again meets the next one. No line, no kill.
SMARTHOST_PLANTED   names of bugs to plant, with commas between.
SMARTHOST_TUNE      a JSON object, for what takes minutes in life: {"rhythm": {"purge": 1}, "lease": 6,
                    "fence": 4, "day": 1 (a day of retention, in microseconds)}.

The product has no switches for the last one, and `smarthost.smtp`, which imports nothing of ours, asks nobody
for planted bugs: `sitecustomize` beside this file loads it before everything else, and it changes those modules
when they are imported.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.abc
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_PLAN = Path(os.environ["SMARTHOST_FAULT_PLAN"]) if "SMARTHOST_FAULT_PLAN" in os.environ else None
_PLANTED = frozenset(filter(None, os.environ.get("SMARTHOST_PLANTED", "").split(",")))
_TUNE: dict[str, Any] = json.loads(os.environ.get("SMARTHOST_TUNE") or "{}")


def _first() -> str:
    lines = _PLAN.read_text().split() if _PLAN and _PLAN.exists() else []
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
        lines = plan.read().split()
        if not lines or lines[0] != _line:
            return  # another process died of this line
        rest = "".join(f"{line}\n" for line in lines[1:])
        plan.seek(0)
        plan.write(rest.ljust(sum(len(line) + 1 for line in lines)))  # never empty for who looks meanwhile
        plan.truncate(len(rest))
    os.kill(os.getpid(), signal.SIGKILL)


def planted(name: str) -> bool:
    """Whether this bug is planted in this process."""
    return name in _PLANTED


def _change_data(module: Any) -> None:
    module._plant_no_dot_stuffing = True


def _change_pipeline(module: Any) -> None:
    module._plant_reply_desync = True


def _change_runtime(module: Any) -> None:
    module.Rhythm = functools.partial(module.Rhythm, **_TUNE.get("rhythm", {}))
    module.DAY = _TUNE.get("day", module.DAY)


def _change_lease(module: Any) -> None:
    module.LEASE_S = _TUNE["lease"]


def _change_deadlines(module: Any) -> None:
    fields = module.Deadlines.__dataclass_fields__
    values = {name: field.default for name, field in fields.items()} | {"fence": _TUNE["fence"]}
    module.Deadlines.__init__.__defaults__ = tuple(values[name] for name in fields)


_CHANGES: dict[str, Callable[[Any], None]] = {}
if "no-dot-stuffing" in _PLANTED:
    _CHANGES["smarthost.smtp._data"] = _change_data
if "reply-desync" in _PLANTED:
    _CHANGES["smarthost.smtp._pipeline"] = _change_pipeline
if "rhythm" in _TUNE:
    _CHANGES["smarthost.engine.runtime"] = _change_runtime
if "lease" in _TUNE:
    _CHANGES["smarthost.spool._incarnation"] = _change_lease
if "fence" in _TUNE:
    _CHANGES["smarthost.engine.delivery._deadlines"] = _change_deadlines


class _Changer(importlib.abc.MetaPathFinder):
    """Finds a module as ever, and has it changed once it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = _CHANGES.pop(name, None)
        spec = importlib.util.find_spec(name) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


if _CHANGES:
    sys.meta_path.insert(0, _Changer())
