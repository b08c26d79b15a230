"""What commands open: the process's settings, Django, the spool. Each on first use and nothing sooner."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from smarthost.config import ProcessSettings, process_settings
from smarthost.errors import ConfigError

if TYPE_CHECKING:
    from smarthost.spool import Spool


def process() -> ProcessSettings:
    """The settings of this installation. Raises ConfigError naming the variable."""
    return process_settings()


def existing() -> ProcessSettings:
    """Settings of an installation that was started before.

    Raises ConfigError where there is none: a wrong SMARTHOST_DATA must not make a second, empty one.
    """
    settings = process()
    if settings.database_url.startswith("sqlite:///"):
        path = Path(settings.database_url.removeprefix("sqlite://"))
        if not path.exists():
            raise ConfigError(
                f"No installation in {settings.data}: set SMARTHOST_DATA to its data folder, "
                "or start one with: smarthost run",
                origin="SMARTHOST_DATA",
            )
    return settings


def control() -> ProcessSettings:
    """Make Django ready, with the schema up to date. Raises ConfigError, database errors."""
    from smarthost.control.boot import setup

    settings = process()
    setup()
    return settings


@contextmanager
def spool() -> Iterator[Spool]:
    """The spool of an installation that exists, for as long as the block runs."""
    from smarthost.spool import open_spool

    settings = existing()
    opened = open_spool(settings.database_url, settings.data, name="cli")
    try:
        yield opened
    finally:
        opened.close()


def actor() -> str:
    """Who gives the command, for the event log: "cli:NAME"."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid-{os.getuid()}"
    return f"cli:{name}"
