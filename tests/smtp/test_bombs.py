"""Floods: memory stays flat, time stays linear (DOS-02, DOS-03). Counts work, never seconds."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from smarthost.smtp import (
    Abort,
    AbortReason,
    Chunk,
    Client,
    ClientOptions,
    Content,
    Mail,
    Need,
    Rcpt,
    Recipient,
    Reply,
    Reset,
    Security,
    Server,
    ServerLimits,
    ServerOptions,
    Transaction,
    WantBody,
)

OK = Reply(250, "2.0.0", "Ok")
START = b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@y.test>\r\n"
MB = 1024 * 1024


@contextmanager
def peak(limit: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def started(max_size: int = 50 * MB, **limits: int) -> Server:
    server = Server(ServerOptions("s.test", max_size=max_size, limits=ServerLimits(**limits)))
    server.greet()
    give(server, START)
    server.data_to_send()
    return server


def give(server: Server, data: bytes) -> list[object]:
    found: list[object] = []
    server.receive(data)
    while not isinstance(event := server.next_event(), Need):
        if isinstance(event, Chunk):
            found.append(len(event.data))
            continue
        found.append(event)
        if isinstance(event, Mail | Rcpt | Content):
            server.answer(OK)
    return found


def test_dos_02_a_hundred_thousand_recipients() -> None:
    server = started(recipients=1000, commands=0)
    lines = b"".join(b"RCPT TO:<r%d@y.test>\r\n" % number for number in range(100))
    answers = {b"250": 0, b"452": 0}
    with peak(MB):
        for _ in range(1000):
            give(server, lines)
            for line in server.data_to_send().splitlines():
                answers[line[:3]] += 1
    assert answers == {b"250": 999, b"452": 99_001}


def test_dos_02_and_nobody_listens_to_them_for_ever() -> None:
    server = started()
    with peak(MB):
        for _ in range(100):
            give(server, b"RCPT TO:<r@y.test>\r\n" * 100)
    assert server.closing
    assert server.data_to_send().splitlines()[-1].startswith(b"421 4.7.0")


@pytest.mark.parametrize("block", [64 * 1024, 1460])
def test_dos_03_thirty_megabytes_of_three_byte_lines(block: int) -> None:
    server = started()
    give(server, b"DATA\r\n")
    data = b"x\r\n" * (block // 3)
    total = 30 * MB // len(data)
    got = 0
    with peak(3 * MB):
        for _ in range(total):
            got += sum(one for one in give(server, data) if isinstance(one, int))
        *pieces, content = give(server, b".\r\n")
    assert isinstance(content, Content)
    assert content.size == total * len(data) == got + sum(pieces)


def test_dos_03_sixty_megabytes_in_one_line_are_over_the_limit() -> None:
    server = started(max_size=50 * MB)
    give(server, b"DATA\r\n")
    got = 0
    with peak(3 * MB):
        for _ in range(60 * 16):
            got += sum(one for one in give(server, b"x" * (64 * 1024)) if isinstance(one, int))
        assert got <= 50 * MB
        assert give(server, b"\r\n.\r\n") == [Reset()]
    assert server.data_to_send().splitlines()[-1].startswith(b"552 5.3.4")


def test_dos_03_who_goes_on_far_beyond_the_limit_is_cut_off() -> None:
    server = started(max_size=MB)
    give(server, b"DATA\r\n")
    events: list[object] = []
    for _ in range(64):
        events += give(server, b"x" * (64 * 1024))
    assert [event.reason for event in events if isinstance(event, Abort)] == [AbortReason.BYTES]
    assert server.data_to_send().splitlines()[-1].startswith(b"552 5.3.4")
    assert server.closing


def test_smug_in_chunk_a_chunk_that_is_refused_is_not_read_for_ever() -> None:
    server = Server(ServerOptions("s.test", max_size=MB))
    server.greet()
    give(server, b"EHLO c.test\r\nBDAT 999999999999 LAST\r\n")
    events: list[object] = []
    with peak(MB):
        for _ in range(64):
            events += give(server, b"MAIL FROM:<a@b.test>\r\n" * 3000)
    assert [event.reason for event in events if isinstance(event, Abort)] == [AbortReason.BYTES]
    assert not [event for event in events if isinstance(event, Mail)]


def test_a_line_without_an_end_is_not_kept() -> None:
    server = Server(ServerOptions("s.test"))
    server.greet()
    with peak(MB):
        for _ in range(2000):
            give(server, b"x" * 1024)
    assert server.closing


def test_content_byte_by_byte_costs_its_size() -> None:
    server = started()
    give(server, b"DATA\r\n")
    with peak(2 * MB):
        for _ in range(100_000):
            give(server, b"x")
        *_, content = give(server, b"\r\n.\r\n")
    assert isinstance(content, Content)
    assert content.size == 100_002


def test_a_client_streams_without_keeping_what_it_gave() -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250 s\r\n")
    transaction = Transaction(1, "a@b.test", (Recipient("x@y.test"),))
    client.send(transaction)
    for reply in (b"250 Ok\r\n", b"250 Ok\r\n"):
        client.data_to_send()
        client.receive(reply)
    client.data_to_send()
    assert client.receive(b"354 Go\r\n") == [WantBody(transaction)]
    data = b"x\r\n" * 20_000
    with peak(MB):
        for _ in range(300):
            client.body(transaction, data, last=False)
            assert len(client.data_to_send()) == len(data)
