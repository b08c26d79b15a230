"""Whatever a peer sends: no exception, and bounded answers (parser-crash)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from smtp_dialogue import dialogues, run_server

from smarthost.smtp import (
    Client,
    ClientOptions,
    Done,
    LocalError,
    Login,
    Need,
    Recipient,
    Reply,
    Security,
    Server,
    ServerLimits,
    ServerOptions,
    StartTls,
    Transaction,
    WantBody,
)

# Words of the protocol, so that fuzzing gets past the first line; the vectors' own lines among them.
CLIENT_WORDS = sorted(
    {text for dialogue in dialogues("server") for mark, text in dialogue.lines if mark == ">"}
)
SERVER_WORDS = sorted(
    {text for dialogue in dialogues("client") for mark, text in dialogue.lines if mark == "<"}
)
noise = st.binary(max_size=40) | st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"\0", b".", b"<", b">", b'"', b"\\", b" ", b"-", b"250", b"334 ", b"\xff", b"+"]
)


def stream(words: list[bytes]) -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.sampled_from(words) | noise, max_size=30)


@settings(deadline=None, max_examples=400)
@given(
    pieces=stream(CLIENT_WORDS),
    flags=st.tuples(*[st.booleans()] * 6),
    errors=st.sampled_from([0, 3]),
)
def test_a_server_survives_any_client(pieces: list[bytes], flags: tuple[bool, ...], errors: int) -> None:
    starttls, auth, clear, required, secure, tls = flags
    options = ServerOptions(
        "s.test",
        max_size=200,
        starttls=starttls,
        auth=auth,
        auth_in_clear=clear,
        auth_required=required,
        tls_required=tls,
        limits=ServerLimits(errors=errors, piece=16),
    )
    server = Server(options, secure=secure)
    server.greet()
    list(run_server(server, pieces))
    written = server.data_to_send()
    assert written.endswith(b"\r\n")
    assert b"\r" not in written.replace(b"\r\n", b"")
    assert all(line[:3].isdigit() and len(line) <= 512 for line in written.split(b"\r\n")[:-1])
    assert isinstance(server.next_event(), Need)


@settings(deadline=None, max_examples=400)
@given(
    pieces=stream(SERVER_WORDS),
    security=st.sampled_from(Security),
    mechanism=st.sampled_from(["", "auto", "login", "scram-sha-256", "cram-md5", "xoauth2", "oauthbearer"]),
    streamed=st.booleans(),
)
def test_a_client_survives_any_server(
    pieces: list[bytes], security: Security, mechanism: str, streamed: bool
) -> None:
    login = Login("user", "right", mechanism) if mechanism else None
    client = Client(ClientOptions("c.test", security, login))
    given_in, done = 0, []
    for piece in [*pieces, None]:
        events = client.eof() if piece is None else client.receive(piece)
        for event in events:
            if isinstance(event, StartTls):
                client.tls_started()
            elif isinstance(event, WantBody):
                client.body(event.transaction, b".Hello", last=False)
                client.body(event.transaction, b".", last=True)
            elif isinstance(event, Done):
                done.append(event)
        while client.room and given_in < 5:
            given_in += 1
            content = None if streamed else b"Hi"
            people = (Recipient("x@y.test"), Recipient("\u00fc@y.test"))
            done += client.send(Transaction(given_in, "a@b.test", people, content=content))
        client.data_to_send()
        assert len(client.transcript) < 100 * 200
    assert client.state == "closed"
    assert sorted(one.transaction.tag for one in done) == list(range(1, given_in + 1))
    assert all(len(one.results) == 2 for one in done)


@settings(deadline=None)
@given(
    text=st.text(max_size=2000),
    code=st.sampled_from([250, 451, 550]),
    enhanced=st.sampled_from(["", "5.7.1"]),
)
def test_no_text_of_a_driver_breaks_a_reply(text: str, code: int, enhanced: str) -> None:
    server = Server(ServerOptions("s.test"))
    server.greet()
    server.receive(b"EHLO c\r\nMAIL FROM:<a@b>\r\n")
    while not isinstance(server.next_event(), Need):
        pass
    server.data_to_send()
    server.answer(Reply(code, enhanced, text))
    lines = server.data_to_send().split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.startswith(b"%d-" % code) and len(line) <= 510 for line in lines[:-1])
    assert lines[-1].startswith(b"%d " % code)
    assert all(32 <= byte < 127 for line in lines for byte in line)


@settings(deadline=None)
@given(sender=st.text(max_size=20), recipient=st.text(max_size=20), notify=st.text(max_size=8))
def test_no_address_of_a_driver_breaks_a_command(sender: str, recipient: str, notify: str) -> None:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250-PIPELINING\r\n250-DSN\r\n250 SMTPUTF8\r\n")
    people = (Recipient(recipient, notify=notify, orcpt=f"rfc822;{recipient}"),)
    try:
        client.send(Transaction(1, sender, people, content=b"Hi", envid=sender))
    except LocalError:
        assert client.data_to_send() == b""
        return
    lines = client.data_to_send().split(b"\r\n")
    assert [line[:10] for line in lines] == [b"MAIL FROM:", b"RCPT TO:<" + lines[1][9:10], b"DATA", b""]
    assert not any(byte < 32 or byte == 127 for line in lines for byte in line)
