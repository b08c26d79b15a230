"""One check a field of a server: the value as it is stored, or ConfigError naming the field.

The kinds are those of configuration files, so pages, commands and files accept the same. These values end in
SMTP lines and TLS settings: a line end or NUL is refused here, where somebody reads the answer, and not only
at the wire.
"""

from __future__ import annotations

import re
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from smarthost.config import UPSTREAM
from smarthost.errors import ConfigError

FIELDS = {row.field: row for row in UPSTREAM if row.key not in ("name", "default")}
"""Every field of a server that can be set, by its name in `routing.Upstream`."""

_LONGEST = {"password": 1000, "username": 1000, "from_name": 255}
_PEM = ("ca_pem", "client_cert_pem", "client_key")


def check(field: str, value: object) -> Any:
    """The canonical value. Raises ConfigError that names the field and what it must be."""
    if field in _PEM:
        return _pem(field, value)
    try:
        found = FIELDS[field].kind.read(value)
    except ValueError as error:
        raise ConfigError(f"{field} {error}", field=field) from None
    if isinstance(found, str):
        if re.search("[\0\r\n\ud800-\udfff]", found):
            raise ConfigError(f"The {field} holds a character that no server can be sent", field=field)
        if len(found.encode()) > _LONGEST.get(field, 320):
            raise ConfigError(f"The {field} is too long", field=field)
    return found


def name(text: str) -> str:
    """A server's name as people and files call it."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,99}", text):
        raise ConfigError("A server's name is letters, digits, space, hyphen and underscore", field="name")
    return text


def private_key(text: str) -> None:
    """Refuse what is no private key, or one under a passphrase that nobody could give later."""
    try:
        load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        raise ConfigError(
            "The client key is not an unencrypted private key in PEM", field="client_key"
        ) from None


def _pem(field: str, value: object) -> str:
    text = value.strip() if isinstance(value, str) else "\0"
    if (not text.isprintable() and not text.replace("\r", "").replace("\n", "").isprintable()) or len(
        text
    ) > 200_000:
        raise ConfigError(f"{field} is not PEM text", field=field)
    if text and field != "client_key":
        try:
            x509.load_pem_x509_certificates(text.encode())
        except ValueError:
            raise ConfigError(f"{field} is not a certificate in PEM", field=field) from None
    return text + "\n" if text else ""
