"""Two engines on one PostgreSQL: one killed; one stopped longer than its lease and then let go on."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

from campaign.installation import admit_loopback, database, installation, pid_of
from campaign.kill import finish
from campaign.load import Load
from campaign.score import Score
from peers.service import Service
from peers.witness import Manner, Witness

LEASE = 30.0
SHORT_LEASE = 6.0
SHORT = {"lease": int(SHORT_LEASE), "fence": 4, "rhythm": {"beat": 1, "lost": 6, "recover": 1}}


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """With the lease of 30 seconds in the long form, else with one of 6."""
    return [
        two(folder / "killed", seed, stopped=False, quick=not long, planted=planted),
        two(folder / "stopped", seed, stopped=True, quick=not long, planted=planted),
    ]


def two(folder: Path, seed: int, *, stopped: bool, quick: bool, planted: str = "") -> Score:
    """Both take mail from one load each; the second one dies or is frozen, the first takes over its leases."""
    tune = SHORT if quick else {}
    lease = SHORT_LEASE if quick else LEASE
    score = Score(
        "two engines, one stopped past its lease" if stopped else "two engines, one killed", "postgresql"
    )
    score.cases = 1
    with database("postgresql") as url, Witness(Manner(pause=0.02), seed=seed) as witness:
        first = installation(folder / "first", witness.port, url, planted=planted, tune=tune)
        second = installation(folder / "second", witness.port, url, planted=planted, tune=tune)
        with first:
            admit_loopback(first)
            second.folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(first.folder / "secret.key", second.folder / "secret.key")
            with second, Load(first.smtp, seed, pause=0.002) as load:
                with Load(second.smtp, seed + 7, pause=0.002, first=1_000_000) as other:
                    time.sleep(2.0)
                    _break(second, stopped, lease)
                    time.sleep(2.0)
                load.stop()
                load.promises += other.promises
                score.verdict = finish(first, load, witness)
    return score


def _break(service: Service, stopped: bool, lease: float) -> None:
    engine = pid_of(service, "engine")
    if not stopped:
        service.kill()
        return
    os.kill(engine, signal.SIGSTOP)
    time.sleep(lease + 4)
    os.kill(engine, signal.SIGCONT)
