"""The spool for code on an event loop: the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from smarthost.errors import SmarthostError
from smarthost.spool._batch import Kind
from smarthost.spool._types import Accepted, Charge, Event, Lease, NewMessage, Outcome, State
from smarthost.spool._views import Finding, MessageView, Purged, Route, Selection

if TYPE_CHECKING:
    from smarthost.spool._spool import Spool

T = TypeVar("T")


class AsyncSpool:
    """The engine's side of the store. Made by `Spool.bind`; use it on that loop's thread only.

    The methods on the hot path (accept, accept_many, write_chunk, lease, complete) return futures at once:
    the work is handed to the committer when they are called, also where nobody awaits them. Cancelling such
    a future does not undo the work. Rare calls are coroutines that wait on a thread.
    """

    def __init__(self, spool: Spool, loop: asyncio.AbstractEventLoop) -> None:
        self.blocking = spool
        self._loop = loop
        self._committer = spool._committer
        self._committer.bind(loop)
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="spool-reader")
        self._spool = spool

    def shut(self) -> None:
        """Let the threads go; `Spool.close` does."""
        self._threads.shutdown(wait=False)

    # Hot path

    def accept(self, message: NewMessage) -> asyncio.Future[Accepted]:
        """As `Spool.accept`: done only after commit. Fails with StoreFull, StoreUnavailable, OverCap,
        IdempotencyConflict."""
        return self._committer.post(Kind.ACCEPT_ONE, message)

    def accept_many(self, messages: Sequence[NewMessage]) -> asyncio.Future[list[Accepted | SmarthostError]]:
        """As `Spool.accept_many`."""
        return self._committer.post(Kind.ACCEPT, messages)

    def write_chunk(self, message_id: str, n: int, data: bytes) -> asyncio.Future[None]:
        """As `Spool.write_chunk`. Await each one (or a few): that is the back-pressure on a big mail."""
        return self._committer.post(Kind.CHUNK, (message_id, n, data))

    def lease(self, upstream: str, places: int, recipient_limit: int = 100) -> asyncio.Future[list[Lease]]:
        """Take mail for free places: at most `places` leases of one message each, each with at most
        `recipient_limit` deliveries, SENDING from the commit on. Fewer than `places` means that nothing
        more is ready. Urgent first, then normal, then bulk; of every eight places one goes to the lowest
        class that waits. One message with many recipients may fill several places.

        A lease whose `first` is None was damaged: its deliveries are HELD already and its list is empty;
        log it and go on. Nothing is leased below the free-space floor (an empty list) or before
        `register` (StoreUnavailable). Mail of this process's recent past brings its content from memory.
        """
        return self._committer.post(Kind.LEASE, (upstream, places, recipient_limit))

    def complete(self, outcomes: Sequence[Outcome]) -> asyncio.Future[list[int]]:
        """Store what attempts did, one Outcome a recipient: new state, attempt row, counts, and the failure
        notice where it is due, in one commit. Gives the delivery ids that were fenced out: their lease was
        lost (recovered by another engine), nothing was changed for them, nothing is to be done but log it.

        On StoreUnavailable or StoreFull nothing was stored: keep the outcomes and call again until it is.
        UNKNOWN with `due_at` None waits for a person. QUEUED with `due_at` None is ready again at once.
        """
        return self._committer.post(Kind.COMPLETE, outcomes)

    # Wake-ups

    def subscribe(self, callback: Callable[[str], None]) -> None:
        """Call `callback(topic)` on the loop for "mail", "directory" and "control": news from any process,
        and "mail" also after this process itself made deliveries ready. Wake-ups are hints: poll every few
        seconds too. Subscribing starts listening."""
        self._committer.subscribe(callback)
        self._spool._wakeups.listen(self._loop, callback)

    def wake(self, topic: str) -> None:
        """As `Spool.wake`."""
        self._spool.wake(topic)

    @property
    def failed(self) -> str | None:
        """As `Spool.failed`: when set, stop acknowledging and exit so that a new process can take over."""
        return self._spool.failed

    @property
    def full(self) -> bool:
        """As `Spool.full`."""
        return self._spool.full

    # Rare calls

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        return await self._loop.run_in_executor(self._threads, function, *arguments)

    async def register(self) -> int:
        """Become an engine: gives the incarnation that owns this process's leases. On SQLite takes the lock
        of the data folder; raises ConfigError naming the other engine's pid where one runs."""
        return await self._call(self._spool.register)

    async def beat(self) -> None:
        """Renew the incarnation by the database's clock: valid for 30 s, to be called every 5 s."""
        await self._call(self._spool.beat)

    async def retire(self) -> None:
        """Stop being an engine: give leases back first; what is still SENDING is recovered as UNKNOWN."""
        await self._call(self._spool.retire)

    async def recover(
        self, unknown_policy: Mapping[str, str], retry_after_s: int = 900, *, default: str = "retry"
    ) -> int:
        """SENDING rows of dead incarnations become UNKNOWN with an attempt counted and written. By the
        upstream's policy and how many unknown ends they had they are due again, after `retry_after_s` at
        the earliest, or wait for a person (see `after_unknown`); `default` is for upstreams not in the
        mapping. Gives how many."""
        return await self._call(lambda: self._spool.recover(unknown_policy, retry_after_s, default=default))

    async def promote(self, now: int) -> tuple[int, int | None]:
        """Make ready what has come due; gives (how many, when the next one comes due or None)."""
        return await self._call(self._spool.promote, now)

    async def expire(self, now: int) -> int:
        """As `Spool.expire`."""
        return await self._call(self._spool.expire, now)

    async def purge(
        self, now: int, *, content_before: int, rows_before: int, events_before: int, limit: int = 500
    ) -> Purged:
        """As `Spool.purge`."""
        return await self._call(
            lambda: self._spool.purge(
                now,
                content_before=content_before,
                rows_before=rows_before,
                events_before=events_before,
                limit=limit,
            )
        )

    async def discard(self, message_id: str) -> None:
        """As `Spool.discard`."""
        await self._call(self._spool.discard, message_id)

    async def chunk(self, message_id: str, n: int) -> bytes:
        """As `Spool.chunk`."""
        return await self._call(self._spool.chunk, message_id, n)

    async def message(self, message_id: str) -> MessageView | None:
        """As `Spool.message`."""
        return await self._call(self._spool.message, message_id)

    async def record(self, events: Sequence[Event]) -> None:
        """As `Spool.record`."""
        await self._call(self._spool.record, events)

    async def set_route(self, route: Route) -> None:
        """As `Spool.set_route`."""
        await self._call(self._spool.set_route, route)

    async def routes(self) -> dict[str, Route]:
        """As `Spool.routes`."""
        return await self._call(self._spool.routes)

    async def claim_probe(self, upstream: str, now: int, next_at: int) -> bool:
        """Whether this engine may probe a paused route now: True for one engine only, where `probe_at` has
        come; `probe_at` is then `next_at`."""
        return await self._call(self._spool.claim_probe, upstream, now, next_at)

    async def charge_quota(self, charge: Charge) -> bool:
        """As `Spool.charge_quota`."""
        return await self._call(self._spool.charge_quota, charge)

    async def hold(self, selection: Selection, actor: str) -> int:
        """As `Spool.hold`."""
        return await self._call(self._spool.hold, selection, actor)

    async def release(self, selection: Selection, actor: str) -> int:
        """As `Spool.release`."""
        return await self._call(self._spool.release, selection, actor)

    async def cancel(self, selection: Selection, actor: str) -> int:
        """As `Spool.cancel`."""
        return await self._call(self._spool.cancel, selection, actor)

    async def retry(self, selection: Selection, actor: str) -> int:
        """As `Spool.retry`."""
        return await self._call(self._spool.retry, selection, actor)

    async def reroute(self, selection: Selection, upstream: str, actor: str) -> int:
        """As `Spool.reroute`."""
        return await self._call(self._spool.reroute, selection, upstream, actor)

    async def resolve(self, selection: Selection, verdict: State, actor: str) -> int:
        """As `Spool.resolve`."""
        return await self._call(self._spool.resolve, selection, verdict, actor)

    async def counts(self) -> dict[str, int]:
        """As `Spool.counts`."""
        return await self._call(self._spool.counts)

    async def ready_upstreams(self) -> list[str]:
        """As `Spool.ready_upstreams`."""
        return await self._call(self._spool.ready_upstreams)

    async def queue_age(self) -> float:
        """As `Spool.queue_age`."""
        return await self._call(self._spool.queue_age)

    async def durability(self) -> list[Finding]:
        """As `Spool.durability`."""
        return await self._call(self._spool.durability)

    async def directory_version(self) -> int:
        """As `Spool.directory_version`."""
        return await self._call(self._spool.directory_version)

    async def directory(self) -> bytes | None:
        """As `Spool.directory`."""
        return await self._call(self._spool.directory)

    async def principal(self, principal_id: str) -> bytes | None:
        """As `Spool.principal`."""
        return await self._call(self._spool.principal, principal_id)

    async def principal_by_login(self, login: str) -> bytes | None:
        """As `Spool.principal_by_login`."""
        return await self._call(self._spool.principal_by_login, login)

    async def principal_by_secret(self, secret_hash: str) -> bytes | None:
        """As `Spool.principal_by_secret`."""
        return await self._call(self._spool.principal_by_secret, secret_hash)
