"""The spool for threads: Django, commands, and the ground on which the engine's `AsyncSpool` stands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from smarthost.errors import SmarthostError
from smarthost.spool import _accept, _control, _incarnation, _query, _retention, _routes
from smarthost.spool._batch import Kind
from smarthost.spool._committer import Committer
from smarthost.spool._database import Database, open_database
from smarthost.spool._durability import SpaceWatch, findings
from smarthost.spool._types import Accepted, Charge, Event, Lease, NewMessage, Outcome, State
from smarthost.spool._views import (
    AttemptView,
    DeliveryRow,
    EventRow,
    Filter,
    Finding,
    MessageView,
    NoticeBuilder,
    Purged,
    Route,
    Selection,
    Space,
)
from smarthost.spool._wake import Wakeups

if TYPE_CHECKING:
    from smarthost.spool._async import AsyncSpool

T = TypeVar("T")


def open_spool(
    database_url: str,
    data: Path,
    *,
    name: str,
    notice: NoticeBuilder | None = None,
    floor: int | None = None,
    cache: int = 64 * 1024 * 1024,
) -> Spool:
    """Open the store whose tables `migrate` has made. Starts one committer thread with its own connection.

    database_url  sqlite:///PATH or postgresql://…, as in SMARTHOST_DATABASE_URL.
    data          the data folder: wake-up socket, engine lock and, with SQLite, the free space watched.
    name          who this is for people and for `incarnation`: "engine@host:pid", "web@…".
    notice        makes failure notices; only the engine and commands that end deliveries need one.
    floor         bytes of free space below which nothing is accepted; None chooses from the disk's size.
    cache         bytes of recently accepted content kept in memory, a copy only; 0 for none.

    Raises StoreUnavailable where the database cannot be opened or has no tables yet.
    """
    return Spool(open_database(database_url, data), data, name=name, notice=notice, floor=floor, cache=cache)


def accept_on(connection: Any, messages: Sequence[NewMessage]) -> list[Accepted]:
    """Accept on the caller's connection, inside the transaction that it has open: durable with its commit.

    connection  a Django connection wrapper, or a DBAPI connection of pysqlite3 or psycopg.

    The caller calls `Spool.wake("mail")` after its commit. The first message that cannot be accepted raises
    its own error (OverCap, IdempotencyConflict); the caller rolls back. RuntimeError without an open
    transaction: in autocommit half a message could become durable.
    """
    return _accept.accept_on(connection, messages)


class Spool:
    """The blocking side of the store; thread-safe. Make one a process with `open_spool` and close it.

    All writes of a process go through its one committer thread, which commits for everybody who waits.
    A method that writes returns after the commit, or raises and has changed nothing.
    """

    def __init__(
        self,
        database: Database,
        data: Path,
        *,
        name: str,
        notice: NoticeBuilder | None,
        floor: int | None,
        cache: int,
    ) -> None:
        self.name = name
        self.data = data
        self._bound: list[AsyncSpool] = []
        self._database = database
        self._space = SpaceWatch(database, data, floor)
        self._wakeups = Wakeups(database, data)
        self._committer = Committer(database, self._space, self._wakeups, notice=notice, cache=cache)
        try:
            self._committer.start()
        except BaseException:
            self._wakeups.close()
            database.close()
            raise

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish what was handed in, stop the committer and close every connection. Safe to call twice."""
        self._committer.close()
        self._wakeups.close()
        for bound in self._bound:
            bound.shut()
        self._database.close()

    def bind(self, loop: asyncio.AbstractEventLoop) -> AsyncSpool:
        """The same spool for code on an event loop. Call once; close the Spool, not the AsyncSpool."""
        from smarthost.spool._async import AsyncSpool

        bound = AsyncSpool(self, loop)
        self._bound.append(bound)
        return bound

    # State of the store itself

    @property
    def failed(self) -> str | None:
        """Why the store can no longer be trusted (an fsync failed, the data folder is gone), or None. Once
        set it stays: only a new process may go on, and every write raises StoreUnavailable."""
        return self._committer.failed

    @property
    def full(self) -> bool:
        """Whether free space is below the floor: accepts raise StoreFull and `lease` gives nothing."""
        return self._space.full

    def space(self) -> Space:
        """Free space and its floor, measured now."""
        return self._space.measure()

    def durability(self) -> list[Finding]:
        """What the promises rest on, looked at now: versions of Python, SQLite and OpenSSL, journal and
        `synchronous` (SQLite), `fsync`, `full_page_writes` and `synchronous_commit` (PostgreSQL), free
        space, file system. Errors mean that an acknowledged message could be lost: do not start on them."""
        return findings(self._database, self._space)

    # Writing

    def _write(self, kind: Kind, argument: object) -> Any:
        return self._committer.call(kind, argument)

    def _run(self, function: Callable[..., T], *arguments: object) -> T:
        result: T = self._committer.call(Kind.RUN, (function, arguments))
        return result

    def _repeat(self, function: Callable[..., int], *arguments: object) -> int:
        """Run in slices, each its own short transaction, so that a big selection holds up nobody."""
        total = 0
        while changed := self._run(function, *arguments):
            total += changed
        return total

    def accept(self, message: NewMessage) -> Accepted:
        """Make one message durable. Raises StoreFull, StoreUnavailable, OverCap, IdempotencyConflict.

        An id that is already there gives REPEATED: handing the same message in again is always safe.
        """
        (result,) = self.accept_many([message])
        if isinstance(result, SmarthostError):
            raise result
        return result

    def accept_many(self, messages: Sequence[NewMessage]) -> list[Accepted | SmarthostError]:
        """Make messages durable in one commit; each one succeeds or fails alone, in the order given.
        Raises StoreFull or StoreUnavailable where nothing at all was accepted."""
        result: list[Accepted | SmarthostError] = self._write(Kind.ACCEPT, messages)
        return result

    def write_chunk(self, message_id: str, n: int, data: bytes) -> None:
        """Write chunk `n` (from 0) of a message that is still coming in. Every chunk but the last holds
        exactly CHUNK bytes. Invisible until the message is accepted with content None."""
        self._write(Kind.CHUNK, (message_id, n, data))

    def discard(self, message_id: str) -> None:
        """Forget the chunks of a message that will not be accepted. An accepted one is never touched."""
        self._run(_retention.discard, message_id)

    def record(self, events: Sequence[Event]) -> None:
        """Write events."""
        self._run(_routes.record, tuple(events))

    def hold(self, selection: Selection, actor: str) -> int:
        """QUEUED, DEFERRED and UNKNOWN wait for a person (HELD). Gives how many changed, like all of these;
        deliveries in another state are left alone. Each records one event naming `actor`."""
        return self._repeat(_control.hold, selection, actor)

    def release(self, selection: Selection, actor: str) -> int:
        """HELD becomes QUEUED, ready now or at the message's `send_at` where that is still to come; so
        does everything that becomes QUEUED here."""
        return self._repeat(_control.release, selection, actor)

    def cancel(self, selection: Selection, actor: str) -> int:
        """QUEUED, DEFERRED, UNKNOWN and HELD become CANCELLED. What is SENDING cannot be cancelled."""
        return self._repeat(_control.cancel, selection, actor)

    def retry(self, selection: Selection, actor: str) -> int:
        """DEFERRED, UNKNOWN, FAILED, EXPIRED and CANCELLED become QUEUED, ready now, with at least a day
        until they expire. Only while the content is kept. An explicit id or state must name final ones:
        a selection without `deliveries`, `messages` or `states` retries DEFERRED alone."""
        return self._repeat(_control.retry, selection, actor)

    def reroute(self, selection: Selection, upstream: str, actor: str) -> int:
        """QUEUED, DEFERRED, UNKNOWN and HELD go by another upstream; their state and time stay."""
        return self._repeat(_control.reroute, selection, upstream, actor)

    def resolve(self, selection: Selection, verdict: State, actor: str) -> int:
        """A person says what became of UNKNOWN (or of HELD that had an unknown end): SENT, FAILED, or QUEUED
        to send it again. Raises ValueError for another verdict."""
        return self._repeat(_control.resolve, selection, verdict, actor)

    def set_route(self, route: Route) -> None:
        """Store what is known of an upstream's health, for all engines. A healthy Route removes the row."""
        self._run(_routes.set_route, route)

    def purge(
        self, now: int, *, content_before: int, rows_before: int, events_before: int, limit: int = 500
    ) -> Purged:
        """Retention, one slice: contents of messages that are final and older than `content_before` go
        first, whole messages older than `rows_before` later, orphaned chunks, idempotency keys after seven
        days, old usage and events too. Call again while `more`."""
        return self._run(_retention.purge, now, (content_before, rows_before, events_before), limit)

    def expire(self, now: int) -> int:
        """QUEUED, DEFERRED and UNKNOWN whose time is over become EXPIRED (with an attempt row and, where
        due, a notice), but for UNKNOWN that waits for a person. Gives how many."""
        return self._repeat(_retention.expire, now)

    def charge_quota(self, charge: Charge) -> bool:
        """Use up `charge.amount` of a counter shared by all processes; False, unchanged, where its limit
        would be passed."""
        return self._run(_accept.charge_quota, charge)

    def wake(self, topic: str) -> None:
        """Tell the engines of this installation that "mail", "directory" or "control" has news. Never
        blocks and never fails; a lost wake-up costs them one polling interval."""
        self._wakeups.send(topic)

    # Reading: on connections of their own, never on the committer's

    def _read(self, function: Callable[..., T], *arguments: object) -> T:
        return self._database.read(function, *arguments)

    def counts(self) -> dict[str, int]:
        """Deliveries by state word, every state present. Kept in the transactions that change them."""
        return self._read(_query.counts)

    def find(self, filter: Filter, after: int | None = None, limit: int = 100) -> list[DeliveryRow]:
        """Deliveries, newest first; `after` is the `id` of the last row of the page before."""
        return self._read(_query.find, filter, after, limit)

    def message(self, message_id: str) -> MessageView | None:
        """One message with its deliveries and their attempts."""
        return self._read(_query.message, message_id)

    def content(self, message_id: str) -> Iterator[bytes]:
        """The content as accepted, chunk by chunk; nothing where it was purged. Raises ContentError where a
        checksum disagrees."""
        n = 0
        while (data := self._read(_query.chunk, message_id, n)) is not None:
            yield data
            n += 1

    def chunk(self, message_id: str, n: int) -> bytes:
        """One chunk. Raises ContentError where it is gone or damaged."""
        return self._read(_query.chunk_or_raise, message_id, n)

    def events(
        self, after: str = "", *, kind: str = "", subject: str = "", limit: int = 100, newest: bool = False
    ) -> list[EventRow]:
        """Events after a cursor ("" is the beginning), oldest first, none ever missed by a follower; with
        `newest` backwards from the end (`after` then is the cursor of the oldest one seen)."""
        where = {"kind": kind, "subject": subject}
        given = {column: value for column, value in where.items() if value}
        return self._read(_query.events, after, given, limit, newest)

    def attempts(self, after: str = "", limit: int = 100, *, newest: bool = False) -> list[AttemptView]:
        """The delivery events: attempts after a cursor, oldest first, none ever missed by a follower;
        with `newest` backwards, as in `events`."""
        return self._read(_query.attempts, after, limit, newest)

    def ready_upstreams(self) -> list[str]:
        """Upstreams for which at least one delivery could be leased now."""
        return self._read(_query.ready_upstreams)

    def queue_age(self) -> float:
        """Seconds since the oldest delivery that is ready became so; 0.0 where none is."""
        return self._read(_query.queue_age)

    def next_due(self) -> int | None:
        """When the next waiting delivery comes due, or None."""
        return self._read(_query.next_due)

    def routes(self) -> dict[str, Route]:
        """What is stored of upstreams' health."""
        return self._read(_routes.routes)

    def usage(self, keys: Sequence[str]) -> dict[tuple[str, int], int]:
        """What is used of counters: (key, window) → amount."""
        return self._read(_query.usage, tuple(keys))

    def engines(self) -> list[tuple[int, str, float]]:
        """Engines that are alive: (incarnation, name, seconds since the last beat)."""
        return self._read(_incarnation.alive)

    def directory_version(self) -> int:
        """Version of the compiled directory, 0 where there is none yet."""
        return self._read(_query.directory_version)

    def directory(self) -> bytes | None:
        """The compiled directory as JSON, or None."""
        return self._read(_query.directory)

    def principal(self, principal_id: str) -> bytes | None:
        """One principal as JSON, or None."""
        return self._read(_query.principal, principal_id)

    def principal_by_login(self, login: str) -> bytes | None:
        """The principal with that SMTP login, as JSON, or None."""
        return self._read(_query.principal_by_login, login)

    def principal_by_secret(self, secret_hash: str) -> bytes | None:
        """The principal one of whose unexpired secrets has that SHA-256 (hex), as JSON, or None."""
        return self._read(_query.principal_by_secret, secret_hash)

    # For the engine, through AsyncSpool; blocking here for tests and commands

    def lease(self, upstream: str, places: int, recipient_limit: int = 100) -> list[Lease]:
        """See `AsyncSpool.lease`."""
        result: list[Lease] = self._write(Kind.LEASE, (upstream, places, recipient_limit))
        return result

    def complete(self, outcomes: Sequence[Outcome]) -> list[int]:
        """See `AsyncSpool.complete`."""
        result: list[int] = self._write(Kind.COMPLETE, outcomes)
        return result

    def promote(self, now: int) -> tuple[int, int | None]:
        """See `AsyncSpool.promote`."""
        return self._repeat(_retention.promote, now), self.next_due()

    def register(self) -> int:
        """See `AsyncSpool.register`."""
        return self._committer.register(self.name, self.data)

    def beat(self) -> None:
        """See `AsyncSpool.beat`."""
        self._run(_incarnation.beat)

    def retire(self) -> None:
        """See `AsyncSpool.retire`."""
        self._committer.retire()

    def recover(
        self, unknown_policy: Mapping[str, str], retry_after_s: int = 900, *, default: str = "retry"
    ) -> int:
        """See `AsyncSpool.recover`."""
        return self._repeat(_incarnation.recover, dict(unknown_policy), retry_after_s, default)

    def claim_probe(self, upstream: str, now: int, next_at: int) -> bool:
        """See `AsyncSpool.claim_probe`."""
        return self._run(_routes.claim_probe, upstream, now, next_at)
