"""Hardware and limits: an fsync that fails, a bit that flips, a process with too few descriptors, and a
PostgreSQL that was told not to care."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import smtplib
import socket
import subprocess
import sys
import time
from pathlib import Path

from campaign.engine import Engine
from campaign.installation import (
    admit_loopback,
    change,
    database,
    installation,
    pid_of,
    prepared,
    stored,
)
from campaign.judge import Verdict
from campaign.kill import finish
from campaign.load import Load
from campaign.power import missing
from campaign.score import Score
from peers.ports import wait_for_port
from peers.service import Service
from peers.witness import Manner, Witness

_COMMAND = str(Path(sys.executable).with_name("smarthost"))


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    return [
        failing_fsync(folder / "fsync", seed, tries=5 if long else 1),
        flipped_bit(folder / "bit", seed),
        few_descriptors(folder / "few", seed),
        careless_postgres(folder / "careless"),
    ]


def failing_fsync(folder: Path, seed: int, *, tries: int) -> Score:
    """One fsync says EIO: nothing is acknowledged any more, the engine ends, and the next one is whole."""
    score = Score("an fsync that fails", "sqlite", cases=tries)
    if why := missing():
        score.skipped = why
        return score
    with Witness(Manner(pause=0.002), seed=seed) as witness:
        service = installation(folder, witness.port, None)
        with service:
            admit_loopback(service)
        with Load(service.smtp, seed, clients=4, largest=3_000, pause=0.02) as load:
            for number in range(tries):
                _until_it_ends(service, 20 + 13 * number, load, score)
            with Engine(service):
                time.sleep(1.0)
                score.verdict = finish(service, load, witness)
    return score


def _until_it_ends(service: Service, when: int, load: Load, score: Score) -> None:
    inject = f"inject=fsync,fdatasync:error=EIO:when={when}"
    with service.log.open("ab") as log:
        tracer = subprocess.Popen(
            [
                "strace",
                "-f",
                "-o",
                "/dev/null",
                "-e",
                "trace=fsync,fdatasync",
                "-e",
                inject,
                _COMMAND,
                "engine",
            ],
            env=service.environment(),
            stdout=log,
            stderr=log,
        )
    try:
        wait_for_port(service.smtp, 30)
        status = tracer.wait(40)
        if status in (0, 78):
            score.faults.append(f"after an fsync that failed the engine ended with status {status}")
    except subprocess.TimeoutExpired:
        score.faults.append("40 s after an fsync that failed the engine still runs")
        for child in Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        tracer.wait()


def flipped_bit(folder: Path, seed: int) -> Score:
    """One bit of a stored content is another: that message is not sent, and it holds up no other."""
    score = Score("a flipped bit in stored content", "sqlite", cases=2)
    with Witness(seed=seed) as witness:
        service = installation(folder, witness.port, None)
        os.kill(witness.pid, signal.SIGSTOP)  # mail waits
        with prepared(service):
            content = b"From: load@example.test\r\nSubject: %d\r\n\r\n" + b"x" * 1000 + b"\r\n"
            with smtplib.SMTP("127.0.0.1", service.smtp, timeout=20) as client:
                client.ehlo("load.example")
                for name, size in (("small", 1), ("large", 400), ("whole", 1)):
                    mail = content % size + b"0123456789\r\n" * (size * 100)
                    client.sendmail("load@example.test", [f"{name}@sink.example"], mail)
        for name in ("small", "large"):
            change(
                service,
                "UPDATE chunk SET data = CAST(replace(data, CAST('x' AS BLOB), CAST('y' AS BLOB)) AS BLOB)"
                " WHERE n = 0 AND message_id ="
                f" (SELECT message_id FROM delivery WHERE recipient = '{name}@sink.example')",
            )
        change(service, "UPDATE delivery SET due_at = 1 WHERE due_at IS NOT NULL")
        os.kill(witness.pid, signal.SIGCONT)
        with Engine(service):
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                states = {row.recipient.partition("@")[0]: row.state for row in stored(service)}
                if states["whole"] == "sent" and {states["small"], states["large"]} <= {"held", "failed"}:
                    break
                time.sleep(0.2)
        arrived = {note.recipient for note in witness.notes()}
        score.note = ", ".join(f"{name} {state}" for name, state in sorted(states.items()))
        if states["whole"] != "sent":
            score.faults.append(f"the message beside them is {states['whole']}")
        for name in ("small", "large"):
            if f"{name}@sink.example" in arrived:
                score.faults.append(f"the {name} one was sent with another body")
            if states[name] not in ("held", "failed"):
                score.faults.append(f"the {name} one is {states[name]}")
    score.verdict = Verdict(acknowledged=3)
    return score


def few_descriptors(folder: Path, seed: int) -> Score:
    """The engine may open 64 files and 200 clients come: afterwards everything is as before."""
    score = Score("too few descriptors", "sqlite", cases=200)
    with Witness(seed=seed) as witness, installation(folder, witness.port, None) as service:
        admit_loopback(service)
        engine = pid_of(service, "engine")
        resource.prlimit(engine, resource.RLIMIT_NOFILE, (64, 64))
        clients = []
        try:
            for _ in range(score.cases):
                with contextlib.suppress(OSError):
                    clients.append(socket.create_connection(("127.0.0.1", service.smtp), timeout=5))
            busy = _cpu(engine)
            time.sleep(2.0)
            if (used := _cpu(engine) - busy) > 1.0:
                score.faults.append(f"the engine used {used:.1f} s of 2 s while it could take nobody")
        finally:
            for client in clients:
                client.close()
        if pid_of(service, "engine") != engine:
            score.faults.append("the engine died of it")
        with Load(service.smtp, seed, clients=2) as load:
            time.sleep(2.0)
        if not load.acknowledged:
            score.faults.append("nothing was accepted afterwards")
        score.verdict = finish(service, load, witness)
    return score


def _cpu(pid: int) -> float:
    """Seconds of processor time so far."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def careless_postgres(folder: Path) -> Score:
    """With fsync off the engine refuses to start, and says why."""
    score = Score("PostgreSQL with fsync off", "postgresql", cases=1)
    with database("postgresql") as url:
        service = installation(folder, 1, url)
        with service:
            pass
        change(service, "ALTER SYSTEM SET fsync = off")
        change(service, "SELECT pg_reload_conf()")
        time.sleep(0.5)
        done = service.command("engine", check=False)
        if done.returncode != 78 or "fsync" not in done.stdout + done.stderr:
            score.faults.append(f"it starts: exit {done.returncode}")
    return score
