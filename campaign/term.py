"""SIGTERM under load: it drains, with neither loss nor copy."""

from __future__ import annotations

import time
from pathlib import Path

from campaign.installation import admit_loopback, database, installation, stored
from campaign.judge import judge
from campaign.kill import finish
from campaign.load import Load
from campaign.score import Score
from peers.witness import Manner, Witness

GRACE = 30.0


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    return [
        terminate(folder / kind, kind, seed, rounds=10 if long else 2, planted=planted)
        for kind in ("sqlite", "postgresql")
    ]


def terminate(folder: Path, kind: str, seed: int, *, rounds: int, planted: str = "") -> Score:
    """Terminate and start again `rounds` times under load; no unknown end may come of it."""
    score = Score("SIGTERM under load", kind, cases=rounds)
    with database(kind) as url, Witness(Manner(pause=0.01), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted)
        with service:
            admit_loopback(service)
            with Load(service.smtp, seed, pause=0.002) as load:
                for _ in range(rounds):
                    time.sleep(1.0)
                    begun = time.monotonic()
                    status = service.stop(GRACE + 15)
                    if (took := time.monotonic() - begun) > GRACE:
                        score.faults.append(f"draining took {took:.0f} s")
                    if status != 0:
                        score.faults.append(f"exit status {status}")
                    between = judge(load.promises, witness.notes(), stored(service))
                    if between.unknown_ends:
                        score.faults.append(f"{between.unknown_ends} unknown ends after a drain")
                    service.start()
                time.sleep(0.5)
            score.verdict = finish(service, load, witness)
    if score.verdict.copies:
        score.faults.append(f"{score.verdict.copies} copies")
    return score
