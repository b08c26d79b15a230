"""The schema, made once whoever starts; the web process with its real server; PostgreSQL."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

HERE = Path(__file__).parent
SETUP = "from smarthost.control.boot import setup; setup(); print('ready')"


def environment(data: Path, **more: str) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SMARTHOST_", "DJANGO_"))
    }
    return clean | {"SMARTHOST_DATA": str(data)} | more


def test_processes_that_start_together_migrate_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SETUP],
            env=environment(data),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in started:
        out, errors = process.communicate(timeout=100)
        assert (process.returncode, out) == (0, "ready\n"), errors
    assert (data / "smarthost.db").stat().st_mode & 0o777 == 0o600
    assert data.stat().st_mode & 0o777 == 0o711


def test_no_model_lacks_its_migration(django: SimpleNamespace) -> None:
    from django.core.management import call_command

    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(tmp_path: Path) -> object:
    """The web process as `smarthost web` starts it."""
    data, port = tmp_path / "data", free_port()
    config = tmp_path / "smarthost.toml"
    config.write_text("[limits]\nmax_recipients = 7\n")
    env = environment(data, SMARTHOST_HTTP=f"127.0.0.1:{port}", SMARTHOST_CONFIG=str(config))
    make = (
        "from smarthost.control.boot import setup; setup()\n"
        "from smarthost.control.applications.services import add\n"
        "print(add('Smoke', actor='test', token=True).token)"
    )
    token = subprocess.run(
        [sys.executable, "-c", make], env=env, capture_output=True, text=True, check=True
    ).stdout.strip()
    process = subprocess.Popen(
        [sys.executable, "-m", "smarthost.cli", "web"], env=env, stderr=subprocess.PIPE, text=True
    )
    try:
        yield SimpleNamespace(port=port, token=token, config=config, process=process)
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors, errors


def ask(served: SimpleNamespace, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=20)
    headers = {"Authorization": f"Bearer {served.token}", "Content-Type": "application/json"}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def until(what: object, seconds: float = 60) -> None:
    """Poll a condition of another process."""
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(served: SimpleNamespace) -> bool:
    try:
        return ask(served, "GET", "/healthz")[0] == 200
    except OSError:
        return False


def test_the_real_server_takes_mail_and_follows_its_configuration(served: SimpleNamespace) -> None:
    until(lambda: alive(served))
    mail = {"from": "a@example.com", "to": ["b@example.org"], "subject": "x", "text": "y"}
    status, body = ask(served, "POST", "/api/v1/messages", mail)
    assert status == 202, body
    many = mail | {"to": [f"u{n}@example.org" for n in range(8)]}
    until(lambda: ask(served, "POST", "/api/v1/messages", many)[0] == 422)
    served.config.write_text("[limits]\nmax_recipients = 8\n")
    until(lambda: ask(served, "POST", "/api/v1/messages", many)[0] == 202)
    status, body = ask(served, "GET", f"/api/v1/messages/{json.loads(body)['id']}")
    assert status == 200 and json.loads(body)["recipients"][0]["state"] == "captured"
    large = mail | {"text": "x" * 20_000_000}
    assert ask(served, "POST", "/api/v1/messages", large)[0] == 202


@pytest.mark.skipif(
    os.environ.get("SMARTHOST_TEST_DATABASE") == "postgresql", reason="this run is on PostgreSQL already"
)
def test_the_same_on_postgresql(tmp_path: Path) -> None:
    """The other files once more, in a process of their own: Django is set up once in a process."""
    files = [str(HERE / f"test_{name}.py") for name in ("send", "read", "auth", "manage", "files", "pages")]
    pick = "twenty or same_key or batch or theirs or event or leaves_nothing or follows or once or becomes or needs"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        pick,
        *files,
    ]
    env = environment(tmp_path) | {"SMARTHOST_TEST_DATABASE": "postgresql"}
    done = subprocess.run(command, env=env, cwd=HERE.parents[1], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert shutil.which(sys.executable)
