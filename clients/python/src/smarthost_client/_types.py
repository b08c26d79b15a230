"""What is sent and what comes back."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Attachment:
    """A file. content_id: it is an inline image that the HTML shows as `cid:CONTENT_ID`."""

    filename: str
    content: bytes
    content_type: str = ""
    content_id: str = ""

    def payload(self) -> dict[str, Any]:
        guessed = self.content_type or mimetypes.guess_type(self.filename)[0] or "application/octet-stream"
        data = {
            "filename": self.filename,
            "content_type": guessed,
            "content": base64.b64encode(self.content).decode("ascii"),
        }
        if self.content_id:
            data["content_id"] = self.content_id
        return data


Addresses = str | Sequence[str]


@dataclass(frozen=True)
class Message:
    """A mail. Addresses are "a@b" or "Name <a@b>"; sender "" leaves From to the server's own address."""

    to: Addresses = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    sender: str = ""
    cc: Addresses = ()
    bcc: Addresses = ()
    reply_to: Addresses = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Attachment] = ()
    priority: str = ""
    send_at: str = ""

    def payload(self) -> dict[str, Any]:
        """The request's JSON; what is empty is left out."""
        data: dict[str, Any] = {
            "from": self.sender,
            "to": _list(self.to),
            "cc": _list(self.cc),
            "bcc": _list(self.bcc),
            "reply_to": _list(self.reply_to),
            "headers": dict(self.headers),
            "attachments": [attachment.payload() for attachment in self.attachments],
            "priority": self.priority,
            "send_at": self.send_at,
        }
        data = {name: value for name, value in data.items() if value}
        data["subject"] = self.subject
        if self.text is not None:
            data["text"] = self.text
        if self.html is not None:
            data["html"] = self.html
        return data


def _list(addresses: Addresses) -> list[str]:
    """A single address may be given bare; a string is never taken apart into its letters."""
    return [addresses] if isinstance(addresses, str) and addresses else list(addresses)


@dataclass(frozen=True)
class Recipient:
    """One recipient and how its delivery stands: queued, sending, sent, captured, deferred, unknown, …"""

    address: str
    state: str
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Sent:
    """A message that is durable, or one that was read back. data: everything that the server said."""

    id: str
    recipients: tuple[Recipient, ...]
    data: Mapping[str, Any]
    repeated: bool = False

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Sent:
        recipients = tuple(
            Recipient(
                str(entry.get("recipient") or entry.get("address") or ""),
                str(entry.get("state") or ""),
                entry,
            )
            for entry in data.get("recipients") or []
        )
        return cls(str(data["id"]), recipients, data, bool(data.get("repeated")))
