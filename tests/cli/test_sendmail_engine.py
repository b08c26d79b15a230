"""The sendmail program with a real engine behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peers.service import Service
from smarthost.spool import drop

PROGRAM = str(Path(sys.executable).with_name("smarthost"))
UID = 54321
needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="another Unix user needs root: run the tests as root"
)


def sendmail(
    service: Service, *words: str, stdin: bytes, uid: int | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, *words] if uid else [PROGRAM, "sendmail", *words],
        input=stdin,
        env=service.environment() | ({"SHIM_UID": str(uid)} if uid else {}),
        capture_output=True,
        check=False,
        timeout=60,
        cwd="/",
    )


# Becomes the other user after the imports: the tests' Python may stand where that user may not read.
_SCRIPT = """
import os, sys
from smarthost.cli import sendmail
from smarthost.cli import _recipients
import pathlib, smarthost.spool.drop, selectors, pwd
os.setgroups([]); os.setgid(int(os.environ["SHIM_UID"])); os.setuid(int(os.environ["SHIM_UID"]))
sys.exit(sendmail.run(sys.argv[1:]))
"""


def wait_for(service: Service, recipient: str) -> dict[str, object]:
    deadline = time.monotonic() + 20
    while True:
        rows = service.json("queue", "list", "--recipient", recipient)["rows"]
        if rows:
            found: dict[str, object] = rows[0]
            return found
        assert time.monotonic() < deadline, service.log.read_text()[-2000:]
        time.sleep(0.05)


def test_crons_own_mail_arrives_whole(service: Service) -> None:
    mail = (
        b"From: root (Cron Daemon)\nTo: root\nBcc: hidden@example.com\nSubject: Cron <root@host> backup\n"
        b"Auto-Submitted: auto-generated\n\nline\n.\n..\nlast"
    )
    done = sendmail(service, "-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root", stdin=mail)
    assert (done.returncode, done.stderr) == (0, b"")
    row = wait_for(service, "hidden@example.com")
    assert row["door"] == "sendmail"
    content = service.command("queue", "show", str(row["id"]), "--content").stdout
    assert "line\n.\n..\nlast" in content


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        (["a@b@c"], b"Subject: x\n\nhi\n", 67),
        (["ok@example.com", "user@exa mple.com"], b"Subject: x\n\nhi\n", 64),
        (["ok@example.com"], b"From: a@example.com, b@example.com\nSubject: x\n\nhi\n", 65),
        (["ok@example.com"], b"Subject: x\nbroken header\n\nhi\n", 65),
        (["ok@example.com"], b"Received: a\n" * 60 + b"\nhi\n", 65),
    ],
)
def test_the_engine_refuses_what_it_must_and_the_exit_code_says_why(
    service: Service, words: list[str], stdin: bytes, code: int
) -> None:
    done = sendmail(service, *words, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(b"sendmail: ")
    assert b"Traceback" not in done.stderr


@needs_root
def test_who_is_no_application_is_told_so_and_sends_nothing(service: Service) -> None:
    service.command(
        "upstream", "set", "--host", "127.0.0.1", "--port", "9", "--encryption", "none", "--no-check"
    )
    try:
        done = sendmail(service, "stranger@example.com", stdin=b"Subject: x\n\nhi\n", uid=UID + 1)
    finally:
        service.command("mode", "capture")
    assert done.returncode == 77, done.stderr
    assert f"uid {UID + 1}".encode() in done.stderr
    assert service.json("queue", "list", "--recipient", "stranger@example.com")["rows"] == []


@needs_root
def test_a_mapped_user_sends_as_its_application(service: Service) -> None:
    service.command("app", "add", "webserver", "--uid", str(UID))
    done = sendmail(
        service, "-f", "www@example.org", "known@example.com", stdin=b"From: www@example.org\n\nhi\n", uid=UID
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert wait_for(service, "known@example.com")["principal"] == "webserver"


@needs_root
def test_what_is_left_while_the_engine_is_down_is_taken_in_once_it_is_back(folder: Path) -> None:
    place = folder / "down"
    with Service(place) as service:
        service.command("app", "add", "cron", "--uid", str(UID))
    done = sendmail(
        service, "-f", "www@example.org", "later@example.com", stdin=b"Subject: l\n\nhi\n", uid=UID
    )
    assert (done.returncode, done.stderr) == (0, b"")
    (name,) = drop.waiting(place)
    assert drop.read(place, name, 10_000).uid == UID
    with Service(place, http=service.http, smtp=service.smtp):
        row = wait_for(service, "later@example.com")
        assert (row["principal"], row["state"]) == ("cron", "captured")
        deadline = time.monotonic() + 20
        while drop.waiting(place):
            assert time.monotonic() < deadline
            time.sleep(0.05)
