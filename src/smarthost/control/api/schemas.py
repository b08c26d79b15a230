"""What the API takes. Every object refuses fields that it does not know."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema


def _decode(value: object) -> bytes:
    """Base64 as RFC 4648 has it, line ends allowed (RFC 2045 6.8); bytes come from multipart as they are."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError("must be base64 text")
    text = value if "\n" not in value and "\r" not in value else value.replace("\r", "").replace("\n", "")
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("is not base64") from None


def _list(value: object) -> object:
    return [value] if isinstance(value, str) else value


Base64 = Annotated[
    bytes, BeforeValidator(_decode), WithJsonSchema({"type": "string", "contentEncoding": "base64"})
]
Addresses = Annotated[
    list[str],
    BeforeValidator(_list),
    WithJsonSchema({"type": "array", "items": {"type": "string"}, "examples": [["Ada <ada@example.com>"]]}),
]


class Strict(BaseModel):
    """The base of everything that is taken."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False, strict=False, hide_input_in_errors=True)


class AttachmentIn(Strict):
    """A file; with `content_id` an inline image that the HTML names as cid:…."""

    filename: str = Field(max_length=255)
    content_type: str = Field("application/octet-stream", max_length=255)
    content: Base64
    inline: bool = False
    content_id: str = Field("", max_length=250)


class MessageIn(Strict):
    """A message: either its parts (subject, text, html, attachments …) or `raw`, a whole MIME message.

    Recipients are `to`, `cc` and `bcc` together; with `raw` they are the envelope, and where there are none
    they are taken from the message's own To, Cc and Bcc. `from` may be left out: the server's is used.
    """

    sender: str | None = Field(None, alias="from", max_length=2000)
    to: Addresses = []
    cc: Addresses = []
    bcc: Addresses = []
    reply_to: Addresses = []
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: list[AttachmentIn] = Field([], max_length=500)
    headers: dict[str, str] = Field({}, max_length=200)
    priority: Literal["urgent", "normal", "bulk"] = "normal"
    send_at: dt.datetime | None = None
    raw: Base64 | None = None


class UpstreamIn(Strict):
    """A server. What is left out stays as it is. `password` and `client_key` are never shown again."""

    host: str | None = None
    port: int | None = None
    encryption: Literal["none", "starttls", "tls"] | None = None
    verify: bool | None = None
    enabled: bool | None = None
    ca_pem: str | None = None
    pin: str | None = None
    client_cert_pem: str | None = None
    client_key: str | None = None
    helo: str | None = None
    mechanism: str | None = None
    username: str | None = None
    password: str | None = None
    from_address: str | None = None
    from_name: str | None = None
    connections: int | None = None
    rate: int | None = None
    quota: int | None = None
    max_size: int | None = None
    max_recipients: int | None = None
    unknown: Literal["retry", "hold"] | None = None
    default: bool | None = None


class ApplicationIn(Strict):
    """A program. A network or a Unix user replaces its password; `token` adds a credential for HTTP."""

    name: str
    networks: list[str] = Field([], max_length=200)
    clear_networks: list[str] = Field([], max_length=200)
    uids: list[int] = Field([], max_length=200)
    token: bool = False
    owner: str | None = None


class RerouteIn(Strict):
    upstream: str


class ResolveIn(Strict):
    """What became of a message whose end is unknown: it was sent, it failed, or send it again."""

    verdict: Literal["sent", "failed", "queued"]


JsonObject = dict[str, Any]
