"""What a driver of the server relies on, beyond the written dialogues."""

from __future__ import annotations

import pytest
from smtp_dialogue import run_server

from smarthost.smtp import (
    NEED_ANSWER,
    NEED_DATA,
    Abort,
    AbortReason,
    Content,
    Hello,
    LocalError,
    Mail,
    MailParams,
    Rcpt,
    Reply,
    Server,
    ServerLimits,
    ServerOptions,
    ServerState,
    StartTls,
)

OK = Reply(250, "2.0.0", "Ok")


def greeted(**options: object) -> Server:
    server = Server(ServerOptions("s.test", **options))  # type: ignore[arg-type]
    server.greet()
    return server


def test_ehlo_tells_what_is_offered_now() -> None:
    server = greeted(starttls=True, auth=True, max_size=1000)
    list(run_server(server, [b"EHLO c.test\r\n"]))
    clear = server.data_to_send().decode().split("\r\n")
    assert clear[0] == "220 s.test ESMTP"
    assert {line[4:] for line in clear[2:-1]} == {
        "PIPELINING", "SIZE 1000", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES", "CHUNKING",
        "STARTTLS", "LIMITS RCPTMAX=1000",
    }  # fmt: skip
    list(run_server(server, [b"STARTTLS\r\n"]))
    list(run_server(server, [b"EHLO c.test\r\n"]))
    secure = server.data_to_send()
    assert b"AUTH PLAIN LOGIN\r\n" in secure
    assert b"STARTTLS" not in secure.partition(b"220 ")[2]


def test_events_wait_for_their_answers() -> None:
    server = greeted()
    server.receive(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<x@y.test>\r\nDATA\r\nHi\r\n.\r\n")
    assert server.next_event() == Hello("c.test", esmtp=True)
    assert server.next_event() == Mail("a@b.test", MailParams())
    assert server.next_event() is NEED_ANSWER
    server.receive(b"QUIT\r\n")
    assert server.next_event() is NEED_ANSWER
    server.answer(OK)
    assert isinstance(server.next_event(), Rcpt)
    with pytest.raises(LocalError):
        server.answer(OK)
        server.answer(OK)
    assert server.next_event() == Content(b"Hi\r\n", 4)
    assert server.busy
    server.answer(OK)
    assert not server.busy


@pytest.mark.parametrize(
    ("stream", "secure", "word"),
    [
        (b"HELO c\r\n", False, "SMTP"),
        (b"EHLO c\r\n", False, "ESMTP"),
        (b"EHLO c\r\n", True, "ESMTPS"),
        (b"EHLO c\r\nAUTH PLAIN AHVzZXIAcmlnaHQ=\r\n", True, "ESMTPSA"),
        (b"EHLO c\r\nAUTH PLAIN AHVzZXIAcmlnaHQ=\r\nMAIL FROM:<a@b> SMTPUTF8\r\n", True, "UTF8SMTPSA"),
    ],
)
def test_it_knows_the_word_for_received(stream: bytes, secure: bool, word: str) -> None:
    server = Server(ServerOptions("s.test", auth=True), secure=secure)
    server.greet()
    list(run_server(server, [stream]))
    assert server.protocol == word


def test_sub_11_whoever_speaks_first_is_turned_away() -> None:
    server = Server(ServerOptions("s.test"))
    server.receive(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\n")
    assert server.next_event() is NEED_DATA
    server.greet()
    assert server.data_to_send().startswith(b"554 5.5.0 ")
    assert server.closing
    assert server.next_event() is NEED_DATA


def test_a_refusing_greeting_ends_the_session() -> None:
    server = Server(ServerOptions("s.test"))
    server.greet(Reply(421, "4.7.0", "Too many"))
    server.receive(b"EHLO c.test\r\n")
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == b"421 4.7.0 Too many\r\n"
    assert server.closing


def test_shutting_down_says_so_once() -> None:
    server = greeted()
    server.data_to_send()
    server.shut(Reply(421, "4.3.2", "Shutting down"))
    server.shut(Reply(421, "4.3.2", "Shutting down"))
    assert server.data_to_send() == b"421 4.3.2 Shutting down\r\n"


def test_tls_01_bytes_in_clear_before_the_handshake_are_dropped() -> None:
    server = greeted(starttls=True)
    server.receive(b"EHLO c.test\r\nSTARTTLS\r\nMAIL FROM:<a@b.test>\r\n")
    assert isinstance(server.next_event(), Hello)
    assert isinstance(server.next_event(), StartTls)
    server.receive(b"RSET\r\nNOOP\r\n")
    assert server.next_event() is NEED_DATA
    server.data_to_send()
    server.tls_started()
    assert server.next_event() is NEED_DATA
    server.receive(b"NOOP\r\n")
    assert server.next_event() is NEED_DATA
    assert server.data_to_send() == b"250 2.0.0 Ok\r\n"
    assert server.state is ServerState.START


def test_sub_10_every_command_that_is_too_long_is_refused_once() -> None:
    server = greeted()
    server.receive(b"NOOP " + b"x" * 505 + b"\r\nNOOP " + b"x" * 506 + b"\r\n")
    server.receive(b"MAIL FROM:<" + b"x" * 3000 + b">\r\nNOOP\r\n")
    assert server.next_event() is NEED_DATA
    replies = server.data_to_send().split(b"\r\n")[1:-1]
    assert [reply[:9] for reply in replies] == [b"250 2.0.0", b"500 5.5.2", b"500 5.5.2", b"250 2.0.0"]


def test_twenty_errors_end_a_session_and_a_message_forgives_them() -> None:
    server = greeted()
    message = b"MAIL FROM:<a@b>\r\nRCPT TO:<x@y>\r\nDATA\r\n.\r\n"
    events = list(run_server(server, [b"EHLO c\r\n" + (b"FOO\r\n" * 20 + message) * 3]))
    assert not server.closing
    assert events.count("CONTENT b''") == 3
    list(run_server(server, [b"FOO\r\n" * 21]))
    assert server.closing


def test_421_of_the_driver_ends_the_session() -> None:
    server = greeted()
    server.receive(b"EHLO c\r\nMAIL FROM:<a@b>\r\nNOOP\r\n")
    server.next_event()
    server.next_event()
    server.answer(Reply(421, "4.3.2", "Bye"))
    assert server.closing
    assert server.next_event() is NEED_DATA
    assert server.data_to_send().endswith(b"421 4.3.2 Bye\r\n")


def test_dos_a_session_of_nothing_but_noop_ends() -> None:
    server = greeted()
    server.receive(b"NOOP\r\n" * 6000)
    event = server.next_event()
    assert isinstance(event, Abort)
    assert event.reason is AbortReason.COMMANDS


def test_a_piece_is_given_as_soon_as_it_is_there() -> None:
    server = greeted(limits=ServerLimits(piece=4))
    list(run_server(server, [b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<x@y>\r\n"]))
    assert list(run_server(server, [b"BDAT 10\r\n01234567"])) == ["CHUNK b'01234567'"]
    assert list(run_server(server, [b"89BDAT 0 LAST\r\n"])) == ["CHUNK b'89'", "CONTENT 10"]
