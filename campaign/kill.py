"""kill -9: at every named point of the way and at random times, under load, again and again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from campaign.engine import Engine
from campaign.installation import (
    admit_loopback,
    database,
    drain,
    installation,
    pid_of,
    prepared,
    store_faults,
    stored,
)
from campaign.judge import Verdict, judge
from campaign.load import Load
from campaign.score import Score
from peers.service import Service
from peers.witness import Manner, Witness

# Each point with the visit at which the process dies: a number up to this one.
POINTS = {
    "after-mail": 20,
    "after-rcpt": 20,
    "mid-data": 20,
    "after-dot": 20,
    "before-insert": 20,
    "before-commit": 20,
    "after-commit": 20,
    "before-reply": 20,
    "after-reply": 20,
    "after-lease": 20,
    "during-handshake": 1,
    "after-upstream-rcpt": 20,
    "mid-body": 4,
    "after-upstream-dot": 20,
    "before-complete": 20,
    "after-complete": 20,
}


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """Named points, random kills of the engine, and kills of the whole group, on both databases."""
    scores = []
    for kind in ("sqlite", "postgresql"):
        here = folder / kind
        scores.append(named(here / "named", kind, seed, rounds=6 if long else 1, planted=planted))
        scores.append(at_random(here / "random", kind, seed, kills=80 if long else 6, planted=planted))
        scores.append(groups(here / "groups", kind, seed, kills=12 if long else 2, planted=planted))
    return scores


def named(
    folder: Path,
    kind: str,
    seed: int,
    *,
    rounds: int = 1,
    planted: str = "",
    points: tuple[str, ...] = tuple(POINTS),
    patience: float = 90.0,
    tune: dict[str, Any] | None = None,
) -> Score:
    """One kill at each point, `rounds` times over, in one run under constant load.

    patience: seconds until what is not final counts as stuck. tune: see the folder faults.
    """
    chance = random.Random(seed)
    plan = [f"{point}:{chance.randint(1, POINTS[point])}" for _ in range(rounds) for point in points]
    with database(kind) as url, Witness(Manner(pause=0.002), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted, tune=tune)
        file = folder / "plan"
        with service:
            admit_loopback(service)
        file.write_text("".join(f"{line}\n" for line in plan))
        with Engine(service) as engine:
            with Load(service.smtp, seed, largest=600_000, pause=0.002) as load:
                _wait_for_kills(file, len(plan))
                time.sleep(0.5)
            left = file.read_text().split()
            file.write_text("")
            engine.kill()  # what starts again has nothing to die of
            verdict = finish(service, load, witness, patience)
    score = Score("kill -9 at named points", kind, verdict, cases=len(plan) - len(left))
    if left:
        score.faults.append(f"points never reached: {', '.join(left)}")
    return score


def at_random(
    folder: Path, kind: str, seed: int, *, kills: int, planted: str = "", tune: dict[str, Any] | None = None
) -> Score:
    """The engine, at random times of its life."""
    chance = random.Random(seed + 1)
    with database(kind) as url, Witness(Manner(pause=0.002), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted, tune=tune)
        with prepared(service) as engine:
            with Load(service.smtp, seed + 1, pause=0.002) as load:
                for _ in range(kills):
                    engine.wait_ready()
                    time.sleep(chance.uniform(0.0, 0.6))
                    engine.kill()
                engine.wait_ready()
                time.sleep(0.5)
            verdict = finish(service, load, witness)
    return Score("kill -9 at random", kind, verdict, cases=kills)


def groups(folder: Path, kind: str, seed: int, *, kills: int, planted: str = "") -> Score:
    """Every process of `smarthost run` at once, and first the engine alone: its supervisor brings it back."""
    chance = random.Random(seed + 2)
    with database(kind) as url, Witness(Manner(pause=0.002), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted)
        with service:
            admit_loopback(service)
            with Load(service.smtp, seed + 2, pause=0.002) as load:
                time.sleep(0.5)
                first = pid_of(service, "engine")
                os.kill(first, signal.SIGKILL)
                pid_of(service, "engine", other_than=first)
                for _ in range(kills):
                    time.sleep(chance.uniform(0.2, 1.0))
                    service.kill()
                    service.start()
                time.sleep(0.5)
            verdict = finish(service, load, witness)
    return Score("kill -9 of the whole group", kind, verdict, cases=kills + 1)


def finish(service: Service, load: Load, witness: Witness, patience: float = 90.0) -> Verdict:
    """Stop the load, let the queue drain for `patience` seconds at most, and judge."""
    load.stop()
    drain(service, patience)
    return judge(load.promises, witness.notes(), stored(service), store_faults(service))


def _wait_for_kills(plan: Path, kills: int) -> None:
    """Until the plan is empty, or for 30 seconds without another kill."""
    left, since = kills, time.monotonic()
    while left and time.monotonic() - since < 30:
        now = len(plan.read_text().split())
        if now != left:
            left, since = now, time.monotonic()
        time.sleep(0.05)
