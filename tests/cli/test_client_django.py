"""Django's mails as the API's: everything mapped, nothing left out in silence."""

from __future__ import annotations

import sys
from email.mime.image import MIMEImage
from email.mime.multipart import MIMEMultipart
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "clients" / "python" / "src"))

from django.core.mail import EmailMessage, EmailMultiAlternatives
from smarthost_client import SmarthostError, UnsupportedFeatureError
from smarthost_client.django import EmailBackend, convert

pytestmark = pytest.mark.usefixtures("django_alone")


def test_it_maps_everything_that_django_knows() -> None:
    mail = EmailMultiAlternatives(
        "Grüße",
        "text",
        "Ann <ann@example.org>",
        ["a@example.com"],
        bcc=["b@example.com"],
        cc=["c@example.com"],
        reply_to=["r@example.org"],
        headers={"X-A": "1", "Idempotency-Key": "k1"},
    )
    mail.attach_alternative("<img src='cid:logo'>", "text/html")
    mail.attach("a.csv", "1,ä", "text/csv")
    mail.attach("b.bin", b"\0\xff")
    image = MIMEImage(b"\x89PNG", "png")
    image.add_header("Content-ID", "<logo>")
    image.add_header("Content-Disposition", "inline", filename="logo.png")
    mail.attach(image)
    message, key = convert(mail)
    assert key == "k1"
    assert message.payload() == {
        "from": "Ann <ann@example.org>",
        "to": ["a@example.com"],
        "cc": ["c@example.com"],
        "bcc": ["b@example.com"],
        "reply_to": ["r@example.org"],
        "subject": "Grüße",
        "text": "text",
        "html": "<img src='cid:logo'>",
        "headers": {"X-A": "1"},
        "attachments": [
            {"filename": "a.csv", "content_type": "text/csv", "content": "MSzDpA=="},
            {"filename": "b.bin", "content_type": "application/octet-stream", "content": "AP8="},
            {
                "filename": "logo.png",
                "content_type": "image/png",
                "content": "iVBORw==",
                "content_id": "logo",
            },
        ],
    }


def test_a_body_may_be_html_alone() -> None:
    mail = EmailMessage("s", "<p>hi</p>", "a@example.org", ["b@example.com"])
    mail.content_subtype = "html"
    payload = convert(mail)[0].payload()
    assert payload["html"] == "<p>hi</p>"
    assert "text" not in payload


def test_headers_override_what_is_shown_as_django_documents() -> None:
    mail = EmailMessage("s", "t", "a@example.org", ["b@example.com"])
    mail.extra_headers = {"From": "Shop <shop@example.org>", "Reply-To": "x@example.org, Y <y@example.org>"}
    payload = convert(mail)[0].payload()
    assert payload["from"] == "Shop <shop@example.org>"
    assert payload["reply_to"] == ["x@example.org", "Y <y@example.org>"]
    assert "headers" not in payload


def _alternatives(*pairs: tuple[Any, str]) -> EmailMessage:
    mail = EmailMultiAlternatives("s", "t", "a@example.org", ["b@example.com"])
    for content, kind in pairs:
        mail.attach_alternative(content, kind)
    return mail


def _attached(part: Any) -> EmailMessage:
    mail = EmailMessage("s", "t", "a@example.org", ["b@example.com"])
    mail.attach(part)
    return mail


def _subtype(kind: str) -> EmailMessage:
    mail = EmailMessage("s", "t", "a@example.org", ["b@example.com"])
    mail.content_subtype = kind
    return mail


def _odd_image() -> MIMEImage:
    image = MIMEImage(b"\x89PNG", "png")
    image["Content-Location"] = "x.png"
    return image


@pytest.mark.parametrize(
    "mail",
    [
        _alternatives(("<p>", "text/html"), ("{}", "text/calendar")),
        _alternatives(("<p>", "text/html"), ("<b>", "text/html")),
        _alternatives(("x", "text/x-amp-html")),
        _attached(MIMEMultipart()),
        _attached(_odd_image()),
        _subtype("calendar"),
        EmailMessage("s", "t", "a@example.org", ["b@example.com"], headers={"To": "list@example.com"}),
        EmailMessage("s", "t", "a@example.org", ["b@example.com"], headers={"Date": "now"}),
    ],
)
def test_what_the_api_has_no_field_for_raises(mail: EmailMessage) -> None:
    with pytest.raises(UnsupportedFeatureError):
        convert(mail)


def test_failures_raise_unless_they_are_to_be_silent() -> None:
    mail = EmailMessage("s", "t", "a@example.org", ["b@example.com"], headers={"To": "x@example.com"})
    assert EmailBackend(True, "http://127.0.0.1:9", "t").send_messages([mail]) == 0
    with pytest.raises(SmarthostError):
        EmailBackend(False, "http://127.0.0.1:9", "t").send_messages([mail])
    nobody = EmailMessage("s", "t", "a@example.org", [])
    assert EmailBackend(False, "http://127.0.0.1:9", "t").send_messages([nobody]) == 0
