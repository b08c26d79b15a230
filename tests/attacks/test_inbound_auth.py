"""Guessing passwords costs the guesser, and nobody else (class auth-bruteforce); logs never show one."""

import base64

import pytest
from smtp_door import APP, SECRET, Door

from smarthost.engine.submission import Throttle
from smarthost.routing import Principal, hash_secret

OTHER = Principal(id="app:2", name="Other", login="other", secrets=(hash_secret("o" * 40),))


def test_sub_03_five_failures_end_the_connection(tmp_path):
    with Door(tmp_path) as door, door.client() as client:
        client.say("EHLO x")
        answers = [client.login("printer", f"wrong-{n}") for n in range(5)]
        assert answers[:4] == ["535"] * 4
        assert client.closed()
        assert door.logs.count("event=login-refused") == 5
        line = door.line("login-refused")
        assert "ip=127.0.0.1" in line and "login=printer" in line and line.index("ip=") < line.index("login=")


def test_sub_03_failures_of_one_login_delay_no_other_from_the_same_address(tmp_path):
    slow = Throttle(first=30, longest=30)
    with Door(tmp_path, principals=(APP, OTHER), throttle=slow) as door, door.client() as guesser:
        guesser.say("EHLO x")
        guesser.send(b"AUTH PLAIN " + base64.b64encode(b"\0printer\0wrong") + b"\r\n")  # answered in 30 s
        door.line("login-refused")
        with door.client() as client:
            client.say("EHLO x")
            assert client.login("other", "o" * 40) == "235"


def test_sub_03_guesses_on_many_connections_queue_behind_each_other(tmp_path):
    """The second connection's right guess waits as long as a wrong one would, and the queue has an end."""
    throttle = Throttle(first=0.4, longest=0.4, patience=0.5)
    with Door(tmp_path, throttle=throttle) as door:
        clients = [door.client() for _ in range(6)]
        for client in clients:
            client.say("EHLO x")
            client.send(b"AUTH PLAIN " + base64.b64encode(b"\0printer\0wrong") + b"\r\n")
        answers = sorted(client.reply()[:3] for client in clients)
        assert answers.count("421") >= 2 and answers.count("535") >= 2
        for client in clients:
            client.sock.close()


def test_an_absent_login_is_answered_as_a_wrong_password(tmp_path):
    with Door(tmp_path) as door, door.client() as client:
        client.say("EHLO x")
        absent = client.say(b"AUTH PLAIN " + base64.b64encode(b"\0nobody\0wrong"))
        wrong = client.say(b"AUTH PLAIN " + base64.b64encode(b"\0printer\0wrong"))
        assert absent == wrong and absent.startswith("535 5.7.8")


def test_an_application_switched_off_cannot_log_in(tmp_path):
    off = Principal(id="app:1", name="Printer", login="printer", secrets=APP.secrets, enabled=False)
    with Door(tmp_path, principals=(off,)) as door, door.client() as client:
        client.say("EHLO x")
        assert client.login() == "535"


@pytest.mark.parametrize("secrets", [(), ("0" * 64,)])
def test_no_password_opens_a_login_without_secrets(tmp_path, secrets):
    bare = Principal(id="app:1", name="Printer", login="printer", secrets=secrets)
    with Door(tmp_path, principals=(bare,)) as door, door.client() as client:
        client.say("EHLO x")
        assert client.login("printer", "") in ("535", "501")
        assert client.login("printer", "0" * 64) == "535"


def test_cred_06_no_log_line_holds_a_secret(tmp_path):
    canary = "C4n4ry-pass-7f3e"
    with Door(tmp_path) as door:
        with door.client() as client:
            client.say("EHLO x")
            client.login("printer", canary)
            client.say("AUTH LOGIN")
            client.say(base64.b64encode(b"printer"))
            client.say(base64.b64encode(canary.encode()))
            client.say(b"AUTH PLAIN " + canary.encode())
            assert client.login("printer", SECRET) == "235"
        plain = base64.b64encode(f"\0printer\0{canary}".encode()).decode()
        for hidden in (canary, plain, base64.b64encode(canary.encode()).decode(), SECRET):
            assert hidden not in door.logs


def test_a_refusal_is_an_event_once_a_minute_and_a_line_each_time(tmp_path):
    with Door(tmp_path) as door, door.client() as client:
        client.say("EHLO x")
        for n in range(4):
            client.login("printer", f"wrong-{n}")
        assert len(door.store.events) == 1
        assert door.logs.count("event=login-refused") == 4


def test_the_throttle_forgets_and_is_bounded():
    throttle = Throttle(first=1, longest=8, patience=60)
    holds = [throttle.failed("192.0.2.1", "a", 0.0) for _ in range(6)]
    assert holds == [1, 2, 4, 8, 8, 8]
    assert throttle.wait("192.0.2.1", "b", 0.0) == 0.0, "another login"
    assert throttle.wait("192.0.2.2", "a", 0.0) == 0.0, "another address"
    assert throttle.wait("192.0.2.1", "a", 0.0) == 8
    assert throttle.wait("192.0.2.1", "a", 2000.0) == 0.0
    for n in range(30_000):
        throttle.failed(f"2001:db8:{n % 65536:x}::1", "a", 2000.0)
    assert len(throttle._pairs) <= 10_000 and len(throttle._hosts) <= 10_000


def test_the_addresses_of_one_ipv6_network_are_one_peer():
    throttle = Throttle(first=1, longest=8)
    throttle.failed("2001:db8::1", "a", 0.0)
    assert throttle.wait("2001:db8::ffff", "a", 0.0) == 1
