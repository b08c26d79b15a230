"""The state of a route: open, paused, probing.

A fault of the route pauses it for all its mail, so that no message pays for a password that expired. It is
then probed, by one session and one message, with a back-off that depends on the fault: a refused login is
tried once after 15 minutes and then every four hours, because every further attempt may lock the account;
a server that is merely down is tried within seconds. A changed setting is tried at once. Faults that often
pass by themselves (no connection, no banner, a resolver that hiccups) get a short silent grace before the
route counts as paused and somebody is alerted.

`TABLE` is the whole machine; `step` is pure and applies it. What is PAUSED is persisted by the caller, so
that restarts and other engines respect it. An alert is said once when a route pauses and once when it
returns, never in between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from smarthost.engine.delivery._classify import Fault
from smarthost.engine.delivery._schedule import HOUR, MINUTE, SECOND


class RouteState(Enum):
    OPEN = "open"
    PAUSED = "paused"
    PROBING = "probing"


class Happening(Enum):
    FAULT = "fault"  # a fault of the route was seen
    DUE = "due"  # the time of the next probe has come
    CHANGED = "changed"  # somebody changed the upstream's settings
    PROVEN = "proven"  # a session got ready, or a message got through


class Announcement(Enum):
    PAUSED = "route.paused"
    RETURNED = "route.returned"


@dataclass(frozen=True, slots=True)
class Route:
    """until: no connection before this (microseconds); while PROBING, when the next probe may follow.

    since: when the pause began, 0 when open.

    failures: faults in a row, grace included. probes: probes made in this pause.
    """

    state: RouteState = RouteState.OPEN
    fault: Fault | None = None
    reason: str = ""
    since: int = 0
    until: int = 0
    failures: int = 0
    probes: int = 0


PROBES: dict[Fault, tuple[int, ...]] = {
    Fault.CREDENTIALS: (15 * MINUTE, 4 * HOUR),
    Fault.CONFIG: (15 * MINUTE, 4 * HOUR),
    Fault.TLS: (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR),
    Fault.DNS: (15 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE),
    Fault.CONNECT: (10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE),
    Fault.SESSION: (10 * SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, 10 * MINUTE),
    Fault.QUOTA: (15 * MINUTE, 30 * MINUTE, HOUR),
    Fault.THROTTLE: (MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE),
    Fault.REFUSAL: (5 * MINUTE, 15 * MINUTE, HOUR),
}
GRACE: dict[Fault, tuple[int, ...]] = {
    Fault.CONNECT: (SECOND, 4 * SECOND),
    Fault.SESSION: (SECOND, 4 * SECOND),
    Fault.DNS: (2 * SECOND,),
    Fault.THROTTLE: (5 * SECOND, 10 * SECOND, 20 * SECOND, 40 * SECOND, 60 * SECOND),
}
SPREAD = 0.1  # probes of many routes and engines do not fall on one moment

_OPEN, _PAUSED, _PROBING = RouteState.OPEN, RouteState.PAUSED, RouteState.PROBING

TABLE: dict[tuple[RouteState, Happening], tuple[RouteState, Announcement | None]] = {
    (_OPEN, Happening.FAULT): (_PAUSED, Announcement.PAUSED),
    (_OPEN, Happening.DUE): (_OPEN, None),
    (_OPEN, Happening.CHANGED): (_OPEN, None),
    (_OPEN, Happening.PROVEN): (_OPEN, None),
    (_PAUSED, Happening.FAULT): (_PAUSED, None),  # other sessions' late news
    (_PAUSED, Happening.DUE): (_PROBING, None),
    (_PAUSED, Happening.CHANGED): (_PROBING, None),
    (_PAUSED, Happening.PROVEN): (_PAUSED, None),  # a session from before the pause: the probe decides
    (_PROBING, Happening.FAULT): (_PAUSED, None),
    (_PROBING, Happening.DUE): (_PROBING, None),
    (_PROBING, Happening.CHANGED): (_PROBING, None),
    (_PROBING, Happening.PROVEN): (_OPEN, Announcement.RETURNED),
}


def step(
    route: Route,
    happening: Happening,
    now: int,
    *,
    fault: Fault = Fault.SESSION,
    reason: str = "",
    chance: float = 0.0,
) -> tuple[Route, Announcement | None]:
    """What follows from `happening`. `fault` and `reason` matter for FAULT only; chance is in [0, 1)."""
    state, announcement = TABLE[route.state, happening]
    if happening is Happening.FAULT:
        if route.state is _PAUSED:
            return route, None
        grace = GRACE.get(fault, ())
        if route.state is _OPEN and route.failures < len(grace):
            return replace(
                route, fault=fault, failures=route.failures + 1, until=now + grace[route.failures]
            ), None
        pauses = PROBES[fault]
        probes = route.probes if route.state is _PROBING and fault is route.fault else 0
        pause = pauses[min(probes, len(pauses) - 1)]
        return (
            Route(
                state,
                fault,
                reason,
                since=route.since or now,
                until=now + pause + int(pause * SPREAD * chance),
                failures=route.failures + 1,
                probes=probes,
            ),
            announcement,
        )
    if state is _PROBING and route.state is _PAUSED:
        # `until` is now the time of the next probe, which the claim over all engines stands for.
        return replace(
            route, state=state, probes=route.probes + 1, until=now + next_probe(route)
        ), announcement
    if happening is Happening.PROVEN and state is _OPEN:
        return (route if route == OPEN else OPEN), announcement
    if happening is Happening.CHANGED and state is _OPEN:
        return OPEN, announcement
    return replace(route, state=state), announcement


OPEN = Route()


def next_probe(route: Route) -> int:
    """How long after a probe the next one may follow, in microseconds."""
    pauses = PROBES[route.fault or Fault.SESSION]
    return pauses[min(route.probes + 1, len(pauses) - 1)]
