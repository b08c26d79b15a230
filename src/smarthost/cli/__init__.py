"""The roof: commands. `main` is `smarthost`, `sendmail.main` the program that cron and PHP call."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code. `sendmail` must be fast: it is decided before anything is imported."""
    words = sys.argv[1:] if argv is None else argv
    if argv is None and sys.argv[0].rpartition("/")[2] == "sendmail":
        words = ["sendmail", *words]  # called through a link of that name
    if words[:1] == ["sendmail"]:
        from smarthost.cli import sendmail

        return sendmail.run(words[1:])
    from smarthost.cli._main import run

    return run(words)


__all__ = ["main"]
