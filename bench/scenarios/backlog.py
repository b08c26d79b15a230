"""Relay of new mail while nothing, 100,000 or 1,000,000 deferred recipients wait for their time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pysqlite3

from bench.installation import smarthost
from bench.scenarios.relay import through
from bench.table import Row
from peers.service import Service
from peers.sink import Sink

DEFERRED = 5


def run(folder: Path, scale: float) -> list[Row]:
    rows: list[Row] = []
    empty = None
    for waiting in (0, int(100_000 * scale), int(1_000_000 * scale)):
        with Sink() as sink, smarthost(folder / str(waiting), sink.port) as service:
            if waiting:
                upstream = _upstream(service)
                service.stop()
                _fill(service, upstream, waiting)
                service.start()
            rate = max(through(service.smtp, sink, int(15_000 * scale), 20) for _ in range(2))
        empty = empty or rate
        ratio = rate / empty if waiting else None
        rows.append(
            Row("backlog", f"{waiting:,} deferred rows", rate, "messages/s", ratio, "SQLite, 20 sessions")
        )
    return rows


def _database(service: Service) -> Path:
    return service.folder / "smarthost.db"


def _upstream(service: Service) -> str:
    return str(service.json("upstream", "list")[0]["id"])


def _fill(service: Service, upstream: str, count: int) -> None:
    """One message with one recipient a row, due in hours, spread over 200 principals."""
    now = int(time.time() * 1_000_000)
    hour = 3_600_000_000
    connection = pysqlite3.connect(str(_database(service)), isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO message (id, created_at, principal, principal_name, door, sender, size, header_size, chunks, "
            "trace, header_from, subject, message_id, flags, priority, expires_at) "
            "VALUES (?, ?, ?, 'bench', 'smtp', 'bench@example.test', 0, 0, 1, x'', '', 'deferred', '', 0, 1, ?)",
            ((_id(n), now, f"app:{n % 200}", now + 100 * hour) for n in range(count)),
        )
        connection.executemany(
            "INSERT INTO delivery (message_id, recipient, upstream, priority, state, due_at, expires_at, attempts, "
            "single, updated_at) VALUES (?, ?, ?, 1, ?, ?, ?, 1, 1, ?)",
            _deliveries(upstream, count, now, hour),
        )
        connection.execute("INSERT INTO tally (shard, state, n) VALUES (999, ?, ?)", (DEFERRED, count))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _deliveries(upstream: str, count: int, now: int, hour: int) -> Iterator[tuple[object, ...]]:
    for n in range(count):
        due = now + hour + n * (4 * hour // count)
        yield (_id(n), f"d{n}@example.net", upstream, DEFERRED, due, now + 100 * hour, now)


def _id(number: int) -> str:
    return f"01BACK{number:020d}"
