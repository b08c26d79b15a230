"""A Smarthost under the campaign: live, one upstream, faults on its path, unknown ends retried soon."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pysqlite3

from bench.installation import postgresql
from campaign.judge import FINAL_WORDS, Stored
from peers.service import Service

FAULTS = Path(__file__).parent / "faults"
STATES = (
    "",
    "queued",
    "sending",
    "sent",
    "captured",
    "deferred",
    "unknown",
    "failed",
    "expired",
    "cancelled",
    "held",
)


@contextmanager
def database(kind: str) -> Iterator[str | None]:
    """The database's URL: None for the embedded SQLite, a real PostgreSQL's otherwise."""
    if kind == "sqlite":
        yield None
    else:
        with postgresql() as url:
            yield url


def installation(
    folder: Path,
    upstream_port: int,
    url: str | None,
    *,
    planted: str = "",
    settings: str = "",
    **environ: str,
) -> Service:
    """A service that is not started yet. `settings` are further lines for its [upstream]."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "campaign.toml"
    config.write_text(
        f'[upstream]\nname = "witness"\nhost = "127.0.0.1"\nport = {upstream_port}\nencryption = "none"\n'
        f'from = "load@example.test"\n{settings}\n'
    )
    plan = folder / "plan"
    plan.touch()
    return Service(
        folder / "data",
        url,
        environ={
            "SMARTHOST_CONFIG": str(config),
            "SMARTHOST_DELIVERY_UNKNOWN_RETRY_AFTER": "1",
            "SMARTHOST_FAULT_PLAN": str(plan),
            "SMARTHOST_PLANTED": planted,
            "PYTHONPATH": str(FAULTS),
            **environ,
        },
    )


def admit_loopback(service: Service) -> None:
    """Let the load send without a credential."""
    service.command("app", "add", "load", "--network", "127.0.0.1/32")


def stored(service: Service) -> list[Stored]:
    """Every delivery row, read from the database itself."""
    query = "SELECT recipient, state, unknown_ends FROM delivery"
    if service.database_url:
        with psycopg.connect(service.database_url) as connection:
            rows = connection.execute(query).fetchall()
    else:
        path = service.folder / "smarthost.db"
        connection = pysqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=20)
        try:
            rows = connection.execute(query).fetchall()
        finally:
            connection.close()
    return [Stored(recipient, STATES[state], unknown_ends) for recipient, state, unknown_ends in rows]


def drain(service: Service, seconds: float = 90.0) -> bool:
    """Wait until every delivery is final; whether that came in time."""
    deadline = time.monotonic() + seconds
    while True:
        if all(row.state in FINAL_WORDS for row in stored(service)):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def pid_of(service: Service, role: str, seconds: float = 20.0) -> int:
    """The process id of that role, waiting while the supervisor starts it again.

    Raises TimeoutError with the end of the log.
    """
    deadline = time.monotonic() + seconds
    while (pid := service.pids().get(role)) is None or not _alive(pid):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {role}:\n{service.log.read_text(errors='replace')[-3000:]}")
        time.sleep(0.05)
    return pid


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
