"""SQLite: the SQL and the manners of its own.

One writer at a time over all processes, WAL, synchronous=FULL: COMMIT returns after fsync of the log.

Two processes: a process that commits back to back starves the others, because a waiting one sleeps between
its tries and never meets the short gap. So who waits says so in `<data>/turn`, and who has committed looks
there and leaves a breath of 2 ms where somebody waits, or where another process has committed within the last
second (Django's own connections announce nothing). Alone, none.

The log: SQLite's own checkpoint at 1,000 pages would stop the committer for each. Instead one thread copies
pages back from 4,000 on, which holds up no writer, and again what was written meanwhile, until that is
little; only then does the committer itself finish the small rest between two commits, so that the log starts
again from its beginning.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import pysqlite3 as sqlite

from smarthost.faults import planted
from smarthost.spool._database import Database, Row, Session, SettleRow, Trouble
from smarthost.spool._tables import Table

BUSY_TIMEOUT_S = 5.0
BREATH_S = 0.002
CHECKPOINT_PAGES = 4_000  # 16 MiB
REST_PAGES = 400
MOST_REST_PAGES = 4_000
LIMIT_BYTES = 64 * 1024 * 1024
GROUPS = (64, 32, 16, 8, 4, 2, 1)

_SYNCHRONOUS = "NORMAL" if planted("synchronous-normal") else "FULL"
_decode = msgspec.json.Decoder(list[list[Any]]).decode

_statements: dict[tuple[str, int], str] = {}
_gathers: dict[tuple[tuple[str, ...], str], str] = {}


def _insert_sql(table: Table, rows: int) -> str:
    key = (table.name, rows)
    sql = _statements.get(key)
    if sql is None:
        row = "(" + ",".join("?" * len(table.columns)) + ")"
        sql = f"INSERT INTO {table.name} ({','.join(table.columns)}) VALUES {','.join([row] * rows)}"
        _statements[key] = sql
    return sql


def _settle_sql(rows: int, fenced: bool) -> str:
    key = ("settle" if fenced else "settle without token", rows)
    sql = _statements.get(key)
    if sql is None:
        fence = "delivery.token = o.token AND delivery.state = 2" if fenced else "1"
        sql = (
            "WITH o(id, token, state, rank, due_at, attempts, unknown_ends, at) AS (VALUES "
            + ",".join(["(?,?,?,?,?,?,?,?)"] * rows)
            + ") UPDATE delivery SET state = o.state, rank = o.rank, due_at = o.due_at,"
            " attempts = delivery.attempts + o.attempts,"
            " unknown_ends = delivery.unknown_ends + o.unknown_ends, updated_at = o.at"
            f" FROM o WHERE delivery.id = o.id AND {fence}"
        )
        _statements[key] = sql
    return sql


class NotKeptError(Exception):
    """An I/O error at COMMIT: of its writes, or of their fsync. The module gives no extended codes, so which
    it was cannot be asked; both end this process."""


class SqliteSession(Session):
    INTS = TEXTS = "IN (SELECT value FROM json_each(?))"
    LOCK = SKIP = ""
    SURVIVES = True
    CLOCK = "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
    SETTLED = "tx = 0"
    FORWARD, OLDEST = "id > ?", "id"
    BACKWARD, NEWEST = "id < ?", "id DESC"

    def __init__(self, connection: sqlite.Connection) -> None:
        self.connection = connection
        self._cursor = connection.cursor()

    def run(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return self._cursor.execute(sql, params).fetchall()  # type: ignore[no-any-return]

    def change(self, sql: str, params: Sequence[Any] = ()) -> int:
        return self._cursor.execute(sql, params).rowcount  # type: ignore[no-any-return]

    def gather(self, columns: tuple[str, ...], rest: str, params: Sequence[Any] = ()) -> list[Row]:
        sql = _gathers.get((columns, rest))
        if sql is None:
            names = ",".join(f"c{n}" for n in range(len(columns)))
            inner = ",".join(f"{column} AS c{n}" for n, column in enumerate(columns))
            sql = f"SELECT json_group_array(json_array({names})) FROM (SELECT {inner} {rest})"
            _gathers[columns, rest] = sql
        text = self._cursor.execute(sql, params).fetchall()[0][0]
        return _decode(text)  # type: ignore[return-value]

    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        at, left = 0, len(rows)
        for group in GROUPS:
            while left >= group:
                values = list(chain.from_iterable(rows[at : at + group]))
                self._cursor.execute(_insert_sql(table, group), values)
                at, left = at + group, left - group

    def settle(self, rows: list[SettleRow], fenced: bool) -> list[Row]:
        if not fenced:
            found = self.gather(
                ("id", "message_id", "single"),
                f"FROM delivery WHERE id {self.INTS}",
                (self.pack([row[0] for row in rows]),),
            )
        else:
            found = self.gather(
                ("d.id", "d.message_id", "d.single"),
                "FROM json_each(?) AS o JOIN delivery AS d ON d.id = o.value ->> 0"
                " AND d.token = o.value ->> 1 AND d.state = 2",
                (msgspec.json.encode([row[:2] for row in rows]).decode(),),
            )
        at, left = 0, len(rows)
        for group in GROUPS:
            while left >= group:
                values = list(chain.from_iterable(rows[at : at + group]))
                self._cursor.execute(_settle_sql(group, fenced), values)
                at, left = at + group, left - group
        return found

    def pack(self, values: Sequence[int] | Sequence[str]) -> object:
        return msgspec.json.encode(values).decode()

    def cursor(self, tx: int, number: int) -> tuple[int, ...]:
        return (number,)

    def begin(self) -> None:
        self._cursor.execute("BEGIN IMMEDIATE")

    def before_commit(self, notify: bool) -> None:
        """Nothing: other processes are woken by a datagram after the commit."""

    def commit(self) -> None:
        try:
            self._cursor.execute("COMMIT")
        except sqlite.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite.SQLITE_IOERR:
                raise NotKeptError(str(error)) from error
            raise

    def rollback(self) -> None:
        try:
            if self.connection.in_transaction:
                self._cursor.execute("ROLLBACK")
        except sqlite.Error:
            pass  # a full disk or an I/O error has rolled back already

    def maintain(self) -> None:
        """Nothing for a reader or a borrowed connection."""

    def close(self) -> None:
        try:
            self._cursor.close()
            self.connection.close()
        except sqlite.Error:
            pass


class Turns:
    """Who waits for the write lock says so, again and again, in eight bytes that all processes share: the
    time by the machine's monotonic clock. Who has just committed looks there, which costs no system call.
    Who dies while it waits is forgotten in a moment."""

    FRESH_NS = 20_000_000

    def __init__(self, data: Path) -> None:
        file = os.open(data / "turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Really allocated: writing to a mapped hole on a full disk would kill the process.
            os.posix_fallocate(file, 0, 8)
            self._map = mmap.mmap(file, 8)
        except OSError:
            self._map = mmap.mmap(-1, 8)  # nobody sees it: fair all the same within a second
        finally:
            os.close(file)
        self._cell = memoryview(self._map).cast("Q")
        self._mine = 0

    def announce(self) -> None:
        self._cell[0] = self._mine = time.monotonic_ns()

    def waiting(self) -> bool:
        """Whether another process waits for its turn."""
        said = self._cell[0]
        return said != self._mine and time.monotonic_ns() - said < self.FRESH_NS

    def close(self) -> None:
        self._cell.release()
        self._map.close()


def _checkpoint(connection: sqlite.Connection, mode: str) -> tuple[int, int, int]:
    """(busy, pages in the log, pages of them copied back)"""
    return connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()[0]  # type: ignore[no-any-return]


class SqliteWriter(SqliteSession):
    """The committer's session: announces itself while it waits, breathes, keeps the log short."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__(database.connect(check_same_thread=False, timeout=BUSY_TIMEOUT_S))
        self._cursor.execute("PRAGMA busy_timeout=0")  # from here on `begin` does the waiting
        self._cursor.execute("PRAGMA wal_autocheckpoint=0")
        self._cursor.execute("PRAGMA cache_size=-24576")
        self._turns = Turns(database.data)
        self._database = database
        self._version = self._data_version()
        self._contended_until = 0.0
        self._checkpoint: threading.Thread | None = None
        self._commits = 0

    def _data_version(self) -> int:
        return int(self._cursor.execute("PRAGMA data_version").fetchall()[0][0])

    def begin(self) -> None:
        """BEGIN IMMEDIATE, tried again for up to BUSY_TIMEOUT_S while another process writes."""
        deadline = 0.0
        while True:
            try:
                self._cursor.execute("BEGIN IMMEDIATE")
                break
            except sqlite.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite.SQLITE_BUSY, sqlite.SQLITE_LOCKED):
                    raise
                self._turns.announce()
                now = time.monotonic()
                deadline = deadline or now + BUSY_TIMEOUT_S
                if now > deadline:
                    raise
                time.sleep(0.0005)
        if deadline:
            self._contended_until = time.monotonic() + 1.0

    def maintain(self) -> None:
        self._commits += 1
        if self._checkpoint is not None:
            self._finish_checkpoint()
        elif self._commits % 16 == 0:
            version = self._data_version()
            if version != self._version:
                self._version = version
                self._contended_until = time.monotonic() + 1.0
            self._start_checkpoint()
        if self._turns.waiting() or (self._contended_until and time.monotonic() < self._contended_until):
            time.sleep(BREATH_S)

    def _start_checkpoint(self) -> None:
        _, pages, done = _checkpoint(self.connection, "NOOP")
        if pages - done >= CHECKPOINT_PAGES:
            self._checkpoint = threading.Thread(target=self._copy_back, name="spool-checkpoint", daemon=True)
            self._checkpoint.start()

    def _finish_checkpoint(self) -> None:
        assert self._checkpoint is not None
        if self._checkpoint.is_alive():
            return
        self._checkpoint = None
        _, pages, done = _checkpoint(self.connection, "NOOP")
        if pages - done <= MOST_REST_PAGES:
            _checkpoint(self.connection, "PASSIVE")

    def _copy_back(self) -> None:
        """On a connection of its own, until what has come meanwhile is little. A trouble here costs log
        space now, and shows at the next commit."""
        try:
            connection = self._database.connect(check_same_thread=False, timeout=1)
            try:
                before = 0
                for _ in range(8):
                    _, _, done = _checkpoint(connection, "PASSIVE")
                    if done - before <= REST_PAGES:
                        break
                    before = done
            finally:
                connection.close()
        except sqlite.Error:
            pass

    def close(self) -> None:
        if self._checkpoint is not None:
            self._checkpoint.join()
        super().close()
        self._turns.close()


class SqliteDatabase(Database):
    vendor = "sqlite"
    tally_shard = 0
    one_engine = True

    def __init__(self, path: Path, data: Path) -> None:
        super().__init__()
        self.path = path
        self.data = data

    def connect(self, **options: Any) -> sqlite.Connection:
        """A connection with the settings that every connection of the spool has."""
        if not self.path.exists():
            raise sqlite.OperationalError(f"no database at {self.path}")
        connection = sqlite.connect(str(self.path), isolation_level=None, cached_statements=256, **options)
        connection.execute("PRAGMA journal_mode=WAL").fetchall()
        connection.execute(f"PRAGMA synchronous={_SYNCHRONOUS}")
        connection.execute(f"PRAGMA journal_size_limit={LIMIT_BYTES}")
        return connection

    def writer(self) -> Session:
        writer = SqliteWriter(self)
        # The names of a new database and its folder must survive a power cut as its content does.
        for folder in (self.path.parent, self.path.parent.parent):
            file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        return writer

    def reader(self) -> Session:
        session = SqliteSession(self.connect(check_same_thread=False, timeout=BUSY_TIMEOUT_S))
        session.run("PRAGMA query_only=1")
        session.run("PRAGMA cache_size=-2048")
        return session

    def trouble(self, error: BaseException) -> Trouble:
        if isinstance(error, OSError):
            return Trouble.FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else Trouble.UNAVAILABLE
        if isinstance(error, NotKeptError):
            return Trouble.FAILED
        if not isinstance(error, sqlite.Error):
            return Trouble.OURS
        code = getattr(error, "sqlite_errorcode", None)
        if code is None:
            return Trouble.UNAVAILABLE if "no database" in str(error) else Trouble.OURS
        match code & 0xFF:
            case sqlite.SQLITE_BUSY | sqlite.SQLITE_LOCKED:
                return Trouble.BUSY
            case sqlite.SQLITE_FULL:
                return Trouble.FULL
            case (
                sqlite.SQLITE_IOERR
                | sqlite.SQLITE_READONLY
                | sqlite.SQLITE_CANTOPEN
                | sqlite.SQLITE_CORRUPT
                | sqlite.SQLITE_NOTADB
                | sqlite.SQLITE_PROTOCOL
                | sqlite.SQLITE_NOMEM
            ):
                return Trouble.UNAVAILABLE
        if "no such table" in str(error):
            return Trouble.UNAVAILABLE
        return Trouble.OURS

    def decide(self, session: Session, mark: object) -> bool | None:
        """Never in doubt: a commit that raised did not happen."""
        return False
