"""A Smarthost under the campaign: live, one upstream, faults on its path, unknown ends retried soon."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pysqlite3

from bench.installation import postgresql
from campaign.engine import Engine
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
    tune: dict[str, Any] | None = None,
    **environ: str,
) -> Service:
    """A service that is not started yet. `settings` are further lines for its [upstream].

    tune: see campaign/faults/smarthost_faults.py.
    """
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
            "SMARTHOST_TUNE": json.dumps(tune or {}),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(FAULTS), os.environ.get("PYTHONPATH")))),
            **environ,
        },
    )


@contextmanager
def prepared(service: Service) -> Iterator[Engine]:
    """Set the installation up with `smarthost run`, stop that, and run its engine alone."""
    with service:
        admit_loopback(service)
    with Engine(service) as engine:
        yield engine


def admit_loopback(service: Service) -> None:
    """Let the load send without a credential."""
    service.command("app", "add", "load", "--network", "127.0.0.1/32")


def query(service: Service, sql: str) -> list[tuple[Any, ...]]:
    """Read the database itself, past the product."""
    if service.database_url:
        with psycopg.connect(service.database_url) as connection:
            return connection.execute(sql).fetchall()
    connection = pysqlite3.connect(f"file:{service.folder / 'smarthost.db'}?mode=ro", uri=True, timeout=20)
    try:
        return list(connection.execute(sql).fetchall())
    finally:
        connection.close()


def change(service: Service, sql: str) -> None:
    """Write into the database itself: the clock's work, done by hand."""
    if service.database_url:
        with psycopg.connect(service.database_url, autocommit=True) as connection:
            connection.execute(sql)
        return
    connection = pysqlite3.connect(str(service.folder / "smarthost.db"), timeout=20, isolation_level=None)
    try:
        connection.execute(sql)
    finally:
        connection.close()


def stored(service: Service) -> list[Stored]:
    """Every delivery row."""
    rows = query(
        service,
        "SELECT d.recipient, d.state, d.unknown_ends, coalesce(a.n, 0) FROM delivery d LEFT JOIN"
        " (SELECT delivery_id, count(*) AS n FROM attempt WHERE state = 6 GROUP BY delivery_id) a"
        " ON a.delivery_id = d.id",
    )
    return [Stored(recipient, STATES[state], unknown, shown) for recipient, state, unknown, shown in rows]


def store_faults(service: Service) -> list[str]:
    """What is wrong with the store itself; see I7."""
    found = []
    if not service.database_url:
        found += [row[0] for row in query(service, "PRAGMA integrity_check") if row[0] != "ok"]
    kept = dict(query(service, "SELECT state, sum(n) FROM tally GROUP BY state HAVING sum(n) <> 0"))
    counted = dict(query(service, "SELECT state, count(*) FROM delivery GROUP BY state"))
    if {key: int(value) for key, value in kept.items()} != counted:
        found.append(f"tally {kept}, counted {counted}")
    for table in ("delivery", "attempt", "idempotency"):
        orphans = query(
            service,
            f"SELECT count(*) FROM {table} t WHERE NOT EXISTS"
            " (SELECT 1 FROM message m WHERE m.id = t.message_id)",
        )[0][0]
        if orphans:
            found.append(f"{orphans} rows of {table} have no message")
    bare = query(
        service,
        "SELECT count(*) FROM message m WHERE NOT EXISTS"
        " (SELECT 1 FROM delivery d WHERE d.message_id = m.id)"
        " OR m.chunks <> (SELECT count(*) FROM chunk c WHERE c.message_id = m.id)",
    )[0][0]
    if bare:
        found.append(f"{bare} messages lack recipients or content")
    return found


def finished(service: Service) -> bool:
    """Whether every delivery is in a final state."""
    final = ", ".join(str(STATES.index(word)) for word in sorted(FINAL_WORDS))
    return not query(service, f"SELECT 1 FROM delivery WHERE state NOT IN ({final}) LIMIT 1")


def drain(service: Service, seconds: float = 90.0) -> bool:
    """Wait until every delivery is final; whether that came in time."""
    deadline = time.monotonic() + seconds
    while True:
        if finished(service):
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)


def pid_of(service: Service, role: str, seconds: float = 20.0, *, other_than: int = 0) -> int:
    """The process id of that role, waiting while the supervisor starts it again.

    other_than: the one that died.

    Raises TimeoutError with the end of the log.
    """
    deadline = time.monotonic() + seconds
    while (pid := service.pids().get(role)) in (None, other_than) or not _alive(pid):
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
