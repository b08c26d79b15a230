"""`smarthost config`: every setting with its value and where it comes from."""

from __future__ import annotations

from typing import Any


def register(commands: Any) -> None:
    commands.add_parser("config", help="settings")
