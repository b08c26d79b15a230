"""The engine as a process: start, signals, locks."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from smarthost.config import process_settings
from smarthost.engine.main import prepare_data


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with its schema, made once by the control plane."""
    folder = tmp_path_factory.mktemp("installation") / "data"
    subprocess.run(
        [sys.executable, "-c", "from smarthost.control.boot import setup; setup()"],
        env=os.environ | {"SMARTHOST_DATA": str(folder)},
        check=True,
        timeout=60,
    )
    return folder


def environment(installation: Path, folder: Path) -> dict[str, str]:
    data = folder / "data"
    if not data.exists():
        shutil.copytree(installation, data)
    return os.environ | {
        "SMARTHOST_DATA": str(data),
        "SMARTHOST_SMTP": f"127.0.0.1:{free_port()}",
        "SMARTHOST_HTTP": "off",
    }


@contextmanager
def engine(environ: dict[str, str]) -> Iterator[Any]:
    log = Path(environ["SMARTHOST_DATA"]).parent / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "smarthost.engine"], env=environ, stderr=out)
    try:
        yield process, log
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for(log: Path, text: str, seconds: float = 30) -> str:
    end = time.monotonic() + seconds
    while text not in (said := log.read_text()):
        assert time.monotonic() < end, said
        time.sleep(0.02)
    return said


def submit(environ: dict[str, str]) -> None:
    host, _, port = environ["SMARTHOST_SMTP"].rpartition(":")
    with smtplib.SMTP(host, int(port), timeout=10) as client:
        client.sendmail("a@example.org", ["r@example.net"], b"From: a@example.org\r\n\r\nhello\r\n")


def test_it_says_when_it_is_ready_and_ends_in_order(installation: Path, tmp_path: Path) -> None:
    environ = environment(installation, tmp_path)
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(30)
        with engine(environ | {"NOTIFY_SOCKET": str(address)}) as (process, log):
            assert systemd.recv(100) == b"READY=1"
            assert "event=ready" in wait_for(log, "event=ready")
            submit(environ)
            process.send_signal(signal.SIGHUP)
            wait_for(log, "event=reload")
            process.send_signal(signal.SIGTERM)
            assert process.wait(40) == 0
            assert systemd.recv(100) == b"STOPPING=1"
            said = log.read_text()
            assert "event=stopped finished=True" in said and "Traceback" not in said
            assert said.count("event=captured") == 1


def test_a_second_engine_on_the_same_folder_is_turned_away(installation: Path, tmp_path: Path) -> None:
    environ = environment(installation, tmp_path)
    with engine(environ) as (process, log):
        wait_for(log, "event=ready")
        second = subprocess.run(
            [sys.executable, "-m", "smarthost.engine"],
            env=environ | {"SMARTHOST_SMTP": f"127.0.0.1:{free_port()}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert second.returncode == 78 and str(process.pid) in second.stderr
        submit(environ)


def test_what_a_killed_engine_acknowledged_is_there_when_it_comes_back(
    installation: Path, tmp_path: Path
) -> None:
    environ = environment(installation, tmp_path)
    with engine(environ) as (process, log):
        wait_for(log, "event=ready")
        submit(environ)
        process.kill()
        process.wait()
    with engine(environ) as (process, log):
        wait_for(log, "event=ready")
        submit(environ)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0
    import pysqlite3

    connection = pysqlite3.connect(str(Path(environ["SMARTHOST_DATA"]) / "smarthost.db"))
    assert connection.execute("SELECT count(*) FROM message").fetchone() == (2,)
    connection.close()


def test_a_key_that_cannot_be_read_stops_the_start_with_a_sentence(
    installation: Path, tmp_path: Path
) -> None:
    environ = environment(installation, tmp_path)
    broken = tmp_path / "broken.key"
    broken.write_text("nonsense")
    broken.chmod(0o600)
    with engine(environ | {"SMARTHOST_SECRET_KEY_FILE": str(broken)}) as (process, log):
        assert process.wait(30) == 78
        assert "event=start-failed" in log.read_text() and "Traceback" not in log.read_text()


def test_a_key_that_is_lost_while_secrets_are_sealed_is_not_made_anew(
    installation: Path, tmp_path: Path
) -> None:
    environ = environment(installation, tmp_path)
    key = Path(environ["SMARTHOST_DATA"]) / "secret.key"
    seal = (
        "from smarthost.control.boot import setup; setup()\n"
        "from smarthost.control.upstreams.services import set_upstream\n"
        "values = {'host': 'h.example.net', 'username': 'u', 'mechanism': 'auto'}\n"
        "set_upstream(None, values, actor='test', password='p')"
    )
    subprocess.run([sys.executable, "-c", seal], env=environ, check=True, timeout=60)
    key.rename(tmp_path / "kept.key")
    with engine(environ) as (process, log):
        assert process.wait(30) == 78
        assert "is missing. Put back its copy" in log.read_text()
    assert not key.exists()
    (tmp_path / "kept.key").rename(key)
    with engine(environ) as (process, log):
        wait_for(log, "event=ready")


def test_it_ends_when_its_data_folder_is_deleted_and_brings_nothing_back(
    installation: Path, tmp_path: Path
) -> None:
    environ = environment(installation, tmp_path)
    data = Path(environ["SMARTHOST_DATA"])
    with engine(environ) as (process, log):
        wait_for(log, "event=ready")
        submit(environ)
        shutil.rmtree(data)
        assert process.wait(60) == 75
        said = log.read_text()
        assert "event=store-failed" in said and "taken away" in said and "Traceback" not in said
    with engine(environ) as (process, log):
        assert process.wait(30) == 78
        assert "smarthost run" in log.read_text()
    assert not data.exists()


def test_it_makes_a_data_folder_that_others_may_pass_but_not_look_into(tmp_path: Path) -> None:
    process = process_settings(
        {"SMARTHOST_DATA": str(tmp_path / "new"), "SMARTHOST_DATABASE_URL": "postgresql://db/x"}
    )
    before = os.umask(0o077)
    try:
        prepare_data(process)
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o711
