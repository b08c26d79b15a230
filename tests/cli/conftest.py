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


@pytest.fixture(scope="module")
def django_alone() -> Iterator[None]:
    """Django as a project of others has it, for as long as a module runs: in the same process others set up
    the control plane."""
    from django.conf import empty, settings

    if settings.configured:
        yield
        return
    settings.configure(USE_I18N=False)
    yield
    settings._wrapped = empty
