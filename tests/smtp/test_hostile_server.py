"""The hostile upstream: twelve states by eight faults, and what becomes of the recipients (UP-001 … UP-096).

At this level a server that hangs, closes or resets is one `eof`, and one byte a second is one byte a call;
deadlines are the driver's. The rule: permanent only on a 5yz to MAIL, RCPT, DATA or the final bytes; unknown only
between the final bytes and the reply to them; a fault at QUIT changes nothing.
"""

from __future__ import annotations

import pytest

from smarthost.smtp import (
    Client,
    ClientOptions,
    Done,
    Ended,
    Login,
    Recipient,
    Refused,
    Security,
    StartTls,
    Transaction,
    Verdict,
    WantBody,
)

STATES = [
    "connect",
    "banner",
    "EHLO",
    "STARTTLS",
    "handshake",
    "AUTH",
    "MAIL",
    "RCPT",
    "DATA",
    "body",
    "dot",
    "QUIT",
]
FAULTS = ["hang", "close", "reset", "garbage", "slow", "421", "5yz", "endless"]
# What a good server says in each state.
GOOD = {
    "banner": b"220 s.test\r\n",
    "EHLO": b"250-s.test\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n",
    "STARTTLS": b"220 Go\r\n",
    "handshake": b"250-s.test\r\n250-PIPELINED\r\n250 AUTH PLAIN\r\n",
    "AUTH": b"235 Yes\r\n",
    "MAIL": b"250 Ok\r\n",
    "RCPT": b"250 Ok\r\n",
    "DATA": b"354 Go\r\n",
    "dot": b"250 Kept\r\n",
    "QUIT": b"221 Bye\r\n",
}
CELLS = [
    pytest.param(state, fault, id=f"UP-{8 * row + column:03d}-{state}-{fault}")
    for row, state in enumerate(STATES)
    for column, fault in enumerate(FAULTS, 1)
]


class Session:
    """A client with one transaction to send, driven as a driver would."""

    def __init__(self) -> None:
        self.client = Client(ClientOptions("c.test", Security.STARTTLS, Login("user", "c4nary")))
        self.transaction = Transaction(1, "a@b.test", (Recipient("x@y.test"),))
        self.events: list[object] = []
        self.streaming = False
        self.said = b""

    def note(self, events: list[object]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, StartTls):
                self.note(list(self.client.tls_started()))
            elif isinstance(event, WantBody):
                self.streaming = True
        if self.client.room and not any(isinstance(event, Done) for event in self.events):
            self.note(list(self.client.send(self.transaction)))
        self.said += self.client.data_to_send()

    def hear(self, data: bytes) -> None:
        self.note(list(self.client.receive(data)))

    def body(self, data: bytes, *, last: bool) -> None:
        self.note(list(self.client.body(self.transaction, data, last=last)))

    def reach(self, state: str) -> None:
        """Be where the client waits in this state."""
        for name in STATES[: STATES.index(state)]:
            if name == "body":
                self.body(b"Hello\r\n", last=True)
            elif name in GOOD:
                self.hear(GOOD[name])
                if name == "DATA":
                    self.body(b"First\r\n", last=False)
        if state == "QUIT":
            self.client.quit()
            self.note([])

    def suffer(self, fault: str, state: str) -> None:
        match fault:
            case "hang" | "close" | "reset":
                self.note(list(self.client.eof(fault)))
            case "garbage":
                self.hear(b"\x00\xff\xfe\x80garbage\r\n")
            case "slow":
                good = GOOD.get(state, b"")
                for place in range(len(good) - 1):
                    self.hear(good[place : place + 1])
                self.note(list(self.client.eof("timed out")))
            case "421":
                self.hear(b"421 4.3.2 Down\r\n")
            case "5yz":
                self.hear(b"554 5.0.0 No\r\n")
            case "endless":
                for _ in range(3000):
                    self.hear(b"250-" + b"x" * 400 + b"\r\n")


def expected(state: str, fault: str) -> Verdict | None:
    """None: the session was never set up."""
    if STATES.index(state) < STATES.index("MAIL"):
        return None
    if state == "QUIT":
        return Verdict.ACCEPTED
    if fault == "5yz" and state != "body":
        return Verdict.PERMANENT
    if state == "dot" and fault != "421":
        return Verdict.UNKNOWN
    return Verdict.TEMPORARY


@pytest.mark.parametrize(("state", "fault"), CELLS)
def test_it_classifies_what_a_hostile_server_does(state: str, fault: str) -> None:
    session = Session()
    session.reach(state)
    session.suffer(fault, state)
    verdict = expected(state, fault)
    done = [event for event in session.events if isinstance(event, Done)]
    if verdict is None:
        assert [type(event) for event in session.events if not isinstance(event, StartTls)] == [Refused]
        assert b"MAIL" not in session.said
    else:
        assert [result.verdict for event in done for result in event.results] == [verdict]
        ends = [event for event in session.events if isinstance(event, Ended)]
        assert len(ends) == (0 if session.client.state == "ready" else 1)
    assert b"AHVzZXIA" not in session.said or STATES.index(state) >= STATES.index("AUTH")
    assert "c4nary" not in repr(session.events) + repr(session.client.transcript)


def test_up_part_recipients_keep_their_own_replies_when_the_dot_is_lost() -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250 PIPELINING\r\n")
    recipients = tuple(Recipient(f"r{number}@y.test") for number in range(100))
    client.send(Transaction(1, "a@b.test", recipients, content=b"Hi\r\n"))
    client.data_to_send()
    codes = [(250, 450, 550)[number % 3] for number in range(100)]
    replies = "".join(f"{code} {number}\r\n" for number, code in enumerate(codes))
    client.receive(f"250 Ok\r\n{replies}354 Go\r\n".encode())
    client.data_to_send()
    done, _ = client.eof()
    assert isinstance(done, Done)
    words = {250: Verdict.UNKNOWN, 450: Verdict.TEMPORARY, 550: Verdict.PERMANENT}
    assert [result.verdict for result in done.results] == [words[code] for code in codes]
    assert [result.recipient for result in done.results] == list(recipients)
    assert all(result.reply.text == str(n) for n, result in enumerate(done.results) if codes[n] != 250)


@pytest.mark.parametrize("given_out", [True, False])
def test_it_doubts_only_what_was_given_out(given_out: bool) -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    transaction = Transaction(1, "a@b.test", (Recipient("x@y.test"),), content=b"Hi\r\n")
    client.send(transaction)
    if given_out:
        client.data_to_send()
    assert client.in_doubt == ((transaction,) if given_out else ())
    done, _ = client.eof()
    assert isinstance(done, Done)
    assert done.results[0].verdict is (Verdict.UNKNOWN if given_out else Verdict.UNSENT)


def test_it_believes_no_answer_to_a_dot_that_was_not_sent() -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250 PIPELINING\r\n")
    client.send(Transaction(1, "a@b.test", (Recipient("x@y.test"),), content=b"Hi\r\n"))
    client.data_to_send()
    done, ended = client.receive(b"250 Ok\r\n250 Ok\r\n354 Go\r\n250 Kept\r\n")
    assert isinstance(done, Done)
    assert done.results[0].verdict is Verdict.TEMPORARY
    assert isinstance(ended, Ended)


def test_it_stops_giving_content_to_a_server_that_refused_a_chunk() -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    transaction = Transaction(1, "a@b.test", (Recipient("x@y.test"),))
    client.send(transaction)
    client.data_to_send()
    assert client.receive(b"250 Ok\r\n250 Ok\r\n") == [WantBody(transaction)]
    client.body(transaction, b"x" * 100, last=False)
    assert client.data_to_send() == b"BDAT 100\r\n" + b"x" * 100
    (done,) = client.receive(b"552 5.3.4 Too much\r\n")
    assert isinstance(done, Done)
    assert done.results[0].verdict is Verdict.PERMANENT
    assert client.body(transaction, b"x" * 100, last=True) == []
    client.send(Transaction(2, "a@b.test", (Recipient("x@y.test"),), content=b"Hi\r\n"))
    assert client.data_to_send().startswith(b"RSET\r\nMAIL")


@pytest.mark.parametrize(
    "data", [b"250-" + b"x" * 70_000, b"2" * 70_000, b"250-x\r\n" * 300], ids=["line", "digits", "lines"]
)
def test_it_holds_no_endless_reply(data: bytes) -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    (refused,) = client.receive(data)
    assert isinstance(refused, Refused)
    assert client.receive(data) == []


def test_replies_are_made_safe_to_show() -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    (refused,) = client.receive(
        "554 5.7.1 \x1b[31mno\x07 \u202enope\u2028\x9b \xff\r\n".encode("latin-1", "replace")
    )
    assert isinstance(refused, Refused)
    assert refused.reply is not None
    assert refused.reply.enhanced == "5.7.1"
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in refused.text + "".join(client.transcript))
