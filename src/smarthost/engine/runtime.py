"""What the rooms of the engine share, and the work that keeps it alive.

A `Runtime` owns the process's incarnation: it registers, beats every five seconds, recovers what dead
engines left behind, promotes what has come due, expires, purges, and passes wake-ups on. Each of these is a
small loop of its own, so that a slow purge never delays a beat. The beat is the fence: `last_beat` is the
moment before the last beat that succeeded was begun, and who writes to an upstream asks how old it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

from smarthost.config import ProcessSettings
from smarthost.engine.delivery import PATIENCE, Deadlines, Delivery, Notices, Waiting
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.errors import SmarthostError
from smarthost.spool import AsyncSpool, Event, now_us
from smarthost.vault import Key

DAY = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often housekeeping works, in seconds.

    lost  an engine that could not beat for so long is taken for dead by the others (30 s): it starts anew.
    """

    beat: float = 5
    lost: float = 30
    promote: float = 5
    recover: float = 10
    probe: float = 1
    poll: float = 5
    expire: float = 60
    purge: float = 300
    waiting: float = 300
    drain: float = 25


class Runtime:
    """Shared by submission and delivery. `listeners` is where this process listens, once it does."""

    def __init__(
        self,
        process: ProcessSettings,
        spool: AsyncSpool,
        directory: DirectoryCache,
        log: Log,
        key: Key,
        *,
        notices: Notices,
        rhythm: Rhythm | None = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.process = process
        self.spool = spool
        self.directory = directory
        self.log = log
        self.key = key
        self.notices = notices
        self.rhythm = rhythm or Rhythm()
        self.incarnation = 0
        self.last_beat = time.monotonic()
        self.listeners: Callable[[], Iterable[tuple[str, int]]] = tuple
        self.on_reload: list[Callable[[], None]] = []
        self.failed = asyncio.Event()
        self.delivery = Delivery(
            spool,
            directory,
            key,
            log,
            deadlines=deadlines,
            own_addresses=lambda: self.listeners(),  # noqa: PLW0108 - set later
            last_beat=lambda: self.last_beat,
        )
        self._waiting = Waiting(spool, directory)
        self._due = asyncio.Event()
        self._next_due: int | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Register, recover, and begin to deliver. Raises ConfigError where another engine runs here."""
        await self.directory.refresh()
        began = time.monotonic()
        self.incarnation = await self.spool.register()
        self.last_beat = began
        self.delivery.incarnation = self.incarnation
        await self._recover()
        await self._promote()
        await self.delivery.start()
        self.spool.subscribe(self._woken)
        rhythm = self.rhythm
        self._every(rhythm.beat, self._beat)
        self._every(rhythm.recover, self._recover)
        self._every(rhythm.probe, self.delivery.probe)
        self._every(rhythm.poll, self._poll)
        self._every(rhythm.expire, self._expire)
        self._every(rhythm.purge, self._purge)
        self._every(rhythm.waiting, self._tell_waiting)
        self._run(self._promote_forever())

    async def stop(self) -> bool:
        """Drain and retire. Whether everything that was open could be finished."""
        # A store that has failed takes no outcome any more: who waits for it keeps the next engine waiting.
        clean = await self.delivery.drain(0 if self.spool.failed else self.rhythm.drain)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.delivery.stop()
        try:
            await self.spool.retire()
        except SmarthostError as error:
            self.log.error("retire-failed", error=str(error))
        return clean

    def reload(self) -> None:
        """Read again what stands outside the store (SIGHUP): certificates; and look at everything now."""
        self.log.info("reload")
        for callback in self.on_reload:
            callback()
        self._run(self._refresh())
        self._woken("mail")

    # --- wake-ups

    def _woken(self, topic: str) -> None:
        if topic == "mail":
            self.delivery.wake()
            self._due.set()  # send-at may have brought a nearer time
        elif topic == "directory":
            self._run(self._refresh())
        elif topic == "control":
            self._run(self._refresh())
            self.delivery.wake()
            self._due.set()

    async def _refresh(self) -> None:
        try:
            if await self.directory.refresh():
                self.log.info("directory", version=self.directory.current.version)
                self.delivery.apply_directory()
            await self.delivery.refresh_routes()
        except SmarthostError as error:
            self.log.error("directory-unreadable", error=str(error))

    async def _poll(self) -> None:
        """Wake-ups are hints: what they missed is found here."""
        if self.spool.failed:
            self.log.error("store-failed", error=self.spool.failed)
            self.failed.set()
            return
        await self._refresh()
        self.delivery.wake()

    # --- the heartbeat and the dead

    async def _beat(self) -> None:
        began = time.monotonic()
        if began - self.last_beat > self.rhythm.lost:
            await self._start_anew()
            return
        await self.spool.beat()
        self.last_beat = began

    async def _start_anew(self) -> None:
        """This engine slept, or did not reach its store, for longer than a lease lives.

        Nothing of its leases may be written any more (the fence saw to that); it begins again as a new one.
        """
        self.log.error("lease-lost", text="no heartbeat for too long: every connection is dropped")
        self.delivery.abort("this engine lost its leases")
        began = time.monotonic()
        self.incarnation = await self.spool.register()
        self.last_beat = began
        self.delivery.incarnation = self.incarnation
        await self._recover()
        self.delivery.wake()

    async def _recover(self) -> None:
        current = self.directory.current
        policies = {id_: upstream.unknown.value for id_, upstream in current.upstreams.items()}
        count = await self.spool.recover(policies, current.unknown_retry_after)
        if count:
            self.log.warning(
                "recovered", count=count, text="an engine died with these under way: their end is unknown"
            )
            text = f"{count} deliveries were under way when an engine died; their end is unknown"
            await self.spool.record([Event(now_us(), "engine.recovered", "engine", text, "warning")])

    # --- time

    async def _promote(self) -> None:
        count, self._next_due = await self.spool.promote(now_us())
        if count:
            self.delivery.wake()

    async def _promote_forever(self) -> None:
        while True:
            wait = self.rhythm.promote
            if self._next_due is not None:
                wait = min(wait, max(0.0, (self._next_due - now_us()) / 1_000_000))
            try:
                await asyncio.wait_for(self._due.wait(), wait)
                await asyncio.sleep(0.2)  # many wake-ups are one
            except TimeoutError:
                pass
            self._due.clear()
            await self._guarded(self._promote)

    async def _expire(self) -> None:
        count = await self.spool.expire(now_us())
        if count:
            self.log.warning("expired", count=count)
        for message in await self.notices.make_missed():
            await self.spool.accept(message)

    async def _tell_waiting(self) -> None:
        paused = self.delivery.paused_before(now_us() - PATIENCE)
        if paused and (told := await self._waiting.look(paused)):
            self.log.warning("delay-notices", count=told)

    async def _purge(self) -> None:
        now, keep = now_us(), self.directory.current.retention
        more = True
        while more:
            purged = await self.spool.purge(
                now,
                content_before=now - keep.content_days * DAY,
                rows_before=now - keep.rows_days * DAY,
                events_before=now - keep.rows_days * DAY,
            )
            more = purged.more
            await asyncio.sleep(0.05)  # short commits, and a breath for those of the hot path

    # --- loops

    def _every(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._run(self._forever(seconds, work))

    async def _forever(self, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            await self._guarded(work)

    async def _guarded(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A store that is away for a while stops no loop."""
        try:
            await work()
        except SmarthostError as error:
            self.log.error("housekeeping", task=work.__name__.strip("_"), error=str(error))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("crashed", error=f"{type(error).__name__}: {error}")
            self.failed.set()  # a loop that is gone makes half an engine: a new process is whole
