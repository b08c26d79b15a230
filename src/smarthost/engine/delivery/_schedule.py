"""When a message that was not delivered is tried again. Pure: time and chance come in as arguments.

A message's own schedule starts at one minute and doubles to four hours (RFC 5321 4.5.4.1 asks for a
gradual back-off and four to five days; ours ends at `expires_at`, seven days). Jitter only shortens, so
the longest pause stays the longest. A server that says when it will be ready is believed, within bounds
that keep the number of attempts near what the plain schedule would make.

All times and spans are integers in microseconds.
"""

from __future__ import annotations

import re

from smarthost.spool import Priority

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

FIRST = MINUTE
LONGEST = 4 * HOUR
LIFETIME = 7 * DAY
JITTER = 0.2
EAGERNESS = 8  # a server's wish shortens the own pause at most by this factor

_ASKED = re.compile(
    r"(?:again|retry|retrying|wait|back|greylist\w{0,3}|grey-list\w{0,3}|delay\w{0,2}|available|after|timeout|for)"
    r"[^0-9\r\n]{0,40}?(\d{1,6}) ?(seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h)\b",
    re.IGNORECASE,
)
_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR}


def asked_pause(text: str) -> int | None:
    """The pause that a reply asks for ("try again in 5 minutes"), or None where it asks for none."""
    found = _ASKED.search(text[:512])
    if found is None:
        return None
    return int(found[1]) * _UNITS[found[2][0].lower()]


def own_pause(attempts: int, chance: float) -> int:
    """The pause after `attempts` counted attempts (at least one); `chance` is in [0, 1)."""
    base = min(FIRST << min(max(attempts, 1) - 1, 20), LONGEST)
    return int(base * (1 - JITTER * chance))


def next_try(now: int, attempts: int, expires_at: int, text: str, chance: float) -> int | None:
    """When to try again after a temporary refusal, or None where the message's time is over.

    The last try is placed one first pause before `expires_at`, so that a message whose next pause would
    lead beyond its end still gets one.
    """
    last = expires_at - FIRST
    if now >= last:
        return None
    pause = own_pause(attempts, chance)
    asked = asked_pause(text)
    if asked is not None:
        pause = min(max(asked, pause // EAGERNESS), LONGEST)
    return min(now + pause, last)


def max_age(priority: Priority) -> int:
    """How old mail may have become while its route was paused and still be sent without a person's word."""
    return DAY if priority is Priority.URGENT else 5 * DAY


def outgrew(created_at: int, priority: Priority, paused_from: int, paused_until: int) -> bool:
    """Whether the message passed its max-age during that pause of its route (not by its own schedule)."""
    return paused_from <= created_at + max_age(priority) <= paused_until
