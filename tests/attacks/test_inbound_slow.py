"""Slow and many clients (class slowloris). Deadlines are made small; nothing here waits for a fixed time."""

import resource
import socket
import threading

import pytest
from smtp_door import CAPTURE, MAIL, Door

from smarthost.engine.submission import Settings

QUICK = {"sweep": 0.02}


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ([], b""),
        (["EHLO x"], b"NOO"),
        (["EHLO x", "AUTH LOGIN"], b"cHJ"),
    ],
)
def test_dos_01_a_stranger_who_says_nothing_whole_is_cut_off(tmp_path, said, sent):
    with Door(tmp_path, settings=Settings(stranger_idle=0.2, **QUICK)) as door, door.client() as client:
        for line in said:
            client.say(line)
        client.send(sent)
        assert client.reply().startswith("421 4.4.2")
        assert client.closed()


def test_dos_01_a_byte_now_and_then_is_no_progress(tmp_path):
    with Door(tmp_path, settings=Settings(stranger_idle=0.3, **QUICK)) as door, door.client() as client:
        client.sock.settimeout(0.05)
        answer = b""
        for _ in range(200):
            try:
                client.send(b"x")
                if answer := client.sock.recv(100):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert answer.startswith(b"421") or answer == b""
        client.sock.settimeout(10)
        assert client.closed()


def test_dos_01_a_stranger_who_keeps_talking_has_an_end_too(tmp_path):
    settings = Settings(stranger_idle=30, stranger_session=0.3, **QUICK)
    with Door(tmp_path, settings=settings) as door, door.client() as client:
        answers = set()
        while answer := client.say("RSET" if answers else "EHLO x"):
            answers.add(answer[:3])
            if answer.startswith("421") or client_gone(client):
                break
        assert client.closed()


def client_gone(client):
    return client.sock.fileno() < 0


def test_known_clients_may_be_idle_longer(tmp_path):
    settings = Settings(stranger_idle=0.1, stranger_session=0.2, idle=60, **QUICK)
    with Door(tmp_path, settings=settings) as door, door.ready() as client, door.client() as stranger:
        assert stranger.reply().startswith("421")
        assert client.mail().startswith("250")


def test_dos_01_content_below_the_least_rate_is_cut_off_and_leaves_nothing(tmp_path):
    settings = Settings(window=0.3, min_rate=10_000, **QUICK)
    with Door(tmp_path, settings=settings) as door, door.ready() as client:
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        client.send(b"From: a@example.test\r\n")
        assert client.reply().startswith("421 4.4.2")
        assert client.closed()
        assert door.store.messages == [] and door.submission.in_flight == 0


def test_dos_01_a_client_that_never_reads_is_cut_off(tmp_path):
    """Its replies fill its window and ours; no more of its commands are handled then."""
    settings = Settings(stalled_writer=0.3, **QUICK)
    with Door(tmp_path, directory=CAPTURE, settings=settings) as door, door.client(greet=False) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sock.settimeout(0.5)
        client.send(b"EHLO x\r\n")
        try:
            while True:
                client.send(b"NOOP\r\n" * 2000)
        except OSError:
            pass
        gone(door)
        with door.ready() as other:
            assert other.mail().startswith("250")


def gone(door):
    for _ in range(1000):
        if door.submission.connections == 0:
            return
        threading.Event().wait(0.01)
    raise AssertionError("still connected")


def test_dos_01_five_hundred_slow_clients_are_cheap_and_others_are_served(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    with Door(tmp_path, directory=CAPTURE) as door:
        before = resident()
        clients = []
        for n in range(500):
            client = door.client()
            client.say("EHLO slow")
            if n % 2:
                client.send(b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
                client.codes(3)
                client.send(b"From: a@example.test\r\n")
            clients.append(client)
        grown = resident() - before
        assert grown < 500 * 100 * 1024, f"{grown // 500} bytes a client, client side included"
        with door.ready() as client:
            assert client.mail().startswith("250")
        for client in clients:
            client.sock.close()
        gone(door)
        assert door.submission.in_flight == 0


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def test_connections_over_the_cap_are_told_so(tmp_path):
    with Door(tmp_path, settings=Settings(connections=3)) as door:
        clients = [door.client() for _ in range(3)]
        with door.client(greet=False) as refused:
            assert refused.reply().startswith("421 4.7.0")
            assert refused.closed()
        clients.pop().sock.close()
        for _ in range(500):
            if door.submission.connections < 3:
                break
            threading.Event().wait(0.01)
        clients.append(door.client())
        for client in clients:
            client.sock.close()


def test_one_address_cannot_take_all_places(tmp_path):
    from dataclasses import replace

    with Door(tmp_path, settings=Settings(per_host=2)) as door:
        listener = door.submission._listeners["smtp"]
        taken = listener._taken
        listener._taken = lambda sock, peer: taken(sock, replace(peer, ip="192.0.2.7", loopback=False))
        greedy = [door.client() for _ in range(2)]
        with door.client(greet=False) as refused:
            assert refused.reply().startswith("421 4.7.0")
        listener._taken = lambda sock, peer: taken(sock, replace(peer, ip="192.0.2.8", loopback=False))
        with door.client(greet=False) as other:
            assert other.reply().startswith("220")
        for client in greedy:
            client.sock.close()


def test_stopping_ends_idle_clients_and_lets_content_under_way_finish(tmp_path):
    with Door(tmp_path, directory=CAPTURE) as door:
        idle, busy = door.ready(), door.ready()
        busy.send(b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
        busy.codes(3)
        busy.send(b"From: a@example.test\r\n")
        import asyncio

        stopped = asyncio.run_coroutine_threadsafe(door.submission.stop(), door.loop)
        assert idle.reply().startswith("421 4.3.2")
        with pytest.raises(OSError):
            door.client()
        busy.send(b"\r\nbody\r\n.\r\n")
        assert busy.reply().startswith("250")
        assert busy.reply().startswith("421")
        stopped.result(10)
        assert len(door.store.messages) == 1 and MAIL
        idle.sock.close(), busy.sock.close()


def test_stopping_answers_a_commit_that_outlasts_the_grace(tmp_path):
    import asyncio

    with Door(tmp_path, directory=CAPTURE, settings=Settings(grace=0.1)) as door:
        client = door.ready()
        door.store.gate = asyncio.Event()
        client.send(b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n" + MAIL + b".\r\n")
        client.codes(3)
        half = door.ready()
        half.send(b"MAIL FROM:<a@example.test>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nFrom: x")
        half.codes(3)
        stopped = asyncio.run_coroutine_threadsafe(door.submission.stop(), door.loop)
        assert half.closed(), "cut off when the grace is over"
        door.loop.call_soon_threadsafe(door.store.gate.set)
        assert client.reply().startswith("250")
        stopped.result(10)
        client.sock.close(), half.sock.close()


def test_stopping_cuts_off_handshakes_and_logins_that_outlast_the_grace(tmp_path, certificate):
    import asyncio

    from smarthost.engine.submission import Throttle

    door = Door(
        tmp_path, tls=certificate, settings=Settings(grace=0.1), throttle=Throttle(first=30, longest=30)
    )
    with door, socket.create_connection(door.addresses["smtps"]) as stalled, door.client() as guesser:
        guesser.say("EHLO x")
        guesser.send(b"AUTH PLAIN AGEAYg==\r\n")
        door.line("login-refused")
        asyncio.run_coroutine_threadsafe(door.submission.stop(), door.loop).result(10)
        assert guesser.closed()
        stalled.settimeout(10)
        try:
            assert stalled.recv(1) == b""
        except ConnectionResetError:
            pass


def test_an_engine_that_could_not_start_leaves_the_other_ones_socket(tmp_path):
    import asyncio

    from smarthost.engine.submission import Submission

    with Door(tmp_path) as door:

        async def failed_start():
            await Submission(door).stop()

        asyncio.run_coroutine_threadsafe(failed_start(), door.loop).result(10)
        assert (tmp_path / "sendmail.sock").exists()
