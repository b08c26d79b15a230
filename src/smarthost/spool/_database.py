"""The port between the spool's logic and a database: one session, its few bulk statements, its troubles.

SQL that both databases understand stands with the logic that uses it, written once with `?` for values;
what differs stands here as an attribute or a method. The reasons for their shape:

- With SQLite every step of a statement gives up the GIL and has to win it back from a busy event loop. So
  rows are written by multi-row statements and read as one JSON value (`gather`), not row by row.
- With PostgreSQL every statement is a round trip, so rows are written with COPY and changed with RETURNING.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any, TypeVar

from smarthost.errors import SmarthostError, StoreFull, StoreUnavailable
from smarthost.spool._tables import Table

T = TypeVar("T")
Row = Sequence[Any]

SettleRow = tuple[int, int, int, int | None, int | None, int, int, int]
"""(delivery, token, state, rank, due_at, attempts to add, unknown ends to add, at)"""


class Trouble(Enum):
    """What an exception of the database means for the work at hand."""

    BUSY = auto()  # another process writes, or a deadlock was resolved against us: the same again
    LOST = auto()  # the connection is gone: the same again on a new one, but not after COMMIT was sent
    FULL = auto()  # no space: rolled back, nothing happened
    FAILED = auto()  # the disk did not keep what it was given: nothing may be acknowledged any more
    UNAVAILABLE = auto()  # it does not work now, for a reason of its own
    OURS = auto()  # this statement or its values: one operation's fault


class Session(ABC):
    """One connection. Not thread-safe; used by one thread at a time."""

    INTS: str  # "IN/= ANY of one packed list" of integers, to stand after a column
    TEXTS: str
    LOCK: str  # locks the selected rows, waiting for others
    SKIP: str  # locks the selected rows, leaving out those of others
    CLOCK: str  # the database's clock in microseconds
    SURVIVES: bool  # a failed statement leaves the transaction usable
    mark: object = None  # by which `Database.decide` knows the last transaction
    SETTLED: str  # condition on `tx`: no slower transaction can still appear before it
    FORWARD: str  # condition: after a cursor, in the order OLDEST; BACKWARD and NEWEST the other way
    BACKWARD: str
    OLDEST: str
    NEWEST: str

    @abstractmethod
    def run(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """Execute and give the rows."""

    @abstractmethod
    def change(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Execute and give the number of rows changed."""

    @abstractmethod
    def gather(self, columns: tuple[str, ...], rest: str, params: Sequence[Any] = ()) -> list[Row]:
        """SELECT columns and the rest; no blobs. Few hand-overs whatever the number of rows."""

    @abstractmethod
    def insert(self, table: Table, rows: Sequence[Row]) -> None:
        """Insert many rows."""

    @abstractmethod
    def settle(self, rows: list[SettleRow], fenced: bool) -> list[Row]:
        """Complete leased deliveries; gives (id, message_id, single) of those whose token was right."""

    @abstractmethod
    def pack(self, values: Sequence[int] | Sequence[str]) -> object:
        """A list as the one parameter of INTS or TEXTS."""

    @abstractmethod
    def cursor(self, tx: int, number: int) -> tuple[int, ...]:
        """A follower's place as the values of FORWARD and BACKWARD."""

    @abstractmethod
    def begin(self) -> None:
        """Start a transaction that may write."""

    @abstractmethod
    def before_commit(self, notify: bool) -> None:
        """The last statement of a transaction."""

    @abstractmethod
    def commit(self) -> None:
        """Make it durable. Raises where that is not known to have happened."""

    @abstractmethod
    def rollback(self) -> None:
        """Undo the transaction; never raises."""

    @abstractmethod
    def maintain(self) -> None:
        """Housekeeping between transactions: short, bounded."""

    @abstractmethod
    def close(self) -> None:
        """Close the connection; never raises."""

    def one(self, sql: str, params: Sequence[Any] = ()) -> Any:
        """The first column of the first row, or None."""
        rows = self.run(sql, params)
        return rows[0][0] if rows else None


class Database(ABC):
    """Where sessions come from. `read` borrows one from a small pool of readers; thread-safe."""

    vendor: str
    tally_shard: int
    one_engine: bool  # the data folder belongs to one engine at a time

    @abstractmethod
    def writer(self) -> Session:
        """A new session for the committer."""

    @abstractmethod
    def reader(self) -> Session:
        """A new session for reading."""

    @abstractmethod
    def trouble(self, error: BaseException) -> Trouble:
        """What an exception means."""

    @abstractmethod
    def decide(self, session: Session, mark: object) -> bool | None:
        """Whether the transaction with that mark was committed; None where nobody can know yet."""

    def __init__(self) -> None:
        self._idle: list[Session] = []
        self._closed = False

    def read(self, function: Callable[..., T], *arguments: object) -> T:
        """Call `function(session, …)` on a reader. Raises StoreUnavailable."""
        for last in (False, True):
            session: Session | None = None
            try:
                session = self._idle.pop() if self._idle else self.reader()
                result = function(session, *arguments)
            except SmarthostError:
                self._give_back(session)
                raise
            except Exception as error:
                if session is not None:
                    session.close()
                if self.trouble(error) is Trouble.OURS:
                    raise
                if last:
                    raise explain(self.trouble(error), error) from error
            else:
                self._give_back(session)
                return result
        raise AssertionError("unreachable")

    def _give_back(self, session: Session | None) -> None:
        if session is None:
            return
        if self._closed or len(self._idle) >= 8:
            session.close()
        else:
            self._idle.append(session)

    def close(self) -> None:
        """Close idle readers; those in use close when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


def explain(trouble: Trouble, error: BaseException) -> SmarthostError:
    """The public failure for a database's trouble; its own words stay private."""
    private = f"{type(error).__name__}: {error}"
    if trouble is Trouble.FULL:
        return StoreFull("There is no space left to store this; try again later.", private=private)
    return StoreUnavailable("The store is not available now; try again later.", private=private)


def open_database(url: str, data: Path) -> Database:
    """The database of a SMARTHOST_DATABASE_URL."""
    if url.startswith("sqlite:///"):
        from smarthost.spool._sqlite import SqliteDatabase

        return SqliteDatabase(Path(url.removeprefix("sqlite://")), data)
    from smarthost.spool._postgres import PostgresDatabase

    return PostgresDatabase(url)
