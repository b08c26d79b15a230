"""EMAIL_BACKEND for Django: hands every mail to Smarthost over its HTTP API.

    EMAIL_BACKEND = "smarthost_client.django.EmailBackend"
    SMARTHOST_URL = "https://mail.example.com"
    SMARTHOST_TOKEN = "sh_…"

What Django can put into a mail is mapped to the API's fields; what has none there raises
UnsupportedFeatureError before anything is sent, instead of being left out: a second alternative, an attached
MIME part that holds other parts, a body that is neither plain nor HTML. The envelope's sender is the From
address, as it is for Django's SMTP backend.
"""

from __future__ import annotations

import email.message
import email.policy
from collections.abc import Sequence
from email.mime.base import MIMEBase
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import EmailMessage, EmailMultiAlternatives
from django.core.mail.backends.base import BaseEmailBackend

from smarthost_client._client import Client
from smarthost_client._errors import SmarthostError, UnsupportedFeatureError
from smarthost_client._types import Attachment, Message

_PART_FIELDS = frozenset(
    {
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "content-id",
        "mime-version",
        "x-attachment-id",
    }
)
"""Fields of an attached part that the API writes itself."""


class EmailBackend(BaseEmailBackend):
    """Each mail is one request with an idempotency key, so Django's retry of a task sends no second copy
    where the caller gives the header Idempotency-Key."""

    def __init__(
        self,
        fail_silently: bool = False,
        url: str = "",
        token: str = "",
        timeout: float = 30.0,
        **_kwargs: Any,
    ) -> None:
        super().__init__(fail_silently=fail_silently)
        url = url or getattr(settings, "SMARTHOST_URL", "")
        token = token or getattr(settings, "SMARTHOST_TOKEN", "")
        if not url or not token:
            raise ImproperlyConfigured(
                "smarthost_client needs the settings SMARTHOST_URL and SMARTHOST_TOKEN"
            )
        self._client = Client(url, token, timeout=timeout)

    def close(self) -> None:
        self._client.close()

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """Send them; how many were accepted. Raises SmarthostError unless `fail_silently`.

        Each message gets the attribute `smarthost` with what the server said (its id among it).
        """
        accepted = 0
        try:
            for mail in email_messages or ():
                if not mail.recipients():
                    continue
                try:
                    message, key = convert(mail)
                    mail.smarthost = self._client.send(message, idempotency_key=key)  # type: ignore[attr-defined]
                except SmarthostError:
                    if not self.fail_silently:
                        raise
                else:
                    accepted += 1
        finally:
            self.close()
        return accepted


def convert(mail: EmailMessage) -> tuple[Message, str]:
    """Django's mail as the API's, and its idempotency key ("" for none). Raises UnsupportedFeatureError."""
    headers = {str(name): str(value) for name, value in mail.extra_headers.items()}
    own = {name.lower(): name for name in headers}
    key = headers.pop(own.get("idempotency-key", ""), "")
    # Django lets extra headers override what is shown; the recipients stay those of the attributes.
    sender = headers.pop(own.get("from", ""), "") or mail.from_email
    reply_to = _split(headers.pop(own.get("reply-to", ""), "")) or [str(address) for address in mail.reply_to]
    for name in ("to", "cc", "bcc", "subject", "sender", "date", "content-type", "mime-version"):
        if name in own:
            raise UnsupportedFeatureError(
                f"the extra header {own[name]} cannot be given: use the mail's attribute"
            )
    if mail.encoding is not None and not isinstance(mail.encoding, str):
        raise UnsupportedFeatureError(
            "an encoding that is a Charset object is not supported: mail is written as UTF-8"
        )
    text, html = _bodies(mail)
    message = Message(
        sender=str(sender),
        to=[str(address) for address in mail.to],
        cc=[str(address) for address in mail.cc],
        bcc=[str(address) for address in mail.bcc],
        reply_to=reply_to,
        subject=str(mail.subject),
        text=text,
        html=html,
        headers=headers,
        attachments=[_attachment(entry) for entry in mail.attachments],
    )
    return message, key


def _split(value: str) -> list[str]:
    """A Reply-To given as a header may name several addresses."""
    from email.utils import formataddr, getaddresses

    return [formataddr(pair) for pair in getaddresses([value])] if value else []


def _bodies(mail: EmailMessage) -> tuple[str | None, str | None]:
    """Text and HTML. Raises UnsupportedFeatureError for an alternative of another type, or a second one."""
    if mail.content_subtype not in ("plain", "html"):
        raise UnsupportedFeatureError(f"a body of type text/{mail.content_subtype} is not supported")
    body = str(mail.body)
    text, html = (None, body) if mail.content_subtype == "html" else (body, None)
    alternatives = list(mail.alternatives) if isinstance(mail, EmailMultiAlternatives) else []
    for entry in alternatives:
        content, kind = entry[0], entry[1]
        if kind != "text/html" or html is not None:
            raise UnsupportedFeatureError(
                f"an alternative of type {kind} is not supported here: one text, one HTML"
            )
        html = content.decode() if isinstance(content, bytes) else str(content)
    if html is not None and text == "":
        text = None
    return text, html


def _attachment(entry: Any) -> Attachment:
    if isinstance(entry, (MIMEBase, email.message.Message)):
        return _part(entry)
    filename, content, kind = entry[0], entry[1], entry[2] or ""
    if isinstance(content, email.message.Message):
        content, kind = content.as_bytes(policy=email.policy.SMTP), kind or "message/rfc822"
    elif isinstance(content, EmailMessage):
        # Every Django writes LF here unless told otherwise, each in its own way.
        content = content.message().as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        kind = kind or "message/rfc822"
    elif isinstance(content, str):
        content = content.encode()
        kind = kind or "text/plain"
    return Attachment(str(filename or "attachment"), bytes(content), str(kind))


def _part(part: email.message.Message) -> Attachment:
    """A MIME part that the caller built: its content, name, type, and Content-ID where it is inline."""
    if part.is_multipart():
        raise UnsupportedFeatureError(f"an attached part of type {part.get_content_type()} is not supported")
    unknown = {name.lower() for name in part} - _PART_FIELDS
    if unknown:
        raise UnsupportedFeatureError(f"the header {sorted(unknown)[0]} of an attached part is not supported")
    content = part.get_payload(decode=True)
    identifier = str(part.get("Content-ID", "")).strip().lstrip("<").rstrip(">")
    inline = bool(identifier) and part.get_content_disposition() != "attachment"
    extension = part.get_content_subtype()
    return Attachment(
        part.get_filename() or f"{identifier.partition('@')[0] or 'attachment'}.{extension}",
        content if isinstance(content, bytes) else b"",
        part.get_content_type(),
        identifier if inline else "",
    )
