"""One upstream's lane: its sessions, its jobs, its route.

    wake → turn(): decide → open a session | lease for free places
    lease came → buffer → feed(session) → … → done(): judge → outcomes
    session failed → route step → pause, probe, return

A lane never waits: `turn` is called once for each turn of the event loop in which something happened, asks
`decide` and starts what it says. Places are counted over ready sessions, and a lease asks for no more than
are free, so a leased row is on the wire within the same turn.

Invariants: every lease ends in exactly one outcome for each of its deliveries (settled, given back, or held
by the jury until it is judged); with the route paused nothing is leased; while outcomes cannot be stored
nothing is leased (a store that cannot note a success must not cause another).
"""

from __future__ import annotations

import itertools
import json
import random
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

from smarthost import faults
from smarthost.engine.delivery._classify import SETUP_FAULTS, Fault, classify
from smarthost.engine.delivery._deadlines import Deadlines
from smarthost.engine.delivery._jury import Jury
from smarthost.engine.delivery._outcome import (
    Circumstances,
    acquitted,
    failed_here,
    give_back,
    held_here,
    judge,
)
from smarthost.engine.delivery._places import Facts, Rate, Window, decide
from smarthost.engine.delivery._prepare import Job, jobs
from smarthost.engine.delivery._route import (
    OPEN,
    Announcement,
    Happening,
    Route,
    RouteState,
    next_probe,
    step,
)
from smarthost.engine.delivery._schedule import DAY, SECOND, outgrew
from smarthost.engine.delivery._session import Session
from smarthost.engine.delivery._tls import make_context
from smarthost.errors import HeaderError, SmarthostError
from smarthost.routing import Encryption, UnknownPolicy, Upstream, destination
from smarthost.smtp import ClientOptions, Login, Result, Security
from smarthost.spool import Charge, Event, Lease, Outcome, State, now_us
from smarthost.spool import Route as StoredRoute
from smarthost.vault import unseal

if TYPE_CHECKING:
    from smarthost.engine.delivery._delivery import Delivery

DONE_BEFORE_SEND = faults.planted("done-before-send")

JURY_PATIENCE = 30.0  # seconds that an unjudged refusal waits at most

SECURITY = {
    Encryption.NONE: Security.NONE,
    Encryption.STARTTLS: Security.STARTTLS,
    Encryption.TLS: Security.TLS,
}


class Lane:
    """What the engine does for one upstream. Used on the loop's thread only."""

    def __init__(self, delivery: Delivery, upstream: Upstream) -> None:
        self.delivery = delivery
        self.upstream = upstream
        self.route: Route = OPEN
        self.sessions: set[Session] = set()
        self.buffer: deque[Job] = deque()
        self.window = Window(upstream.connections)
        self.rate = Rate(upstream.rate, time.monotonic())
        self.jury: Jury[tuple[Lease, Outcome]] = Jury()
        self.waiting = True
        self.full = False
        self.leasing = 0
        self.stopped = False
        self._wakes = 0
        self._jury_since = 0.0
        self._outage: tuple[int, int] | None = None
        self._quota_until = 0
        self._calm_until = 0
        self._recipients = upstream.max_recipients
        self._access: tuple[ClientOptions, ssl.SSLContext | None] | None = None
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Lane {self.upstream.name} {self.route.state.value} {sorted(map(repr, self.sessions))}>"

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

    def access(self) -> tuple[ClientOptions, ssl.SSLContext | None]:
        """How to connect, made once a version of the upstream. Raises SecretError, ConfigError."""
        if self._access is None:
            upstream = self.upstream
            where = destination(upstream)
            key = self.delivery.key
            login = None
            if upstream.username and upstream.mechanism != "none":
                secret = unseal(key, upstream.password, where)
                login = Login(upstream.username, secret, upstream.mechanism)
            client_key = unseal(key, upstream.client_key, where) if upstream.client_key else ""
            context = None if upstream.encryption is Encryption.NONE else make_context(upstream, client_key)
            options = ClientOptions(
                helo=upstream.helo or self.delivery.hostname,
                security=SECURITY[upstream.encryption],
                login=login,
                ahead=upstream.unknown is UnknownPolicy.RETRY,
                host=upstream.host,
                port=upstream.port,
            )
            self._access = options, context
            self._warn_of_settings(login is not None)
        return self._access

    def _warn_of_settings(self, login: bool) -> None:
        upstream, log = self.upstream, self.delivery.log
        if upstream.encryption is not Encryption.NONE and not upstream.verify and not upstream.pin:
            log.warning("upstream-unverified", upstream=upstream.name, text="certificate verification is off")
        if upstream.encryption is Encryption.NONE and login:
            log.warning(
                "upstream-login-in-clear", upstream=upstream.name, text="the login is sent without encryption"
            )

    # --- what sessions report

    def opened(self, session: Session) -> None:
        """A session is ready."""
        capabilities = session.client.capabilities if session.client is not None else None
        limit = capabilities.rcpt_max if capabilities is not None else 0
        self._recipients = min(self.upstream.max_recipients, limit or self.upstream.max_recipients)
        if self.route.fault in SETUP_FAULTS:
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
        """A ready session ended without being asked to."""
        if code == 0 and not session.open and session.messages:
            return  # a kept session that the server closed while it was idle: ordinary
        fault = classify("mail", code, enhanced, text) if code else Fault.SESSION
        if fault in (Fault.THROTTLE, Fault.QUOTA):
            self.window.limited(len(self.sessions))
            self.happened(Happening.FAULT, fault=fault, reason=text)
        elif code == 421:
            self.window.limited(len(self.sessions))
        elif not session.messages:
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
        session.give(job)

    def done(self, session: Session, job: Job, results: tuple[Result, ...]) -> None:
        """A transaction is over: judge each recipient."""
        if DONE_BEFORE_SEND:
            self.delivery.touch(self)
            return
        now = now_us()
        directory = self.delivery.directory
        judgement = judge(
            job,
            results,
            Circumstances(
                now,
                session.name,
                _timings(session.timings, time.monotonic() - job.given_at),
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
            self.window.success()
            self._release(self.jury.accepted())
        for key, outcome in judgement.suspects:
            self._suspect(key, job.lease, outcome)
        self._jury_since = self._jury_since or time.monotonic() if self.jury.holding else 0.0
        if judgement.fault is not None:
            fault, text = judgement.fault
            if fault in (Fault.THROTTLE, Fault.QUOTA):
                self.window.limited(len(self.sessions))
            self.happened(Happening.FAULT, fault=fault, reason=text)
        elif judgement.accepted or (self.route.state is RouteState.PROBING and _answered(results)):
            self.happened(Happening.PROVEN)
        self.delivery.touch(self)

    def _suspect(self, key: str, lease: Lease, outcome: Outcome) -> None:
        """A refusal that may be the route's fault: the jury decides, and the probe of such a fault at once."""
        probing = self.route.state is RouteState.PROBING and self.route.fault is Fault.REFUSAL
        own, accused = (
            ([], [(lease, outcome)]) if probing else self.jury.hear(key, lease.message_id, (lease, outcome))
        )
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
        before = self.route
        self.route, announcement = step(
            before,
            happening,
            now_us(),
            fault=fault,
            reason=reason,
            chance=random.random(),  # noqa: S311
        )
        if self.route is before:
            return
        if before.state is RouteState.OPEN and self.route.state is RouteState.OPEN:
            if fault is Fault.THROTTLE and happening is Happening.FAULT:
                self._calm_until = self.route.until
            return
        if self.route.state is RouteState.PAUSED:
            self._close_all(idle_only=True)
            self._give_back_buffer()
        if announcement is Announcement.RETURNED:
            self._outage = (before.since, now_us())
            self.waiting = True
        self.delivery.persist(self, announcement, before)
        self.delivery.touch(self)

    @property
    def paused(self) -> bool:
        return self.route.state is RouteState.PAUSED

    def stored(self) -> StoredRoute:
        """The route as other engines and later processes are to see it."""
        route = self.route
        if route.state is RouteState.OPEN:
            return StoredRoute(self.upstream.id)
        return StoredRoute(
            self.upstream.id,
            paused_until=route.until or now_us(),
            reason=route.fault.value if route.fault else "",
            text=route.reason[:500],
            since=route.since,
            failures=route.failures,
            probe_at=route.until or now_us(),
            detail=json.dumps({"probes": route.probes}),
        )

    def restore(self, stored: StoredRoute | None) -> None:
        """Take over what another engine, or an earlier process, knows of the route."""
        if stored is None or stored.paused_until is None:
            if self.route.state is RouteState.PAUSED:
                self._outage = (self.route.since, now_us())
                self.route = OPEN
                self.waiting = True
                self.delivery.touch(self)
            return
        if self.route.state is RouteState.OPEN:
            fault = Fault(stored.reason) if stored.reason in Fault._value2member_map_ else Fault.SESSION
            self.route = Route(
                RouteState.PAUSED,
                fault,
                stored.text,
                since=stored.since,
                until=stored.probe_at or stored.paused_until,
                failures=stored.failures,
                probes=int(json.loads(stored.detail or "{}").get("probes", 0)),
            )
            self._close_all(idle_only=True)
            self._give_back_buffer()
        elif self.route.state is RouteState.PAUSED and stored.probe_at:
            self.route = Route(
                RouteState.PAUSED, self.route.fault, self.route.reason, self.route.since, stored.probe_at,
                self.route.failures, self.route.probes,
            )  # fmt: skip

    def probe_due(self, now: int) -> bool:
        """Whether it is time to try the paused route again."""
        return self.route.state is RouteState.PAUSED and now >= self.route.until and self.upstream.enabled

    def probe_until(self, now: int) -> int:
        """When the probe after the next may come, for the claim over all engines."""
        return now + next_probe(self.route)

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

    def turn(self) -> None:
        """Do what can be done now."""
        delivery = self.delivery
        now = now_us()
        ready = self._ready_count()
        stopped = self.stopped or delivery.draining or delivery.stalled or not self.upstream.enabled
        if stopped or not self.waiting:
            self._rest()
            return
        allowance = (
            self.rate.available(time.monotonic()) if now >= max(self._quota_until, self._calm_until) else 0
        )
        free = self._free()
        if self.route.state is RouteState.PROBING and self.busy:
            free = 0  # one message at a time
        steps = decide(
            Facts(
                state=self.route.state,
                limit=min(self.window.size, self.upstream.connections),
                ready=ready,
                connecting=len(self.sessions) - ready,
                free=free,
                waiting=self.waiting,
                full=self.full,
                leasing=self.leasing > 0,
                allowance=allowance,
                may_open=now >= self.route.until,
            )
        )
        for _ in range(steps.open):
            self._open()
        if steps.lease:
            self._lease(steps.lease)
        elif allowance <= 0:
            delivery.later(
                self,
                max(
                    self.rate.wait(time.monotonic()),
                    (max(self._quota_until, self._calm_until) - now) / SECOND,
                ),
            )
        elif not self.sessions and now < self.route.until and not self.paused:
            delivery.later(self, (self.route.until - now) / SECOND)

    def _free(self) -> int:
        free = -len(self.buffer)
        for session in self.sessions:
            free += session.room
        return max(0, free)

    def _ready_count(self) -> int:
        count = 0
        for session in self.sessions:
            if session.ready and not session.leaving and not session.over:
                count += 1
        return count

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

    def _open(self) -> None:
        session = Session(self, f"{self.upstream.name}/{self.delivery.incarnation}.{next(self._numbers)}")
        self.sessions.add(session)
        session.start()

    def _lease(self, places: int) -> None:
        self.leasing += places
        wakes = self._wakes
        if self.upstream.quota:
            self.delivery.spawn(self._charged_lease(places, wakes))
            return
        future = self.delivery.spool.lease(self.upstream.id, places, self._recipients)
        future.add_done_callback(lambda done: self._leased(places, wakes, done.exception(), done))

    async def _charged_lease(self, places: int, wakes: int) -> None:
        """Charge the day's quota first. Places that stay empty are charged too: the quota errs downwards."""
        now = now_us()
        day = now - now % DAY
        for wanted in (places, 1):
            charge = Charge(f"upstream:{self.upstream.id}", day, wanted, self.upstream.quota)
            try:
                granted = await self.delivery.spool.charge_quota(charge)
            except SmarthostError as error:
                self._leased(places, wakes, error, None)
                return
            if granted:
                future = self.delivery.spool.lease(self.upstream.id, wanted, self._recipients)
                future.add_done_callback(
                    lambda done: self._leased(places, wakes, done.exception(), done, wanted)
                )
                return
        self.leasing -= places
        self._quota_until = day + DAY
        self.delivery.record(
            Event(now, "upstream.quota", f"upstream:{self.upstream.id}",
                  f"{self.upstream.name}: today's quota of {self.upstream.quota} messages is used up", "warning")
        )  # fmt: skip
        self.delivery.touch(self)

    def _leased(
        self, places: int, wakes: int, error: BaseException | None, done: object, asked: int | None = None
    ) -> None:
        self.leasing -= places
        if error is not None:
            self.delivery.store_trouble(error)
            self.delivery.later(self, 1.0)
            return
        leases: list[Lease] = done.result()  # type: ignore[attr-defined]
        self.full = len(leases) >= (asked or places)
        if not self.full:
            self.waiting = self._wakes != wakes
            if not leases and self.route.state is RouteState.PROBING:
                self.happened(Happening.PROVEN)  # a session got ready, and there is no mail to try
        if leases:
            faults.point("after-lease")
            self.rate.take(len(leases))
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
        if self.delivery.draining or self.stopped or self.paused:
            self._return(lease)
            return
        if self._outage is not None and outgrew(lease.created_at, lease.priority, *self._outage):
            text = "held: it grew older than its longest age while its route was paused"
            for delivery in lease.deliveries:
                self.delivery.settle(self, lease, held_here(delivery, lease.token, now, text))
            return
        try:
            self.buffer.extend(jobs(lease, self.delivery.hostname))
        except HeaderError as error:
            for delivery in lease.deliveries:
                outcome = failed_here(delivery, lease.token, now, error.enhanced, error.public)
                self.delivery.settle(self, lease, outcome)

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
        """The settings changed: new sessions use them, old ones end after their jobs, a paused route is tried."""
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
            if session.ready and not (idle_only and session.open):
                session.quit()

    @property
    def busy(self) -> bool:
        """Whether anything is under way."""
        return bool(self.leasing or self.buffer or any(session.open for session in self.sessions))


def _answered(results: tuple[Result, ...]) -> bool:
    return any(not result.reply.local and result.reply.code for result in results)


def _timings(session: dict[str, int], transaction: float) -> str:
    parts = [f'"{name}":{value}' for name, value in session.items()] if session else []
    parts.append(f'"transaction":{int(transaction * 1_000_000)}')
    return "{" + ",".join(parts) + "}"
