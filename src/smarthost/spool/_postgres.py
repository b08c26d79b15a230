"""PostgreSQL: the SQL and the manners of its own.

Many engines and web processes write at once. Rows are claimed with SKIP LOCKED, counters are locked in the
order of their keys, and each process keeps its own shard of the tally, so that nobody waits for a commit of
others but where they want the same thing.

COMMIT may be lost with its connection: then nobody knows whether it happened. So each transaction notes its
number before COMMIT, and `decide` asks the server about it on a new connection: `pg_xact_status` says
committed, aborted or still running. A server that was replaced by a standby may know another transaction by
that number, so the caller also looks for the rows themselves before it says yes.

Followers that read `id > last` would miss rows whose slower transaction got an earlier id: they read by
(tx, id) and stop below the oldest transaction that still runs (`SETTLED`).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg import errors, pq

from smarthost.spool._database import Database, Row, Session, SettleRow, Trouble
from smarthost.spool._tables import Table

CONNECT_TIMEOUT_S = 5
IN_PROGRESS_S = 5.0
TALLY_SHARDS = 64  # two processes in one only wait for each other's commits

_DURABLE = "-c synchronous_commit=on"
_OPTIONS = (
    "-c idle_in_transaction_session_timeout=60000 -c lock_timeout=2000"
    " -c statement_timeout=60000 -c timezone=UTC"
    # Statistics of a queue are always of another hour: a plan made while it was empty must not read it all.
    " -c enable_seqscan=off"
)


@lru_cache(maxsize=512)
def _text(sql: str) -> str:
    return sql.replace("?", "%s")


@lru_cache(maxsize=64)
def _copy_sql(table: Table) -> str:
    return f"COPY {table.name} ({','.join(table.columns)}) FROM STDIN (FORMAT BINARY)"


_SETTLE = (
    "UPDATE delivery SET state = o.state, rank = o.rank, due_at = o.due_at,"
    " attempts = delivery.attempts + o.attempts, unknown_ends = delivery.unknown_ends + o.unknown_ends,"
    " updated_at = o.at FROM unnest(%b::bigint[], %b::bigint[], %b::smallint[], %b::bigint[], %b::bigint[],"
    " %b::int[], %b::int[], %b::bigint[]) AS o(id, token, state, rank, due_at, attempts, unknown_ends, at)"
    " WHERE delivery.id = o.id"
)
_FENCE = " AND delivery.token = o.token AND delivery.state = 2"
_FOUND = " RETURNING delivery.id, delivery.message_id, delivery.single"


class PostgresSession(Session):
    INTS = "= ANY(?::bigint[])"
    TEXTS = "= ANY(?::text[])"
    LOCK = "FOR UPDATE"
    SURVIVES = False
    SKIP = "FOR UPDATE SKIP LOCKED"
    CLOCK = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    FORWARD, OLDEST = "(tx, id) > (?, ?)", "tx, id"
    BACKWARD, NEWEST = "(tx, id) < (?, ?)", "tx DESC, id DESC"
    SETTLED = "tx < pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        self._cursor: psycopg.Cursor[Any] = psycopg.Cursor(connection)

    def run(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        self._cursor.execute(_text(sql), params)
        return self._cursor.fetchall() if self._cursor.description else []

    def change(self, sql: str, params: Sequence[Any] = ()) -> int:
        return self._cursor.execute(_text(sql), params).rowcount

    def gather(self, columns: tuple[str, ...], rest: str, params: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(_text(f"SELECT {', '.join(columns)} {rest}"), params).fetchall()

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        with self._cursor.copy(_copy_sql(table)) as copy:
            copy.set_types(table.types)
            for row in rows:
                copy.write_row(row)

    def settle(self, rows: list[SettleRow], fenced: bool) -> list[Row]:
        columns = [list(column) for column in zip(*sorted(rows), strict=True)]
        sql = _SETTLE + (_FENCE if fenced else "") + _FOUND
        return self._cursor.execute(sql, columns).fetchall()

    def pack(self, values: Sequence[int] | Sequence[str]) -> object:
        return list(values)

    def cursor(self, tx: int, number: int) -> tuple[int, ...]:
        return (tx, number)

    def begin(self) -> None:
        self.mark = None
        self._cursor.execute("BEGIN")

    def before_commit(self, notify: bool) -> None:
        if notify:
            sql = "SELECT pg_current_xact_id()::text, pg_notify('smarthost', 'mail')"
        else:
            sql = "SELECT pg_current_xact_id()::text"
        self.mark = self._cursor.execute(sql).fetchall()[0][0]

    def commit(self) -> None:
        self._cursor.execute("COMMIT")
        if self._cursor.statusmessage != "COMMIT":
            raise errors.InFailedSqlTransaction(f"COMMIT answered {self._cursor.statusmessage}")

    def rollback(self) -> None:
        try:
            if self.connection.info.transaction_status != pq.TransactionStatus.IDLE:
                self._cursor.execute("ROLLBACK")
        except psycopg.Error:
            self.connection.close()

    def maintain(self) -> None:
        """Nothing: the server does."""

    def close(self) -> None:
        try:
            self._cursor.close()
            self.connection.close()
        except psycopg.Error:
            pass


class PostgresDatabase(Database):
    vendor = "postgresql"
    one_engine = False

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.tally_shard = secrets.randbelow(TALLY_SHARDS)

    def connect(self, name: str, options: str = "") -> psycopg.Connection[Any]:
        """A connection in autocommit, with limits on how long it may wait or hold anything up."""
        asked = psycopg.conninfo.conninfo_to_dict(self.url).get("options") or ""
        return psycopg.connect(
            self.url,
            autocommit=True,
            connect_timeout=CONNECT_TIMEOUT_S,
            application_name=f"smarthost {name}",
            options=f"{asked} {_OPTIONS} {options}".strip(),
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            tcp_user_timeout=20_000,
        )

    def writer(self) -> Session:
        return PostgresSession(self.connect("committer", _DURABLE))

    def reader(self) -> Session:
        return PostgresSession(self.connect("reader"))

    def trouble(self, error: BaseException) -> Trouble:
        if isinstance(error, OSError):
            return Trouble.UNAVAILABLE
        if not isinstance(error, psycopg.Error):
            return Trouble.OURS
        state = error.sqlstate or ""
        if state in ("40001", "40P01"):
            return Trouble.BUSY
        if state == "53100":
            return Trouble.FULL
        if state in ("58030", "XX001", "XX002"):
            return Trouble.UNAVAILABLE
        if state[:2] in ("08", "57", "53") or state == "25P03":
            return Trouble.LOST
        if state in ("42P01", "3D000", "28P01", "28000"):
            return Trouble.UNAVAILABLE
        if not state and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return Trouble.LOST
        return Trouble.OURS

    def decide(self, session: Session, mark: object) -> bool | None:
        deadline = time.monotonic() + IN_PROGRESS_S
        while True:
            status = session.one("SELECT pg_xact_status(?::text::xid8)", (mark,))
            if status == "committed":
                return True
            if status == "aborted":
                return False
            if status is None or time.monotonic() > deadline:
                return None
            time.sleep(0.05)
