"""End of data: only CRLF.CRLF, in and out (SMUG-IN-*, SMUG-OUT-*; RFC 5321 4.1.1.4, 4.5.2)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_dialogue import run_server, single, statuses, whole

from smarthost.smtp import (
    Client,
    ClientOptions,
    Recipient,
    Security,
    Server,
    ServerOptions,
    Transaction,
    WantBody,
)

# What some server somewhere took for the end of data.
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
    "SMUG-IN-11": b"\r\n\t.\r\n",
    "SMUG-IN-12": b"\r\r\n.\r\r\n",
    "SMUG-IN-13": b"\r\n\r\n.\n\r\n",
    "SMUG-IN-14": b"\r\n \r\n.\n\r\n",
    "SMUG-IN-15": b"\x85.\x85",
    "SMUG-IN-16": "\u2028.\u2028".encode(),
    "SMUG-IN-17": b"\x0b.\x0b",
}
SECOND = b"MAIL FROM:<admin@hub.test>\r\nRCPT TO:<v@x.test>\r\nDATA\r\nsmuggled"
START = b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@y.test>\r\nDATA\r\n"


def hear(data: bytes, cut=whole) -> tuple[list[str], list[str]]:
    server = Server(ServerOptions("s.test"))
    server.greet()
    events = list(run_server(server, cut(data)))
    return events, statuses(server.data_to_send())


@pytest.mark.parametrize("cut", [whole, single], ids=["whole", "bytes"])
@pytest.mark.parametrize("case", FALSE_ENDS)
def test_it_takes_no_false_end_of_data(case: str, cut) -> None:
    end = FALSE_ENDS[case]
    body = b"hello" + end + SECOND
    events, replies = hear(START + body + b"\r\n.\r\nQUIT\r\n", cut)
    expected = body.replace(b"\r\n.", b"\r\n") + b"\r\n"
    assert [event.partition(" ")[0] for event in events] == ["EHLO", "MAIL", "RCPT", "CONTENT", "QUIT"]
    assert replies.count("354") == 1
    assert events[3] == f"CONTENT {expected!r}"


def test_smug_ctl_18_a_true_end_and_a_pipelined_second_message_are_two() -> None:
    events, replies = hear(START + b"hello\r\n.\r\n" + SECOND + b"\r\n.\r\n")
    assert [event for event in events if event.startswith("CONTENT")] == [
        "CONTENT b'hello\\r\\n'",
        "CONTENT b'smuggled\\r\\n'",
    ]
    assert replies.count("354") == 2


# --- outwards


def sent(content: bytes, pieces: list[bytes] | None = None, *, chunking: bool = False) -> bytes:
    """What our client writes between 354 and the dot, or behind BDAT's line."""
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250-PIPELINING\r\n250 %s\r\n" % (b"CHUNKING" if chunking else b"HELP"))
    transaction = Transaction(1, "a@b.test", (Recipient("x@y.test"),), content=None if pieces else content)
    client.send(transaction)
    before = client.data_to_send()
    if chunking:
        _head, _, rest = before.partition(b"BDAT ")
        line, _, data = rest.partition(b"\r\n")
        assert int(line.split()[0]) == len(data)
        return data
    events = client.receive(b"250 Ok\r\n250 Ok\r\n354 Go\r\n")
    if pieces:
        assert events == [WantBody(transaction)]
        for place, piece in enumerate(pieces, 1):
            client.body(transaction, piece, last=place == len(pieces))
    return client.data_to_send()


def lone_line_ends(data: bytes) -> list[bytes]:
    return re.findall(rb"\r(?!\n)|(?<!\r)\n", data)


def unstuffed(data: bytes) -> bytes:
    """What a compliant server makes of it (RFC 5321 4.5.2)."""
    assert data.endswith(b".\r\n")
    lines = data[:-3].split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


@pytest.mark.parametrize("case", FALSE_ENDS)
def test_smug_out_01_nothing_that_looks_like_an_end_leaves(case: str) -> None:
    data = sent(b"A" + FALSE_ENDS[case] + SECOND + b"\r\nB")
    assert not lone_line_ends(data)
    assert (b"\r\n" + data).count(b"\r\n.\r\n") == 1
    assert data.endswith(b"\r\n.\r\n")
    assert b"\r\n\0" not in data  # a server that drops NULs must find no lone dot either


@pytest.mark.parametrize("content", [b"", b"x", b"x\r", b"x\n.", b".", b"x\r\n.", b"x\r\n", b"..", b"\0."])
def test_smug_out_02_the_end_is_always_exactly_one(content: bytes) -> None:
    data = sent(content)
    assert (b"\r\n" + data).count(b"\r\n.\r\n") == 1
    expected = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert unstuffed(data) == expected


pieces_of_trouble = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"x", b"", b"..", b"\r\n.\r\n"]), max_size=30
)


@settings(deadline=None)
@given(pieces=pieces_of_trouble)
def test_it_stuffs_the_same_in_any_pieces(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    data = sent(content)
    assert sent(content, [*pieces, b""]) == data
    assert not lone_line_ends(data)
    assert (b"\r\n" + data).count(b"\r\n.\r\n") == 1


@settings(deadline=None)
@given(pieces=pieces_of_trouble)
def test_bdat_counts_what_it_sends(pieces: list[bytes]) -> None:
    assert not lone_line_ends(sent(b"".join(pieces), chunking=True))


@settings(deadline=None)
@given(pieces=pieces_of_trouble)
def test_what_was_stuffed_is_what_a_server_reads(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    events, _ = hear(START + sent(content))
    expected = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert events[-1] == f"CONTENT {expected!r}"


@settings(deadline=None)
@given(pieces=pieces_of_trouble)
def test_the_scanner_does_the_same_in_any_pieces(pieces: list[bytes]) -> None:
    data = START + b"".join(pieces) + b"\r\n.\r\n"
    assert hear(data, single) == hear(data, whole)
