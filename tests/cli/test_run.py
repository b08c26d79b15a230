"""`smarthost run`: it starts, restarts what dies, says what is in the way, and drains."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from peers.ports import free_port, wait_for_port
from peers.service import Service

PROGRAM = str(Path(sys.executable).with_name("smarthost"))


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_it_makes_a_folder_that_others_may_pass_but_not_look_into(service: Service) -> None:
    assert stat.S_IMODE(service.folder.stat().st_mode) & 0o077 in (0o011, 0o055)
    for path in service.folder.iterdir():
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.name == "sendmail.sock":
            assert mode == 0o666
        elif path.name == "drop":
            assert mode == 0o1733
        elif path.name != "run.log":
            assert mode & 0o077 == 0, path.name


@pytest.mark.parametrize("role", ["web", "engine"])
def test_a_child_that_dies_is_started_again_and_it_says_so(service: Service, role: str) -> None:
    before = service.pids()[role]
    os.kill(before, signal.SIGKILL)
    until(lambda: service.pids().get(role) not in (None, before))
    until(service.ready)
    assert f"child={role} how=signal-SIGKILL" in service.log.read_text()
    wait_for_port(service.smtp)
    with socket.create_connection(("127.0.0.1", service.smtp), timeout=20) as peer:
        assert peer.recv(100).startswith(b"220 ")


def test_no_child_outlives_its_supervisor(folder: Path) -> None:
    service = Service(folder / "orphans").start()
    pids = service.pids()
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait()
    until(lambda: not any(alive(pid) for pid in pids.values()))
    with Service(folder / "orphans", http=service.http, smtp=service.smtp) as again:
        assert again.ready()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_is_under_way_and_leaves_with_zero(folder: Path, number: signal.Signals) -> None:
    service = Service(folder / f"drain-{number}").start()
    pids = service.pids()
    acknowledged = []
    with socket.create_connection(("127.0.0.1", service.smtp), timeout=20) as peer:
        stream = peer.makefile("rwb")
        stream.readline()
        stream.write(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n")
        stream.flush()
        for raw in stream:
            if raw.startswith(b"354"):
                break
        service.process.send_signal(number)
        try:
            stream.write(b"Subject: last\r\n\r\nhi\r\n.\r\n")
            stream.flush()
            acknowledged = [line for line in stream if line.startswith(b"250")]
        except OSError:
            pass
        finally:
            try:
                stream.close()
            except OSError:
                pass
    assert service.process.wait(45) == 0
    assert not any(alive(pid) for pid in pids.values())
    counts = service.counts()
    assert counts.get("captured", 0) >= bool(acknowledged)


@pytest.mark.parametrize("variable", ["SMARTHOST_HTTP", "SMARTHOST_SMTP"])
def test_it_names_the_variable_of_an_address_that_is_taken(folder: Path, variable: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        service = Service(folder / "taken", environ={variable: taken})
        done = service.command("run", check=False) if service.folder.mkdir(exist_ok=True) is None else None
    assert done is not None
    assert done.returncode == 6
    assert taken in done.stderr
    assert f"{variable}=host:port" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_says_which_setting_cannot_be_used(folder: Path) -> None:
    (folder / "wrong").mkdir()
    service = Service(folder / "wrong", environ={"SMARTHOST_SMTP": "nowhere"})
    done = service.command("run", check=False)
    assert (done.returncode, done.stdout) == (6, "")
    assert "SMARTHOST_SMTP must be host:port" in done.stderr


def test_it_ends_with_an_error_when_the_installation_cannot_be_prepared(folder: Path) -> None:
    broken = folder / "broken"
    broken.mkdir()
    (broken / "secret.key").write_text("this is no key\n")
    (broken / "secret.key").chmod(0o600)
    done = Service(broken).command("run", check=False)
    assert done.returncode != 0
    assert "key" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_ends_with_an_error_when_the_engine_cannot_run_here(folder: Path) -> None:
    """Another engine holds the data folder: SQLite takes one."""
    with Service(folder / "twice") as first:
        second = Service(folder / "twice")
        done = second.command("run", check=False)
        assert first.ready()
    assert done.returncode not in (0, -signal.SIGKILL)
    assert "child cannot start" in done.stderr
    assert "child=engine" in done.stderr
    assert "Traceback" not in done.stderr


def refuses_mail(port: int) -> bool:
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        try:
            client.sendmail("a@example.org", ["b@example.com"], "Subject: x\r\n\r\nx\r\n")
        except smtplib.SMTPDataError as error:
            return error.smtp_code == 451
    return False


def test_it_leaves_when_it_is_told_to_though_its_folder_is_gone(folder: Path) -> None:
    place, log = folder / "gone", folder / "gone.log"
    place.mkdir()
    service = Service(place)
    with (
        log.open("wb") as out,
        subprocess.Popen([PROGRAM, "run"], env=service.environment(), stdout=out, stderr=out) as process,
    ):
        until(lambda: "Smarthost is ready" in log.read_text())
        shutil.rmtree(place)
        until(lambda: refuses_mail(service.smtp))
        process.terminate()
        assert process.wait(40) == 0
    assert not place.exists()
    assert "Traceback" not in log.read_text()


def test_the_web_process_ends_while_it_still_loads(folder: Path) -> None:
    (folder / "loads").mkdir()
    service = Service(folder / "loads")
    with subprocess.Popen([PROGRAM, "web"], env=service.environment(), stderr=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until(lambda: children.read_text())
        process.terminate()
        assert process.wait(15) == 0  # granian would kill its worker after 20 seconds


def test_without_pages_mail_is_taken_and_configuration_files_are_followed(folder: Path) -> None:
    place, config = folder / "no-web", folder / "no-web.toml"
    place.mkdir()
    config.write_text("[limits]\nmax_size = 1000000\n")
    environ = {"SMARTHOST_HTTP": "off", "SMARTHOST_CONFIG": str(config)}
    service = Service(place, smtp=free_port(), environ=environ)

    def told_size() -> int:
        with socket.create_connection(("127.0.0.1", service.smtp), timeout=20) as peer:
            peer.sendall(b"EHLO x\r\nQUIT\r\n")
            with peer.makefile("rb") as lines:
                return next(int(line.split()[1]) for line in lines if line.startswith(b"250-SIZE "))

    process = subprocess.Popen(
        [PROGRAM, "run"],
        env=service.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Smarthost is ready" in line:
                break
        until(lambda: told_size() == 1_000_000)
        config.write_text("[limits]\nmax_size = 2000000\n")
        until(lambda: told_size() == 2_000_000)
    finally:
        process.terminate()
        assert process.wait(45) == 0
        process.stdout.close()


def test_the_first_sign_in_link_is_offered_until_somebody_can_come_in(folder: Path) -> None:
    place = folder / "links"
    for time_ in ("first", "second"):
        with Service(place) as service:
            until(lambda: "/sign-in/" in service.log.read_text())
            if time_ == "second":
                words = ["boss@example.com", "--role", "owner", "--password-stdin"]
                service.command("user", "add", *words, stdin="correct horse 9\n")
        (place / "run.log").unlink()
    with Service(place) as service:
        until(lambda: "Smarthost is ready" in service.log.read_text())
        assert "/sign-in/" not in service.log.read_text()
        assert {user["username"] for user in service.json("user", "list")} == {"owner", "boss@example.com"}
