"""How long a wrong login has to wait. Pure: the caller brings the time.

Two counts. One is of (address, login): each failure doubles the time until the next attempt of that pair is
looked at, whether or not the login exists, on whichever connection it comes. One is of the address alone: who
tries many logins waits longer for each "no". Neither ever delays a correct login of another pair, so a
printer with an old password, or an attacker behind the same NAT, locks nobody else out.

IPv6 peers count by their /64, which is what one subscriber has. Memory is bounded: the oldest entries go.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

FIRST = 0.5
LONGEST = 15.0
"""Seconds that the first failure costs, and the most that one does."""
PATIENCE = 60.0
"""Seconds that an attempt may queue behind others of its pair; beyond that it is turned away."""
MEMORY = 900.0
"""Seconds after which failures are forgotten."""
FREE_LOGINS = 20
"""Failures of one address before its answers become slower whatever the login."""
MOST = 10_000
"""Entries that are kept of each count."""

K = TypeVar("K")


@dataclass(slots=True)
class _Count:
    failures: int = 0
    last: float = 0.0
    free_at: float = 0.0  # when the next attempt of this pair is looked at
    told_at: float = -MEMORY


class Throttle:
    """Counts failures. All times are seconds of one monotonic clock."""

    def __init__(self, *, first: float = FIRST, longest: float = LONGEST, patience: float = PATIENCE) -> None:
        self._first = first
        self._longest = longest
        self._patience = patience
        self._pairs: dict[tuple[str, str], _Count] = {}
        self._hosts: dict[str, _Count] = {}

    def wait(self, ip: str, login: str, now: float) -> float | None:
        """Seconds before this attempt may be looked at; None: too many wait already, turn it away."""
        count = _fresh(self._pairs, (host_of(ip), login), now)
        if count is None:
            return 0.0
        wait = max(0.0, count.free_at - now)
        if wait > self._patience:
            return None
        count.free_at = now + wait + self._step(count.failures)
        return wait

    def failed(self, ip: str, login: str, now: float) -> float:
        """Note a failure; seconds to hold the answer back."""
        host = host_of(ip)
        pair = _count(self._pairs, (host, login), now)
        of_host = _count(self._hosts, host, now)
        hold = max(self._step(pair.failures), self._step(of_host.failures - FREE_LOGINS))
        pair.free_at = max(pair.free_at, now + hold)
        return hold

    def succeeded(self, ip: str, login: str) -> None:
        """Forget the failures of this pair."""
        self._pairs.pop((host_of(ip), login), None)

    def tell(self, ip: str, now: float) -> bool:
        """Whether an event is due: one a minute for an address (the log has a line for each)."""
        count = self._hosts.get(host_of(ip))
        if count is None or now - count.told_at < 60:
            return False
        count.told_at = now
        return True

    def _step(self, failures: int) -> float:
        return min(self._longest, self._first * 2.0 ** min(failures - 1, 30)) if failures > 0 else 0.0


def host_of(ip: str) -> str:
    """What counts as one peer: an IPv4 address, an IPv6 /64, or the text itself where it is no address."""
    if ":" not in ip:
        return ip
    try:
        address = ip_address(ip.partition("%")[0])
    except ValueError:
        return ip
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
    return ip


def _fresh(counts: dict[K, _Count], key: K, now: float) -> _Count | None:
    count = counts.get(key)
    if count is None or now - max(count.last, count.free_at) > MEMORY:
        return None
    return count


def _count(counts: dict[K, _Count], key: K, now: float) -> _Count:
    """The entry of `key` with one failure more."""
    count = _fresh(counts, key, now)
    if count is None:
        count = _Count()
        while len(counts) >= MOST:
            del counts[next(iter(counts))]
    counts.pop(key, None)
    counts[key] = count
    count.failures += 1
    count.last = now
    return count
