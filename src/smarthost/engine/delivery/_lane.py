"""One upstream's lane: its sessions, its jobs, its route.

    wake → turn(): decide → open a session | lease for free places
    lease came → buffer → feed(session) → … → done(): judge → outcomes
    session failed → route step → pause, probe, return

A lane never waits: `turn` is called once for each turn of the event loop in which something happened, asks
`decide` and starts what it says. Places are counted over ready sessions. A lease asks for those that are
free, so a leased row is on the wire within the same turn, and for the few that `Pace` lets stand by.

Invariants: every lease ends in exactly one outcome for each of its deliveries (settled, given back, or held
by the jury until it is judged); with the route paused nothing is leased; while outcomes cannot be stored
nothing is leased (a store that cannot note a success must not cause another).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from smarthost import faults
from smarthost.engine.delivery._access import Access, make_access
from smarthost.engine.delivery._classify import SETUP_FAULTS, Fault, classify
from smarthost.engine.delivery._deadlines import Deadlines
from smarthost.engine.delivery._health import Health
from smarthost.engine.delivery._jury import Jury
from smarthost.engine.delivery._outcome import (
    Circumstances,
    acquitted,
    failed_here,
    give_back,
    held_here,
    judge,
)
from smarthost.engine.delivery._places import Facts, Pace, Rate, Window, decide
from smarthost.engine.delivery._prepare import Job, jobs
from smarthost.engine.delivery._route import OPEN, Happening, RouteState
from smarthost.engine.delivery._schedule import DAY, SECOND
from smarthost.engine.delivery._session import Session
from smarthost.errors import HeaderError, SmarthostError
from smarthost.routing import Upstream
from smarthost.smtp import LocalError, Result
from smarthost.spool import Charge, Event, Lease, LeasedDelivery, Outcome, Priority, State, now_us
from smarthost.spool import Route as StoredRoute

if TYPE_CHECKING:
    from smarthost.engine.delivery._delivery import Delivery

DONE_BEFORE_SEND = faults.planted("done-before-send")

JURY_PATIENCE = 30.0  # seconds that an unjudged refusal waits at most


class Lane:
    """What the engine does for one upstream. Used on the loop's thread only."""

    def __init__(self, delivery: Delivery, upstream: Upstream) -> None:
        self.delivery = delivery
        self.upstream = upstream
        self.health = Health()
        self.sessions: set[Session] = set()
        self.buffer: deque[Job] = deque()
        self.window = Window(upstream.connections)
        self.rate = Rate(upstream.rate, time.monotonic())
        self.pace = Pace()
        self.jury: Jury[tuple[Lease, Outcome]] = Jury()
        self.waiting = True
        self.full = False
        self.leasing = 0
        self.stopped = False
        self._wakes = 0
        self._jury_since = 0.0
        self._quota_until = 0
        self.health.calm_until = 0
        self._recipients = upstream.max_recipients
        self._access: Access | None = None
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return (
            f"<Lane {self.upstream.name} {self.health.route.state.value} {sorted(map(repr, self.sessions))}>"
        )

    # --- what sessions ask

    @property
    def deadlines(self) -> Deadlines:
        return self.delivery.deadlines

    def fresh(self) -> bool:
        """Whether this engine's leases are certainly still its own."""
        return self.delivery.fresh()

    def own_addresses(self) -> Iterable[tuple[str, int]]:
        return self.delivery.own_addresses()

    async def chunk(self, message_id: str, n: int) -> bytes:
        return await self.delivery.spool.chunk(message_id, n)

    def access(self) -> Access:
        """How to connect. Raises SecretError, ConfigError."""
        if self._access is None:
            delivery = self.delivery
            self._access = make_access(self.upstream, delivery.key, delivery.hostname, delivery.log)
        return self._access

    # --- what sessions report

    def opened(self, session: Session) -> None:
        """A session is ready."""
        capabilities = session.client.capabilities if session.client is not None else None
        limit = capabilities.rcpt_max if capabilities is not None else 0
        self._recipients = min(self.upstream.max_recipients, limit or self.upstream.max_recipients)
        if self.health.route.fault in SETUP_FAULTS:
            self.happened(Happening.PROVEN)
        self.delivery.touch(self)

    def gone(self, session: Session, failure: tuple[Fault, str, str] | None) -> None:
        """A session is over; `failure` where it never got ready."""
        self.sessions.discard(session)
        if failure is not None and not self.delivery.draining:
            fault, stage, text = failure
            one_too_many = fault in (Fault.SESSION, Fault.CONNECT, Fault.THROTTLE) and self._ready_count()
            if one_too_many or fault is Fault.THROTTLE:
                self.window.limited(len(self.sessions) + 1)
            if not one_too_many:  # others work: the route is not at fault
                self.happened(Happening.FAULT, fault=fault, reason=f"{stage}: {text}")
            self.delivery.log.warning(
                "session-failed", upstream=self.upstream.name, stage=stage, fault=fault.value, text=text
            )
        self.delivery.touch(self)

    def broke(self, session: Session, code: int, enhanced: str, text: str) -> None:
        """A ready session ended by itself, with something under way or before it did anything."""
        if session.leaving or self.delivery.draining:
            return
        fault = classify("mail", code, enhanced, text) if code else Fault.SESSION
        if fault in (Fault.THROTTLE, Fault.QUOTA):
            self.window.limited(len(self.sessions))
            self.happened(Happening.FAULT, fault=fault, reason=text)
        elif code == 421:
            self.window.limited(len(self.sessions))
        elif not session.accepted:
            self.happened(Happening.FAULT, fault=Fault.SESSION, reason=text)

    def crashed(self, session: Session, error: BaseException) -> None:
        self.delivery.log.error(
            "session-crashed", session=session.name, error=f"{type(error).__name__}: {error}"
        )

    def feed(self, session: Session) -> None:
        """Give waiting jobs to a session that has room."""
        buffer = self.buffer
        while buffer and session.room:
            self._give(session, buffer.popleft())

    def _give(self, session: Session, job: Job) -> None:
        if DONE_BEFORE_SEND:
            self.delivery.outcome(
                [
                    Outcome(one.id, job.lease.token, State.SENT, now_us(), code=250, reply="planted")
                    for one in job.deliveries
                ]
            )
        try:
            session.give(job)
        except LocalError as error:
            self._unusable(job.lease, job.deliveries, str(error))

    def done(self, session: Session, job: Job, results: tuple[Result, ...]) -> None:
        """A transaction is over: judge each recipient."""
        if DONE_BEFORE_SEND:
            self.delivery.touch(self)
            return
        now = now_us()
        directory = self.delivery.directory
        took = time.monotonic() - job.given_at
        self.pace.served(took)
        judgement = judge(
            job,
            results,
            Circumstances(
                now,
                session.name,
                f'{session.timings}"transaction":{int(took * 1e6)}}}',
                lambda: session.transcript,
                self.upstream.unknown,
                directory.unknown_retry_after,
            ),
        )
        for outcome in judgement.outcomes:
            self.delivery.settle(self, job.lease, outcome)
        if results and results[0].warnings:
            self.delivery.log.warning(
                "sent-with-warning", id=job.lease.message_id, warning=",".join(results[0].warnings)
            )
        if judgement.accepted:
            session.accepted += 1
            self.window.success()
            self._release(self.jury.accepted())
        for key, outcome in judgement.suspects:
            self._suspect(key, job.lease, outcome)
        if not self.jury.holding:
            self._jury_since = 0.0
        elif not self._jury_since:
            self._jury_since = time.monotonic()
        if judgement.fault is not None:
            fault, text = judgement.fault
            if fault in (Fault.THROTTLE, Fault.QUOTA):
                self.window.limited(len(self.sessions))
            self.happened(Happening.FAULT, fault=fault, reason=text)
        elif self.health.route is not OPEN and (
            judgement.accepted or (self.health.probing and _answered(results))
        ):
            self.happened(Happening.PROVEN)
        self.delivery.touch(self)

    def _suspect(self, key: str, lease: Lease, outcome: Outcome) -> None:
        """A refusal that may be the route's fault: the jury decides, once for a pause."""
        known = self.health.route.state is not RouteState.OPEN and self.health.route.fault is Fault.REFUSAL
        entry = (lease, outcome)
        own, accused = ([], [entry]) if known else self.jury.hear(key, lease.message_id, entry)
        self._release(own)
        if accused:
            for other, refused in accused:
                self.delivery.settle(self, other, acquitted(refused))
            reason = f"message after message is refused: {outcome.code} {outcome.reply}"
            self.happened(Happening.FAULT, fault=Fault.REFUSAL, reason=reason)

    def _release(self, judged: list[tuple[Lease, Outcome]]) -> None:
        for lease, outcome in judged:
            self.delivery.settle(self, lease, outcome)

    # --- the route

    def happened(self, happening: Happening, *, fault: Fault = Fault.SESSION, reason: str = "") -> None:
        """Step the route's machine and do what follows."""
        since = self.health.route.since
        changed, announcement = self.health.happened(happening, now_us(), fault, reason)
        if changed:
            self._route_changed()
            self.delivery.persist(self, announcement, since)

    def restore(self, stored: StoredRoute | None) -> None:
        """Take over what others know of the route."""
        if self.health.restore(stored, now_us()):
            self._route_changed()

    def _route_changed(self) -> None:
        if self.health.paused:
            self._close_all(idle_only=True)
            self._give_back_buffer()
        else:
            self.waiting = True
        self.delivery.touch(self)

    # --- one turn

    def woken(self) -> None:
        """Mail may wait."""
        self._wakes += 1
        self.waiting = True
        self.delivery.touch(self)

    def feed_all(self) -> None:
        """Put what waits into sessions; give it back where there is none and none coming."""
        if self.buffer:
            if self._ready_count():
                self._spread()
            elif not any(not session.over and not session.ready for session in self.sessions):
                self._give_back_buffer()
                self.waiting = True

    def turn(self) -> None:
        """Do what can be done now."""
        delivery = self.delivery
        now = now_us()
        stopped = self.stopped or delivery.draining or delivery.stalled or not self.upstream.enabled
        if stopped or not self.waiting or self.health.paused:
            self._rest()
            return
        allowance = (
            self.rate.available(time.monotonic())
            if now >= max(self._quota_until, self.health.calm_until)
            else 0
        )
        ready = free = places = 0
        for session in self.sessions:
            free += session.room
            if session.takes_jobs:
                ready += 1
                places += session.room + session.open
        standby = self.pace.standby(places) - max(0, len(self.buffer) - free)
        free -= len(self.buffer)
        if self.health.probing and self.busy:
            free = 0  # one message at a time
        steps = decide(
            Facts(
                state=self.health.route.state,
                limit=min(self.window.size, self.upstream.connections),
                ready=ready,
                connecting=len(self.sessions) - ready,
                free=max(0, free),
                waiting=self.waiting,
                full=self.full,
                leasing=self.leasing > 0,
                allowance=allowance,
                may_open=self.health.probing or now >= self.health.route.until,
                standby=max(0, standby),
            )
        )
        for _ in range(steps.open):
            self._open()
        if ready > self.window.size:
            self._shrink(ready - self.window.size)
        if steps.lease:
            self._lease(steps.lease)
        elif allowance <= 0:
            delivery.later(
                self,
                max(
                    self.rate.wait(time.monotonic()),
                    (max(self._quota_until, self.health.calm_until) - now) / SECOND,
                ),
            )
        elif not self.sessions and now < self.health.route.until and not self.health.paused:
            delivery.later(self, (self.health.route.until - now) / SECOND)

    def _ready_count(self) -> int:
        return sum([session.takes_jobs for session in self.sessions])

    def _spread(self) -> None:
        """Jobs to sessions, those with most room first."""
        for wanted in (2, 1):
            for session in tuple(self.sessions):
                if not self.buffer:
                    return
                if session.room >= wanted:
                    self._give(session, self.buffer.popleft())
                    if wanted == 1:
                        self.feed(session)
                    session.flush()

    def _shrink(self, surplus: int) -> None:
        """End sessions that the window no longer allows, those that do nothing first."""
        for session in sorted(self.sessions, key=lambda one: one.open)[:surplus]:
            session.quit()

    def _open(self) -> None:
        session = Session(self, f"{self.upstream.name}/{self.delivery.incarnation}.{next(self._numbers)}")
        self.sessions.add(session)
        session.start()

    def _lease(self, places: int) -> None:
        self.leasing += places
        wakes, asked = self._wakes, time.monotonic()
        future = self.delivery.spool.lease(self.upstream.id, places, self._recipients)
        future.add_done_callback(lambda done: self._leased(places, wakes, asked, done))

    def _leased(self, places: int, wakes: int, asked: float, done: asyncio.Future[list[Lease]]) -> None:
        """A lease came back."""
        self.pace.leased(time.monotonic() - asked)
        error = None if done.cancelled() else done.exception()
        if done.cancelled() or error is not None:
            self.leasing -= places
            if error is not None:
                self.delivery.store_trouble(error)
                self.delivery.later(self, 1.0)
            return
        leases = done.result()
        self.full = len(leases) >= places
        if not self.full:
            self.waiting = self._wakes != wakes
            if not leases and self.health.probing:
                self.happened(Happening.PROVEN)  # a session got ready, and there is no mail to try
        if leases:
            faults.point("after-lease")
            self.rate.take(len(leases))
        if leases and self.upstream.quota:
            self.delivery.spawn(self._charged(places, leases))
        else:
            self._begin(places, leases)

    async def _charged(self, places: int, leases: list[Lease]) -> None:
        """Charge the day's quota; what is over it goes back until tomorrow."""
        now = now_us()
        day, id_ = now - now % DAY, self.upstream.id
        granted = 0
        try:
            for step in (len(leases), 1):
                charge = Charge(f"upstream:{id_}", day, step, self.upstream.quota)
                while granted + step <= len(leases) and await self.delivery.spool.charge_quota(charge):
                    granted += step
        except SmarthostError as error:
            self.delivery.store_trouble(error)
        if granted < len(leases):
            self._quota_until = day + DAY
            text = f"{self.upstream.name}: today's quota of {self.upstream.quota} messages is used up"
            self.delivery.record(Event(now, "upstream.quota", id_, text, "warning"))
            self.waiting = True
            for lease in leases[granted:]:
                self._return(lease)
        self._begin(places, leases[:granted])

    def _begin(self, places: int, leases: list[Lease]) -> None:
        self.leasing -= places
        for lease in leases:
            self._admit(lease)
        self.delivery.touch(self)
        if self.buffer and self._ready_count():
            self._spread()

    def _admit(self, lease: Lease) -> None:
        """From a lease to jobs, unless it must not be sent."""
        now = now_us()
        if not lease.deliveries:
            self.delivery.log.error(
                "content-damaged", id=lease.message_id, text="the stored content is damaged: held"
            )
            return
        if self.delivery.draining or self.stopped or self.health.paused:
            self._return(lease)
            return
        if self.health.outgrown(lease):
            text = "held: it grew older than its longest age while its route was paused"
            for delivery in lease.deliveries:
                self.delivery.settle(self, lease, held_here(delivery, lease.token, now, text))
            return
        try:
            if lease.priority is Priority.URGENT:
                self.buffer.extendleft(reversed(jobs(lease, self.delivery.hostname)))
            else:
                self.buffer.extend(jobs(lease, self.delivery.hostname))
        except HeaderError as error:
            for delivery in lease.deliveries:
                outcome = failed_here(delivery, lease.token, now, error.enhanced, error.public)
                self.delivery.settle(self, lease, outcome)
        except Exception as error:
            self._unusable(lease, lease.deliveries, f"{type(error).__name__}: {error}")

    def _unusable(self, lease: Lease, deliveries: list[LeasedDelivery], why: str) -> None:
        """A message that breaks our own code waits for a person and stops nobody else."""
        self.delivery.log.error("message-unusable", id=lease.message_id, text=why)
        for delivery in deliveries:
            text = f"held: it could not be prepared for sending ({why})"
            self.delivery.settle(self, lease, held_here(delivery, lease.token, now_us(), text))

    def _return(self, lease: Lease) -> None:
        now = now_us()
        for delivery in lease.deliveries:
            self.delivery.settle(self, lease, give_back(delivery, lease.token, now))

    def _give_back_buffer(self) -> None:
        now = now_us()
        while self.buffer:
            job = self.buffer.popleft()
            for delivery in job.deliveries:
                self.delivery.settle(self, job.lease, give_back(delivery, job.lease.token, now))

    def _rest(self) -> None:
        """Nothing more comes: what the jury holds is judged now."""
        if (
            self.jury.holding
            and not self.leasing
            and not self.buffer
            and not any(one.open for one in self.sessions)
        ):
            self._release(self.jury.rest())
            self._jury_since = 0.0

    # --- changes and the end

    def update(self, upstream: Upstream) -> None:
        """The settings changed: new sessions use them, old ones end, a paused route is tried."""
        self.upstream = upstream
        self._access = None
        self._recipients = upstream.max_recipients
        self.window.resize(upstream.connections)
        self.rate = Rate(upstream.rate, time.monotonic())
        self._quota_until = 0
        self.waiting = True
        self._close_all(idle_only=False)
        self.happened(Happening.CHANGED)
        self.delivery.touch(self)

    def sweep(self, now: float) -> None:
        """Once a second: deadlines, idle sessions, refusals that waited long enough."""
        for session in tuple(self.sessions):
            session.sweep(now)
        if self.jury.holding and now - self._jury_since > JURY_PATIENCE:
            self._release(self.jury.rest())
            self._jury_since = 0.0

    def stop(self) -> None:
        """Take no more mail; finish what is open."""
        self.stopped = True
        self._give_back_buffer()
        self._close_all(idle_only=False)

    def abort(self, why: str) -> None:
        """Break every session now."""
        self._give_back_buffer()
        for session in tuple(self.sessions):
            session.drop(why)
        self._release(self.jury.rest())

    def _close_all(self, *, idle_only: bool) -> None:
        for session in tuple(self.sessions):
            if not idle_only or (session.ready and not session.open):
                session.quit()

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self.leasing or self.buffer or any(session.open for session in self.sessions))


def _answered(results: tuple[Result, ...]) -> bool:
    return any(not result.reply.local and result.reply.code for result in results)
