"""The sendmail program alone: its options, what it makes of its input, and its exit codes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarthost.cli import sendmail
from smarthost.cli.sendmail import SendmailError
from tests.cli.fake_engine import fake_engine

PROGRAM = str(Path(sys.executable).with_name("smarthost"))


@pytest.fixture
def data() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="shim-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)


def call(data: Path, *words: str, stdin: bytes = b"Subject: x\n\nhi\n") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [PROGRAM, "sendmail", *words],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=30,
        env={"PATH": os.environ["PATH"], "SMARTHOST_DATA": str(data)},
        cwd=data,
    )


# SUB-09: an option may never make this program read, write or run anything.
REFUSED = {
    "SUB-09 other configuration": ["-t", "-C/etc/shadow"],
    "SUB-09 other configuration, apart": ["-C", "/etc/shadow", "a@example.com"],
    "SUB-09 traffic log": ["-t", "-X/tmp/owned"],
    "SUB-09 queue folder": ["-t", "-oQ/tmp"],
    "SUB-09 all of them": ["-t", "-X/tmp/owned", "-C/etc/shadow", "-oQ/tmp"],
    "SUB-09 daemon": ["-bd"],
    "SUB-09 expansion test": ["-be", "${run{/bin/true}}"],
    "SUB-09 macro": ["-D", "X=1", "a@example.com"],
    "SUB-09 debug": ["-d0.1", "a@example.com"],
    "SUB-09 queue run": ["-q"],
    "SUB-09 queue run by time": ["-q30m"],
    "SUB-09 alias database": ["-bi"],
    "SUB-09 show queue": ["-bp"],
    "SUB-09 long option": ["-O", "QueueDirectory=/tmp", "a@example.com"],
    "SUB-09 sender is an option": ["-f-X/tmp/owned", "a@example.com"],
    "SUB-09 sender is an option, apart": ["-f", "-X", "a@example.com"],
    "SUB-09 sender is an option, in brackets": ["-f<-oQ/tmp>", "a@example.com"],
    "SUB-09 option after a recipient": ["a@example.com", "-X/tmp/owned"],
    "SUB-09 line end in a recipient": ["a@example.com\r\nRCPT TO:<b@example.com>"],
    "SUB-09 line end in the sender": ["-fa@example.com\nDATA", "a@example.com"],
    "SUB-09 line end in the name": ["-FAnn\r\nBcc: b@example.com", "a@example.com"],
    "SUB-09 parameter in a recipient": ["a@example.com> NOTIFY=NEVER X=<"],
    "SUB-09 endless recipient": ["a" * 100_000 + "@example.com"],
    "value missing": ["-f"],
    "unknown": ["--version"],
    "unknown letters": ["-tX"],
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED.keys())
def test_it_refuses_options_and_touches_nothing(data: Path, words: list[str]) -> None:
    with fake_engine(data) as engine:
        done = call(data, "good@example.com", *words)
    assert done.returncode == 64
    assert done.stderr.startswith(b"sendmail: ")
    assert done.stderr.count(b"\n") == 1
    assert len(done.stderr) < 300
    assert b"root:" not in done.stderr
    assert engine.commands == []
    assert [path.name for path in data.iterdir()] == []


def test_it_survives_as_many_arguments_as_the_system_allows(data: Path) -> None:
    """SUB-09: 1.5 MB of arguments; the engine's limit answers, not a crash."""
    with fake_engine(data, answers={"RCPT": "452 4.5.3 Too many recipients"}) as engine:
        done = call(data, *(f"user{n}@example.com" for n in range(40_000)))
    assert done.returncode == 75
    assert not any(command.startswith("BDAT") for command in engine.commands)


ACCEPTED = {
    "cronie": ["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t", "-f", "root"],
    "debian cron": ["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "to@example.com"],
    "php": ["-t", "-i"],
    "git": ["-i", "to@example.com"],
    "mutt": ["-oem", "-oi", "--", "to@example.com"],
    "old": ["-bm", "-om", "-v", "to@example.com"],
    "joined": ["-ti"],
}


@pytest.mark.parametrize("words", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_it_takes_the_options_that_programs_use(data: Path, words: list[str]) -> None:
    with fake_engine(data) as engine:
        done = call(data, *words, stdin=b"To: to@example.com\nSubject: x\n\nhi\n")
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
    assert "RCPT TO:<to@example.com>" in engine.commands
    assert engine.content.endswith(b"To: to@example.com\nSubject: x\n\nhi\n")


def test_it_reads_recipients_from_every_field_once(data: Path) -> None:
    mail = b'To: a@example.com,\n "B, C" <b@example.com>\nCc: a@example.com\nBcc: c@example.com\n\nhi\n'
    with fake_engine(data) as engine:
        assert call(data, "-t", "-i", "d@example.com", stdin=mail).returncode == 0
    recipients = [command for command in engine.commands if command.startswith("RCPT")]
    assert recipients == [f"RCPT TO:<{name}@example.com>" for name in "dabc"]


def test_it_completes_local_recipients_so_that_the_engine_maps_them(data: Path) -> None:
    with fake_engine(data) as engine:
        assert call(data, "-t", "-i", stdin=b"To: root\n\nhi\n").returncode == 0
        assert call(data, "www-data", stdin=b"\nhi\n").returncode == 0
    recipients = [command for command in engine.commands if command.startswith("RCPT")]
    assert recipients == ["RCPT TO:<root@localhost>", "RCPT TO:<www-data>"]


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [
        (["-t"], b"Subject: nobody\n\nhi\n", 64),
        ([], b"Subject: nobody\n\nhi\n", 64),
        (["-t"], b"To: a@b@c\n\nhi\n", 67),
    ],
)
def test_it_says_why_there_is_nobody_to_send_to(
    data: Path, words: list[str], stdin: bytes, code: int
) -> None:
    with fake_engine(data) as engine:
        done = call(data, *words, stdin=stdin)
    assert done.returncode == code
    assert not any(command.startswith("BDAT") for command in engine.commands)


def test_a_dot_ends_the_mail_unless_it_is_told_otherwise(data: Path) -> None:
    mail = b"Subject: x\n\none\n..\n.\nthree\n"
    with fake_engine(data) as engine:
        assert call(data, "a@example.com", stdin=mail).returncode == 0
        assert engine.content.endswith(b"\none\n..\n")
        assert call(data, "-i", "a@example.com", stdin=mail).returncode == 0
        assert engine.content.endswith(b"\none\n..\n.\nthree\n")


def test_it_makes_mail_of_plain_text_and_of_an_mbox_entry(data: Path) -> None:
    with fake_engine(data) as engine:
        assert call(data, "a@example.com", stdin=b"just text: yes\n").returncode == 0
        assert re.fullmatch(rb"X-Smarthost-Idempotency-Key: \w+\r\n\njust text: yes\n", engine.content)
        assert call(data, "a@example.com", stdin=b"From a@b Mon\nSubject: y\n\nhi\n").returncode == 0
        assert engine.content.endswith(b"\r\nSubject: y\n\nhi\n")


def test_it_gives_the_sender_that_was_named_and_else_its_own_name(data: Path) -> None:
    with fake_engine(data) as engine:
        for words in (["-f", "ann@example.com"], ["-f", "<>"], ["-f", ""], []):
            assert call(data, *words, "a@example.com").returncode == 0
    senders = [command.partition(" SIZE")[0] for command in engine.commands if command.startswith("MAIL")]
    name = sendmail.login_name()
    assert senders == [
        "MAIL FROM:<ann@example.com>",
        "MAIL FROM:<>",
        "MAIL FROM:<>",
        f"MAIL FROM:<{name}>",
    ]


def test_it_writes_a_from_field_of_the_given_name_where_there_is_none(data: Path) -> None:
    with fake_engine(data) as engine:
        assert call(data, "-FJörg, Cron", "-f", "cron@example.com", "a@example.com").returncode == 0
        assert b"\r\nFrom: =?utf-8?q?J=C3=B6rg=2C_Cron?= <cron@example.com>\r\nSubject" in engine.content
        mail = b"From: me@example.com\nSubject: x\n\nhi\n"
        assert call(data, "-FName", "a@example.com", stdin=mail).returncode == 0
        assert engine.content.endswith(b"\r\n" + mail)


def test_it_keeps_the_idempotency_key_of_the_mail(data: Path) -> None:
    mail = b"Subject: x\nX-Smarthost-Idempotency-Key: mine\n\nhi\n"
    with fake_engine(data) as engine:
        assert call(data, "a@example.com", stdin=mail).returncode == 0
    assert engine.content == mail


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"banner": "554 5.7.1 User 33 is no application here"}, 77),
        ({"MAIL": "550 5.7.1 User 33 is no application here"}, 77),
        ({"MAIL": "452 4.3.1 No space"}, 75),
        ({"MAIL": "552 5.3.4 Too large"}, 65),
        ({"RCPT b@example.com": "550 5.1.1 Unknown"}, 67),
        ({"RCPT b@example.com": "550 5.7.1 Not allowed"}, 77),
        ({"RCPT b@example.com": "450 4.7.0 Later"}, 75),
        ({"BDAT": "554 5.6.0 Not a mail"}, 65),
        ({"BDAT": "554 5.5.0 No"}, 69),
        ({"BDAT": "451 4.3.0 Later"}, 75),
    ],
)
def test_its_exit_code_says_what_was_refused(data: Path, answers: dict[str, str], code: int) -> None:
    with fake_engine(data, answers=answers) as engine:
        done = call(data, "a@example.com", "b@example.com", "c@example.com")
    assert done.returncode == code
    reason = next(iter(answers.values())).split(" ", 2)[2]
    assert reason in done.stderr.decode()
    if not any(command.startswith("BDAT") for command in answers):
        assert not any(command.startswith("BDAT") for command in engine.commands)


def test_it_names_every_refused_recipient_and_sends_to_none(data: Path) -> None:
    answers = {"RCPT b@example.com": "550 5.1.1 Unknown", "RCPT c@example.com": "450 4.7.0 Later"}
    with fake_engine(data, answers=answers) as engine:
        done = call(data, "a@example.com", "b@example.com", "c@example.com")
    assert done.returncode == 67
    assert done.stderr == b"sendmail: b@example.com: 5.1.1 Unknown\nsendmail: c@example.com: 4.7.0 Later\n"
    assert not any(command.startswith("BDAT") for command in engine.commands)


@pytest.mark.parametrize("moment", ["", "MAIL", "BDAT"])
def test_without_an_engine_it_leaves_a_file_that_holds_the_same_key(data: Path, moment: str) -> None:
    """Also when the engine dies in the middle: a copy under the same key is no second mail."""
    from smarthost.spool import drop

    drop.make(data)
    if moment:
        with fake_engine(data, hang_up_at=moment):
            done = call(data, "-f", "ann@example.com", "a@example.com")
    else:
        done = call(data, "-f", "ann@example.com", "a@example.com")
    assert (done.returncode, done.stderr) == (0, b"")
    (name,) = drop.waiting(data)
    left = drop.read(data, name, 10_000)
    assert (left.sender, left.recipients) == ("ann@example.com", ("a@example.com",))
    key = re.match(rb"X-Smarthost-Idempotency-Key: (\w{32})\r\n", left.content)
    assert key is not None
    assert left.key == key[1].decode()


def test_without_engine_and_drop_folder_it_says_try_again(data: Path) -> None:
    done = call(data, "a@example.com")
    assert done.returncode == 75
    assert b"not running" in done.stderr


def test_without_a_data_folder_it_says_which_setting_is_missing(data: Path) -> None:
    done = subprocess.run(
        [PROGRAM, "sendmail", "a@example.com"],
        input=b"hi",
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
        cwd=data,
    )
    assert done.returncode == 78
    assert b"SMARTHOST_DATA" in done.stderr


def test_bs_passes_the_dialogue_through(data: Path) -> None:
    with fake_engine(data) as engine:
        done = call(data, "-bs", stdin=b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nQUIT\r\n")
    assert done.returncode == 0
    assert done.stdout == b"220 fake\r\n250-fake\r\n250 CHUNKING\r\n250 2.0.0 OK\r\n250 2.0.0 OK\r\n"
    assert engine.commands == ["EHLO x", "MAIL FROM:<a@example.com>", "QUIT"]
    assert call(data, "-bs").stdout.startswith(b"421 ")
    assert call(data, "-bs").returncode == 75


def test_a_link_named_sendmail_and_the_installed_program_are_the_same(data: Path) -> None:
    link = data / "sendmail"
    link.symlink_to(PROGRAM)
    with fake_engine(data) as engine:
        for program in (str(link), str(Path(PROGRAM).with_name("smarthost-sendmail"))):
            done = subprocess.run(
                [program, "-i", "a@example.com"],
                input=b"Subject: x\n\nhi\n",
                env={"PATH": os.environ["PATH"], "SMARTHOST_DATA": str(data)},
                check=False,
                capture_output=True,
            )
            assert (done.returncode, done.stderr) == (0, b"")
    assert sum(command.startswith("BDAT") for command in engine.commands) == 2


def test_it_imports_neither_django_nor_a_database() -> None:
    script = "import sys; from smarthost.cli import sendmail; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    heavy = {
        "django",
        "pysqlite3",
        "psycopg",
        "msgspec",
        "asyncio",
        "argparse",
        "smarthost.mail",
        "ssl",
        "json",
    }
    assert heavy.isdisjoint(loaded.split())


@given(st.lists(st.text(max_size=12), max_size=6))
def test_no_command_line_makes_it_fall_over(words: list[str]) -> None:
    try:
        options = sendmail.parse(words)
    except SendmailError as error:
        assert error.code == 64
    else:
        for address in [*options.recipients, options.sender or ""]:
            assert address.isprintable() or not any(ord(char) < 32 for char in address)


@given(st.binary(max_size=200))
def test_tidy_changes_nothing_but_the_beginning(content: bytes) -> None:
    tidied = sendmail.tidy(content)
    assert tidied.lstrip(b"\n").endswith(content.lstrip(b"\n")) or content.startswith((b"From ", b">From "))
    assert sendmail.header_section(tidied) == b"" or b":" in tidied.partition(b"\n")[0] or not tidied.strip()
