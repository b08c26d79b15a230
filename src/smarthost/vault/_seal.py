"""Sealing: AES-256-GCM bound to a destination.

A password is stored for one server, and whoever may edit the server's settings must not be able to have it
sent elsewhere. So the destination is the associated data: change the host, the port, the encryption, the
verification, the user name or the mechanism, and the secret does not open any more; it has to be given again.

A sealed text is `v1:KEY-ID:BASE64URL(nonce ‖ ciphertext ‖ tag)`. The nonce is 96 random bits (NIST SP 800-38D
8.2.2 allows 2^32 of them under one key, and an installation seals some dozens). Opening fails in one way with
one text, whatever the cause: a better answer would help only who is trying destinations.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import astuple, dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from smarthost.errors import SecretError
from smarthost.vault._key import Key

VERSION = "v1"
NONCE_BYTES = 12
UNUSABLE = (
    "The stored secret cannot be opened: the key file is not the one it was stored with, or the server's"
    " host, port, encryption, verification, user name or mechanism changed since. Enter the password again."
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a secret may be used, and nowhere else. Values as configured, not as negotiated."""

    host: str
    port: int
    encryption: str
    verify: bool
    username: str
    mechanism: str

    def associated(self) -> bytes:
        """The canonical bytes that are authenticated: compact JSON, host without regard to case."""
        host, *rest = astuple(self)
        return json.dumps(
            ["smarthost", VERSION, host.lower(), *map(_plain, rest)], separators=(",", ":")
        ).encode()


def _plain(value: object) -> object:
    """An enum that is a string is written as that string."""
    return str(value) if isinstance(value, str) else value


def seal(key: Key, plaintext: str, destination: Destination) -> str:
    """Encrypt `plaintext` so that only `destination` opens it. Never twice the same text."""
    nonce = os.urandom(NONCE_BYTES)
    body = AESGCM(key.current.material).encrypt(nonce, plaintext.encode(), destination.associated())
    return f"{VERSION}:{key.current.id}:{base64.urlsafe_b64encode(nonce + body).decode().rstrip('=')}"


def unseal(key: Key, sealed: str, destination: Destination) -> str:
    """Open what `seal` made.

    Raises SecretError, always with the same public text, where key, destination or text do not fit.
    """
    version, _, rest = sealed.partition(":")
    id, _, text = rest.partition(":")
    entry = key.find(id)
    if version != VERSION or entry is None:
        # Nothing of the text is told, not even to the log: it may be a secret that nobody sealed.
        reason = "the key file holds no key of that id" if version == VERSION else "it is no sealed text"
        raise SecretError(UNUSABLE, private=reason)
    try:
        body = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return (
            AESGCM(entry.material)
            .decrypt(body[:NONCE_BYTES], body[NONCE_BYTES:], destination.associated())
            .decode()
        )
    except (binascii.Error, InvalidTag, ValueError) as error:
        raise SecretError(UNUSABLE, private=f"{type(error).__name__} with key {entry.id}") from None
