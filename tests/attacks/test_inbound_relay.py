"""Strangers send nothing through us (class open-relay), whatever they say of themselves."""

import pytest
from smtp_door import CAPTURE, LIVE, Door

RECIPIENTS = [
    "victim@example.net",
    "victim%example.net@example.test",
    "example.net!victim",
    "example.net!victim@example.test",
    "@example.test:victim@example.net",
    '"victim@example.net"',
    '"victim@example.net"@example.test',
    "victim@example.net@example.test",
    "victim@[192.0.2.1]",
    "victim@[127.0.0.1]",
    "victim@example.net@[127.0.0.1]",
]
SENDERS = ["spam@example.org", "admin@example.test", "", "spam@localhost", "spam", "spam@mail.example.test"]


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with Door(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_sub_01_a_stranger_relays_nothing(door, sender, recipient):
    with door.client() as client:
        client.say("EHLO x")
        assert client.say(f"MAIL FROM:<{sender}>").startswith("530")
        assert client.say(f"RCPT TO:<{recipient}>")[:3] in ("503", "501", "553")
        assert client.say("DATA")[:3] in ("503", "554")
    assert door.store.messages == []


def test_sub_01_loopback_is_trusted_in_capture_mode_alone(tmp_path):
    with Door(tmp_path, directory=CAPTURE) as door:
        with door.client() as client:
            client.say("EHLO x")
            assert client.say("MAIL FROM:<a@example.test>").startswith("250")
        door.change(LIVE)
        with door.client() as client:
            client.say("EHLO x")
            assert client.say("MAIL FROM:<a@example.test>").startswith("530")


@pytest.mark.parametrize(
    "line",
    [
        b"XCLIENT ADDR=127.0.0.1 LOGIN=admin",
        b"XFORWARD ADDR=127.0.0.1 NAME=localhost",
        b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25",
        b"X-Forwarded-For: 127.0.0.1",
    ],
)
def test_sub_02_nobody_changes_its_address_by_saying_so(door, line):
    with door.client() as client:
        client.say("EHLO x")
        assert client.say(line)[:1] == "5"
        assert client.say("MAIL FROM:<a@example.test>").startswith("530")


def test_sub_02_a_binary_proxy_header_is_no_command(door):
    with door.client() as client:
        client.send(b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11\x00\x0c" + b"\x7f\0\0\1" * 2 + b"\0\1\0\x19\r\n")
        assert client.reply()[:1] in "45"


def test_authenticated_clients_reach_nobody_by_tricks(door):
    """Addresses that two programs read in two ways are refused whoever asks."""
    with door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        for recipient in RECIPIENTS[1:5] + [RECIPIENTS[7], RECIPIENTS[10]]:
            assert client.say(f"RCPT TO:<{recipient}>")[:1] == "5", recipient
