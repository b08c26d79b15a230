"""Mail that sendmail left while the engine was down: taken in once, by whose file it is."""

import os
import stat
import threading

import msgspec
import pytest
from smtp_door import CAPTURE, LIVE, MAIL, Door

from smarthost.errors import ContentError, StoreUnavailable, TooLarge
from smarthost.spool import Priority, drop

MINE = msgspec.structs.replace(LIVE, uids={os.getuid(): "app:1"})


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it never came")


def scan(door):
    door.loop.call_soon_threadsafe(door.submission.scan)


def test_what_was_left_is_taken_in_at_start_and_removed(tmp_path):
    drop.make(tmp_path)
    content = b"From: cron\nX-Smarthost-Priority: bulk\n\nhi\n"
    drop.leave(tmp_path, sender="cron", recipients=["root", "b@example.net"], content=content)
    with Door(tmp_path, directory=MINE) as door:
        wait_for(lambda: not drop.waiting(tmp_path))
        (message,) = door.store.messages
        assert message.sender == "cron@example.test" and message.principal == "app:1"
        assert [one.recipient for one in message.deliveries] == ["admin@example.test", "b@example.net"]
        assert message.content == content.replace(b"\n", b"\r\n")
        assert message.priority is Priority.BULK
        assert "door=drop" in door.line("accepted")


def test_a_crash_between_commit_and_unlink_makes_no_copy(tmp_path, monkeypatch):
    drop.make(tmp_path)
    drop.leave(tmp_path, sender=None, recipients=["b@example.net"], content=MAIL)
    monkeypatch.setattr(drop, "remove", lambda data, name: None)
    with Door(tmp_path, directory=MINE) as door:
        wait_for(lambda: door.store.messages)
        wait_for(lambda: not door.submission._drop._busy.locked())
        monkeypatch.undo()
        scan(door)
        wait_for(lambda: not drop.waiting(tmp_path))
        assert len(door.store.messages) == 1
        assert "repeated=1" in door.logs


def test_a_store_that_is_down_leaves_it_for_later(tmp_path):
    drop.make(tmp_path)
    with Door(tmp_path, directory=MINE) as door:
        wait_for(lambda: not door.submission._drop._busy.locked())
        door.store.failure = StoreUnavailable("down")
        drop.leave(tmp_path, sender="cron", recipients=["root"], content=MAIL)
        scan(door)
        door.line("drop-refused")
        assert len(drop.waiting(tmp_path)) == 1
        wait_for(lambda: not door.submission._drop._busy.locked())
        door.store.failure = None
        scan(door)
        wait_for(lambda: not drop.waiting(tmp_path))
        assert len(door.store.messages) == 1


@pytest.mark.parametrize("why", ["uid", "address", "content"])
def test_what_can_never_be_accepted_is_set_aside_and_said(tmp_path, why):
    drop.make(tmp_path)
    drop.leave(
        tmp_path,
        sender="cron",
        recipients=["nobody@@example.net" if why == "address" else "root"],
        content=b"From: a@b.example\nFrom: c@d.example\n\n" if why == "content" else MAIL,
    )
    with Door(tmp_path, directory=LIVE if why == "uid" else MINE) as door:
        wait_for(lambda: not drop.waiting(tmp_path))
        wait_for(lambda: door.store.events)
        assert len(list((tmp_path / "drop-refused").iterdir())) == 1
        assert stat.S_IMODE((tmp_path / "drop-refused").stat().st_mode) == 0o700
        assert door.store.messages == []


def test_large_mail_is_taken_in_chunks(tmp_path):
    drop.make(tmp_path)
    content = MAIL + b"0123456789\r\n" * 60_000
    drop.leave(tmp_path, sender="cron", recipients=["root"], content=content)
    with Door(tmp_path, directory=MINE) as door:
        wait_for(lambda: not drop.waiting(tmp_path))
        (message,) = door.store.messages
        assert message.content is None and door.store.content(message) == content


def test_in_capture_mode_every_local_user_may(tmp_path):
    drop.make(tmp_path)
    drop.leave(tmp_path, sender="cron", recipients=["b@example.net"], content=MAIL)
    with Door(tmp_path, directory=CAPTURE) as door:
        wait_for(lambda: door.store.messages)
        assert door.store.messages[0].principal == "app:local"


def test_the_folder_takes_from_everybody_and_shows_nobody(tmp_path):
    assert stat.S_IMODE(drop.make(tmp_path).stat().st_mode) == 0o1733


def test_it_is_synced_before_it_has_its_name(tmp_path, monkeypatch):
    drop.make(tmp_path)
    steps = []
    fsync, rename = os.fsync, drop.Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(drop.Path, "rename", lambda a, b: (steps.append("rename"), rename(a, b))[1])
    name = drop.leave(tmp_path, sender="x", recipients=["y"], content=b"z")
    assert steps == ["fsync", "rename", "fsync"]
    assert drop.waiting(tmp_path) == [name]
    assert [entry.name for entry in (tmp_path / "drop").iterdir()] == [name]


def test_without_a_folder_it_says_so(tmp_path):
    with pytest.raises(StoreUnavailable):
        drop.leave(tmp_path, sender="x", recipients=["y"], content=b"z")


def left(tmp_path, content=MAIL):
    drop.make(tmp_path)
    return drop.leave(tmp_path, sender="x", recipients=["y"], content=content)


def test_only_whole_files_are_read(tmp_path):
    name = left(tmp_path)
    path = tmp_path / "drop" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ContentError):
        drop.read(tmp_path, name, 1000)


def test_a_symlink_is_not_followed(tmp_path):
    name = left(tmp_path)
    (tmp_path / "drop" / name).rename(tmp_path / "elsewhere")
    (tmp_path / "drop" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ContentError):
        drop.read(tmp_path, name, 1000)


def test_a_hard_link_is_refused(tmp_path):
    """Else somebody could link another user's file in and send as that user."""
    name = left(tmp_path)
    os.link(tmp_path / "drop" / name, tmp_path / "other name")
    with pytest.raises(ContentError):
        drop.read(tmp_path, name, 1000)


def test_a_fifo_or_a_folder_holds_nobody_up(tmp_path):
    drop.make(tmp_path)
    os.mkfifo(tmp_path / "drop" / "aaaaaaaaaaaa.mail")
    (tmp_path / "drop" / "bbbbbbbbbbbb.mail").mkdir()
    for name in drop.waiting(tmp_path):
        with pytest.raises(ContentError):
            drop.read(tmp_path, name, 1000)


@pytest.mark.parametrize("name", ["../secret.key", "a/b.mail", ".hidden.mail", "x.mail", "aaaaaaaaaaaa.txt"])
def test_names_that_were_not_given_here_are_nobodys(tmp_path, name):
    with pytest.raises(ContentError):
        drop.read(tmp_path, name, 1000)


def test_a_file_over_the_limit_is_refused_unread(tmp_path):
    name = left(tmp_path, b"x" * 3_000_000)
    with pytest.raises(TooLarge):
        drop.read(tmp_path, name, 1000)


def test_any_other_file_is_refused(tmp_path):
    drop.make(tmp_path)
    (tmp_path / "drop" / "aaaaaaaaaaaa.mail").write_bytes(b"root:x:0:0\n")
    with pytest.raises(ContentError):
        drop.read(tmp_path, "aaaaaaaaaaaa.mail", 1000)
