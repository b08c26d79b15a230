"""kill -9 beside the way of mail: while the schema is made, a setting changes, a failure notice is written,
mail expires, and old mail is purged."""

from __future__ import annotations

import json
import smtplib
import time
from collections.abc import Callable
from pathlib import Path

from campaign.engine import Engine
from campaign.installation import change, database, installation, query, store_faults
from campaign.judge import Verdict
from campaign.score import Score
from peers.service import Service
from peers.witness import Manner, Witness

MAIL = 5
FAILED, EXPIRED = 7, 8


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    return [rare(folder / kind, kind, seed, planted=planted) for kind in ("sqlite", "postgresql")]


def rare(folder: Path, kind: str, seed: int, *, planted: str = "") -> Score:
    """Two kills at each point, and what must be true afterwards."""
    score = Score("kill -9 in housekeeping", kind)
    with database(kind) as url, Witness(Manner(refused=1.0), seed=seed) as witness:
        service = installation(folder, witness.port, url, planted=planted)
        plan = folder / "plan"
        _migration(service, plan, score)
        with service:
            _settings(service, plan, score)
            _application(service)
        _notices(service, plan, score)
        witness.stop()
        _expiry(service, plan, score)
        _purge(service, plan, score)
        score.verdict = Verdict(acknowledged=2 * MAIL, store=store_faults(service))
    return score


def _migration(service: Service, plan: Path, score: Score) -> None:
    """Killed before the first step and after the last one: the third start works."""
    plan.write_text("during-migration:1\nduring-migration:2\n")
    while lines := plan.read_text().split():
        try:
            service.start()
        except TimeoutError:
            pass
        service.kill()
        if plan.read_text().split() == lines:
            score.faults.append(f"{lines[0]} was never reached")
            plan.write_text("")
            return
        score.cases += 1


def _settings(service: Service, plan: Path, score: Score) -> None:
    """Killed inside the transaction of a change: nothing of it is there."""
    words = (
        "upstream",
        "set",
        "--name",
        "second",
        "--host",
        "127.0.0.1",
        "--port",
        "2",
        "--encryption",
        "none",
    )
    before = query(service, "SELECT version FROM directory")
    for line in ("during-config:1", "during-config:2"):
        plan.write_text(f"{line}\n")
        done = service.command(*words, "--no-check", check=False)
        if done.returncode != -9:
            score.faults.append(f"{line} was never reached: exit {done.returncode}")
        score.cases += 1
        plan.write_text("")
        if "second" in json.dumps(service.json("upstream", "list")):
            score.faults.append(f"{line}: half a change is there")
        if query(service, "SELECT version FROM directory") != before:
            score.faults.append(f"{line}: the directory has another version")


def _application(service: Service) -> None:
    """An application whose owner is told of failures."""
    words = ("user", "add", "load@example.test", "--role", "owner", "--password-stdin")
    service.command(*words, stdin="correct horse battery 1\n")
    service.command("user", "verify", "load@example.test")
    service.command("app", "add", "load", "--network", "127.0.0.1/32", "--owner", "load@example.test")


def _notices(service: Service, plan: Path, score: Score) -> None:
    """Killed in the transaction of the last outcome: later exactly one notice a message."""
    plan.write_text("during-notice:1\nduring-notice:2\n")
    with Engine(service) as engine:
        _send(service, engine, "n")
        _until(
            lambda: not plan.read_text().split() and _count(service, "message WHERE door = 'notice'") >= MAIL,
            30,
        )
        _until(lambda: _count(service, "delivery WHERE state IN (1, 2, 5, 6)") == 0, 30, retry=service)
        _died(plan, score)
    if (told := _count(service, "message WHERE door = 'notice'")) != MAIL:
        score.faults.append(f"{told} notices for {MAIL} failed messages")


def _expiry(service: Service, plan: Path, score: Score) -> None:
    """Killed while mail expires: later each has expired once, with one notice."""
    service.environ["SMARTHOST_TUNE"] = json.dumps({"rhythm": {"expire": 0.5}})
    plan.write_text("during-expiry:1\nduring-expiry:1\n")
    with Engine(service) as engine:
        _send(service, engine, "e")
        _until(lambda: _count(service, "delivery WHERE recipient LIKE 'e%' AND state = 2") == 0, 10)
        change(service, "UPDATE delivery SET expires_at = 1 WHERE recipient LIKE 'e%'")
        _until(lambda: _count(service, f"delivery WHERE state = {EXPIRED}") == MAIL, 40)
        _until(lambda: _count(service, "message WHERE door = 'notice'") >= 2 * MAIL, 20)
        _died(plan, score)
    if (tried := _count(service, f"attempt WHERE state = {EXPIRED}")) != MAIL:
        score.faults.append(f"{tried} attempts tell that {MAIL} recipients expired")
    if (told := _count(service, "message WHERE door = 'notice'")) != 2 * MAIL:
        score.faults.append(f"{told - MAIL} notices for {MAIL} expired messages")


def _purge(service: Service, plan: Path, score: Score) -> None:
    """Killed while old mail goes: later it is gone with all that belonged to it, and what waits is not."""
    final = "delivery WHERE state IN (3, 7, 8)"
    waiting = _count(service, "message") - _count(service, final)
    service.environ["SMARTHOST_TUNE"] = json.dumps({"rhythm": {"purge": 0.5}, "day": 1})
    plan.write_text("during-purge:1\nduring-purge:1\n")
    with Engine(service):
        _until(lambda: not plan.read_text().split() and not _count(service, final), 40)
        _died(plan, score)
    if _count(service, final) or _count(service, "message") != waiting:
        score.faults.append(f"{_count(service, final)} old rows stay; {_count(service, 'message')} messages")


def _send(service: Service, engine: Engine, prefix: str) -> None:
    """Send them, each until it is stored; the engine may die of what it does meanwhile."""
    for number in range(MAIL):
        recipient = f"{prefix}{number}@sink.example"
        content = f"From: load@example.test\r\nSubject: {number}\r\n\r\nx\r\n"
        for _ in range(100):
            if _count(service, f"delivery WHERE recipient = '{recipient}'"):
                break
            engine.wait_ready()
            try:
                with smtplib.SMTP("127.0.0.1", service.smtp, timeout=20) as client:
                    client.sendmail("load@example.test", [recipient], content)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.1)


def _count(service: Service, what: str) -> int:
    return int(query(service, f"SELECT count(*) FROM {what}")[0][0])


def _until(condition: Callable[[], bool], seconds: float, *, retry: Service | None = None) -> None:
    """Wait, at most so long: what did not come about is found by who looks afterwards."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        if retry is not None:
            retry.command("queue", "retry", "--state", "unknown", "--state", "deferred", check=False)
        time.sleep(0.1)


def _died(plan: Path, score: Score) -> None:
    left = plan.read_text().split()
    score.cases += 2 - len(left)
    if left:
        score.faults.append(f"points never reached: {', '.join(left)}")
    plan.write_text("")
