"""A running Smarthost and real peers for the end-to-end tests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from bench.installation import postgresql
from peers.service import Service


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path that other users may pass through: Unix sockets and Postfix's daemons need both."""
    with tempfile.TemporaryDirectory(prefix="e2e-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Both databases, always."""
    return str(request.param)


@pytest.fixture(scope="module")
def service(folder: Path, database: str) -> Iterator[Service]:
    """A running Smarthost on the embedded SQLite, then one on a real PostgreSQL."""
    with ExitStack() as stack:
        url = stack.enter_context(postgresql()) if database == "postgresql" else None
        yield stack.enter_context(Service(folder / database, url))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def rows(service: Service, **equal: str) -> list[dict[str, Any]]:
    """Rows of `queue list` whose fields equal these."""
    found = service.json("queue", "list", "--limit", "500")["rows"]
    return [row for row in found if all(row[name] == value for name, value in equal.items())]


def wait_for_state(service: Service, recipient: str, state: str, seconds: float = 20.0) -> dict[str, Any]:
    """The row of that recipient once it is in that state; fails with what it is instead."""
    deadline = time.monotonic() + seconds
    while True:
        found = rows(service, recipient=recipient)
        if found and found[0]["state"] == state:
            return found[0]
        if time.monotonic() > deadline:
            log = service.log.read_text(errors="replace")[-2500:]
            pytest.fail(f"{recipient} is not {state}: {found}\n{log}")
        time.sleep(0.1)
