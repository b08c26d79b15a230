"""What `build` writes, read back by another reader: Python's email package is the oracle here and nowhere else."""

import email
import email.policy
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.errors import ContentError, HeaderError
from smarthost.mail import (
    Address,
    Attachment,
    Composition,
    Mailbox,
    build,
    parse_mailbox,
    read_headers,
)

DATE = "Fri, 21 Nov 2025 09:38:00 +0000"
ALICE = parse_mailbox("Alice <alice@example.org>")
BOB = parse_mailbox("bob@good.test")


def written(**parts):
    content = build(
        Composition(**{"sender": ALICE, "to": (BOB,), **parts}), message_id="<m@hub.test>", date=DATE
    )
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", content), "a bare line end"
    assert max(map(len, content.split(b"\r\n"))) <= 998
    assert read_headers(content, max_header=200_000, max_hops=1).header_from == ALICE.address
    return content


def parsed(**parts):
    return email.message_from_bytes(written(**parts), policy=email.policy.default)


def test_it_writes_a_plain_message():
    assert written(subject="Hi", text="Hello\nBob") == (
        b"From: Alice <alice@example.org>\r\nTo: bob@good.test\r\nSubject: Hi\r\nDate: "
        + DATE.encode()
        + b"\r\n"
        b'Message-ID: <m@hub.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: 7bit\r\n\r\nHello\r\nBob\r\n"
    )


def test_it_writes_text_html_images_and_files():
    message = parsed(
        text="Grüße",
        html='<img src="cid:logo">',
        attachments=(
            Attachment(filename="logo.png", content_type="image/png", data=b"\x89PNG", content_id="logo"),
            Attachment(filename="größe.pdf", content_type="application/pdf", data=bytes(range(256)) * 9),
        ),
    )
    assert [part.get_content_type() for part in message.walk()] == [
        "multipart/mixed",
        "multipart/alternative",
        "text/plain",
        "multipart/related",
        "text/html",
        "image/png",
        "application/pdf",
    ]
    parts = {part.get_content_type(): part for part in message.walk()}
    assert parts["text/plain"].get_content().rstrip() == "Grüße"
    assert parts["image/png"]["Content-ID"] == "<logo>"
    assert parts["application/pdf"].get_filename() == "größe.pdf"
    assert parts["application/pdf"].get_content() == bytes(range(256)) * 9


def test_bcc_is_never_written_and_nobody_is_named_instead():
    content = written(to=(), bcc=(parse_mailbox("hidden@example.org"),), text="x")
    assert b"hidden" not in content
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in content


def test_no_sender_leaves_from_out():
    content = build(Composition(to=(BOB,), text="x"), message_id="<m@h>", date=DATE)
    assert read_headers(content, max_header=9999, max_hops=1).add_from


BREAKS = {
    "HDR-01": "hi\r\nBcc: x@evil.test",
    "HDR-02": "hi\nBcc: x@evil.test",
    "HDR-03": "hi\rBcc: x@evil.test",
    "HDR-05a": "hi\u2028Bcc: x@evil.test",
    "HDR-05b": "hi\u2029Bcc: x@evil.test",
    "HDR-05c": "hi\u0085Bcc: x@evil.test",
    "HDR-05d": "hi\x0bBcc: x@evil.test",
    "HDR-05e": "hi\x0cBcc: x@evil.test",
    "HDR-05f": "hi\x1cBcc: x@evil.test",
    "HDR-09": "hi\0Bcc",
    "HDR-10": "hi\n Bcc: x@evil.test",
    "own-surrogate": "hi\ud800",
}


@pytest.mark.parametrize("value", BREAKS.values(), ids=BREAKS)
def test_no_value_ends_its_line(value):
    name = Mailbox(value, BOB.address)
    for parts, field in (
        ({"subject": value}, "subject"),
        ({"to": (name,)}, "to"),
        ({"cc": (name,)}, "cc"),
        ({"reply_to": (name,)}, "reply_to"),
        ({"sender": Mailbox(value, ALICE.address)}, "from"),
        ({"headers": {"X-A": value}}, "headers.X-A"),
        ({"headers": {"List-Unsubscribe": value}}, "headers.List-Unsubscribe"),
        ({"attachments": (Attachment(filename=value, data=b""),)}, "attachments[0].filename"),
    ):
        with pytest.raises(HeaderError) as caught:
            written(**parts)
        assert caught.value.field == field
        assert caught.value.public.isascii()


def test_hdr_06_characters_that_narrow_to_line_breaks_are_encoded():
    value = "hi\u760d\u760aBcc: x@evil.test"
    content = written(subject=value)
    assert b"Bcc" not in content
    assert email.message_from_bytes(content, policy=email.policy.default)["Subject"] == value


HEADER_NAMES = {
    "HDR-04": "=?utf-8?q?=0A?=Bcc: x",
    "HDR-07": "X-A: b\r\nBcc: x@evil.test\r\nX-C",
    "HDR-08": "Bcc: x@evil.test, Y",
    "own-empty": "",
    "own-space": "X A",
    "own-utf8": "X-\u00fc",
    "own-long": "X" * 77,
}


@pytest.mark.parametrize("name", HEADER_NAMES.values(), ids=HEADER_NAMES)
def test_it_writes_no_name_that_is_none(name):
    with pytest.raises(HeaderError, match="not a header name"):
        written(headers={name: "v"})


@pytest.mark.parametrize(
    "name",
    [
        "From",
        "BCC",
        "to",
        "Sender",
        "Resent-To",
        "Received",
        "Content-Type",
        "X-Smarthost-Priority",
        "Return-Path",
    ],
)
def test_it_writes_our_own_fields_itself(name):
    with pytest.raises(HeaderError, match="written by Smarthost") as caught:
        written(headers={name: "x@evil.test"})
    assert caught.value.field == f"headers.{name}"


def test_a_header_is_given_once():
    with pytest.raises(HeaderError, match="twice"):
        written(headers={"X-A": "1", "x-a": "2"})


@pytest.mark.parametrize(
    "name", ["=?utf-8?q?a=40evil=2Etest=2C?=", "a@evil.test,", 'x" <a@evil.test>', "=?utf-8?q?=0A?=Bcc:"]
)
def test_addr_45_a_name_never_becomes_a_recipient(name):
    message = parsed(to=(Mailbox(name, BOB.address),))
    assert [each.addr_spec for each in message["To"].addresses] == ["bob@good.test"]
    assert message["To"].addresses[0].display_name == name
    assert message["Bcc"] is None


FILENAMES = {
    "quotes": ('a"b.txt', 'a"b.txt'),
    "paths": ("../../etc/passwd", "_.._etc_passwd"),
    "backslashes": ("..\\x.exe", "_x.exe"),
    "continuation": ("x; filename*1=y.exe", "x; filename*1=y.exe"),
    "encoded word": ("=?utf-8?q?x?=", "=?utf-8?q?x?="),
    "script": ("<script>", "_script_"),
    "direction": ("a\u202egnp.exe", "a_gnp.exe"),
    "long": ("ü" * 300 + ".txt", "ü" * 200),
    "nothing": ("..", "attachment"),
}


@pytest.mark.parametrize(("given_name", "read"), FILENAMES.values(), ids=FILENAMES)
def test_hdr_11_a_file_name_is_one_name(given_name, read):
    message = parsed(text="x", attachments=(Attachment(filename=given_name, data=b"1"),))
    part = next(message.iter_attachments())
    assert part.get_filename() == read
    assert part.get_content_disposition() == "attachment"


@pytest.mark.parametrize(
    ("attachment", "field"),
    [
        (
            Attachment(filename="a", data=b"", content_type="text/plain\r\nX: y"),
            "attachments[0].content_type",
        ),
        (Attachment(filename="a", data=b"", content_type="multipart/mixed"), "attachments[0].content_type"),
        (Attachment(filename="a", data=b"", content_id="a>\r\nX: y"), "attachments[0].content_id"),
    ],
)
def test_an_attachment_names_what_is_wrong_with_it(attachment, field):
    with pytest.raises((ContentError, HeaderError)) as caught:
        written(attachments=(attachment,))
    assert caught.value.field == field


def test_an_attached_message_is_not_base64():
    inner = b"Subject: inner\n\nbody"
    message = parsed(
        text="x", attachments=(Attachment(filename="m.eml", content_type="message/rfc822", data=inner),)
    )
    assert next(message.iter_attachments()).get_content()["Subject"] == "inner"
    message = parsed(
        text="x", attachments=(Attachment(filename="m.eml", content_type="message/rfc822", data=b"\xff"),)
    )
    assert next(message.iter_attachments()).get_content_type() == "application/octet-stream"


def test_hdr_15_boundaries_are_not_foreseen():
    bodies = {written(text="--=_\r\n", html="x") for _ in range(5)}
    marks = {re.search(rb'boundary="([^"]+)"', body)[1] for body in bodies}
    assert len(marks) == 5


def test_unsubscribe_links_are_written_as_they_are():
    links = "<https://example.org/u/" + "x" * 200 + ">, <mailto:u@example.org?subject==?x?=>"
    content = written(
        headers={"List-Unsubscribe": links, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    )
    assert links.encode() in content.replace(b"\r\n ", b" ")
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in content


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_text_that_cannot_be_mail_is_refused_by_field(text):
    for field in ("text", "html"):
        with pytest.raises(ContentError) as caught:
            written(**{field: text})
        assert caught.value.field == field


def test_a_word_that_fits_no_line_is_encoded_or_refused():
    assert parsed(subject="x" * 3000)["Subject"] == "x" * 3000
    with pytest.raises(HeaderError, match="longer than 998"):
        written(headers={"List-Id": "x" * 3000})


LINE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=120)
ANY = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)


@settings(max_examples=1000, deadline=None)
@given(LINE)
def test_a_subject_comes_back(subject):
    content = written(subject=subject)
    head = content.partition(b"\r\n\r\n")[0]
    names = [line.split(b":")[0] for line in head.split(b"\r\n") if not line.startswith(b" ")]
    assert names.count(b"Subject") == 1 and b"Bcc" not in names
    assert head.isascii() and all(line.strip() for line in head.split(b"\r\n"))
    if "=?" not in subject:
        raw = email.message_from_bytes(content)["Subject"]
        decoded = str(email.header.make_header(email.header.decode_header(raw)))
        assert " ".join(decoded.split()) == " ".join(subject.split())


@settings(max_examples=1000, deadline=None)
@given(st.lists(LINE.map(lambda name: " ".join(name.split())), min_size=1, max_size=5))
def test_names_come_back_and_recipients_stay_the_same(names):
    mailboxes = tuple(Mailbox(name, Address(f"u{n}", "good.test")) for n, name in enumerate(names))
    message = parsed(to=mailboxes)
    assert [each.addr_spec for each in message["To"].addresses] == [str(each.address) for each in mailboxes]


@settings(max_examples=1000, deadline=None)
@given(ANY, st.sampled_from(["text", "html"]))
def test_a_body_comes_back(body, field):
    part = parsed(**{field: body}).get_body()
    lines = re.split("\r\n|\r|\n", body)
    read = part.get_payload(decode=True).decode().replace("\r\n", "\n")
    assert read == "\n".join(lines if not lines[-1] else [*lines, ""])


@settings(max_examples=1000, deadline=None)
@given(st.text("aB-:\r\n ü", min_size=1, max_size=5), st.text("aB \r\n\0=?_:ü\u2028", max_size=90) | LINE)
def test_a_header_is_written_whole_or_not_at_all(name, value):
    try:
        content = written(headers={name: value})
    except (HeaderError, ContentError):
        return
    head = content.partition(b"\r\n\r\n")[0]
    assert sum(not line.startswith(b" ") for line in head.split(b"\r\n")) == 9
