"""What a lane knows of its route's health, and how that is stored for other engines and later processes."""

from __future__ import annotations

import json
import random

from smarthost.engine.delivery._classify import Fault
from smarthost.engine.delivery._route import (
    OPEN,
    Announcement,
    Happening,
    Route,
    RouteState,
    next_probe,
    step,
)
from smarthost.engine.delivery._schedule import outgrew
from smarthost.spool import Lease
from smarthost.spool import Route as StoredRoute


class Health:
    """The route's state. Times are microseconds since the epoch.

    calm_until  nothing is leased before it: the server asked to be slower.
    """

    __slots__ = ("_outage", "calm_until", "route")

    def __init__(self) -> None:
        self.route: Route = OPEN
        self.calm_until = 0
        self._outage: tuple[int, int] | None = None

    @property
    def paused(self) -> bool:
        return self.route.state is RouteState.PAUSED

    @property
    def probing(self) -> bool:
        return self.route.state is RouteState.PROBING

    def happened(
        self, happening: Happening, now: int, fault: Fault, reason: str
    ) -> tuple[bool, Announcement | None]:
        """Step the machine: whether there is something to store, and what to say."""
        before = self.route
        self.route, announcement = step(
            before,
            happening,
            now,
            fault=fault,
            reason=reason,
            chance=random.random(),  # noqa: S311
        )
        if self.route.state is before.state is RouteState.OPEN:
            if fault is Fault.THROTTLE and happening is Happening.FAULT:
                self.calm_until = self.route.until
            return False, None
        if announcement is Announcement.RETURNED:
            self._outage = (before.since, now)
        return self.route is not before, announcement

    def outgrown(self, lease: Lease) -> bool:
        """Whether the message became too old while its route was paused."""
        return self._outage is not None and outgrew(lease.created_at, lease.priority, *self._outage)

    def probe_due(self, now: int) -> bool:
        """Whether it is time to try the paused route again."""
        return self.paused and now >= self.route.until

    def probe_until(self, now: int) -> int:
        """When the probe after the next may come, for the claim over all engines."""
        return now + next_probe(self.route)

    def stored(self, upstream: str, now: int) -> StoredRoute:
        """The route as others are to see it."""
        route = self.route
        if route.state is RouteState.OPEN:
            return StoredRoute(upstream)
        until = route.until or now
        return StoredRoute(
            upstream,
            paused_until=until,
            reason=route.fault.value if route.fault else "",
            text=route.reason[:500],
            since=route.since,
            failures=route.failures,
            probe_at=until,
            detail=json.dumps({"probes": route.probes}),
        )

    def restore(self, stored: StoredRoute | None, now: int) -> bool:
        """Take over what another engine, or an earlier process, found out; whether the state changed."""
        if stored is None or stored.paused_until is None:
            if not self.paused:
                return False
            self._outage = (self.route.since, now)
            self.route = OPEN
            return True
        if self.probing:
            return False
        changed = not self.paused
        fault = Fault(stored.reason) if stored.reason in Fault._value2member_map_ else Fault.SESSION
        self.route = Route(
            RouteState.PAUSED,
            fault,
            stored.text,
            since=stored.since or now,
            until=stored.probe_at or stored.paused_until,
            failures=stored.failures,
            probes=int(json.loads(stored.detail or "{}").get("probes", 0)),
        )
        return changed
