"""The short form of the campaign: what `make campaign` proves at length, once each, on both databases.

A failure names the invariants that broke (campaign/judge.py). What needs more time than a test may take runs in
the long form only: the real lease of 30 seconds, hundreds of kills, and most planted bugs (docs/campaign.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from campaign import (
    cells,
    disk,
    engines,
    hardware,
    housekeeping,
    kill,
    memory,
    planted,
    postgres,
    power,
    term,
    upstream,
)
from campaign.score import Score

SEED = 20260
pytestmark = pytest.mark.timeout(300)

SCENARIOS: dict[str, Callable[[Path], list[Score]]] = {
    "named kills on SQLite": lambda folder: [kill.named(folder, "sqlite", SEED)],
    "named kills on PostgreSQL": lambda folder: [kill.named(folder, "postgresql", SEED, tune=engines.SHORT)],
    "random kills on SQLite": lambda folder: [kill.at_random(folder, "sqlite", SEED, kills=6)],
    "random kills on PostgreSQL": lambda folder: [
        kill.at_random(folder, "postgresql", SEED, kills=6, tune=engines.SHORT)
    ],
    "group kills": lambda folder: [kill.groups(folder, "sqlite", SEED, kills=1)],
    "kills in housekeeping": lambda folder: [housekeeping.rare(folder, "sqlite", SEED)],
    "power cuts": lambda folder: power.run(folder, SEED),
    "a full disk": lambda folder: disk.run(folder, SEED),
    "failing hardware": lambda folder: hardware.run(folder, SEED),
    "PostgreSQL stopped": lambda folder: [postgres.immediate_stop(folder, SEED, stops=2)],
    "a connection cut in COMMIT": lambda folder: [postgres.cut_in_commit(folder, SEED, cuts=6)],
    "an engine stopped past its lease": lambda folder: [engines.two(folder, SEED, stopped=True, quick=True)],
    "partial refusals, lost replies": lambda folder: [upstream.partial(folder, SEED, chunking=True)],
    "the same without CHUNKING": lambda folder: [upstream.partial(folder, SEED, chunking=False)],
    "failure notices": lambda folder: [upstream.notices(folder, SEED)],
    "hostile upstreams": lambda folder: cells.run(folder, SEED),
    "SIGTERM under load": lambda folder: [term.terminate(folder, "sqlite", SEED, rounds=1)],
    "memory under attack": lambda folder: memory.run(folder, SEED),
}

# Those that a short hunt finds; `make campaign` hunts all twelve.
PLANTED = (
    "ack-before-commit",
    "synchronous-normal",
    "swallow-commit-error",
    "no-dot-stuffing",
    "notice-loop",
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_invariant_breaks(name: str, tmp_path: Path) -> None:
    for score in SCENARIOS[name](tmp_path):
        if score.skipped:
            pytest.skip(score.skipped)
        assert not score.failures, f"{score.name}, {score.database}, seed {SEED}: {'; '.join(score.failures)}"
        assert score.cases, f"{score.name} tried nothing"


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(bug: str, tmp_path: Path) -> None:
    scores = planted.HUNTS[bug](tmp_path, SEED, bug)
    if skipped := [score.skipped for score in scores if score.skipped]:
        pytest.skip(skipped[0])
    assert any(score.failures for score in scores), f"the campaign is blind to {bug}"


def test_every_bug_of_the_product_is_hunted() -> None:
    """Who plants a new one has to name the hunt that catches it."""
    import re

    sources = Path(__file__).parents[2] / "src"
    planted_there = set()
    for path in sources.rglob("*.py"):
        planted_there |= set(re.findall(r'planted\("([a-z-]+)"\)', path.read_text()))
    assert planted_there | {"no-dot-stuffing", "reply-desync"} == set(planted.HUNTS)


def test_every_point_of_the_product_is_reached() -> None:
    import re

    sources = Path(__file__).parents[2] / "src"
    points = set()
    for path in sources.rglob("*.py"):
        points |= set(re.findall(r'\bpoint\("([a-z-]+)"\)', path.read_text()))
    rare = {"during-migration", "during-config", "during-notice", "during-expiry", "during-purge"}
    assert points == set(kill.POINTS) | rare
