"""The delivery side of the engine: all lanes, and what they share.

Work happens in turns. Whatever touches a lane (bytes, a lease, a wake-up, a timer) marks it, and once at the
end of that turn of the event loop `_turn` runs: first the outcomes that collected go to the spool in one
call, then every marked lane decides. So a lease that follows a completion stands in the same commit, and a
thousand replies in one turn cost one call.

Outcomes are never forgotten: while the store cannot take them they are kept and offered again each second,
and meanwhile nothing more is leased. `fresh` is the fence: false when the last heartbeat is older than
`Deadlines.fence`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from smarthost import faults
from smarthost.engine.delivery._deadlines import Deadlines
from smarthost.engine.delivery._lane import Lane
from smarthost.engine.delivery._route import Announcement, Happening
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.errors import SmarthostError
from smarthost.routing import Directory
from smarthost.spool import AsyncSpool, Door, Event, Lease, Outcome, State, now_us
from smarthost.vault import Key

STORE_PAUSE = 1.0  # seconds between two offers of outcomes that the store did not take
LOOK_PAUSE = 0.05  # seconds at least between two looks for upstreams with ready mail
NOTICED_DOORS = frozenset({Door.SMTP, Door.SENDMAIL})
WORDS = {state: state.word for state in State}
BAD = frozenset({State.FAILED, State.EXPIRED})


class Delivery:
    """Delivers what the spool has ready. Construct, `start`, later `drain` or `abort`; one event loop."""

    def __init__(
        self,
        spool: AsyncSpool,
        cache: DirectoryCache,
        key: Key,
        log: Log,
        *,
        incarnation: int = 0,
        deadlines: Deadlines | None = None,
        own_addresses: Callable[[], Iterable[tuple[str, int]]] = tuple,
        last_beat: Callable[[], float] | None = None,
    ) -> None:
        self.spool = spool
        self.cache = cache
        self.key = key
        self.log = log
        self.incarnation = incarnation
        self.deadlines = deadlines or Deadlines()
        self.own_addresses = own_addresses
        self.lanes: dict[str, Lane] = {}
        self.draining = False
        self._ending: list[Lane] = []  # of upstreams that are gone: their open jobs finish
        self._unrouted: set[str] = set()
        self._last_beat = last_beat
        self._outcomes: list[Outcome] = []
        self._storing = 0
        self._trouble = ""
        self._touched: set[Lane] = set()
        self._turning = False
        self._looking = False
        self._look_again = False
        self._looked_at = 0.0
        self._persisting: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Lane, asyncio.TimerHandle] = {}
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- what lanes ask

    @property
    def directory(self) -> Directory:
        return self.cache.current

    @property
    def hostname(self) -> str:
        return self.cache.current.hostname

    @property
    def stalled(self) -> bool:
        """Whether the store does not take outcomes: then nothing more is leased."""
        return bool(self._trouble)

    def fresh(self) -> bool:
        """Whether the heartbeat is young enough to write to an upstream."""
        return self._last_beat is None or time.monotonic() - self._last_beat() < self.deadlines.fence

    # --- life

    async def start(self) -> None:
        """Make the lanes of the directory and begin."""
        self._loop = asyncio.get_running_loop()
        self.apply_directory()
        await self.refresh_routes()
        self._sweep()
        self.look()

    def apply_directory(self) -> None:
        """Lanes follow the directory: new, changed, gone."""
        upstreams = self.directory.upstreams
        for id_, upstream in upstreams.items():
            lane = self.lanes.get(id_)
            if lane is None:
                self.lanes[id_] = lane = Lane(self, upstream)
                self.touch(lane)
            elif lane.upstream != upstream:
                lane.update(upstream)
        for id_ in [one for one in self.lanes if one not in upstreams]:
            lane = self.lanes.pop(id_)
            lane.stop()
            self._ending.append(lane)

    async def refresh_routes(self) -> None:
        """Respect what other engines, or this one before a restart, found out about routes."""
        stored = await self.spool.routes()
        for id_, lane in self.lanes.items():
            if id_ not in self._persisting:
                lane.restore(stored.get(id_))

    async def probe(self) -> None:
        """Try the paused routes whose time has come, each by one engine only."""
        now = now_us()
        for lane in list(self.lanes.values()):
            if (
                self.draining
                or lane.upstream.id in self._persisting
                or not (lane.upstream.enabled and lane.health.probe_due(now))
            ):
                continue
            if await self.spool.claim_probe(lane.upstream.id, now, lane.health.probe_until(now)):
                lane.happened(Happening.DUE)
                lane.woken()
            else:
                lane.restore((await self.spool.routes()).get(lane.upstream.id))

    def paused_before(self, moment: int) -> list[str]:
        """Upstreams whose route has been paused since before `moment` (microseconds)."""
        return [id_ for id_, lane in self.lanes.items() if 0 < lane.health.route.since <= moment]

    def wake(self) -> None:
        """Mail may be ready: lanes with sessions look at once, for the others the spool is asked."""
        for lane in self.lanes.values():
            if lane.sessions:
                lane.woken()
        self.look()

    def look(self) -> None:
        """Find lanes with ready mail and no session. At most one look is under way."""
        if self._looking:
            self._look_again = True
            return
        if any(not lane.sessions for lane in self.lanes.values()):
            self._looking = True
            self.spawn(self._look())

    async def _look(self) -> None:
        try:
            pause = self._looked_at + LOOK_PAUSE - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            self._looked_at = time.monotonic()
            self._look_again = False
            for id_ in await self.spool.ready_upstreams():
                lane = self.lanes.get(id_)
                if lane is not None:
                    lane.woken()
                elif id_ not in self._unrouted:
                    self._unrouted.add(id_)
                    self.log.warning(
                        "no-such-upstream", upstream=id_, text="its mail waits: reroute or cancel it"
                    )
        except SmarthostError as error:
            self.store_trouble(error)
        finally:
            self._looking = False
        if self._look_again:
            self.look()

    async def drain(self, seconds: float) -> bool:
        """Lease nothing more, finish what is open within `seconds`, give the rest back.

        Whether all was finished.
        """
        self.draining = True
        for lane in list(self.lanes.values()):
            lane.stop()
        until = time.monotonic() + seconds
        while any(lane.busy for lane in self.lanes.values()) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        clean = not any(lane.busy for lane in self.lanes.values())
        self.abort("the engine is stopping")
        while (self._outcomes or self._storing) and time.monotonic() < until + 2:
            self._flush()
            await asyncio.sleep(0.01)
        return clean

    def abort(self, why: str) -> None:
        """Break every session now; what was open ends as the protocol judges it."""
        for lane in [*self.lanes.values(), *self._ending]:
            lane.abort(why)

    async def stop(self) -> None:
        """End timers and tasks, after `drain` or `abort`."""
        self.draining = True
        self.abort("the engine is stopping")
        if self._sweeper is not None:
            self._sweeper.cancel()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        tasks = [
            *self._tasks,
            *(task for lane in self.lanes.values() for one in lane.sessions for task in one.tasks),
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- outcomes

    def settle(self, lane: Lane, lease: Lease, outcome: Outcome) -> None:
        """One recipient's outcome: into the log now, into the store at the end of this turn."""
        self._outcomes.append(outcome)
        state = outcome.state
        if state is State.QUEUED and not outcome.reply:
            self.schedule()
            return
        log = self.log.info if state is State.SENT else self.log.warning
        log(
            "delivery",
            id=lease.message_id,
            upstream=lane.upstream.name,
            state=WORDS[state],
            code=outcome.code,
            enhanced=outcome.enhanced,
            stage=outcome.stage,
            session=outcome.session,
            sender=lease.sender or "<>",
            to=_recipient(lease, outcome.delivery),
            reply=outcome.reply,
        )
        if state in BAD and lease.door in NOTICED_DOORS and self.cache.get(lease.principal) is None:
            self._outcomes.pop()
            self.spawn(self._settle_with_principal(lease.principal, outcome))
        else:
            self.schedule()

    async def _settle_with_principal(self, principal: str, outcome: Outcome) -> None:
        """A failure notice may be due in the commit, and its builder does no I/O: load the principal."""
        self._storing += 1
        try:
            await self.cache.principal(principal)
        except SmarthostError as error:
            self.log.warning("principal-unreadable", principal=principal, error=str(error))
        finally:
            self._storing -= 1
            self._outcomes.append(outcome)
            self.schedule()

    def outcome(self, outcomes: list[Outcome]) -> None:
        """Outcomes without a log line."""
        self._outcomes.extend(outcomes)
        self.schedule()

    def _flush(self) -> None:
        if not self._outcomes or self._trouble:
            return
        batch, self._outcomes = self._outcomes, []
        faults.point("before-complete")
        self._offer(batch)

    def _offer(self, batch: list[Outcome]) -> None:
        self._storing += 1
        try:
            future = self.spool.complete(batch)
        except SmarthostError as error:
            self._storing -= 1
            self._not_stored(batch, error)
            return
        future.add_done_callback(lambda done: self._stored(batch, done))

    def _stored(self, batch: list[Outcome], done: asyncio.Future[list[int]]) -> None:
        self._storing -= 1
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            return
        if error is not None:
            if isinstance(error, SmarthostError):
                self._not_stored(batch, error)
            else:
                self._one_by_one(batch, error)
            return
        faults.point("after-complete")
        for delivery in done.result():
            self.log.warning(
                "outcome-fenced", delivery=delivery, text="the lease was lost; another engine has it"
            )

    def _one_by_one(self, batch: list[Outcome], error: BaseException) -> None:
        """an outcome that is wrong in itself must not keep the others from being stored."""
        if len(batch) == 1:
            self.log.error("outcome-unusable", delivery=batch[0].delivery, error=repr(error))
            return
        for outcome in batch:
            self._offer([outcome])

    def _not_stored(self, batch: list[Outcome], error: BaseException) -> None:
        """Keep the outcomes, in order, and offer them again: a success that is forgotten is sent twice."""
        self._outcomes[:0] = batch
        self.store_trouble(error)
        self._trouble = str(error) or type(error).__name__
        if self._loop is not None:
            self._loop.call_later(STORE_PAUSE, self._retry_store)

    def _retry_store(self) -> None:
        self._trouble = ""
        self._flush()
        for lane in self.lanes.values():
            self.touch(lane)

    def store_trouble(self, error: BaseException) -> None:
        """Say that the store did not do what was asked."""
        self.log.error("store-trouble", error=str(error) or type(error).__name__)

    # --- turns and timers

    def touch(self, lane: Lane) -> None:
        """This lane has something to decide."""
        self._touched.add(lane)
        self.schedule()

    def schedule(self) -> None:
        """Have `_turn` run at the end of this turn of the loop."""
        if not self._turning and self._loop is not None and not self._loop.is_closed():
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        touched, self._touched = self._touched, set()
        for lane in touched:
            lane.feed_all()
        self._flush()
        for lane in touched:
            lane.turn()
        if self._outcomes:
            self._flush()

    def later(self, lane: Lane, seconds: float) -> None:
        """Touch the lane again after a while; the newest wish counts."""
        if self._loop is None:
            return
        timer = self._timers.pop(lane, None)
        if timer is not None:
            timer.cancel()
        self._timers[lane] = self._loop.call_later(max(0.001, seconds), self._again, lane)

    def _again(self, lane: Lane) -> None:
        self._timers.pop(lane, None)
        self.touch(lane)

    def _sweep(self) -> None:
        now = time.monotonic()
        for lane in [*self.lanes.values(), *self._ending]:
            lane.sweep(now)
        self._ending = [lane for lane in self._ending if lane.sessions]
        assert self._loop is not None
        self._sweeper = self._loop.call_later(self.deadlines.sweep, self._sweep)

    # --- routes and events

    def persist(self, lane: Lane, announcement: Announcement | None, since: int) -> None:
        """Store the route's state, and say once that it paused or returned."""
        name, id_ = lane.upstream.name, lane.upstream.id
        if announcement is Announcement.PAUSED:
            text = f"{name} is paused: {lane.health.route.reason}"
            self.log.error(
                "alert",
                kind="route-paused",
                upstream=name,
                fault=str(lane.health.route.fault),
                text=lane.health.route.reason,
            )
            self.record(Event(now_us(), "route.paused", id_, text[:500], "error"))
        elif announcement is Announcement.RETURNED:
            seconds = (now_us() - since) // 1_000_000
            self.log.warning("alert", kind="route-returned", upstream=name, seconds=seconds)
            text = f"{name} works again after {seconds} seconds"
            self.record(Event(now_us(), "route.returned", id_, text, "info"))
        self._persisting[id_] = self._persisting.get(id_, 0) + 1
        self.spawn(self._persist(lane))

    async def _persist(self, lane: Lane) -> None:
        id_ = lane.upstream.id
        try:
            await self.spool.set_route(lane.health.stored(id_, now_us()))
        except SmarthostError as error:
            self.store_trouble(error)
        finally:
            self._persisting[id_] -= 1
            if not self._persisting[id_]:
                del self._persisting[id_]

    def record(self, event: Event) -> None:
        """Store an event, without waiting."""
        self.spawn(self._record(event))

    async def _record(self, event: Event) -> None:
        try:
            await self.spool.record([event])
        except SmarthostError as error:
            self.store_trouble(error)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run rare work beside; its failure is logged."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("delivery-crashed", error=f"{type(error).__name__}: {error}")


def _recipient(lease: Lease, delivery: int) -> str:
    deliveries = lease.deliveries
    if len(deliveries) == 1:
        return deliveries[0].recipient
    for one in deliveries:
        if one.id == delivery:
            return one.recipient
    return ""
