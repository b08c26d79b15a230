"""The declared header edits: what they write, and that nothing else changes."""

import email
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.errors import HeaderError
from smarthost.mail import date_text, edit_headers, new_message_id, read_headers, received

TRACE = b"Received: by hub.test;\r\n\tFri, 21 Nov 2025 09:38:00 +0000\r\n"
CONTENT = (
    b"Received: from app by mx\r\nfrom: Boss <boss@example.org>\r\nBCC: x@y.test,\r\n\tz@y.test\r\nTo: b@good.test\r\n"
    b"Return-Path: <a@b.test>\r\nX-Smarthost-Priority: bulk\r\nSubject: =?utf-8?q?a?=\r\n folded\r\n\r\nFrom: body\r\n"
)
SIZE = CONTENT.index(b"\r\n\r\n") + 4


def edit(content=CONTENT, size=SIZE, **edits):
    return edit_headers(content, size, trace=TRACE, **edits)


def test_the_trace_alone_goes_on_top():
    assert edit() == TRACE + CONTENT


def test_missing_fields_are_added_at_the_end():
    assert edit(add_date="D", add_message_id="<m@h>") == (
        TRACE + CONTENT[: SIZE - 2] + b"Date: D\r\nMessage-ID: <m@h>\r\n\r\nFrom: body\r\n"
    )


def test_pol_09_hidden_fields_are_left_out_with_their_continuations():
    assert edit(strip_hidden=True) == TRACE + (
        b"Received: from app by mx\r\nfrom: Boss <boss@example.org>\r\nTo: b@good.test\r\n"
        b"Subject: =?utf-8?q?a?=\r\n folded\r\n\r\nFrom: body\r\n"
    )


def test_force_from_replaces_from_and_keeps_the_writer_as_reply_to():
    sent = email.message_from_bytes(
        edit(header_from="Büro <office@example.org>", reply_to="boss@example.org"),
        policy=email.policy.default,
    )
    assert str(sent["From"]) == "Büro <office@example.org>"
    assert str(sent["Reply-To"]) == "boss@example.org"
    assert sent.get_payload() == "From: body\r\n"


def test_a_reply_to_that_stands_there_stays():
    content = b"Reply-To: me@b.test\r\nFrom: a@b.test\r\n\r\n"
    assert b"boss" not in edit(content, len(content), header_from="x@y.test", reply_to="boss@b.test")


def test_a_missing_from_is_added_and_a_present_one_is_not():
    assert b"\r\nFrom: Hub <hub@b.test>\r\n" in edit(b"X: y\r\n\r\n", 8, add_from="Hub <hub@b.test>")
    assert b"hub@b.test" not in edit(add_from="Hub <hub@b.test>")


@pytest.mark.parametrize(
    ("content", "size"), [(b"hi\r\nFrom: x@evil.test\r\n", 0), (b"X: y\r\n", 6), (b"\r\nhi\r\n", 2), (b"", 0)]
)
def test_a_missing_blank_line_is_written(content, size):
    assert read_headers(content, max_header=1000, max_hops=9).header_size == size
    for edits in ({}, {"add_date": "D"}, {"strip_hidden": True}):
        sent = edit(content, size, **edits)
        head, _, body = sent.partition(b"\r\n\r\n")
        assert head.startswith(TRACE[:-2])
        assert body == content[size:]


@pytest.mark.parametrize(
    "value", ["x@y.test\r\nBcc: z@evil.test", "a, b", "a@b.test, c@d.test", "N\0 <a@b.test>"]
)
def test_it_writes_no_from_that_is_not_one_mailbox(value):
    with pytest.raises(HeaderError) as caught:
        edit(header_from=value)
    assert caught.value.field == "From"


NAMES = st.sampled_from(
    [b"From", b"To", b"BCC", b"X-A", b"Received", b"Return-Path", b"x-smarthost-y", b"Reply-To"]
)
VALUES = st.sampled_from([b" a@b.test", b"", b" x\r\n\tBcc: y", b" \xc3\xbc", b" z" * 60])
FIELDS = st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6)


@settings(max_examples=1000, deadline=None)
@given(
    FIELDS,
    st.binary(max_size=60),
    st.booleans(),
    st.sampled_from([None, "q@b.test"]),
    st.sampled_from([None, "D"]),
)
def test_whatever_is_edited_the_body_is_identical(fields, body, hidden, author, date):
    section = b"".join(name + b":" + value + b"\r\n" for name, value in fields) + b"\r\n"
    sent = edit(
        section + body, len(section), strip_hidden=hidden, header_from=author, reply_to=author, add_date=date
    )
    head, _, rest = sent.partition(b"\r\n\r\n")
    assert rest == body
    names = [line.split(b":")[0].lower() for line in head.split(b"\r\n") if line[:1] not in (b" ", b"\t")]
    if hidden:
        assert not {b"bcc", b"return-path", b"x-smarthost-y"} & set(names)
    if author:
        assert names.count(b"from") == 1


def test_a_date_is_what_every_reader_takes_for_it():
    moment = 1_763_717_880_123_456
    assert date_text(moment) == "Fri, 21 Nov 2025 09:38:00 +0000"
    assert int(email.utils.parsedate_to_datetime(date_text(moment)).timestamp()) == moment // 1_000_000


def test_message_ids_differ_and_stand_at_this_host():
    assert new_message_id("Hub.test") != new_message_id("Hub.test")
    assert new_message_id("hub.test").endswith("@hub.test>")
    assert new_message_id("hub\r\n.test").endswith("@smarthost.invalid>")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("app.example.org", b"from app.example.org ("),
        ("[192.0.2.1]", b"from [192.0.2.1] ("),
        ("x\r\nBcc: y", b"from unknown ("),
        ("\x1b[2J", b"from unknown ("),
        ("a" * 300, b"from unknown ("),
        ("", b"from unknown ("),
    ],
)
def test_dos_12_what_a_client_calls_itself_cannot_break_the_trace(said, written):
    field = received(
        hostname="hub.test",
        protocol="ESMTPS",
        id="ID",
        at_us=0,
        helo=said,
        peer="2001:db8::1",
        tls="TLSv1.3)\r\nX: y",
    )
    assert written in field and b"[IPv6:2001:db8::1]" in field
    assert read_headers(field + b"\r\n", max_header=2000, max_hops=1).hops == 1
    assert all(line[:1] in b"R\t" for line in field.split(b"\r\n"))
