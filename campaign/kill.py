"""kill -9: at every named point of the way and at random times, under load, again and again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from campaign.installation import admit_loopback, database, drain, installation, pid_of, stored
from campaign.judge import Verdict, judge
from campaign.load import Load
from campaign.score import Score
from peers.service import Service
from peers.witness import Manner, Witness

POINTS = (
    "after-mail",
    "after-rcpt",
    "mid-data",
    "after-dot",
    "before-insert",
    "before-commit",
    "after-commit",
    "before-reply",
    "after-reply",
    "after-lease",
    "during-handshake",
    "after-upstream-rcpt",
    "mid-body",
    "after-upstream-dot",
    "before-complete",
    "after-complete",
)


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """Named points on both databases, then random kills of the engine and of the whole group."""
    scores = []
    for kind in ("sqlite", "postgresql"):
        scores.append(named(folder / f"{kind}-named", kind, seed, rounds=6 if long else 1, planted=planted))
        scores.append(
            at_random(folder / f"{kind}-random", kind, seed, kills=100 if long else 6, planted=planted)
        )
    return scores


def named(
    folder: Path,
    kind: str,
    seed: int,
    *,
    rounds: int = 1,
    planted: str = "",
    points: tuple[str, ...] = POINTS,
) -> Score:
    """One kill at each point, `rounds` times over, in one run under constant load."""
    chance = random.Random(seed)
    plan = [f"{point}:{chance.randint(1, 20)}" for _ in range(rounds) for point in points]
    with database(kind) as url, Witness(Manner(pause=0.002), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted)
        with service:
            admit_loopback(service)
            (folder / "plan").write_text("".join(f"{line}\n" for line in plan))
            os.kill(pid_of(service, "engine"), signal.SIGKILL)  # what starts again has read the plan
            with Load(service.smtp, seed, largest=600_000, pause=0.005) as load:
                _wait_for_kills(folder / "plan", len(plan))
                time.sleep(1.0)
            left = (folder / "plan").read_text().split()
            verdict = finish(service, load, witness)
    score = Score("kill -9 at named points", kind, verdict, cases=len(plan) + 1 - len(left))
    if left:
        score.faults.append(f"points never reached: {', '.join(left)}")
    return score


def at_random(folder: Path, kind: str, seed: int, *, kills: int, planted: str = "") -> Score:
    """The engine, and every third time the whole group with its supervisor, at random times."""
    chance = random.Random(seed + 1)
    with database(kind) as url, Witness(Manner(pause=0.002), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted)
        with service:
            admit_loopback(service)
            with Load(service.smtp, seed + 1, pause=0.005) as load:
                for number in range(kills):
                    time.sleep(chance.uniform(0.2, 1.0))
                    if number % 3 == 2:
                        service.kill()
                        service.start()
                    else:
                        os.kill(pid_of(service, "engine"), signal.SIGKILL)
                time.sleep(1.0)
            verdict = finish(service, load, witness)
    return Score("kill -9 at random", kind, verdict, cases=kills)


def finish(service: Service, load: Load, witness: Witness) -> Verdict:
    """Stop the load, let the queue drain, and judge."""
    load.stop()
    drain(service)
    return judge(load.promises, witness.notes(), stored(service))


def _wait_for_kills(plan: Path, kills: int) -> None:
    """Until the plan is empty, or for 15 seconds without another kill."""
    left, since = kills, time.monotonic()
    while left and time.monotonic() - since < 15:
        now = len(plan.read_text().split())
        if now != left:
            left, since = now, time.monotonic()
        time.sleep(0.05)
