"""The same doors on the real store: what was said to be queued is there, whole, and only once."""

import os
import shutil
import subprocess
import sys
import threading

import msgspec
import pysqlite3
import pytest
from smtp_door import APP, LIVE, MAIL, Door

from smarthost.routing import encode_directory, encode_principal
from smarthost.spool import drop, open_spool


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A migrated database with a directory and one application."""
    path = tmp_path_factory.mktemp("template") / "smarthost.db"
    environ = os.environ | {
        "SMARTHOST_DATABASE_URL": f"sqlite:///{path}",
        "SMARTHOST_DATA": str(path.parent),
        "DJANGO_SETTINGS_MODULE": "smarthost.control.settings",
    }
    script = (
        "import smarthost.control, django; django.setup();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environ, timeout=60)
    directory = msgspec.structs.replace(LIVE, version=7, uids={os.getuid(): APP.id})
    with pysqlite3.connect(str(path)) as connection:
        connection.execute("DELETE FROM directory")
        connection.execute(
            "INSERT INTO directory (id, version, body, compiled_at) VALUES (1, 7, ?, 0)",
            [encode_directory(directory).decode()],
        )
        connection.execute(
            "INSERT INTO principal (id, login, body, version) VALUES (?, ?, ?, 7)",
            [APP.id, APP.login, encode_principal(APP).decode()],
        )
    connection.close()
    return path


@pytest.fixture
def door(tmp_path, template):
    shutil.copy(template, tmp_path / "smarthost.db")

    def spool(loop):
        opened = open_spool(f"sqlite:///{tmp_path / 'smarthost.db'}", tmp_path, name="test")
        return opened, opened.bind(loop)

    with Door(tmp_path, spool=spool) as door:
        yield door


def kept(door, answer):
    """The message of this answer and its content as the store gives it back."""
    view = door.opened.message(answer.split()[-1])
    return view, b"".join(door.opened.content(view.id))


@pytest.mark.parametrize("lines", [1, 60_000])
def test_what_was_answered_is_stored_whole(door, lines):
    content = MAIL + b"0123456789\r\n" * lines
    with door.ready() as client:
        answer = client.mail("b@example.net", "c@example.net", content=content)
        assert answer.startswith("250 2.0.0 queued as ")
        view, stored = kept(door, answer)
        assert stored == content and view.size == len(content)
        assert [one.recipient for one in view.deliveries] == ["b@example.net", "c@example.net"]
        assert door.opened.counts()["queued"] == 2


def test_the_same_key_is_one_message_and_another_request_a_conflict(door):
    keyed = b"X-Smarthost-Idempotency-Key: k\r\n" + MAIL
    with door.ready() as client:
        first = client.mail(content=keyed)
        assert client.mail(content=keyed) == first
        assert client.mail(content=keyed + b"x\r\n")[:1] == "5"
        assert door.opened.counts()["queued"] == 1


def test_many_sessions_at_once_lose_nothing(door):
    clients = [door.ready() for _ in range(20)]
    for _ in range(5):
        for client in clients:
            client.send(
                b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + MAIL + b".\r\n"
            )
    for client in clients:
        assert client.codes(20) == ["250", "250", "354", "250"] * 5
        client.sock.close()
    assert door.opened.counts()["queued"] == 100


def test_the_drop_folder_reaches_the_store_once(door):
    drop.leave(door.data, sender="cron", recipients=["root"], content=MAIL)
    door.loop.call_soon_threadsafe(door.submission.scan)
    assert "door=drop" in door.line("accepted")
    assert door.opened.counts()["queued"] == 1


def test_a_refused_login_is_an_event_that_pages_can_show(door):
    with door.client() as client:
        client.say("EHLO x")
        assert client.login("printer", "wrong") == "535"
    for _ in range(500):
        if events := door.opened.events():
            break
        threading.Event().wait(0.01)
    assert [event.kind for event in events] == ["login.refused"]
