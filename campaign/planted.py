"""Bugs planted on purpose: the campaign must go red for every one, or its zeros mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from campaign import engines, kill, postgres, power, upstream
from campaign.score import Score

Hunt = Callable[[Path, int, str], list[Score]]


def _killed(*points: str) -> Hunt:
    """Kill at these points, several times over: where the bug shows itself."""

    def hunt(folder: Path, seed: int, bug: str) -> list[Score]:
        return [kill.named(folder, "sqlite", seed, rounds=4, planted=bug, points=points, patience=15)]

    return hunt


HUNTS: dict[str, Hunt] = {
    "ack-before-commit": _killed("before-commit", "before-insert"),
    "swallow-commit-error": lambda folder, seed, bug: [
        postgres.cut_in_commit(folder, seed, cuts=8, planted=bug, patience=10)
    ],
    "synchronous-normal": lambda folder, seed, bug: power.run(folder, seed, planted=bug),
    "done-before-send": _killed("after-lease", "mid-body", "during-handshake"),
    "delete-leased-on-start": _killed("after-lease", "mid-body"),
    "unknown-as-failed": _killed("after-lease", "after-upstream-dot"),
    "lease-never-expires": _killed("after-lease", "before-complete"),
    "complete-without-token": lambda folder, seed, bug: [
        engines.two(folder, seed, stopped=True, quick=True, planted=bug)
    ],
    "retry-whole-list": lambda folder, seed, bug: [upstream.partial(folder, seed, planted=bug, patience=15)],
    "no-dot-stuffing": lambda folder, seed, bug: [
        upstream.partial(folder, seed, planted=bug, chunking=False, patience=15)
    ],
    "reply-desync": lambda folder, seed, bug: [upstream.partial(folder, seed, planted=bug, patience=15)],
    "notice-loop": lambda folder, seed, bug: [upstream.notices(folder, seed, planted=bug, patience=15)],
}


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """One line a bug; it passes when the hunt was red. The short form hunts all of them, too."""
    scores = []
    for bug, hunt in HUNTS.items():
        found = hunt(folder / bug, seed, bug)
        skipped = [score.skipped for score in found if score.skipped]
        reasons = [reason for score in found for reason in score.failures]
        score = Score(f"planted: {bug}", found[0].database, cases=1)
        if skipped:
            score.skipped = skipped[0]
        elif reasons:
            score.note = f"caught: {reasons[0][:90]}"
        else:
            score.faults.append("NOT caught: the campaign is blind to this bug")
        scores.append(score)
    return scores
