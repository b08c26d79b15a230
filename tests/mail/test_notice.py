"""Failure notices: what they tell, to readers of RFC 3464 and to people, and what they never repeat."""

import email
import email.policy
from dataclasses import replace

import pytest

from smarthost.mail import (
    Action,
    Notice,
    NoticeRecipient,
    build_notice,
    parse_address,
    parse_mailbox,
    read_headers,
)

DATE = "Fri, 21 Nov 2025 09:38:00 +0000"
AT = 1_763_717_880_000_000
HEADERS = (
    b"From: Alice <alice@example.org>\r\nTo: bob@good.test\r\nBcc: hidden@example.org,\r\n other@example.org\r\n"
    b"X-Smarthost-Idempotency-Key: secret-key\r\nSubject: Report\r\n\r\n"
)
REFUSED = NoticeRecipient(
    address="bob@good.test",
    code=550,
    enhanced="5.1.1",
    reply="No such user",
    server="mx.good.test",
    original="rfc822;bob@good.test",
    last_attempt=AT,
)
NOTICE = Notice(
    action=Action.FAILED,
    hostname="hub.test",
    sender=parse_mailbox("Smarthost <postmaster@hub.test>"),
    to=parse_address("alice@example.org"),
    recipients=(REFUSED,),
    headers=HEADERS + b"body that stays here",
    header_size=len(HEADERS),
    id="01J0000000000000000000000A",
    arrived=AT,
    subject="Report",
    message_id="<1@example.org>",
    envid="QQ314159",
)


def built(**changes):
    return build_notice(replace(NOTICE, **changes), message_id="<n@hub.test>", date=DATE)


def parts(**changes):
    content = built(**changes)
    assert all(len(line) <= 998 for line in content.split(b"\r\n"))
    message = email.message_from_bytes(content, policy=email.policy.default)
    text, status, quoted = message.iter_parts()
    return message, text.get_content().replace("\r\n", "\n"), status, quoted


def test_it_is_a_delivery_report():
    message, text, status, _ = parts()
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert message["To"] == "alice@example.org"
    assert message["References"] == "<1@example.org>"
    per_message, recipient = status.get_payload()
    assert per_message["Reporting-MTA"] == "dns; hub.test"
    assert per_message["Original-Envelope-Id"] == "QQ314159"
    assert dict(recipient) == {
        "Original-Recipient": "rfc822;bob@good.test",
        "Final-Recipient": "rfc822; bob@good.test",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx.good.test",
        "Diagnostic-Code": "smtp; 550 No such user",
        "Last-Attempt-Date": DATE,
    }
    assert "bob@good.test\n    mx.good.test said: 550 No such user" in text


def test_loop_02_it_is_marked_so_that_nothing_answers_it():
    content = built()
    assert read_headers(content, max_header=9999, max_hops=1).automatic
    assert b"\r\nAuto-Submitted: auto-replied\r\n" in content


def test_loop_05_it_quotes_the_header_section_only():
    content = built(headers=HEADERS + b"x" * 30_000_000)
    assert len(content) < 5000
    assert b"body that stays here" not in built()


def test_loop_05_it_quotes_no_hidden_field():
    content = built()
    for secret in (b"hidden@", b"other@", b"secret-key"):
        assert secret not in content
    assert b"Subject: Report" in content


def test_loop_05_a_long_header_section_is_cut_between_fields():
    fields = b"".join(b"X-%05d: %s\r\n" % (n, b"y" * 60) for n in range(2000))
    quoted = parts(headers=fields + b"\r\n", header_size=len(fields) + 2)[3].get_content()
    lines = quoted.strip().splitlines()
    assert len(lines) > 10 and len(quoted) < 17_000
    assert all(line.endswith("y" * 60) for line in lines)


@pytest.mark.parametrize(
    "reply",
    [
        "<script>alert(1)</script>",
        "no\r\nBcc: x@evil.test",
        "no\n\nContent-Type: text/html\n\n<b>",
        "\x1b[2J\x07",
        "\u202egnp.exe",
        "\ud800",
        "--=_boundary--",
        "x" * 100_000,
        "ü" * 5000,
        "=?utf-8?q?=0ABcc:_x=40evil.test?=",
        "",
    ],
)
def test_loop_05_what_another_server_said_stays_one_harmless_line(reply):
    message, text, status, _ = parts(recipients=(replace(REFUSED, reply=reply),))
    assert next(part.get_content_type() for part in message.iter_parts()) == "text/plain"
    assert "text/html" not in [part.get_content_type() for part in message.walk()]
    assert len(status.get_payload()) == 2
    assert set(status.get_payload()[1].keys()) <= {
        "Original-Recipient", "Final-Recipient", "Action", "Status", "Remote-MTA", "Diagnostic-Code", "Last-Attempt-Date",
    }  # fmt: skip
    assert not any(char < " " and char not in "\n" for char in text)
    assert len(text) < 2000


@pytest.mark.parametrize(
    ("recipient", "status"),
    [
        (replace(REFUSED, enhanced=""), "5.0.0"),
        (replace(REFUSED, enhanced="4.2.2"), "5.2.2"),
        (replace(REFUSED, enhanced="5.1.1\r\nX: y"), "5.0.0"),
        (replace(REFUSED, expired=True), "5.4.7"),
    ],
)
def test_the_status_agrees_with_the_outcome(recipient, status):
    assert parts(recipients=(recipient,))[2].get_payload()[1]["Status"] == status


def test_a_delay_says_that_nothing_needs_to_be_done():
    message, text, status, _ = parts(
        action=Action.DELAYED, recipients=(replace(REFUSED, code=450, until=AT),)
    )
    assert message["Subject"] == "Not delivered yet: Report"
    assert status.get_payload()[1]["Action"] == "delayed"
    assert status.get_payload()[1]["Will-Retry-Until"] == DATE
    assert "You need not send it again." in text


def test_a_recipient_beyond_ascii_keeps_the_report_ascii():
    content = built(recipients=(replace(REFUSED, address="jos\u00e9@good.test"),))
    assert content.isascii()
    assert b"Final-Recipient: utf-8; jos\\x{00E9}@good.test" in content


def test_a_header_section_that_is_not_ascii_is_carried_as_it_is():
    raw = b"Subject: caf\xc3\xa9 \xff\r\n\r\n"
    message = email.message_from_bytes(built(headers=raw, header_size=len(raw)))
    assert message.get_payload()[2].get_payload(decode=True).rstrip() == raw.rstrip()


def test_a_thousand_recipients_are_all_reported_and_few_are_told():
    many = tuple(replace(REFUSED, address=f"u{n}@good.test") for n in range(1000))
    _, text, status, _ = parts(recipients=many)
    assert len(status.get_payload()) == 1001
    assert "and 950 more" in text


@pytest.mark.parametrize("subject", ["a\r\nBcc: x@evil.test", "ü" * 400, "=?utf-8?q?a?=", ""])
def test_any_subject_can_be_told(subject):
    message = email.message_from_bytes(
        built(subject=subject, message_id="<a b>\r\nX: y"), policy=email.policy.default
    )
    assert message["Bcc"] is None and message["X"] is None and message["References"] is None
    assert message["Subject"].startswith("Not delivered")
