"""Broken, hostile and merely odd clients (class smtp-protocol, log-bomb, mail-loop): an answer, never a crash."""

import random
import re

import pytest
from smtp_door import MAIL, Door


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with Door(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (["MAIL FROM:<a@example.test>"], "503"),  # before EHLO
        (["EHLO x", "RCPT TO:<b@example.net>"], "503"),
        (["EHLO x", "DATA"], "503"),
        (["EHLO x", "BOGUS"], "500"),
        (["EHLO x", "NOOP " + "x" * 600], "500"),
        (["EHLO"], "501"),
        (["EHLO x", "EXPN staff"], "502"),
    ],
)
def test_sub_10_out_of_order_or_unknown_is_an_error_with_its_code(door, lines, code):
    with door.client() as client:
        answers = [client.say(line) for line in lines]
        assert answers[-1][:3] == code, answers
        assert client.say("QUIT").startswith("221")


@pytest.mark.parametrize(
    "line",
    [
        "MAIL FROM:<a@example.test> SIZE=99999999999999999999",
        "MAIL FROM:<a@example.test> SIZE=x",
        "MAIL FROM:<a@example.test> BODY=9BIT",
        "MAIL FROM:<a@example.test> NOSUCH=1",
        "MAIL FROM:a b@example.test",
        "MAIL FROM <a@example.test>",
        "MAIL FROM:<a@example.test",
        "MAIL FROM:<\x01a@example.test>",
        b"MAIL FROM:<\xff\xfe@example.test>",
        "MAIL",
    ],
)
def test_sub_10_a_mail_that_cannot_be_read_is_refused_and_the_session_goes_on(door, line):
    with door.ready() as client:
        assert client.say(line)[:3] in ("500", "501", "552", "553", "555")
        assert client.mail().startswith("250")


def test_sub_10_bare_line_feeds_are_no_commands(door):
    with door.client() as client:
        client.send(b"EHLO x\nMAIL FROM:<a@example.test>\n")
        assert client.reply()[:3] == "500"


def test_sub_10_nested_mail_and_vrfy(door):
    with door.ready() as client:
        assert client.say("MAIL FROM:<a@example.test>").startswith("250")
        assert client.say("MAIL FROM:<b@example.test>").startswith("503")
        assert client.say("VRFY root")[:3] in ("252", "502")


def test_sub_10_twenty_errors_end_the_session(door):
    with door.client() as client:
        client.say("EHLO x")
        answers = []
        while answer := client.say("NONSENSE"):
            answers.append(answer[:3])
            if answer[:3] == "421" or len(answers) > 40:
                break
        assert 20 <= len(answers) <= 22
        assert client.closed()


def test_sub_11_data_without_an_accepted_recipient(door):
    with door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        client.send(b"RCPT TO:<x@@y>\r\nRCPT TO:<z>z>\r\nDATA\r\nRSET\r\n")
        assert [code[0] for code in client.codes(4)] == ["5", "5", "5", "2"]


def test_sub_11_words_before_the_greeting_harm_nobody(door):
    with door.client(greet=False) as client:
        client.send(b"EHLO x\r\nNOOP\r\n")
        assert client.reply()[:3] in ("220", "554")


def test_dos_12_no_client_writes_a_log_line_of_its_own(door):
    with door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        client.send(b"EHLO \x1b[2J\nFAKE level=info event=accepted\r\n")
        client.reply()
        client.say('RCPT TO:<"x level=info event=login-refused ip=203.0.113.9"@@y>')
        client.login("x\u2028y\x1b[31m ip=203.0.113.9", "w")
    with door.client() as client:
        client.say("EHLO x")
        client.login("a\x1b[2J\u2028ip=203.0.113.9 \u202eb", "w" * 1000)
        client.login("x ip=203.0.113.9 event=accepted", "w")
        client.login("l" * 9000, "w")
    door.line("login-refused")
    for line in door.logs.splitlines():
        assert re.match(r"time=\S+ level=\w+ event=[\w-]+ ", line), line
        assert line.isprintable() and len(line) < 2000
        assert "ip=203.0.113.9" not in re.sub(r'"(?:[^"\\]|\\.)*"', "", line)


def test_loop_01_too_many_hops_is_a_loop(door):
    hop = b"Received: from a by b; Sat, 21 Nov 2026 10:00:00 +0000\r\n"
    with door.ready() as client:
        assert client.mail(content=hop * 50 + MAIL).startswith("250")
        assert client.mail(content=hop * 51 + MAIL).startswith("554 5.4.6")
        assert client.mail().startswith("250")


@pytest.mark.parametrize(
    ("field", "automatic"),
    [
        (b"Auto-Submitted: auto-replied", True),
        (b"Precedence: bulk", True),
        (b"List-Id: <x.example.test>", True),
        (b"Auto-Submitted: no", False),
    ],
)
def test_loop_04_automatic_mail_is_marked_when_it_comes_in(door, field, automatic):
    from smarthost.spool import Flag

    door.store.messages.clear()
    with door.ready() as client:
        assert client.mail(content=field + b"\r\n" + MAIL).startswith("250")
        assert client.mail(content=MAIL, sender="").startswith("250")
    assert (Flag.AUTOMATIC in door.store.messages[0].flags) is automatic
    assert Flag.AUTOMATIC in door.store.messages[1].flags, "the null sender is automatic"


def test_no_noise_makes_it_fail(door):
    """Seeded noise around real commands: every connection gets answers or an end, and the door still works."""
    chance = random.Random(20261121)
    words = [
        b"EHLO x\r\n", b"MAIL FROM:<a@example.test>\r\n", b"RCPT TO:<b@example.net>\r\n", b"DATA\r\n", b".\r\n",
        b"BDAT 5 LAST\r\n", b"BDAT 0\r\n", b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\n", b"*\r\n", b"RSET\r\n", b"\r\n",
        b"From: a@example.test\r\n\r\n", b"\0", b"\r", b"\n", b"\xff" * 20, b"STARTTLS\r\n", b"x" * 3000,
    ]  # fmt: skip
    for _ in range(60):
        with door.client() as client:
            if chance.random() < 0.5:
                client.say("EHLO x")
                client.login()
            try:
                for _ in range(chance.randrange(1, 30)):
                    client.send(chance.choice(words))
            except OSError:
                continue
    with door.ready() as client:
        assert client.mail().startswith("250")
