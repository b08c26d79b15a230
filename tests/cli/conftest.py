"""A running Smarthost for the tests of its commands, in a folder that other Unix users may pass through."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from peers.service import Service
from tests.cli.preloaded import Preloaded


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's is at most 107 bytes long."""
    with tempfile.TemporaryDirectory(prefix="cli-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    with Preloaded(folder / "data") as running:
        yield running
