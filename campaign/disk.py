"""A full disk: another program fills it under load, and later makes room again."""

from __future__ import annotations

import os
import smtplib
import subprocess
import time
from pathlib import Path

from campaign.installation import admit_loopback, installation
from campaign.kill import finish
from campaign.load import Load
from campaign.score import Score
from peers.witness import Manner, Witness

SIZE = "96m"


def missing() -> str | None:
    return None if os.geteuid() == 0 else "mounting a small disk needs root: run the campaign as root"


def run(
    folder: Path, seed: int, *, long: bool = False, planted: str = "", patience: float = 90.0
) -> list[Score]:
    score = Score("full disk", "sqlite", cases=3 if long else 1)
    if why := missing():
        score.skipped = why
        return [score]
    data = folder / "data"
    data.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(data)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        score.skipped = f"mounting a small disk is not allowed here: {mounted.stderr.strip()}"
        return [score]
    try:
        _fill_and_free(folder, data, seed, score, planted, patience)
    finally:
        subprocess.run(["umount", "-l", str(data)], check=False)
    return [score]


def _fill_and_free(folder: Path, data: Path, seed: int, score: Score, planted: str, patience: float) -> None:
    with Witness(Manner(pause=0.005), seed=seed) as witness:
        service = installation(
            folder, witness.port, None, planted=planted, SMARTHOST_LIMITS_MAX_SIZE=str(1024 * 1024)
        )
        with service:
            admit_loopback(service)
            with Load(service.smtp, seed, largest=50_000, pause=0.02) as load:
                for _ in range(score.cases):
                    time.sleep(1.0)
                    filler = data / "filler"
                    with filler.open("wb") as out:
                        try:
                            while True:
                                out.write(bytes(1 << 16))
                                out.flush()
                        except OSError:
                            pass
                    time.sleep(0.5)
                    answer = _answer(service.smtp)
                    if not answer.startswith(("452", "451")):
                        score.faults.append(f"with a full disk a new message was answered {answer!r}")
                    time.sleep(1.5)
                    filler.unlink()
                    before = load.acknowledged
                    deadline = time.monotonic() + 20
                    while load.acknowledged <= before and time.monotonic() < deadline:
                        time.sleep(0.1)
                    if load.acknowledged <= before:
                        score.faults.append("nothing was accepted within 20 s after there was room again")
            score.verdict = finish(service, load, witness, patience)


def _answer(port: int) -> str:
    """What a client is told at the moment: the first refusal, or the answer to its mail."""
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail("load@example.test", ["full@sink.example"], b"Subject: full\r\n\r\nx\r\n")
            return "250"
    except smtplib.SMTPResponseException as error:
        return f"{error.smtp_code} {error.smtp_error!r}"
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        return f"{code} {text!r}"
    except (OSError, smtplib.SMTPException) as error:
        return repr(error)
