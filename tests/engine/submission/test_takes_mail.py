"""What a client hears, and what the spool gets."""

import shutil
import smtplib
import subprocess

import msgspec
import pytest
from smtp_door import APP, CAPTURE, LIVE, MAIL, SECRET, Door

from smarthost.errors import StoreFull, StoreUnavailable
from smarthost.routing import Limits, Principal
from smarthost.spool import Door as Kind
from smarthost.spool import Flag, Priority, State, now_us


def test_it_takes_a_message_and_says_under_which_id(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        answer = client.mail("b@example.net", "c@example.net")
        (message,) = door.store.messages
        assert answer == f"250 2.0.0 queued as {message.id}"
        assert message.content == MAIL
        assert (message.sender, message.principal, message.door) == ("a@example.test", "app:1", Kind.SMTP)
        assert [(one.recipient, one.upstream, one.state) for one in message.deliveries] == [
            ("b@example.net", "up:1", State.QUEUED),
            ("c@example.net", "up:1", State.QUEUED),
        ]
        assert message.subject == "hello" and message.header_from == "a@example.test"
        assert Flag.ADD_DATE in message.flags and Flag.ADD_MESSAGE_ID in message.flags
        trace = message.trace.decode()
        assert trace.startswith("Received: from client.example.test ([127.0.0.1])")
        assert f"with ESMTPA id {message.id}" in trace
        assert message.id in door.line("accepted") and "recipients=2" in door.line("accepted")


def test_it_says_captured_in_capture_mode_and_asks_nobody_local_for_a_credential(tmp_path):
    with Door(tmp_path, directory=CAPTURE) as door, door.ready() as client:
        answer = client.mail()
        (message,) = door.store.messages
        assert answer == f"250 2.0.0 captured, not sent, as {message.id}"
        assert message.principal == "app:local" and message.deliveries[0].state is State.CAPTURED


def test_it_asks_for_a_credential_when_mail_leaves(tmp_path):
    with Door(tmp_path) as door, door.client() as client:
        client.say("EHLO x")
        assert client.say("MAIL FROM:<a@example.test>").startswith("530 5.7.0")
        assert door.store.messages == []


def test_the_end_of_capture_mode_counts_from_the_next_mail(tmp_path):
    with Door(tmp_path, directory=CAPTURE) as door, door.ready() as client:
        assert client.mail().startswith("250")
        door.change(LIVE)
        assert client.say("MAIL FROM:<a@example.test>").startswith("530")


def test_a_trusted_network_needs_no_credential(tmp_path):
    directory = LIVE.__class__(
        **{
            **{name: getattr(LIVE, name) for name in LIVE.__struct_fields__},
            "networks": (("127.0.0.0/8", "app:1"),),
        }
    )
    with Door(tmp_path, directory=directory) as door, door.client() as client:
        client.say("EHLO x")
        assert client.mail().startswith("250")
        assert door.store.messages[0].principal == "app:1"


def test_a_credential_taken_back_counts_from_the_next_mail(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        assert client.mail().startswith("250")
        door.store.principals[:] = [
            Principal(id="app:1", name="Printer", login="printer", secrets=("0" * 64,))
        ]
        door.change(LIVE)
        assert client.mail().startswith("421 4.7.0")
    with Door(tmp_path, principals=()) as door, door.client() as client:
        client.say("EHLO x")
        assert client.login() == "535"


def test_local_names_are_completed_and_mapped_before_policy(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        assert client.mail("root", "www-data@localhost", sender="www-data").startswith("250")
        (message,) = door.store.messages
        assert [one.recipient for one in message.deliveries] == [
            "admin@example.test",
            "www-data@example.test",
        ]
        assert message.sender == "www-data@example.test"


def test_a_recipient_named_twice_gets_one_copy(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        assert client.mail("b@example.net", "b@EXAMPLE.net").startswith("250")
        assert len(door.store.messages[0].deliveries) == 1


def test_a_refused_recipient_gets_its_own_answer_and_the_others_go(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        assert client.say("RCPT TO:<nobody@@example.net>").startswith("553 5.1.3")
        assert client.say("RCPT TO:<b@example.net>").startswith("250 2.1.5")
        client.say("DATA")
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
        assert [one.recipient for one in door.store.messages[0].deliveries] == ["b@example.net"]
        assert "recipient=nobody@@example.net" in door.line("refused")


def test_what_policy_refuses_at_the_end_refuses_the_message(tmp_path):
    """The upstream has no From address, and only the content shows that the message has none."""
    with Door(tmp_path) as door, door.ready() as client:
        answer = client.mail(content=b"Subject: x\r\n\r\nno from\r\n")
        assert answer.startswith("550 5.6.0") and "No From address configured" in answer
        assert door.store.messages == []


def test_mail_says_its_own_priority_and_time_and_is_refused_where_it_cannot_be_read(tmp_path):
    at = now_us() // 1_000_000 + 3600
    with Door(tmp_path) as door, door.ready() as client:
        wish = f"X-Smarthost-Priority: urgent\r\nX-Smarthost-Send-At: {at}\r\n".encode()
        assert client.mail(content=wish + MAIL).startswith("250")
        (message,) = door.store.messages
        assert (message.priority, message.send_at) == (Priority.URGENT, at * 1_000_000)
        assert Flag.STRIP_HIDDEN in message.flags
        answer = client.mail(content=b"X-Smarthost-Send-At: soon\r\n" + MAIL)
        assert answer.startswith("550 5.6.0 X-Smarthost-Send-At must be a time such as")
        assert len(door.store.messages) == 1


def test_a_policy_change_between_rcpt_and_content_counts(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        client.say("DATA")
        door.change(msgspec.structs.replace(LIVE, upstreams={}))
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("550 5.4.4")


@pytest.mark.parametrize(
    ("failure", "code"),
    [(StoreFull("No space."), "452 4.3.1"), (StoreUnavailable("Store down."), "451 4.3.0")],
)
def test_a_store_that_cannot_is_a_temporary_failure_and_the_session_goes_on(tmp_path, failure, code):
    with Door(tmp_path) as door, door.ready() as client:
        door.store.failure = failure
        assert client.mail().startswith(code)
        door.store.failure = None
        assert client.mail().startswith("250")


def test_it_answers_only_after_the_commit(tmp_path):
    import asyncio

    with Door(tmp_path) as door, door.ready() as client:
        door.store.gate = asyncio.Event()
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        client.send(MAIL + b".\r\nNOOP\r\n")
        client.sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        client.sock.settimeout(15)
        door.loop.call_soon_threadsafe(door.store.gate.set)
        assert client.codes(2) == ["250", "250"]


def test_a_client_that_left_after_the_dot_is_not_taken_back(tmp_path):
    import asyncio

    with Door(tmp_path) as door:
        client = door.ready()
        door.store.gate = asyncio.Event()
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        client.send(MAIL + b".\r\n")
        client.sock.close()
        door.loop.call_soon_threadsafe(door.store.gate.set)
        assert door.line("accepted")
        assert len(door.store.messages) == 1


def test_a_client_that_closed_its_half_still_hears_the_answer(tmp_path):
    import socket

    with Door(tmp_path, directory=CAPTURE) as door, door.client() as client:
        client.send(
            b"EHLO x\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + MAIL + b".\r\n"
        )
        client.sock.shutdown(socket.SHUT_WR)
        assert client.codes(5) == ["250", "250", "250", "354", "250"]
        assert client.closed()


def test_a_pipelined_session_is_answered_in_order(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        one = b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + MAIL + b".\r\n"
        client.send(one * 3 + b"QUIT\r\n")
        assert client.codes(13) == ["250", "250", "354", "250"] * 3 + ["221"]
        assert len(door.store.messages) == 3


def test_dsn_parameters_are_kept(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        client.say("MAIL FROM:<a@example.test> RET=HDRS ENVID=Q7+2B1")
        client.say("RCPT TO:<b@example.net> NOTIFY=FAILURE,DELAY ORCPT=rfc822;c@example.net")
        client.say("DATA")
        client.send(MAIL + b".\r\n")
        assert client.reply().startswith("250")
        (message,) = door.store.messages
        assert (message.dsn_ret, message.dsn_envid) == ("HDRS", "Q7+1")
        assert message.deliveries[0].dsn == "NOTIFY=FAILURE,DELAY;ORCPT=rfc822;c@example.net"


def test_bdat_and_data_give_the_same_content(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        client.mail(content=b"From: a@example.test\r\n\r\n.dot\r\n")
        content = b"From: a@example.test\r\n\r\n.dot\r\n"
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        client.send(b"BDAT 10\r\n" + content[:10])
        assert client.reply().startswith("250")
        client.send(b"BDAT %d LAST\r\n" % (len(content) - 10) + content[10:])
        assert client.reply().startswith("250")
        assert door.store.messages[0].content == door.store.messages[1].content == content


def test_large_content_goes_in_chunks_and_comes_out_the_same(tmp_path):
    content = MAIL + b"".join(b"line %d with some text\r\n" % n for n in range(60_000))
    with Door(tmp_path) as door, door.ready() as client:
        assert client.mail(content=content).startswith("250")
        (message,) = door.store.messages
        assert message.content is None and message.chunks == len(door.store.chunks[message.id])
        assert message.size == len(content) and door.store.content(message) == content
        sizes = [len(door.store.chunks[message.id][n]) for n in range(message.chunks)]
        assert set(sizes[:-1]) == {256 * 1024}
        assert message.subject == "hello"
        assert door.submission.in_flight == 0


def test_content_that_grows_over_a_chunk_when_normalised_is_kept_in_chunks(tmp_path):
    content = MAIL + b"x\n" * 110_000
    with Door(tmp_path) as door, door.ready() as client:
        assert client.mail(content=content + b"\r\n").startswith("250")
        (message,) = door.store.messages
        assert door.store.content(message) == MAIL + b"x\r\n" * 110_000 + b"\r\n"


def test_large_content_that_never_ends_leaves_nothing(tmp_path):
    with Door(tmp_path) as door:
        client = door.ready()
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        client.send(MAIL + b"0123456789\r\n" * 60_000)
        client.sock.close()
        for _ in range(500):
            if door.store.discarded and not door.store.chunks and not door.submission.connections:
                break
            client_wait()
        assert door.store.chunks == {} and door.store.messages == []
        assert door.submission.in_flight == 0


def client_wait():
    import threading

    threading.Event().wait(0.01)


def test_a_store_that_fills_up_in_the_middle_is_said_after_the_dot(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        door.store.failure = StoreFull("No space.")
        assert client.mail(content=MAIL + b"0123456789\r\n" * 60_000).startswith("452 4.3.1")
        door.store.failure = None
        assert client.mail().startswith("250")


def test_a_header_that_cannot_be_read_is_refused_also_in_large_content(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        bad = b"From: a@example.test\r\nFrom: b@example.test\r\n\r\n" + b"0123456789\r\n" * 60_000
        assert client.mail(content=bad).startswith("550 5.6.0")
        assert door.store.messages == [] and door.store.chunks == {}
        assert client.mail().startswith("250")


def test_python_sends_through_it(tmp_path):
    with Door(tmp_path) as door, smtplib.SMTP(*door.addresses["smtp"], timeout=10) as client:
        client.login("printer", SECRET)
        client.sendmail("a@example.test", ["b@example.net"], MAIL)
        assert door.store.messages[0].content == MAIL


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is missing: apt-get install swaks")
@pytest.mark.parametrize("way", ["--tls", "--tls-on-connect", "--auth=LOGIN"])
def test_swaks_sends_through_it(tmp_path, certificate, way):
    with Door(tmp_path, tls=certificate) as door:
        host, port = door.addresses["smtps" if way == "--tls-on-connect" else "smtp"]
        done = subprocess.run(
            [
                "swaks",
                "--server",
                host,
                "--port",
                str(port),
                "--from",
                "a@example.test",
                "--to",
                "b@example.net",
                "--auth-user",
                "printer",
                "--auth-password",
                SECRET,
                "--header",
                "From: a@example.test",
                way,
                "--helo",
                "swaks.example.test",
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        trace = door.store.messages[0].trace.decode()
        assert ("ESMTPSA" in trace) == (way != "--auth=LOGIN")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_curl_sends_through_it(tmp_path, certificate):
    (tmp_path / "mail").write_bytes(MAIL)
    with Door(tmp_path, tls=certificate) as door:
        host, port = door.addresses["smtp"]
        done = subprocess.run(
            [
                "curl",
                "-sS",
                "--ssl-reqd",
                "-k",
                f"smtp://{host}:{port}",
                "--mail-from",
                "a@example.test",
                "--mail-rcpt",
                "b@example.net",
                "--user",
                f"printer:{SECRET}",
                "-T",
                str(tmp_path / "mail"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert door.store.messages[0].content == MAIL


def test_an_application_switched_off_is_told_so(tmp_path):
    with Door(tmp_path) as door, door.ready() as client:
        off = Principal(id="app:1", name="Printer", login="printer", secrets=APP.secrets, enabled=False)
        door.store.principals[:] = [off]
        door.change(LIVE)
        client.say("MAIL FROM:<a@example.test>")
        assert client.say("RCPT TO:<b@example.net>").startswith("550 5.7.1")


def test_the_offer_follows_the_directory(tmp_path):
    with Door(tmp_path) as door:
        with door.client() as client:
            assert f"SIZE {LIVE.limits.max_size}" in client.say("EHLO x")
        door.change(msgspec.structs.replace(LIVE, limits=Limits(max_size=12345)))
        with door.client() as client:
            assert "SIZE 12345" in client.say("EHLO x")
