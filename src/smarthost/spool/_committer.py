"""The committer: the one thread of a process that writes.

Everybody hands it operations and waits; it takes whatever has gathered, executes it in one transaction, and
hands the results back after the commit. While it commits, the next batch gathers: under load a batch is
large and a commit is shared by hundreds, without any timer or tuning.

Invariants
- A result is handed back only after COMMIT has returned (or, on PostgreSQL, after its outcome was found out).
- A batch that fails as a whole is rolled back and executed again one operation after another, each in its
  own savepoint, so that a poisoned one fails alone. Executing twice is safe: nothing outside the database
  changes before the commit, but for orders (ranks) and hints (memory).
- After an fsync that failed, or once the database's file is gone, nothing is acknowledged any more: after the
  first, the kernel may have dropped what it could not write and would call a second fsync a success (Rebello
  et al., ATC 2020). `failed` then says why and only a new process goes on.
- A PostgreSQL connection that is lost in COMMIT leaves a doubt. The server is asked on a new connection, the
  accepted rows are looked for, and only what was seen is a yes. Leases of a transaction that stays in doubt
  are given back by their tokens later: nobody was told of them, so nothing of them was sent.

The loop gets its results by one `call_soon_threadsafe` a batch: each hand-over costs a fight for the GIL.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from smarthost.errors import SmarthostError, StoreFull, StoreUnavailable
from smarthost.faults import planted, point
from smarthost.spool import _incarnation, _retention
from smarthost.spool._batch import Kind, Operation, execute
from smarthost.spool._database import Database, Session, Trouble, explain
from smarthost.spool._durability import SpaceWatch
from smarthost.spool._enginelock import lock_engine
from smarthost.spool._ids import now_us
from smarthost.spool._lease import Leaser
from smarthost.spool._memory import Memory
from smarthost.spool._transaction import Transaction
from smarthost.spool._types import NewMessage
from smarthost.spool._views import NoticeBuilder
from smarthost.spool._wake import Wakeups

PATIENCE_S = 5.0
TRIES = 3
MOST_OPERATIONS = 1_000

_ACK_BEFORE_COMMIT = planted("ack-before-commit")
_SWALLOW_COMMIT_ERROR = planted("swallow-commit-error")


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
            self._engine_lock = lock_engine(data / "engine.lock")
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
        todo = batch
        try:
            todo = self._admissible(batch)
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
        full = False
        if self.failed is None:
            try:
                full = self._space.look()
            except OSError as error:
                self.failed = f"The data folder cannot be used any more: {error}"
        if self.failed is not None:
            for operation in batch:
                operation.error = StoreUnavailable("The store has failed.", private=self.failed)
            return []
        if not full:
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
                if time.monotonic() > deadline:
                    raise explain(Trouble.LOST, doubt) from doubt
                # It did not happen: the same again.
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
        execute(tx, batch, self._leaser, self._database.trouble)
        tx.store_counts()
        return tx

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
            session.rollback()
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
