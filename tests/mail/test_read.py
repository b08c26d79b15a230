"""Light reading of submitted header sections."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.errors import AddressError, HeaderError, LoopError, SmarthostError
from smarthost.mail import complete, header_recipients, read_headers

CLEAN = b"From: Alice <alice@example.org>\r\nDate: x\r\nMessage-ID: <1@example.org>\r\nSubject: Hi\r\n\r\nBody\r\n"


def read(content, *, max_header=200_000, max_hops=50, local=None):
    return read_headers(content, max_header=max_header, max_hops=max_hops, complete=local)


def local(text):
    return complete(text, "hub.test", {"root": "admin@example.org"})


def test_it_reads_what_sending_needs():
    facts = read(CLEAN)
    assert facts.header_size == CLEAN.index(b"Body")
    assert str(facts.header_from) == "alice@example.org"
    assert (facts.subject, facts.message_id) == ("Hi", "<1@example.org>")
    assert not (facts.add_date or facts.add_message_id or facts.add_from or facts.strip_hidden)
    assert not (facts.automatic or facts.eight_bit or facts.utf8)


def test_it_says_what_is_missing():
    facts = read(b"X: y\r\nDate:  \r\n\r\n")
    assert facts.add_date and facts.add_message_id and facts.add_from
    assert facts.header_from is None


@pytest.mark.parametrize("name", [b"Bcc", b"resent-BCC", b"Return-Path", b"X-Smarthost-Other"])
def test_pol_09_it_sees_fields_that_must_not_be_sent(name):
    assert read(name + b": a@b.test\r\n" + CLEAN).strip_hidden


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (b"", 0),
        (b"hi there\r\n", 0),
        (b"hi there\r\n\r\nFrom: a@b.test\r\n", 0),
        (b"\r\nbody\r\n", 2),
        (b"Subject: x\r\n", 12),
        (b"Subject: x\r\n\r\n", 14),
        (b" leading: space\r\n\r\n", 0),
    ],
)
def test_content_whose_first_line_is_no_field_has_no_header_section(content, size):
    assert read(content).header_size == size


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"Subject: a\r\nno field here\r\n\r\n", "Line 2 .* neither a field"),
        (b"Subject: a\r\nno field: here\r\n", "Line 2 .* neither a field"),
        (b"- a: b\r\nX: y\r\n", None),
        (b"X: y\r\n- a: b\r\n", "Line 2"),
        (b"Subject: a\0b\r\n\r\n", "NUL"),
        (b"Subject: a\rBcc: x@evil.test\r\n\r\n", "bare line break"),
        (b"Subject: a\nBcc: x@evil.test\r\n\r\n", "bare line break"),
        pytest.param(b"From :ceo@example.org\r\n\r\n", "neither a field", id="POL-11"),
        (b"From: a@b.test\r\nFrom: c@d.test\r\n\r\n", "2 From fields"),
        (b"From: a@b.test\r\nfROM: c@d.test\r\n\r\n", "2 From fields"),
        (b"From: a@b.test, c@d.test\r\n\r\n", "names 2 mailboxes"),
        (b"From: \r\n\r\n", "names 0 mailboxes"),
        (b"From: undisclosed:;\r\n\r\n", "names 0 mailboxes"),
        (b"From: root (Cron Daemon)\r\n\r\n", "no @"),
        (b"From: a@evil.test <b@good.test>\r\n\r\n", "separator"),
        (b"From: \xff <b@good.test>\r\n\r\n", "not UTF-8"),
        (b"From root@hub Fri Nov 21 2025\r\nSubject: x\r\n\r\n", "mbox"),
        (b"X-Smarthost-Idempotency-Key: \r\n\r\n", "1 to 255"),
        (b"X-Smarthost-Idempotency-Key: " + b"k" * 256 + b"\r\n\r\n", "1 to 255"),
        (b"X-Smarthost-Idempotency-Key: a\r\nX-Smarthost-Idempotency-Key: b\r\n\r\n", "two different"),
    ],
)
def test_it_refuses_what_readers_cut_differently(content, reason):
    if reason is None:
        assert read(content).header_size == 0
        return
    with pytest.raises(HeaderError, match=reason) as caught:
        read(content)
    assert caught.value.public.isascii() and caught.value.public.isprintable()


def test_cron_writes_from_a_local_name():
    facts = read(b"From: root (Cron Daemon)\r\nTo: root\r\n\r\n", local=local)
    assert str(facts.header_from) == "admin@example.org"
    assert facts.from_completed == "Cron Daemon <admin@example.org>"


@pytest.mark.parametrize(
    "value", [b"Alice <alice@example.org>", b"a@B\xc3\xbccher.test", b"A@Example.ORG", b"a@b.test (Alice)"]
)
def test_a_complete_from_stays_as_it_was_written(value):
    assert read(b"From: " + value + b"\r\n\r\n", local=local).from_completed == ""


def test_a_from_at_localhost_is_completed():
    assert read(b"From: www@localhost\r\n\r\n", local=local).from_completed == "www@hub.test"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"=?utf-8?q?Caf=C3=A9?=", "Café"),
        (b"=?utf-8?B?Q2Fmw6k=?= =?utf-8?q?_x?=", "Café x"),
        (b"=?iso-8859-1?q?Caf=E9?=\r\n and more", "Café and more"),
        (b"Caf\xc3\xa9", "Café"),
        (b"Caf\xe9", "Caf\ufffd"),
        (b"=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="),
        (b"=?idna?q?a?= =?unicode_escape?q?=5Cx41?=", "=?idna?q?a?==?unicode_escape?q?=5Cx41?="),
        (b"=?utf-8?q?a=0D=0ABcc:_x=40evil.test?=", "a Bcc: x@evil.test"),
        (b"\x1b[2Jred", "[2Jred"),
        (b"=?utf-8?q?=E2=80=AEgnp.exe?=", "gnp.exe"),
        (b"=?utf-8?q?a=00b?=", "ab"),
    ],
)
def test_it_reads_the_subject_for_people(raw, text):
    assert read(b"Subject: " + raw + b"\r\n\r\n").subject == text


def test_a_long_subject_is_cut():
    assert len(read(b"Subject: " + b"ab " * 5000 + b"\r\n\r\n").subject) == 250


@pytest.mark.parametrize(
    ("field", "automatic"),
    [
        (b"Auto-Submitted: auto-replied", True),
        (b"auto-submitted: AUTO-generated; x=y", True),
        (b"Auto-Submitted: no", False),
        (b"Auto-Submitted: No (really); x", True),
        (b"Precedence: bulk", True),
        (b"Precedence: LIST", True),
        (b"Precedence: junk", True),
        (b"Precedence: first-class", False),
        (b"List-Id: <a.b.test>", True),
        (b"Return-Path: <>", True),
        (b"Return-Path: <a@b.test>", False),
        (b"X-Auto: yes", False),
    ],
)
def test_loop_04_it_knows_automatic_mail(field, automatic):
    assert read(field + b"\r\n" + CLEAN).automatic is automatic


def test_loop_01_it_stops_a_loop():
    hop = b"Received: from a by b;\r\n\tFri, 21 Nov 2025 09:38:00 +0000\r\n"
    assert read(hop * 50 + CLEAN).hops == 50
    for count in (51, 101):
        with pytest.raises(LoopError) as caught:
            read(hop * count + CLEAN)
        assert (caught.value.code, caught.value.enhanced) == (554, "5.4.6")


@pytest.mark.parametrize(
    ("value", "eight_bit", "utf8"),
    [(b"plain", False, False), (b"\xc3\xbc", True, True), (b"\xfc", True, False)],
)
def test_it_knows_what_the_header_section_needs(value, eight_bit, utf8):
    facts = read(b"X: " + value + b"\r\n\r\nb\xc3\xbcdy")
    assert (facts.eight_bit, facts.utf8) == (eight_bit, utf8)


def test_it_reads_the_idempotency_key():
    assert read(b"X-Smarthost-Idempotency-Key:  order 42 \r\n\r\n").idempotency_key == "order 42"
    assert read(CLEAN).idempotency_key is None


def own(name, value):
    return read(b"X-Smarthost-" + name + b":" + value + b"\r\n" + CLEAN)


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (b" 1800000000", 1_800_000_000_000_000),
        (b" 2027-01-15T08:00:00Z", 1_800_000_000_000_000),
        (b"2027-01-15t09:30:00.250+01:30 ", 1_800_000_000_250_000),
        (b"\r\n 2027-01-15 08:00:00-00:00", 1_800_000_000_000_000),
        (b" 0001-01-01T00:00:00+23:59", -62_135_683_140_000_000),
    ],
)
def test_it_reads_when_a_message_may_leave(value, at):
    facts = own(b"Send-At", value)
    assert (facts.send_at, facts.strip_hidden) == (at, True)
    assert read(CLEAN).send_at is None


def test_it_reads_the_priority():
    assert own(b"Priority", b" Urgent").priority == "urgent"
    assert own(b"PRIORITY", b"bulk").priority == "bulk"
    assert read(CLEAN).priority == ""


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (b"Priority", b" high", "X-Smarthost-Priority must be urgent, normal or bulk; it is 'high'"),
        (b"Priority", b"", "must be urgent"),
        (b"Priority", b" bulk\r\nX-Smarthost-Priority: urgent", "two different X-Smarthost-Priority fields"),
        (b"Send-At", b" tomorrow", "X-Smarthost-Send-At must be a time such as .* it is 'tomorrow'"),
        (b"Send-At", b" 2027-01-15T08:00:00", "X-Smarthost-Send-At"),  # of which zone?
        (b"Send-At", b" 2027-02-30T08:00:00Z", "X-Smarthost-Send-At"),
        (b"Send-At", b" 2027-01-15", "X-Smarthost-Send-At"),
        (b"Send-At", b" -1", "X-Smarthost-Send-At"),
        (b"Send-At", b" 123456789012", "X-Smarthost-Send-At"),
        (b"Send-At", " ١٨٠٠٠٠٠٠٠٠".encode(), "X-Smarthost-Send-At"),
        (b"Send-At", b" Sat, 1 Jan 2028 00:00:00 +0000", "X-Smarthost-Send-At"),
        (b"Send-At", b"", "X-Smarthost-Send-At"),
    ],
)
def test_it_refuses_wishes_that_it_cannot_read(name, value, reason):
    with pytest.raises(HeaderError, match=reason) as caught:
        own(name, value)
    assert caught.value.field == "X-Smarthost-" + name.decode()


def test_addr_46_recipients_come_from_to_cc_and_bcc_only():
    content = (
        b"Resent-Date: x\r\nResent-From: e@evil.test\r\nResent-To: a@evil.test\r\n"
        b"To: B <b@good.test>, root,\r\n undisclosed-recipients:;\r\nCC: c@good.test (C),\r\nBcc: b@good.test, d@good.test\r\n"
        b"\r\nTo: body@evil.test\r\n"
    )
    assert [str(each) for each in header_recipients(content, local)] == [
        "b@good.test",
        "admin@example.org",
        "c@good.test",
        "d@good.test",
    ]


@pytest.mark.parametrize("value", [b'"|id>/tmp/x"@good.test', b"/etc/passwd", b":include:/etc/shadow"])
def test_addr_48_a_recipient_is_never_a_program_or_a_file(value):
    with pytest.raises(AddressError):
        header_recipients(b"To: " + value + b"\r\n\r\n")


BOMBS = {
    "one 10 MB field": b"Subject: " + b"x" * 10_000_000 + b"\r\n\r\n",
    "one 10 MB folded field": b"Subject: " + b"x\r\n " * 2_500_000 + b"\r\n\r\n",
    "100,000 fields": b"X: y\r\n" * 100_000 + b"\r\n",
    "a first line without end": b"x" * 10_000_000,
    "1,000,000 references": b"References:" + b" <a@b>\r\n" * 1_000_000 + b"\r\n",
}


@pytest.mark.timeout(20)  # linear takes milliseconds, quadratic minutes
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_dos_06_a_header_bomb_is_refused_at_its_limit(bomb):
    if bomb.startswith(b"xx"):
        assert read(bomb).header_size == 0
    else:
        with pytest.raises(HeaderError, match="longer than 200000") as caught:
            read(bomb)
        assert caught.value.code == 552


INSIDE = {
    "20,000 encoded words": b"Subject:" + b" =?utf-8?q?a?=" * 14_000,
    "encoded word openings": b"Subject:" + b"=?" * 90_000,
    "4,000 nested comments": b"From: " + b"(" * 4_000 + b"a@b.test",
    "unclosed quotes in From": b"From: " + b'"\\' * 30_000,
    "a From of 190 kB": b"From: " + b"a@b.test, " * 19_000,
    "a To of 190 kB": b'To: "' + b'\\"' * 90_000,
    "nested groups": b"To: " + b"a:" * 90_000,
    "odd message id": b"Message-ID: <[>\r\nTo: a@[",
    "40,000 fields": b"\r\n".join([b"A:"] * 40_000),
}


@pytest.mark.timeout(20)  # linear takes milliseconds, quadratic minutes
@pytest.mark.parametrize("section", INSIDE.values(), ids=INSIDE)
def test_dos_06_a_bomb_within_the_limit_costs_little(section):
    for reader in (read, header_recipients):
        try:
            reader(section + b"\r\n\r\n")
        except SmarthostError:
            pass


@pytest.mark.parametrize(
    "body",
    [b"--b\r\nx:y\r\n\r\nz\r\n" * 15_000, b"Content-Type: message/rfc822\r\n\r\n" * 2_000],
    ids=["DOS-04", "DOS-05"],
)
def test_the_accept_path_never_looks_at_mime(body):
    head = b"From: a@b.test\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    facts = read(head + body)
    assert facts.header_size == len(head)
    assert facts == read(head)


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.sampled_from([b"From: a@b.test", b"\r\n", b"X:y", b" ", b":", b"\0", b"\r", b"\n", b"z"]),
        max_size=12,
    )
)
def test_it_reads_or_refuses_and_does_nothing_else(pieces):
    content = b"".join(pieces)
    try:
        facts = read(content)
    except SmarthostError:
        return
    assert 0 <= facts.header_size <= len(content)
    assert b"\0" not in content[: facts.header_size]
