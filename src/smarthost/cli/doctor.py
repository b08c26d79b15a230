"""`smarthost doctor`: looks at the installation itself, never at the outside, and says what to do.

Exit 0 where nothing is an error; warnings do not change that. It only reads, except for one small file that
is written and synced to see that syncing works.
"""

from __future__ import annotations

import argparse
from typing import Any

from smarthost.cli._context import process
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output

_MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def register(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="check this installation")
    doctor.add_argument("--quiet", "-q", action="store_true", help="only what is not ok")
    doctor.set_defaults(call=_doctor)


def _doctor(args: argparse.Namespace, out: Output) -> int:
    from smarthost.cli._findings import examine

    findings = examine(process())
    errors = sum(finding.severity == "error" for finding in findings)
    warnings = sum(finding.severity == "warning" for finding in findings)
    shown = [finding for finding in findings if not args.quiet or finding.severity != "ok"]
    width = max((len(finding.name) for finding in shown), default=0)
    lines = [f"{_MARKS[finding.severity]}  {finding.name.ljust(width)}  {finding.text}" for finding in shown]
    lines.append(f"\n{errors} errors, {warnings} warnings." if errors or warnings else "\nNothing is wrong.")
    data = {
        "ok": errors == 0,
        "findings": [
            {"name": finding.name, "severity": finding.severity, "text": finding.text} for finding in findings
        ],
    }
    out.result(data, "\n".join(lines).lstrip("\n"))
    return Exit.FAILED if errors else Exit.OK
