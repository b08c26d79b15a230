"""The same request twice is one message, at this door too (class idempotency)."""

import threading

import pytest
from smtp_door import APP, MAIL, Door

from smarthost.routing import Principal, hash_secret
from smarthost.spool import Flag

KEYED = b"X-Smarthost-Idempotency-Key: order-17\r\n" + MAIL


@pytest.fixture
def door(tmp_path):
    other = Principal(id="app:2", name="Other", login="other", secrets=(hash_secret("o" * 40),))
    with Door(tmp_path, principals=(APP, other)) as door:
        yield door


def test_sub_08_the_same_request_gets_the_same_id(door):
    with door.ready() as client:
        first, second = client.mail(content=KEYED), client.mail(content=KEYED)
    assert first == second and first.startswith("250")
    (message,) = door.store.messages
    assert Flag.STRIP_HIDDEN in message.flags, "the key is removed before sending"


def test_sub_08_twenty_at_once_are_one_message(door):
    answers = []

    def send():
        with door.ready() as client:
            answers.append(client.mail(content=KEYED))

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1 and len(door.store.messages) == 1


@pytest.mark.parametrize("change", ["content", "recipients", "sender"])
def test_sub_08_another_request_under_the_same_key_is_a_conflict(door, change):
    with door.ready() as client:
        assert client.mail(content=KEYED).startswith("250")
        answer = client.mail(
            "c@example.net" if change == "recipients" else "b@example.net",
            sender="c@example.test" if change == "sender" else "a@example.test",
            content=KEYED + (b"more\r\n" if change == "content" else b""),
        )
        assert answer[:1] == "5" and len(door.store.messages) == 1


def test_sub_08_the_order_of_recipients_is_no_difference(door):
    with door.ready() as client:
        first = client.mail("b@example.net", "c@example.net", content=KEYED)
        assert client.mail("c@example.net", "b@example.net", content=KEYED) == first


def test_sub_08_another_application_has_its_own_keys(door):
    with door.ready() as client, door.client() as other:
        other.say("EHLO x")
        assert other.login("other", "o" * 40) == "235"
        assert client.mail(content=KEYED) != other.mail(content=KEYED)
    assert len(door.store.messages) == 2


def test_sub_08_large_content_repeated_leaves_no_second_copy(door):
    large = KEYED + b"0123456789\r\n" * 60_000
    with door.ready() as client:
        assert client.mail(content=large) == client.mail(content=large)
        for _ in range(500):
            if len(door.store.chunks) == 1:
                break
            threading.Event().wait(0.01)
    assert list(door.store.chunks) == [door.store.messages[0].id]


def test_sub_08_content_by_data_and_by_bdat_is_the_same_request(door):
    with door.ready() as client:
        first = client.mail(content=KEYED)
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        client.send(b"BDAT %d LAST\r\n" % len(KEYED) + KEYED)
        assert client.reply() == first


@pytest.mark.parametrize("key", [b"", b"\xff\xfe", b"x" * 300, b"a\r\nX-Smarthost-Idempotency-Key: b"])
def test_a_key_that_is_none_is_refused(door, key):
    with door.ready() as client:
        assert client.mail(content=b"X-Smarthost-Idempotency-Key: " + key + b"\r\n" + MAIL)[:1] == "5"
        assert door.store.messages == []
