"""Places where a test may kill the process or plant a bug.

The package `smarthost_faults` stands in `campaign/` and is never part of a wheel: only the reliability
campaign puts it on the path. Without it every point is nothing and every planted bug is absent.
"""

from __future__ import annotations

try:
    from smarthost_faults import planted, point  # type: ignore[import-not-found, unused-ignore]
except ImportError:

    def point(name: str) -> None:
        """Do nothing; the campaign may stop the process here."""

    def planted(name: str) -> bool:
        """Whether the campaign planted this bug. Never in a wheel."""
        return False


__all__ = ["planted", "point"]
