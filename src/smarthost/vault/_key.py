"""Key material in memory, and the generated credentials of programs."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
# No look-alikes (0 O 1 l I), no punctuation: it survives a shell, a URL, a printer's panel, a double click.
ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One key of the file: a public id, named in what it sealed, and 32 secret bytes."""

    id: str
    material: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """The key file's content. The first entry seals; every entry opens what it once sealed."""

    entries: tuple[KeyEntry, ...]

    @property
    def current(self) -> KeyEntry:
        return self.entries[0]

    def find(self, id: str) -> KeyEntry | None:
        return next((entry for entry in self.entries if entry.id == id), None)

    def derive(self, purpose: str) -> bytes:
        """32 bytes for another use, such as signing cookies (HKDF-SHA256, RFC 5869).

        Independent for each purpose: who learns one learns neither another nor the key.
        """
        hkdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"smarthost/" + purpose.encode())
        return hkdf.derive(self.current.material)


def new_entry() -> KeyEntry:
    return KeyEntry(secrets.token_hex(4), secrets.token_bytes(KEY_BYTES))


def random_secret(length: int = 28) -> str:
    """A credential for a program: letters and digits, 5.8 bits each, so 163 bits unless asked otherwise."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
