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
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
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


def _size(value: object) -> object:
    """Bytes, or a number with a unit: decimal k, M, G or binary KiB, MiB, GiB."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9]{1,15})\s*([a-z]*)\s*", value.lower())
        factor = (
            UNITS.get(match[2].removesuffix("b") if match[2] in ("b", "kb", "mb", "gb") else match[2])
            if match
            else None
        )
        value = int(match[1]) * factor if match and factor else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError('must be a number of bytes, or text such as "50 MiB"')
    return value


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


def _pin(value: object) -> object:
    digits = value.replace(":", "").strip().lower() if isinstance(value, str) else None
    if digits is None or not re.fullmatch(r"([0-9a-f]{64})?", digits):
        raise ValueError("must be the SHA-256 of the server's certificate: 64 hexadecimal digits")
    return digits


TEXT = Kind("text", _text)
SECRET = Kind("secret text", _secret)
PATH = Kind("file name", _text)
BOOLEAN = Kind("true or false", _boolean)
SIZE = Kind('bytes, or text such as "50 MiB"', _size)
ADDRESS = Kind("email address", _address)
HOST_NAME = Kind("host name or IP address", _host)
PIN = Kind("SHA-256, hex", _pin)


def integer(low: int, high: int) -> Kind:
    return Kind(f"{low} to {high}", _integer(low, high))


def choice(*words: str) -> Kind:
    return Kind(", ".join(words), _choice(*words))
