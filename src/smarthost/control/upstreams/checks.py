"""One check a field of a server: it gives the value as it is stored, or raises ConfigError naming the field.

These values end in SMTP lines and TLS settings, so a line end or NUL is refused here, where somebody reads
the answer, and not only at the wire.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from smarthost.errors import AddressError, ConfigError
from smarthost.mail import parse_address
from smarthost.routing import Encryption, UnknownPolicy

MECHANISMS = ("auto", "none", "plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer")

Check = Callable[[str, object], object]


def name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", text):
        raise ConfigError(
            "A server's name is letters, digits, space, point, hyphen and underscore", field="name"
        )
    return text


def _host(field: str, value: object) -> str:
    text = str(value).strip().rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        pass
    return _domain(field, text)


def _domain(field: str, text: str) -> str:
    """A domain name as A-labels, through the address parser so that there is one notion of a domain."""
    if len(text) > 253 or re.search(r"[\s\[\]@<>]", text):
        raise ConfigError(f"{text[:80]!r} is not a host name or an address", field=field)
    if re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", text):
        return text  # one label: localhost, or a name of this network
    try:
        return parse_address(f"x@{text}").domain
    except AddressError:
        raise ConfigError(f"{text[:80]!r} is not a host name or an address", field=field) from None


def _helo(field: str, value: object) -> str:
    text = str(value).strip()
    if re.fullmatch(r"\[(IPv6:)?[0-9A-Fa-f.:]{2,45}\]", text):
        return text
    return _domain(field, text.lower()) if text else ""


def _number(least: int, most: int) -> Check:
    def check(field: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(f"{field} is a number from {least} to {most}", field=field)
        return value

    return check


def _flag(field: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{field} is true or false", field=field)
    return value


def _one_of(*words: str) -> Check:
    def check(field: str, value: object) -> str:
        if str(value) not in words:
            raise ConfigError(f"{field} is one of {', '.join(words)}", field=field)
        return str(value)

    return check


def secret(field: str, text: str) -> str:
    """A user name or password goes into an AUTH line: no NUL and no line end (RFC 4616), and not 10 kB."""
    if len(text.encode("utf-8", "surrogatepass")) > (1000 if field != "client_key" else 20_000):
        raise ConfigError(f"The {field} is too long", field=field)
    if re.search("[\0\ud800-\udfff]" if field == "client_key" else "[\0\r\n\ud800-\udfff]", text):
        raise ConfigError(f"The {field} holds a character that no server can be sent", field=field)
    return text


def _from_address(field: str, value: object) -> str:
    return str(parse_address(str(value))) if value else ""


def _from_name(field: str, value: object) -> str:
    text = str(value)
    if len(text) > 255 or not text.isprintable():
        raise ConfigError("The From name is at most 255 printable characters", field=field)
    return text.strip()


def _pin(field: str, value: object) -> str:
    text = re.sub(r"^sha256:|:", "", str(value).strip().lower())
    if text and not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ConfigError(
            "A pin is the SHA-256 of the server's certificate: 64 hexadecimal digits", field=field
        )
    return text


def _certificates(field: str, value: object) -> str:
    text = str(value).strip()
    try:
        if text and not x509.load_pem_x509_certificates(text.encode()):
            raise ValueError
    except ValueError:
        raise ConfigError(f"{field} is not a certificate in PEM", field=field) from None
    return text + "\n" if text else ""


def private_key(text: str) -> None:
    try:
        load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        raise ConfigError(
            "The client key is not an unencrypted private key in PEM", field="client_key"
        ) from None


FIELDS: dict[str, Check] = {
    "host": _host,
    "port": _number(1, 65535),
    "encryption": _one_of(*Encryption),
    "verify": _flag,
    "enabled": _flag,
    "ca_pem": _certificates,
    "pin": _pin,
    "client_cert_pem": _certificates,
    "helo": _helo,
    "mechanism": _one_of(*MECHANISMS),
    "username": lambda field, value: secret(field, str(value)),
    "from_address": _from_address,
    "from_name": _from_name,
    "connections": _number(1, 200),
    "rate": _number(0, 1_000_000),
    "quota": _number(0, 100_000_000),
    "max_size": _number(0, 2**40),
    "max_recipients": _number(1, 10_000),
    "unknown": _one_of(*UnknownPolicy),
}
