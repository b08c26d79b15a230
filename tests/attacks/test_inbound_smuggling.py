"""Only CRLF dot CRLF ends content, so nobody hides a second message in the first (classes smtp-smuggling-inbound).

Each case puts a false end of data into the body, followed by the commands of a forged message. What must come
out is one message whose body holds those commands as text. The control shows that a real end is seen.
"""

import pytest
from smtp_door import MAIL, Door

FALSE_ENDS = {
    "SMUG-IN-01": b"\n.\n",
    "SMUG-IN-02": b"\n.\r",
    "SMUG-IN-03": b"\r.\n",
    "SMUG-IN-04": b"\r.\r",
    "SMUG-IN-05": b"\n.\r\n",
    "SMUG-IN-06": b"\r.\r\n",
    "SMUG-IN-07": b"\r\n.\n",
    "SMUG-IN-08": b"\r\n.\r",
    "SMUG-IN-09": b"\r\n\0.\r\n",
    "SMUG-IN-10": b"\r\n.\0\r\n",
    "SMUG-IN-11": b"\r\n\0.\0\r\n",
    "SMUG-IN-12": b"\r\r\n.\r\r\n",
    "SMUG-IN-13": b"\r\n.\r\r\n",
    "SMUG-IN-14": b"\r\n \r\n.\n\r\n",
    "SMUG-IN-15": b"\x85.\x85",
    "SMUG-IN-16": "\u2028.\u2028".encode(),
    "SMUG-IN-17": b"\x0b.\x0b",
}
FORGED = b"MAIL FROM:<admin@example.test>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nFrom: admin@example.test\r\n\r\nforged\r\n"


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    with Door(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.mark.parametrize("cut", ["whole", "bytes", "at the end"])
@pytest.mark.parametrize("case", FALSE_ENDS)
def test_a_false_end_ends_nothing(door, case, cut):
    door.store.messages.clear()
    with door.ready() as client:
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        content = MAIL + b"hello" + FALSE_ENDS[case] + FORGED
        if cut == "bytes":
            for place in range(len(content)):
                client.send(content[place : place + 1])
        elif cut == "at the end":
            client.send(content[: -len(FORGED)])
            client.send(FORGED)
        else:
            client.send(content)
        client.send(b".\r\n")
        assert client.reply()[:3] == "250"
        client.send(b"QUIT\r\n")
        assert client.codes(1) == ["221"] and client.closed()
    (message,) = door.store.messages
    assert [one.recipient for one in message.deliveries] == ["b@example.net"]
    assert b"forged" in message.content and b"MAIL FROM:<admin@example.test>" in message.content
    without = message.content.replace(b"\r\n", b"")
    assert b"\r" not in without and b"\n" not in without and b"\0" not in without


def test_what_is_stored_can_be_stuffed_without_a_false_end(door):
    """After normalising, a lone dot may stand on a line of its own: that is what dot-stuffing is for."""
    door.store.messages.clear()
    with door.ready() as client:
        assert client.mail(content=MAIL + b"x\n.\ny\r\n").startswith("250")
    assert door.store.messages[0].content == MAIL + b"x\r\n.\r\ny\r\n"


def test_smug_ctl_18_a_real_end_is_seen(door):
    door.store.messages.clear()
    with door.ready() as client:
        for line in ("MAIL FROM:<a@example.test>", "RCPT TO:<b@example.net>", "DATA"):
            client.say(line)
        client.send(MAIL + b"hello\r\n.\r\n" + FORGED + b".\r\n")
        assert client.codes(5) == ["250", "250", "250", "354", "250"]
    assert len(door.store.messages) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"BDAT -1 LAST",
        b"BDAT 99999999999999999999 LAST",
        b"BDAT",
        b"BDAT x",
        b"BDAT 5 NEVER",
        b"BDAT 0x5 LAST",
    ],
)
def test_smug_in_chunk_a_size_that_cannot_be_followed_ends_the_session(door, line):
    door.store.messages.clear()
    with door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        client.send(line + b"\r\n" + FORGED)
        assert client.reply()[:1] in "45"
        assert client.closed()
    assert door.store.messages == []


def test_smug_in_chunk_surplus_bytes_are_commands_and_not_content(door):
    door.store.messages.clear()
    with door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        client.send(b"BDAT %d LAST\r\n" % len(MAIL) + MAIL + b"NOOP\r\n")
        assert client.codes(2) == ["250", "250"]
    assert door.store.messages[0].content == MAIL


def test_smug_in_chunk_data_and_bdat_do_not_mix(door):
    door.store.messages.clear()
    with door.ready() as client:
        client.say("MAIL FROM:<a@example.test>")
        client.say("RCPT TO:<b@example.net>")
        client.send(b"BDAT 4\r\nabcd")
        assert client.reply()[:3] == "250"
        assert client.say("DATA")[:3] == "503"
        assert client.say("RSET")[:3] == "250"
        assert client.mail().startswith("250")
    assert door.store.messages[0].content == MAIL
