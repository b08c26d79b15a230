"""The committer: the one thread of a process that writes.

Everybody hands it operations and waits; it takes whatever has gathered, executes it in one transaction, and
hands the results back after the commit. While it commits, the next batch gathers: under load a batch is
large and a commit is shared by hundreds, without any timer or tuning.

Invariants
- A result is handed back only after COMMIT has returned (or, on PostgreSQL, after its outcome was found out).
- A batch that fails as a whole is rolled back and executed again one operation after another, each in its
  own savepoint, so that a poisoned one fails alone. Executing twice is safe: nothing outside the database
  changes before the commit, but for orders (ranks) and hints (memory).
- After an fsync that failed nothing is acknowledged any more: the kernel may have dropped what it could not
  write and would call a second fsync a success (Rebello et al., ATC 2020). `failed` then says why and only a
  new process goes on.
- A PostgreSQL connection that is lost in COMMIT leaves a doubt. The server is asked on a new connection, the
  accepted rows are looked for, and only what was seen is a yes. Leases of a transaction that stays in doubt
  are given back by their tokens later: nobody was told of them, so nothing of them was sent.

The loop gets its results by one `call_soon_threadsafe` a batch: each hand-over costs a fight for the GIL.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from smarthost.errors import ConfigError, SmarthostError, StoreFull, StoreUnavailable
from smarthost.faults import planted, point
from smarthost.spool import _accept, _complete, _incarnation, _retention
from smarthost.spool._database import Database, Session, Trouble, explain
from smarthost.spool._durability import SpaceWatch
from smarthost.spool._ids import now_us
from smarthost.spool._lease import Leaser
from smarthost.spool._memory import Memory
from smarthost.spool._transaction import Transaction
from smarthost.spool._types import NewMessage, Outcome
from smarthost.spool._views import NoticeBuilder
from smarthost.spool._wake import Wakeups

PATIENCE_S = 5.0
TRIES = 3
MOST_OPERATIONS = 1_000

_ACK_BEFORE_COMMIT = planted("ack-before-commit")
_SWALLOW_COMMIT_ERROR = planted("swallow-commit-error")


class Kind(IntEnum):
    """The operations, in the order in which a batch executes them: what was accepted can be leased in the
    same commit, and what was completed makes no second lease wait."""

    CHUNK = 0
    COMPLETE = 1
    ACCEPT_ONE = 2
    ACCEPT = 3
    RUN = 4
    LEASE = 5


class Operation:
    """One thing to do for one caller, who waits on `lock` or on `future`."""

    __slots__ = ("argument", "error", "future", "kind", "lock", "result")

    def __init__(self, kind: Kind, argument: Any, future: asyncio.Future[Any] | None) -> None:
        self.kind = kind
        self.argument = argument
        self.future = future
        self.lock: threading.Lock | None = None
        self.result: Any = None
        self.error: BaseException | None = None


class Committer:
    """See the module's essay. Any thread may `call`; the bound loop's thread may `post`."""

    failed: str | None = None

    def __init__(
        self,
        database: Database,
        space: SpaceWatch,
        wakeups: Wakeups,
        *,
        notice: NoticeBuilder | None,
        cache: int,
    ) -> None:
        self._database = database
        self._space = space
        self._wakeups = wakeups
        self._notice = notice
        self._memory = Memory(cache)
        self._leaser = Leaser()
        self._queue: SimpleQueue[Operation | None] = SimpleQueue()
        self._session: Session | None = None
        self._engine: int | None = None
        self._engine_lock: int | None = None
        self._doubtful: list[int] = []
        self._down = False
        self._closing = False
        self._gate = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscribers: list[Callable[[str], None]] = []
        self._thread = threading.Thread(target=self._main, name="spool-committer", daemon=True)

    # What callers use

    def start(self) -> None:
        """Connect, so that a store that does not work says so at once, and start the thread."""
        try:
            self._session = self._database.writer()
            self._session.run("SELECT shard FROM tally WHERE shard = -1")
        except Exception as error:
            if self._session is not None:
                self._session.close()
            trouble = self._database.trouble(error)
            if trouble is Trouble.OURS:
                raise
            raise StoreUnavailable(
                "The database cannot be opened or has no tables yet; run `smarthost run` or look at its log.",
                private=f"{type(error).__name__}: {error}",
            ) from error
        self._thread.start()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def subscribe(self, callback: Callable[[str], None]) -> None:
        self._subscribers.append(callback)

    def post(self, kind: Kind, argument: object) -> asyncio.Future[Any]:
        """Hand in from the loop's thread."""
        loop = self._loop
        assert loop is not None
        future: asyncio.Future[Any] = loop.create_future()
        if self._closing:
            future.set_exception(StoreUnavailable("The store is closed."))
        else:
            self._queue.put(Operation(kind, argument, future))
        return future

    def call(self, kind: Kind, argument: object) -> Any:
        """Hand in and wait."""
        operation = Operation(kind, argument, None)
        operation.lock = threading.Lock()
        operation.lock.acquire()
        with self._gate:
            if self._closing:
                raise StoreUnavailable("The store is closed.")
            self._queue.put(operation)
        operation.lock.acquire()
        if operation.error is not None:
            raise operation.error
        return operation.result

    def register(self, name: str, data: Path) -> int:
        """See AsyncSpool.register."""
        if self._database.one_engine and self._engine_lock is None:
            self._engine_lock = _lock_engine(data / "engine.lock")
        engine: int = self.call(Kind.RUN, (_incarnation.register, (name, self._database.one_engine)))
        self._leaser.start(engine)
        self._engine = engine
        return engine

    def retire(self) -> None:
        """See AsyncSpool.retire."""
        if self._engine is not None:
            self.call(Kind.RUN, (_incarnation.retire, ()))
            self._engine = None
        self._unlock_engine()

    def _unlock_engine(self) -> None:
        if self._engine_lock is not None:
            os.close(self._engine_lock)
            self._engine_lock = None

    def close(self) -> None:
        """Execute what was handed in, then stop."""
        with self._gate:
            if self._closing:
                return
            self._closing = True
            self._queue.put(None)
        self._thread.join()
        self._unlock_engine()

    # The thread

    def _main(self) -> None:
        while True:
            batch, last = self._gather()
            if batch:
                self._serve(batch)
            if last:
                break
        if self._session is not None:
            self._session.close()

    def _gather(self) -> tuple[list[Operation], bool]:
        """Wait for one operation and take all that have come with it."""
        queue = self._queue
        batch: list[Operation] = []
        operation = queue.get()
        while operation is not None:
            batch.append(operation)
            if len(batch) >= MOST_OPERATIONS or queue.empty():
                return batch, False
            operation = queue.get()
        return batch, True

    def _serve(self, batch: list[Operation]) -> None:
        ready = False
        todo = self._admissible(batch)
        try:
            if todo:
                ready = self._durably(todo)
        except Exception as error:  # every way out of here tells the callers
            failure = error
            if not isinstance(error, SmarthostError):
                failure = explain(self._database.trouble(error), error)
            for operation in todo:
                operation.result, operation.error = None, failure
        self._hand_back(batch, ready)
        session = self._session
        if session is not None:
            try:
                session.maintain()
            except Exception:
                self._drop_session()

    def _admissible(self, batch: list[Operation]) -> list[Operation]:
        """Leave out what is refused before anything is tried."""
        if self.failed is not None:
            for operation in batch:
                operation.error = StoreUnavailable("The store has failed.", private=self.failed)
            return []
        if not self._space.look():
            return batch
        todo = []
        for operation in batch:
            if operation.kind in (Kind.ACCEPT, Kind.ACCEPT_ONE, Kind.CHUNK):
                operation.error = StoreFull("There is too little free space to accept mail; try again later.")
            else:
                todo.append(operation)
        return todo

    def _durably(self, batch: list[Operation]) -> bool:
        """Execute and commit, again where that is safe. True where deliveries became ready."""
        careful = False
        deadline = time.monotonic() + PATIENCE_S
        tries = 0
        while True:
            tx = None
            try:
                tx = self._execute(batch, careful)
                return self._commit(tx, batch)
            except _DoubtError as doubt:
                if self._resolved(doubt.tx):
                    return self._committed(doubt.tx)
                continue  # it did not happen: the same again
            except Exception as error:
                trouble = self._database.trouble(error)
                self._roll_back(trouble)
                tries += 1
                if trouble is Trouble.OURS and not careful:
                    careful = True
                elif trouble is Trouble.BUSY and tries < TRIES:
                    time.sleep(0.01 * tries)
                elif trouble is Trouble.LOST and not self._down and time.monotonic() < deadline:
                    time.sleep(min(0.05 * tries, 0.5))
                else:
                    if trouble is Trouble.LOST:
                        self._down = True
                    raise

    def _roll_back(self, trouble: Trouble) -> None:
        if self._session is None:
            return
        self._session.rollback()
        if trouble is Trouble.LOST:
            self._drop_session()
        elif trouble is Trouble.FAILED:
            self.failed = "The disk did not keep what was written (fsync failed)."

    def _drop_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _execute(self, batch: list[Operation], careful: bool) -> Transaction:
        if self._session is None:
            self._session = self._database.writer()
            self._down = False
        session = self._session
        session.begin()
        tx = Transaction(
            session,
            now_us(),
            shard=self._database.tally_shard,
            careful=careful,
            engine=self._engine,
            full=self._space.full,
            memory=self._memory,
            notice=self._notice,
        )
        if self._doubtful:
            _retention.give_back(tx, self._doubtful)
        if careful:
            for operation in batch:
                self._one(tx, operation)
        else:
            self._all(tx, batch)
        tx.store_counts()
        return tx

    def _one(self, tx: Transaction, operation: Operation) -> None:
        """One operation in a savepoint: its own fault fails it alone."""
        session = tx.session
        session.run("SAVEPOINT one")
        before = tx.snapshot()
        operation.error = None
        try:
            self._group(tx, operation.kind, [operation])
        except Exception as error:
            if not isinstance(error, SmarthostError) and self._database.trouble(error) is not Trouble.OURS:
                raise
            session.run("ROLLBACK TO SAVEPOINT one")
            tx.restore(before)
            operation.result, operation.error = None, error
        session.run("RELEASE SAVEPOINT one")

    def _all(self, tx: Transaction, batch: list[Operation]) -> None:
        groups: dict[Kind, list[Operation]] = {}
        for operation in batch:
            operation.error = None
            groups.setdefault(operation.kind, []).append(operation)
        for kind in sorted(groups):
            self._group(tx, kind, groups[kind])

    def _group(self, tx: Transaction, kind: Kind, operations: list[Operation]) -> None:
        if kind is Kind.ACCEPT_ONE:
            results = _accept.accept(tx, [operation.argument for operation in operations])
            for operation, result in zip(operations, results, strict=True):
                if isinstance(result, SmarthostError):
                    operation.error = result
                else:
                    operation.result = result
        elif kind is Kind.COMPLETE:
            self._complete(tx, operations)
        elif kind is Kind.LEASE:
            self._lease(tx, operations)
        elif kind is Kind.CHUNK:
            _accept.write_chunks(tx, [operation.argument for operation in operations])
        elif kind is Kind.ACCEPT:
            messages: list[NewMessage] = []
            for operation in operations:
                messages += operation.argument
            results = _accept.accept(tx, messages)
            at = 0
            for operation in operations:
                operation.result = results[at : at + len(operation.argument)]
                at += len(operation.argument)
        else:
            for operation in operations:
                function, arguments = operation.argument
                operation.result = function(tx, *arguments)

    def _lease(self, tx: Transaction, operations: list[Operation]) -> None:
        """Those who ask for the same upstream are served by one search, in the order in which they came."""
        asked: dict[tuple[str, int], list[Operation]] = {}
        for operation in operations:
            upstream, _, limit = operation.argument
            asked.setdefault((upstream, limit), []).append(operation)
        for (upstream, limit), same in asked.items():
            leases = self._leaser.lease(tx, upstream, sum(o.argument[1] for o in same), limit)
            at = 0
            for operation in same:
                places = operation.argument[1]
                operation.result = leases[at : at + places]
                at += places

    def _complete(self, tx: Transaction, operations: list[Operation]) -> None:
        outcomes: list[Outcome] = []
        for operation in operations:
            outcomes += operation.argument
        if len({outcome.delivery for outcome in outcomes}) != len(outcomes):
            # Two words about one delivery: the first one whose token is right counts.
            for operation in operations:
                operation.result = [
                    fenced for outcome in operation.argument for fenced in _complete.complete(tx, [outcome])
                ]
            return
        fenced = set(_complete.complete(tx, outcomes)) if outcomes else set()
        for operation in operations:
            operation.result = (
                [o.delivery for o in operation.argument if o.delivery in fenced] if fenced else []
            )

    def _commit(self, tx: Transaction, batch: list[Operation]) -> bool:
        session = tx.session
        session.before_commit(tx.ready and self._wakeups.notify_in_commit(self._engine is not None))
        if tx.accepted:
            point("before-commit")
        if _ACK_BEFORE_COMMIT:
            self._hand_back(batch, tx.ready)
            batch.clear()
        try:
            session.commit()
        except Exception as error:
            if not _SWALLOW_COMMIT_ERROR:
                if self._database.trouble(error) is Trouble.LOST:
                    raise _DoubtError(tx, session.mark) from error
                raise
        return self._committed(tx)

    def _committed(self, tx: Transaction) -> bool:
        if tx.accepted:
            point("after-commit")
            if self._engine is not None:
                self._memory.remember(tx.accepted)
        if tx.ready:
            self._wakeups.after_commit(self._engine is not None)
        self._doubtful = []
        return tx.ready

    def _resolved(self, tx: Transaction) -> bool:
        """Find out whether a transaction whose COMMIT lost its connection happened. Raises StoreUnavailable
        where that cannot be found out in time."""
        mark = tx.session.mark
        deadline = time.monotonic() + PATIENCE_S
        self._drop_session()
        verdict: bool | None = None
        while verdict is None and time.monotonic() < deadline:
            try:
                if self._session is None:
                    self._session = self._database.writer()
                verdict = self._database.decide(self._session, mark)
                if verdict and tx.accepted:
                    verdict = self._seen(self._session, tx.accepted)
                break
            except Exception as error:
                if self._database.trouble(error) is not Trouble.LOST:
                    raise
                self._drop_session()
                time.sleep(0.1)
        if verdict is None:
            self._down = self._session is None
            self._doubtful += tx.tokens
            raise StoreUnavailable(
                "The connection to the store was lost; whether this was stored is not known yet.",
                private="connection lost in COMMIT, and its outcome could not be found out",
            )
        return verdict

    @staticmethod
    def _seen(session: Session, accepted: Sequence[NewMessage]) -> bool:
        ids = [message.id for message in accepted]
        found = session.one(f"SELECT count(*) FROM message WHERE id {session.TEXTS}", (session.pack(ids),))
        return int(found) == len(set(ids))

    # Handing back

    def _hand_back(self, batch: list[Operation], ready: bool) -> None:
        posted = []
        for operation in batch:
            if operation.lock is not None:
                operation.lock.release()
            else:
                posted.append(operation)
        loop = self._loop
        if loop is not None and (posted or (ready and self._subscribers)):
            try:
                loop.call_soon_threadsafe(self._resolve, posted, ready)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

    def _resolve(self, operations: list[Operation], ready: bool) -> None:
        """On the loop."""
        for operation in operations:
            future = operation.future
            if future is None or future.done():
                continue
            if operation.error is not None:
                future.set_exception(operation.error)
            else:
                future.set_result(operation.result)
        if ready:
            for callback in self._subscribers:
                callback("mail")


class _DoubtError(Exception):
    """COMMIT was sent and its connection lost."""

    def __init__(self, tx: Transaction, mark: object) -> None:
        super().__init__("the outcome of COMMIT is unknown")
        self.tx = tx
        self.mark = mark


def _lock_engine(path: Path) -> int:
    """One engine a data folder: held as long as the process lives, however it dies."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.pread(file, 32, 0).decode("ascii", "replace").strip()
        os.close(file)
        raise ConfigError(
            f"Another engine (pid {pid or 'unknown'}) works on {path.parent}: one a data folder on SQLite.",
            origin=str(path),
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file
