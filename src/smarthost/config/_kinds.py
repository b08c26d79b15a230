"""Kinds of values: each reads what a file, a variable or a page gives, or says in words why it cannot be."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

from smarthost.errors import AddressError
from smarthost.mail import parse_address

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
TRUE = frozenset({"true", "yes", "on", "1"})
FALSE = frozenset({"false", "no", "off", "0"})
HOST = re.compile(
    r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """`words` names the kind to people; `read` returns the value or raises ValueError("must be …")."""

    words: str
    read: Callable[[object], object]


def _text(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    if any(ord(char) < 32 or ord(char) == 127 for char in value):
        raise ValueError("must be one line without control characters")
    return value


def _secret(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be text in quotes")
    if any(char in "\0\r\n" for char in value):
        raise ValueError("must be one line without NUL")
    return value


def _boolean(value: object) -> object:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in TRUE | FALSE:
        return value.strip().lower() in TRUE
    raise ValueError("must be true or false")


def _integer(low: int, high: int) -> Callable[[object], object]:
    def read(value: object) -> object:
        if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return read


def _size(low: int) -> Callable[[object], object]:
    """Bytes, or a number with a unit: decimal k, M, G or binary KiB, MiB, GiB."""

    def read(value: object) -> object:
        if isinstance(value, str):
            match = re.fullmatch(r"\s*([0-9]{1,15})\s*([kmg]?|[kmg]ib)\s*", value.lower())
            value = int(match[1]) * UNITS[match[2]] if match else None
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value < 2**53:
            least = f", at least {low}" if low else ""
            raise ValueError(f'must be a number of bytes{least}, or text such as "50 MiB"')
        return value

    return read


def _choice(*words: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        word = value.strip().lower() if isinstance(value, str) else None
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return word

    return read


def _address(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("must be an email address in quotes")
    if not value:
        return ""
    try:
        return str(parse_address(value))
    except AddressError as error:
        raise ValueError(f"must be an email address: {error.public}") from None


def _host(value: object) -> object:
    """A domain name or an IP address in its canonical form. Underscores too: container networks use them."""
    if not isinstance(value, str):
        raise ValueError("must be a host name or an IP address in quotes")
    if not value:
        return ""
    try:
        return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    name = value.lower().removesuffix(".")
    if not name.isascii():
        try:
            name = parse_address(f"x@{name}").domain
        except AddressError:
            name = ""
    if not HOST.fullmatch(name) or re.fullmatch(r"[0-9.]+", name):
        raise ValueError("must be a host name or an IP address, without scheme, port or path")
    return name


def _domain(value: object) -> object:
    found = _host(value)
    if re.fullmatch(r"[0-9.]+", str(found)) or ":" in str(found):
        raise ValueError("must be a domain name, not an address")
    return found


def _helo(value: object) -> object:
    """A host name, or an address literal in brackets (RFC 5321 4.1.3)."""
    if isinstance(value, str) and re.fullmatch(r"\[(IPv6:)?[0-9A-Fa-f.:]{2,45}\]", value):
        return value
    found = _host(value)
    if re.fullmatch(r"[0-9.]+", str(found)) or ":" in str(found):
        raise ValueError("must be a host name, or an address in brackets such as [192.0.2.1]")
    return found


def _name(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}", value):
        raise ValueError("must be letters, digits, space, point, hyphen and underscore")
    return value


def _pin(value: object) -> object:
    digits = re.sub(r"^sha256:|:", "", value.strip().lower()) if isinstance(value, str) else None
    if digits is None or not re.fullmatch(r"([0-9a-f]{64})?", digits):
        raise ValueError("must be the SHA-256 of the server's certificate: 64 hexadecimal digits")
    return digits


TEXT = Kind("text", _text)
SECRET = Kind("secret text", _secret)
PATH = Kind("file name", _text)
BOOLEAN = Kind("true or false", _boolean)
SIZE = Kind("size", _size(0))
LIMIT = Kind("size", _size(1024))
ADDRESS = Kind("email address", _address)
HOST_NAME = Kind("host name or IP address", _host)
DOMAIN = Kind("domain name", _domain)
HELO = Kind("host name, or address in brackets", _helo)
SERVER_NAME = Kind("letters, digits, space . - _", _name)
PIN = Kind("SHA-256, hex", _pin)


def integer(low: int, high: int) -> Kind:
    return Kind(f"{low} to {high}", _integer(low, high))


def choice(*words: str) -> Kind:
    return Kind(", ".join(words), _choice(*words))
