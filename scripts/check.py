"""`make check`: format, lint, types, import rules, the settings table against the docs; then a verdict."""

from __future__ import annotations

import subprocess
import sys
import time

CHECKS = (
    ("format", ("ruff", "format", "--check", "--quiet", ".")),
    ("lint", ("ruff", "check", "--quiet", ".")),
    ("types", ("mypy",)),
    ("imports", ("importlinter.cli",)),
    ("settings", ("scripts/settings_table.py", "--check")),
)


def command(words: tuple[str, ...]) -> list[str]:
    """Run tools of this environment, never others that happen to stand in the path."""
    if words[0] == "importlinter.cli":
        return [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command as c; c()",
            "--no-cache",
        ]
    if words[0].endswith(".py"):
        return [sys.executable, *words]
    return [sys.executable, "-m", *words]


def main() -> int:
    failed = []
    for name, words in CHECKS:
        begun = time.monotonic()
        done = subprocess.run(command(words), capture_output=True, text=True, check=False)
        print(
            f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name} ({time.monotonic() - begun:.1f} s)",
            flush=True,
        )
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
