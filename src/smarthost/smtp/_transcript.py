"""The last lines of a dialogue, kept as people may see them.

Secrets are removed here, when a line is captured, so that nothing downstream can leak them: what answers a
SASL challenge is never kept, AUTH lines lose their initial response, and should a server repeat the secret,
plain or in base64, that is blotted out too. Content never comes here at all. Memory is bounded.
"""

from __future__ import annotations

import base64
from collections import deque
from dataclasses import replace

from smarthost.smtp._reply import clean
from smarthost.smtp._types import Login, Reply

_ENTRIES = 100
_BYTES = 2048  # of one write
REDACTED = "[redacted]"


class Transcript:
    """Captures raw pieces, which is cheap, and makes lines of them when somebody asks."""

    __slots__ = ("_entries", "_secrets")

    def __init__(self, login: Login | None) -> None:
        self._entries: deque[tuple[str, bytes | Reply]] = deque(maxlen=_ENTRIES)
        self._secrets = _shapes(login) if login else ()

    def wrote(self, data: bytes) -> None:
        """Commands that hold no secret."""
        self._entries.append(("> ", data[:_BYTES]))

    def replied(self, reply: Reply) -> Reply:
        """A whole reply of the server; given back without our secrets."""
        for secret in self._secrets:
            if secret in reply.text:
                reply = replace(reply, text=reply.text.replace(secret, REDACTED))
        self._entries.append(("< ", reply))
        return reply

    def challenged(self) -> None:
        """A SASL challenge: it proves nothing to people, and some servers put our words into it."""
        self._entries.append(("< ", b"334 " + REDACTED.encode("ascii")))

    def note(self, text: str) -> None:
        """What is no line of the dialogue, such as the handshake."""
        self._entries.append(("* ", self.scrub(text).encode("utf-8", "replace")))

    def scrub(self, text: str) -> str:
        """A server's text without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return text

    def lines(self) -> tuple[str, ...]:
        return tuple(mark + line for mark, entry in self._entries for line in _lines(entry))


def _lines(entry: bytes | Reply) -> list[str]:
    if isinstance(entry, Reply):
        *more, last = (" ".join(filter(None, (entry.enhanced, line))) for line in entry.text.split("\n"))
        return [f"{entry.code}-{line}" for line in more] + [f"{entry.code} {last}"]
    return [
        clean(line) for line in entry.decode("utf-8", "replace").replace("\r", "").rstrip("\n").split("\n")
    ]


def _shapes(login: Login) -> tuple[str, ...]:
    """How a secret may come back: plain, in base64, and as the whole of PLAIN and XOAUTH2."""
    user, secret = login.username.encode("utf-8", "replace"), login.secret.encode("utf-8", "replace")
    plain = b"\0" + user + b"\0" + secret
    oauth = b"user=" + user + b"\1auth=Bearer " + secret + b"\1\1"
    shapes = {base64.b64encode(raw).decode("ascii") for raw in (secret, plain, user + plain, oauth)}
    return tuple(
        sorted((shape for shape in shapes | {login.secret} if len(shape) >= 4), key=len, reverse=True)
    )
