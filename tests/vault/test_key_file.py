"""The key file: one for all processes, private, and never silently replaced."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pysqlite3
import pytest

from smarthost.config import process_settings
from smarthost.control.secret_key import signing_key
from smarthost.errors import SecretError, StoreUnavailable
from smarthost.vault import create_key, key_file_findings, load_key, load_or_create_key

RACE = """
import sys
from pathlib import Path
from smarthost.vault import load_or_create_key
sys.stdin.readline()
sys.stdout.write(load_or_create_key(Path(sys.argv[1])).derive("race").hex())
"""


def test_it_is_made_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "data" / "deep" / "secret.key"
    before = os.umask(0)
    try:
        load_or_create_key(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not stat.S_IMODE(path.parent.stat().st_mode) & 0o066
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]
    assert key_file_findings(path) == ()


def test_it_is_read_again_as_it_was_made(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    assert load_or_create_key(path) == load_or_create_key(path) == load_key(path)


def test_processes_that_start_at_once_share_one_key(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret.key"
    command = [sys.executable, "-c", RACE, str(path)]
    starting = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    for process in starting:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    derived = {process.communicate(timeout=60)[0] for process in starting}
    assert len(derived) == 1
    assert derived == {load_key(path).derive("race").hex()}
    assert len(list(path.parent.iterdir())) == 1


def test_the_one_that_comes_late_keeps_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    create_key(path)
    first = path.read_bytes()
    create_key(path)
    assert path.read_bytes() == first
    assert len(list(tmp_path.iterdir())) == 1


def test_it_is_written_and_synced_before_it_stands_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    real_sync, real_link = os.fsync, os.link

    def note_sync(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        real_sync(handle)

    def note_link(source: Path, target: Path) -> None:
        steps.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "link", note_link)
    create_key(tmp_path / "secret.key")
    assert steps == ["file", "link", "folder"]


def test_a_missing_file_is_told_where_secrets_already_exist(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    with pytest.raises(SecretError, match=r"is missing.*SMARTHOST_SECRET_KEY_FILE"):
        load_key(path)
    assert not path.exists()
    assert key_file_findings(path) == (f"The key file {path} is missing.",)


@pytest.mark.parametrize("text", ["", "# nothing\n", "0badc0de short\n", "hello\n", "\x00\xff"])
def test_what_is_no_key_file_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SecretError):
        load_or_create_key(path)
    assert path.read_bytes() == text.encode("latin-1")
    assert key_file_findings(path)


def test_one_damaged_line_damages_the_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    create_key(path)
    with path.open("a") as file:
        file.write("0badc0de AAAA\n")
    with pytest.raises(SecretError, match="damaged"):
        load_key(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_can_read_is_a_finding(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret.key"
    create_key(path)
    path.chmod(mode)
    (finding,) = key_file_findings(path)
    assert f"{mode:04o}" in finding
    assert f"chmod 600 {path}" in finding


def test_a_place_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SecretError, match="cannot be made"):
        load_or_create_key(tmp_path / "file" / "secret.key")


def test_the_signing_key_is_the_same_in_every_process(tmp_path: Path) -> None:
    process = process_settings({"SMARTHOST_DATA": str(tmp_path / "data")})
    first = signing_key(process)
    assert first == signing_key(process)
    assert len(first) == 64
    other = process_settings({"SMARTHOST_DATA": str(tmp_path / "other")})
    assert signing_key(other) != first


@pytest.mark.parametrize(("password", "lost"), [("v1:0badc0de:AAAA", True), ("", False)])
def test_a_lost_key_is_not_replaced_while_the_database_needs_it(
    tmp_path: Path, password: str, lost: bool
) -> None:
    process = process_settings({"SMARTHOST_DATA": str(tmp_path)})
    connection = pysqlite3.connect(str(tmp_path / "smarthost.db"))
    connection.execute("CREATE TABLE upstream (password TEXT, client_key TEXT)")
    connection.execute("INSERT INTO upstream VALUES (?, '')", (password,))
    connection.commit()
    connection.close()
    if lost:
        with pytest.raises(SecretError, match="is missing"):
            signing_key(process)
        assert not process.secret_key_file.exists()
    else:
        assert signing_key(process)


def test_a_new_installation_gets_a_key_before_there_is_a_schema(tmp_path: Path) -> None:
    (tmp_path / "smarthost.db").touch()
    assert signing_key(process_settings({"SMARTHOST_DATA": str(tmp_path)}))


def test_a_database_that_cannot_be_asked_gets_no_new_key(tmp_path: Path) -> None:
    (tmp_path / "smarthost.db").write_bytes(b"this is no database at all" * 100)
    process = process_settings({"SMARTHOST_DATA": str(tmp_path)})
    with pytest.raises(StoreUnavailable):
        signing_key(process)
    assert not process.secret_key_file.exists()
