"""Our client talks to our server in memory: what goes in comes out, whatever is offered and refused."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.smtp import (
    Auth,
    Chunk,
    Client,
    ClientOptions,
    Content,
    Done,
    Ended,
    Login,
    Mail,
    Need,
    Quit,
    Rcpt,
    RcptParams,
    Ready,
    Recipient,
    Refused,
    Reply,
    Reset,
    Security,
    Server,
    ServerLimits,
    ServerOptions,
    StartTls,
    Transaction,
    Verdict,
    WantBody,
)

REFUSALS = {"no": Reply(550, "5.1.1", "No"), "later": Reply(450, "4.2.0", "Later")}
WORDS = {"no": Verdict.PERMANENT, "later": Verdict.TEMPORARY, "yes": Verdict.ACCEPTED}


@dataclass
class Link:
    """Two machines and the line between them. `hidden` are extensions that the line takes out of EHLO's answer."""

    client: Client
    server: Server
    hidden: frozenset[str] = frozenset()
    step: int = 0  # bytes a time, 0 for all
    queue: list[Transaction] = field(default_factory=list)
    contents: dict[object, bytes] = field(default_factory=dict)
    done: list[Done] = field(default_factory=list)
    over: list[object] = field(default_factory=list)
    kept: list[tuple[str, tuple[tuple[str, RcptParams], ...], bytes]] = field(default_factory=list)
    sender: str = ""
    recipients: list[tuple[str, RcptParams]] = field(default_factory=list)
    pieces: bytes = b""
    trips: int = 0

    def run(self) -> None:
        self.server.greet()
        while not self.over:
            up = self.client.data_to_send()
            self.give_server(up)
            down = self.hide(self.server.data_to_send())
            if not down and not up:
                self.hear(self.client.eof())
            self.trips += 1
            for place in range(0, len(down), self.step or len(down) or 1):
                self.hear(self.client.receive(down[place : place + (self.step or len(down))]))
                self.give_server(self.client.data_to_send())

    def hide(self, data: bytes) -> bytes:
        for word in self.hidden:
            data = re.sub(rb"250-%s\b[^\r]*\r\n" % word.encode(), b"", data)
        return data

    def hear(self, events: list) -> None:
        for event in events:
            match event:
                case StartTls():
                    self.server.tls_started()
                    self.hear(self.client.tls_started())
                case WantBody(transaction):
                    content = self.contents[transaction.tag]
                    middle = len(content) // 2
                    self.hear(self.client.body(transaction, content[:middle], last=False))
                    self.hear(self.client.body(transaction, content[middle:], last=True))
                case Done():
                    self.done.append(event)
                case Refused() | Ended():
                    self.over.append(event)
        while self.client.room and self.queue:
            self.hear(self.client.send(self.queue.pop(0)))
        if any(isinstance(event, (Ready, Done)) for event in events) and not self.queue:
            self.client.quit()

    def give_server(self, data: bytes) -> None:
        for place in range(0, len(data), self.step or len(data) or 1):
            self.server.receive(data[place : place + (self.step or len(data))])
            while not isinstance(event := self.server.next_event(), Need):
                self.serve(event)

    def serve(self, event: object) -> None:
        match event:
            case Auth(_, username, password):
                self.server.answer(Reply(235 if (username, password) == ("user", "right") else 535))
            case Mail(path):
                self.sender, self.recipients, self.pieces = path, [], b""
                self.server.answer(Reply(250, "2.1.0", "Ok"))
            case Rcpt(path, params):
                refusal = REFUSALS.get(path.partition("-")[0])
                if refusal is None:
                    self.recipients.append((path, params))
                self.server.answer(refusal or Reply(250, "2.1.5", "Ok"))
            case Chunk(data):
                self.pieces += data
            case Content(data, size):
                content = self.pieces if data is None else data
                assert len(content) == size
                self.kept.append((self.sender, tuple(self.recipients), content))
                self.server.answer(Reply(250, "2.0.0", f"kept {len(self.kept)}"))
            case Reset():
                self.pieces = b""
            case StartTls() | Quit():
                pass


HIDDEN = ["PIPELINING", "CHUNKING", "SMTPUTF8", "8BITMIME", "SIZE", "DSN", "LIMITS", "ENHANCEDSTATUSCODES"]

recipients = st.lists(
    st.tuples(
        st.sampled_from(["yes", "yes", "yes", "no", "later"]),
        st.sampled_from(["", "FAILURE,DELAY", "NEVER"]),
        st.sampled_from(["", "rfc822;a+b=c@d.test", "rfc822;x@y.test"]),
    ),
    min_size=1,
    max_size=6,
)
contents = st.lists(
    st.sampled_from(["\r\n", ".", "..", "Hello", "\n", "\r", "\0", "QUIT\r\n", "RSET\r\n", "ü", " "]),
    max_size=40,
).map(lambda parts: "".join(parts).encode())
mails = st.lists(st.tuples(recipients, contents, st.booleans()), min_size=1, max_size=6)


def normal(content: bytes) -> bytes:
    content = re.sub(rb"\r\n|\r|\n", b"\r\n", content)
    return content + b"\r\n" if content and not content.endswith(b"\r\n") else content


@settings(deadline=None, max_examples=300)
@given(
    mails=mails,
    hidden=st.frozensets(st.sampled_from(HIDDEN)),
    ahead=st.booleans(),
    step=st.sampled_from([0, 0, 1, 7]),
    security=st.sampled_from(Security),
    piece=st.sampled_from([16, 256 * 1024]),
    login=st.booleans(),
)
def test_what_goes_in_comes_out(mails, hidden, ahead, step, security, piece, login) -> None:
    options = ClientOptions("c.test", security, Login("user", "right") if login else None, ahead=ahead)
    offer = ServerOptions(
        "s.test",
        starttls=True,
        auth=True,
        auth_in_clear=True,
        auth_required=login,
        limits=ServerLimits(piece=piece, errors=0),
    )
    link = Link(Client(options), Server(offer, secure=security is Security.TLS), hidden, step)
    wanted = []
    for number, (people, content, streamed) in enumerate(mails):
        addressed = tuple(
            Recipient(f"{word}-{place}@y.test", notify, orcpt)
            for place, (word, notify, orcpt) in enumerate(people)
        )
        link.contents[number] = content
        link.queue.append(
            Transaction(
                number,
                f"sender{number}@x.test",
                addressed,
                size=len(content),
                content=None if streamed else content,
                eight_bit=not content.isascii(),
                ret="HDRS",
                envid=f"id+{number}",
            )
        )
        taken = [one for one in addressed if one.address.startswith("yes")]
        if taken:
            dsn = "DSN" not in hidden
            params = [RcptParams(one.notify, one.orcpt) if dsn else RcptParams() for one in taken]
            pairs = tuple(zip((one.address for one in taken), params, strict=True))
            wanted.append((f"sender{number}@x.test", pairs, normal(content)))
    link.run()
    assert link.kept == wanted
    assert sorted(done.transaction.tag for done in link.done) == list(range(len(mails)))
    for done in link.done:
        assert [result.recipient for result in done.results] == list(done.transaction.recipients)
        for result in done.results:
            assert result.verdict is WORDS[result.recipient.address.partition("-")[0]]
    (ended,) = link.over
    assert isinstance(ended, Ended)
    assert ended.clean


@pytest.mark.parametrize(("hidden", "most"), [((), 1.1), (("CHUNKING",), 2.1)])
def test_round_trips_a_message_on_a_kept_session(hidden: tuple[str, ...], most: float) -> None:
    count = 200
    link = Link(
        Client(ClientOptions("c.test", Security.NONE)), Server(ServerOptions("s.test")), frozenset(hidden)
    )
    link.queue = [
        Transaction(n, "a@b.test", (Recipient("yes@y.test"),), content=b"Hi\r\n") for n in range(count)
    ]
    link.run()
    assert len(link.kept) == count
    assert link.trips <= count * most


def test_limits_that_the_server_tells_are_kept() -> None:
    limits = ServerLimits(recipients=2, transactions=3)
    link = Link(
        Client(ClientOptions("c.test", Security.NONE)), Server(ServerOptions("s.test", limits=limits))
    )
    people = tuple(Recipient(f"yes{n}@y.test") for n in range(5))
    link.queue = [Transaction(n, "a@b.test", people, content=b"Hi\r\n") for n in range(5)]
    link.server.greet()
    while not (link.client.worn_out and link.client.stage == "idle"):
        link.give_server(link.client.data_to_send())
        link.hear(link.client.receive(link.server.data_to_send()))
    assert len(link.kept) == 3
    assert [[result.verdict.value for result in done.results] for done in link.done] == [
        ["accepted", "accepted", "unsent", "unsent", "unsent"]
    ] * 3
    assert link.client.room == 0
    assert len(link.queue) == 2
