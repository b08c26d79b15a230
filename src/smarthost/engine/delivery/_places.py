"""How many connections and how many rows an upstream gets now. Pure.

A place is room for one transaction in a session: one, or two where the next message may follow before the
reply to the last. A row is leased only when a place for it is free, so nothing that is leased ever waits
behind a slow server, and mail that becomes urgent is never stuck behind bulk that was taken early.

Where the server answers faster than the store leases, its sessions would spend their time waiting for the
store. There, and only there, as many messages stand by as the server takes while one lease is under way: a
server at the other end of a real network has none, one on the same machine a few dozen for milliseconds.

Connections grow with demand: a lease that came back full says that more waits, and one more connection is
opened for each that is ready, up to the window. The window grows by one a round of successes and is halved
when the server says that it is too many (additive increase, multiplicative decrease).
"""

from __future__ import annotations

from dataclasses import dataclass

from smarthost.engine.delivery._route import RouteState


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about a lane at one moment.

    limit      connections allowed now; ready and connecting are those that exist.
    free       places in ready sessions that hold nothing and have nothing coming.
    standby    messages that may be leased beyond those (see `Pace`).
    waiting    whether rows may wait; full: the last lease came back as full as asked.
    leasing    whether a lease is under way. allowance: messages that rate and quota still allow now.
    may_open   whether a connection may be opened now (no cool-down, not draining, not switched off).
    """

    state: RouteState
    limit: int
    ready: int
    connecting: int
    free: int
    waiting: bool
    full: bool
    leasing: bool
    allowance: int
    may_open: bool
    standby: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """How many connections to open and how many places to lease for."""

    open: int = 0
    lease: int = 0


NOTHING = Steps()


def decide(facts: Facts) -> Steps:
    """What to do for a lane now."""
    if not facts.waiting or facts.state is RouteState.PAUSED or facts.allowance <= 0:
        return NOTHING
    if facts.state is RouteState.PROBING:
        alone = facts.ready + facts.connecting == 0
        lease = min(facts.free, 1) if not facts.leasing else 0
        return Steps(open=1 if alone and facts.may_open else 0, lease=lease)
    lease = 0 if facts.leasing else min(facts.free + facts.standby, facts.allowance)
    present = facts.ready + facts.connecting
    wanted = 0
    if facts.may_open and facts.connecting == 0:
        if present == 0:
            wanted = 1
        elif facts.full:
            wanted = min(present, facts.limit - present)
    return Steps(open=max(0, min(wanted, facts.limit - present)), lease=lease)


class Window:
    """Connections that the server seems to bear: AIMD between 1 and the configured number."""

    __slots__ = ("_successes", "most", "size")

    def __init__(self, most: int) -> None:
        self.most = max(1, most)
        self.size = self.most
        self._successes = 0

    def resize(self, most: int) -> None:
        """The configured number changed."""
        self.size = max(1, most) if self.size == self.most else min(self.size, max(1, most))
        self.most = max(1, most)

    def success(self, count: int = 1) -> None:
        """That many messages got through; a window's worth of twenty each adds one connection."""
        if self.size < self.most:
            self._successes += count
            if self._successes >= 20 * self.size:
                self._successes = 0
                self.size += 1

    def limited(self, present: int) -> None:
        """The server said that it is too many while `present` connections stood."""
        self._successes = 0
        self.size = max(1, min(self.size, present) // 2)


class Pace:
    """How fast the server takes messages against how fast the store leases them."""

    __slots__ = ("_lease", "_service")

    MOST = 64
    """Messages that may stand by: what a crash would leave as unknown ends besides those in sessions."""

    def __init__(self) -> None:
        self._service = self._lease = 0.0

    def served(self, seconds: float) -> None:
        """A transaction took so long, from its session's having it to its end."""
        self._service += ((seconds - self._service) / 16) if self._service else seconds

    def leased(self, seconds: float) -> None:
        """A lease took so long."""
        self._lease += ((seconds - self._lease) / 16) if self._lease else seconds

    def standby(self, places: int) -> int:
        """Messages to lease beyond the free ones of `places`; 0 until both speeds are known."""
        if not self._service:
            return 0
        return min(self.MOST, int(places * self._lease / self._service))


class Rate:
    """A token bucket: `per_minute` messages a minute, at most six seconds' worth at once; 0 is no limit."""

    __slots__ = ("_at", "_tokens", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._tokens = self._burst
        self._at = now

    @property
    def _burst(self) -> float:
        return max(1.0, self.per_minute / 10)

    def available(self, now: float) -> int:
        """Whole messages that may go now; `now` in seconds of a monotonic clock."""
        if not self.per_minute:
            return 1 << 30
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self.per_minute / 60)
        self._at = max(now, self._at)
        return int(self._tokens)

    def take(self, count: int) -> None:
        """Use `count` messages."""
        if self.per_minute:
            self._tokens -= count

    def wait(self, now: float) -> float:
        """Seconds until one message may go."""
        if self.available(now) >= 1:
            return 0.0
        return (1 - self._tokens) * 60 / self.per_minute
