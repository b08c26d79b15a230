"""Upstreams that refuse in part, lose replies, and refuse everything: what each recipient gets out of it."""

from __future__ import annotations

import smtplib
import time
from pathlib import Path

from campaign.installation import (
    admit_loopback,
    database,
    finished,
    installation,
    query,
    store_faults,
    stored,
)
from campaign.judge import Verdict, judge
from campaign.load import Load
from campaign.score import Score
from peers.service import Service
from peers.witness import Manner, Witness


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """Partial refusals and lost replies, with and without CHUNKING, on both databases."""
    scores = []
    for kind in ("sqlite", "postgresql"):
        for chunking in (True, False):
            place = folder / f"{kind}-{chunking}"
            seconds = 20.0 if long else 2.0
            scores.append(
                partial(place, seed, kind=kind, planted=planted, chunking=chunking, seconds=seconds)
            )
    scores.append(notices(folder / "notices", seed, planted=planted))
    return scores


def partial(
    folder: Path,
    seed: int,
    *,
    kind: str = "sqlite",
    planted: str = "",
    chunking: bool = True,
    seconds: float = 2.0,
    patience: float = 90.0,
) -> Score:
    """A fifth of the recipients is refused for now, one message in fifty ends without a reply."""
    name = "partial refusals and lost replies" + (", CHUNKING" if chunking else ", DATA")
    score = Score(name, kind)
    manner = Manner(chunking=chunking, deferred=0.2, lost=0.02)
    with database(kind) as url, Witness(manner, seed=seed) as witness:
        with installation(folder, witness.port, url, planted=planted) as service:
            admit_loopback(service)
            with Load(service.smtp, seed, recipients=6, pause=0.01) as load:
                time.sleep(seconds)
            _hurry(service, patience)
            score.verdict = judge(load.promises, witness.notes(), stored(service), store_faults(service))
            score.cases = len(load.promises)
            withheld = sum(not note.answered for note in witness.notes())
            if score.verdict.copies > withheld:
                score.faults.append(
                    f"{score.verdict.copies} copies, but only {withheld} replies were withheld"
                )
            if score.verdict.unknown_ends < withheld:
                score.faults.append(
                    f"{withheld} replies were withheld, {score.verdict.unknown_ends} unknown ends"
                )
    return score


def notices(folder: Path, seed: int, *, planted: str = "", patience: float = 90.0) -> Score:
    """Everything is refused for good: one failure notice a message, which is refused too, and no more."""
    score = Score("failure notices", "sqlite", cases=5)
    with Witness(Manner(refused=1.0), seed=seed) as witness:
        with installation(folder, witness.port, None, planted=planted) as service:
            service.command(
                "user",
                "add",
                "load@example.test",
                "--role",
                "owner",
                "--password-stdin",
                stdin="correct horse battery 1\n",
            )
            service.command("user", "verify", "load@example.test")
            service.command("app", "add", "load", "--network", "127.0.0.1/32", "--owner", "load@example.test")
            with smtplib.SMTP("127.0.0.1", service.smtp) as client:
                for number in range(score.cases):
                    content = f"From: load@example.test\r\nSubject: {number}\r\n\r\nx\r\n"
                    client.sendmail("load@example.test", [f"n{number}@sink.example"], content)
            deadline = time.monotonic() + patience
            while time.monotonic() < deadline:
                told = query(service, "SELECT count(*) FROM message WHERE door = 'notice'")[0][0]
                if told > score.cases or (told == score.cases and finished(service)):
                    break
                time.sleep(0.1)
            time.sleep(1.0)  # for one notice too many
            if query(service, "SELECT count(*) FROM message WHERE door = 'notice'")[0][0] > score.cases:
                service.kill()  # a loop never drains
            rows = stored(service)
            asked = [row for row in rows if row.recipient.endswith("@sink.example")]
            told = [row for row in rows if row.recipient == "load@example.test"]
            if len(asked) != score.cases or any(row.state != "failed" for row in asked):
                score.faults.append(f"refused mail is {[row.state for row in asked]}")
            if len(told) != score.cases:
                score.faults.append(f"{len(told)} notices for {score.cases} failed messages")
            score.verdict = Verdict(acknowledged=score.cases)
    return score


def _hurry(service: Service, seconds: float) -> None:
    """Drain, trying deferred mail again at once instead of in minutes, as a person may."""
    deadline = time.monotonic() + seconds
    while not finished(service) and time.monotonic() < deadline:
        service.command("queue", "retry", "--state", "deferred", "--state", "unknown", check=False)
        time.sleep(0.3)
