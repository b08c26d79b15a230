"""Too much of anything costs its sender, and memory stays bounded (recipient-, message-, header-bomb)."""

import msgspec
import pytest
from smtp_door import LIVE, MAIL, Door

from smarthost.engine.submission import Settings
from smarthost.routing import Limits

MB = 1024 * 1024


def limited(**limits):
    return msgspec.structs.replace(LIVE, limits=Limits(**limits))


def test_dos_02_recipients_beyond_the_limit_are_452_and_the_rest_goes(tmp_path):
    with Door(tmp_path, directory=limited(max_recipients=100)) as door, door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        for start in range(0, 3000, 500):
            client.send(b"".join(b"RCPT TO:<r%d@example.net>\r\n" % n for n in range(start, start + 500)))
            codes = client.codes(500)
            expected = ["250"] * 100 + ["452"] * 400 if start == 0 else ["452"] * 500
            assert codes == expected
        client.say("DATA")
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
        assert len(door.store.messages[0].deliveries) == 100


def test_dos_03_a_declared_size_over_the_limit_is_refused_at_mail(tmp_path):
    with Door(tmp_path, directory=limited(max_size=MB)) as door, door.ready() as client:
        assert client.say(f"MAIL FROM:<a@example.test> SIZE={2 * MB}").startswith("552 5.3.4")


@pytest.mark.parametrize("declared", ["", f" SIZE={MB // 2}"])
def test_dos_03_content_over_the_limit_is_refused_and_leaves_nothing(tmp_path, declared):
    with Door(tmp_path, directory=limited(max_size=MB)) as door, door.ready() as client:
        client.say("MAIL FROM:<a@example.test>" + declared)
        client.say("RCPT TO:<b@example.net>")
        client.say("DATA")
        client.send(MAIL + b"0123456789\r\n" * 100_000 + b".\r\n")
        assert client.reply().startswith("552")
        assert door.store.messages == []
        assert client.mail().startswith("250")
        settle(door)
        assert door.store.chunks == {} and door.submission.in_flight == 0


def test_dos_03_content_far_over_the_limit_ends_the_connection(tmp_path):
    with Door(tmp_path, directory=limited(max_size=MB)) as door, door.ready() as client:
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        for _ in range(200):
            client.send(b"0123456789\r\n" * 10_000)
        assert client.reply().startswith("552 5.3.4")  # for good: the same again would be as large
        assert client.closed()
        settle(door)
        assert door.store.messages == [] and door.store.chunks == {}


def test_dos_03_nobody_is_listened_to_for_ever(tmp_path):
    settings = Settings(linger=0.3, sweep=0.05)
    with Door(tmp_path, directory=limited(max_size=MB), settings=settings) as door, door.ready() as client:
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        with pytest.raises(OSError):
            while True:
                client.send(b"0123456789\r\n" * 10_000)


def test_dos_03_content_that_only_normalising_makes_too_large_is_refused(tmp_path):
    with Door(tmp_path, directory=limited(max_size=MB)) as door, door.ready() as client:
        assert client.mail(content=MAIL + b"\n" * 700_000 + b"\r\n").startswith("552 5.3.4")
        settle(door)
        assert door.store.messages == [] and door.store.chunks == {}


@pytest.mark.parametrize("kind", ["short lines", "one line"])
def test_dos_03_memory_does_not_follow_the_size_of_a_message(tmp_path, kind):
    """30 MB pass through; the door holds pieces of them only. The store of this test keeps nothing."""
    body = b"x\r\n" * (10 * MB) if kind == "short lines" else b"x" * (30 * MB) + b"\r\n"
    with Door(tmp_path) as door:
        highest = 0

        async def forget(message_id, n, data):
            nonlocal highest
            highest = max(highest, door.submission.in_flight)

        door.store._write_chunk = forget
        before = resident_peak()
        with door.ready() as client:
            assert client.mail(content=MAIL + body).startswith("250")
        assert door.store.messages[0].size == len(MAIL) + len(body)
        assert highest < 2 * MB
        assert resident_peak() - before < 2 * len(body) + 40 * MB, "the client's own copies are part of this"
        assert door.submission.in_flight == 0


def resident_peak():
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("one long field", b"X-Big: " + b"x" * MB + b"\r\n"),
        ("many fields", b"X-Many: 1\r\n" * 100_000),
        ("encoded words", b"Subject: " + b"=?utf-8?q?a?= " * 20_000 + b"\r\n"),
        ("nested comments", b"To: " + b"(" * 4000 + b"\r\n"),
        ("references", b"References: " + b"<a@b> " * 200_000 + b"\r\n"),
    ],
)
def test_dos_06_a_header_bomb_is_refused_or_taken_quickly(tmp_path, name, header):
    with Door(tmp_path) as door, door.ready() as client:
        answer = client.mail(content=header + MAIL)
        expected = "250" if len(header) < 200_000 else "552"
        if name == "encoded words":
            expected = "552"
        assert answer[:3] == expected, answer
        assert client.mail().startswith("250")


def test_dos_04_mime_is_never_looked_at(tmp_path):
    parts = b"--b\r\nx:y\r\n\r\nz\r\n" * 100_000
    nested = b"Content-Type: message/rfc822\r\n\r\n" * 2000
    head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n"
    with Door(tmp_path) as door, door.ready() as client:
        assert client.mail(content=head + MAIL + parts).startswith("250")
        assert client.mail(content=b"Content-Type: message/rfc822\r\n" + MAIL + nested).startswith("250")
        assert door.store.content(door.store.messages[0]) == head + MAIL + parts


def test_new_mail_waits_while_too_much_is_held(tmp_path):
    with Door(tmp_path, settings=Settings(in_flight=1000)) as door, door.ready() as client:
        door.submission.in_flight += 2000
        assert client.say("MAIL FROM:<a@example.test>").startswith("452 4.3.1")
        door.submission.in_flight -= 2000
        assert client.mail().startswith("250")


def test_an_endless_command_line_ends_the_connection(tmp_path):
    with Door(tmp_path) as door, door.client() as client:
        try:
            for _ in range(64):
                client.send(b"x" * 65536)
        except OSError:
            pass
        assert client.closed()
        assert client.closed() and door.store.messages == []


def settle(door):
    import threading

    for _ in range(500):
        if not door.store.chunks:
            return
        threading.Event().wait(0.01)
