"""What must hold whatever died, as one function over three records: promises, the sink's notes, the store.

I1  no acknowledged recipient is missing: once the queue has drained, it is in the sink.
I2  copies of a recipient ≤ 1 + its unknown ends; each unknown end stands in the store, as an attempt too.
I3  each recipient in the store has exactly one row, in a final state after the drain.
I4  the body in the sink is the body that was accepted.
I5  nothing is in the sink that nobody asked for.
I6  all of that came about within the time that `drain` gives: nothing is stuck.
I7  the store is whole: the database's own check, counts kept = counts counted, no row without its message.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from campaign.load import Promise
from peers.witness import Note

FINAL_WORDS = frozenset({"sent", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Stored:
    """One delivery row as the store shows it. `shown` are its attempts that say unknown."""

    recipient: str
    state: str
    unknown_ends: int
    shown: int = 0


@dataclass(slots=True)
class Verdict:
    """Figures of one run, and each way in which it broke an invariant."""

    acknowledged: int = 0
    delivered: int = 0
    lost: list[str] = field(default_factory=list)
    copies: int = 0
    excess: list[str] = field(default_factory=list)
    unknown_ends: int = 0
    hidden: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    uninvited: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    store: list[str] = field(default_factory=list)

    @property
    def broken(self) -> list[str]:
        """One line a broken invariant, with the first few cases; empty is a pass."""
        named = {
            "I1 lost": self.lost,
            "I2 copies beyond unknown ends": self.excess,
            "I2 unknown ends not shown": self.hidden,
            "I3 not in one final state": self.unfinished,
            "I4 body differs": self.damaged,
            "I5 nobody asked for": self.uninvited,
            "I7 store": self.store,
        }
        return [f"{name}: {len(cases)} ({', '.join(cases[:3])})" for name, cases in named.items() if cases]


def judge(
    promises: Iterable[Promise], notes: Iterable[Note], stored: Iterable[Stored], store: Iterable[str] = ()
) -> Verdict:
    """Compare what was promised, what arrived and what the store says, after the queue has drained.

    store: what is wrong with the store itself.
    """
    asked: dict[str, str] = {}
    acknowledged: set[str] = set()
    for promise in list(promises):
        for recipient in promise.recipients:
            asked[recipient] = promise.body
            if promise.acknowledged is not None:
                acknowledged.add(recipient)
    arrived: Counter[str] = Counter()
    verdict = Verdict(acknowledged=len(acknowledged), store=list(store))
    for note in notes:
        arrived[note.recipient] += 1
        if note.recipient not in asked:
            verdict.uninvited.append(note.recipient)
        elif asked[note.recipient] != note.body:
            verdict.damaged.append(note.recipient)
    rows: defaultdict[str, list[Stored]] = defaultdict(list)
    for row in stored:
        rows[row.recipient].append(row)
        verdict.unknown_ends += row.unknown_ends
        if row.shown != row.unknown_ends:
            verdict.hidden.append(f"{row.recipient}: {row.unknown_ends} counted, {row.shown} shown")
        if row.state not in FINAL_WORDS:
            verdict.unfinished.append(f"{row.recipient} is {row.state}")
    verdict.delivered = len(arrived)
    verdict.lost = sorted(recipient for recipient in acknowledged if recipient not in arrived)
    for recipient, count in arrived.items():
        verdict.copies += count - 1
        allowed = 1 + sum(row.unknown_ends for row in rows[recipient])
        if count > allowed:
            verdict.excess.append(f"{recipient}: {count} copies, {allowed - 1} unknown ends")
    verdict.unfinished += [
        f"{recipient} has {len(found)} rows" for recipient, found in rows.items() if len(found) > 1
    ]
    return verdict
