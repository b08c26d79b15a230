"""When a delivery whose end is unknown is due again. Pure; the same rule for a dot without an answer and for
what an engine left under way when it died: a server that breaks connections, and mail that breaks engines,
must both come to an end."""

from __future__ import annotations

LONGEST_US = 4 * 3_600_000_000
UNKNOWN_ENDS = 5  # after the fifth a person decides
HOLD = "hold"


def after_unknown(now: int, unknown_ends: int, policy: str, retry_after_s: int) -> int | None:
    """The time of the next try in microseconds, or None where a person decides: always by the policy
    "hold", otherwise from the fifth unknown end on.

    unknown_ends counts this one too. The first pause is `retry_after_s`; it doubles up to four hours.
    """
    if policy == HOLD or unknown_ends >= UNKNOWN_ENDS:
        return None
    base = retry_after_s * 1_000_000
    return now + min(base << (unknown_ends - 1), max(LONGEST_US, base))
