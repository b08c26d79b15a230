"""The Unix socket: who connects is asked of the kernel, and nobody needs a password."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from smtp_door import APP, CAPTURE, LIVE, Door

from smarthost.spool import Door as Kind

MINE = msgspec.structs.replace(LIVE, uids={os.getuid(): "app:1"})


def test_a_user_of_an_application_sends_as_it(tmp_path):
    with Door(tmp_path, directory=MINE) as door, door.ready(unix=True) as client:
        assert client.mail("root", sender="cron", content=b"From: cron\r\n\r\nhi\r\n").startswith("250")
        (message,) = door.store.messages
        assert message.door is Kind.SENDMAIL and message.principal == APP.id
        assert (message.sender, message.header_from) == ("cron@example.test", "cron@example.test")
        assert message.deliveries[0].recipient == "admin@example.test"
        assert '"header_from":"cron@example.test"' in message.deliveries[0].edits
        assert b"with local id" in message.trace and b"as Printer" in message.trace


def test_every_user_may_connect(tmp_path):
    with Door(tmp_path, directory=MINE):
        assert stat.S_IMODE((tmp_path / "sendmail.sock").stat().st_mode) == 0o666


def test_a_user_of_no_application_is_refused_at_once(tmp_path):
    with Door(tmp_path) as door, door.client(unix=True, greet=False) as client:
        assert client.reply().startswith("550 5.7.1")
        assert client.closed()
        assert f"uid={os.getuid()}" in door.line("sendmail-refused")


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_the_uid_is_the_peers_own(tmp_path):
    """A process of another user says what it likes; the kernel says who it is."""
    script = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "print(s.recv(200).decode())"
    )
    with tempfile.TemporaryDirectory() as open_to_all:
        os.chmod(open_to_all, 0o755)
        with Door(Path(open_to_all), directory=MINE):
            done = subprocess.run(
                [sys.executable, "-I", "-c", script, f"{open_to_all}/sendmail.sock"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
        assert done.stdout.startswith("550 5.7.1"), done.stderr


def test_in_capture_mode_every_local_user_may(tmp_path):
    with Door(tmp_path, directory=CAPTURE) as door, door.ready(unix=True) as client:
        assert client.mail().startswith("250 2.0.0 captured")
        assert door.store.messages[0].principal == "app:local"


def test_nobody_logs_in_here(tmp_path):
    with Door(tmp_path, directory=MINE) as door, door.client(unix=True) as client:
        assert "AUTH" not in client.say("EHLO x")
        assert client.login()[:1] == "5"


def test_a_socket_that_a_dead_engine_left_is_no_obstacle(tmp_path):
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "sendmail.sock"))
    with Door(tmp_path, directory=MINE) as door, door.ready(unix=True) as client:
        assert client.mail().startswith("250")
    assert not (tmp_path / "sendmail.sock").exists()
