"""The one strict address parser; policy, store and wire see nothing but its canonical value.

Mail programs disagree about what an address is, and an attacker lives in the difference: policy reads one
mailbox, the server another. So this parser accepts only what every reader takes for the same mailbox, and
refuses the rest by name. What it accepts:

    local part   dot-atoms (RFC 5321 4.1.2) without % and !, which old servers read as routes;
                 quoted strings of atom characters, dots and single spaces (nothing that could be taken for
                 another separator, and nothing that still needs a backslash);
                 UTF-8 (RFC 6531) in NFC that no compatibility mapping changes (RFC 8264 9.17) and nothing
                 invisible.
    domain       see `_domain`.

Invariant: parse_address(str(parse_address(x))) == parse_address(x), and str() of an address never holds a
control character, an angle bracket, a comma or more than one @.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from smarthost.errors import AddressError
from smarthost.mail._domain import canonical_domain, name_of

LOCAL_DOMAINS = frozenset({"localhost", "localhost.localdomain"})  # what local programs call this machine
MAX_LOCAL = 64  # octets, RFC 5321 4.5.3.1.1
MAX_ADDRESS = 254  # octets: a path of 256 (RFC 5321 4.5.3.1.3) without its angle brackets

_ATOM = r"A-Za-z0-9#$&'*+/=?^_`{|}~-"  # RFC 5322 atext without ! and %
_DOT_ATOM = re.compile(rf"[{_ATOM}]+(?:\.[{_ATOM}]+)*")
_ESCAPED = re.compile(r'\\["\\]')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"@(.*+)', re.DOTALL)
_NOT_QUOTABLE = re.compile(rf"[^\x80-\U0010ffff. {_ATOM}]")
_SPECIAL = {
    "(": "holds a comment",
    ")": "holds a comment",
    ",": "holds a comma; give each address by itself",
    "<": "holds an angle bracket",
    ">": "holds an angle bracket",
    ";": "holds a semicolon",
    ":": "holds a colon; groups and source routes are not accepted",
    "%": "has % in its local part, which some servers read as a route",
    "!": "has ! in its local part, which some servers read as a route",
    "[": "has a bracket in its local part",
    "]": "has a bracket in its local part",
    "\\": "has a backslash in its local part",
    '"': "has a quote in its local part",
    " ": "holds a space",
    "\t": "holds a tab",
    "@": "holds more than one @",
}
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class Address:
    """One mailbox in canonical form. Made by `parse_address` only: nothing here checks again.

    local   as written, without needless quotes; with its quotes where it needs them.
    domain  A-labels in lower case, or an address literal.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """What policy compares: the canonical text with ASCII letters in lower case."""
        return _ascii_lower(f"{self.local}@{self.domain}")

    @property
    def smtputf8(self) -> bool:
        """Whether only a server that offers SMTPUTF8 can take it (RFC 6531)."""
        return not self.local.isascii()


def parse_address(text: str) -> Address:
    """Read exactly one mailbox. Raises AddressError that names the reason. RFC 5321 4.1.2, RFC 6531 3.3."""
    if len(text) > 1000:
        raise AddressError(f"{shown(text)} is not an address: it is too long.")
    return _parse(text)


def parse_path(text: str) -> Address | None:
    """Read what stands between < and > in MAIL or RCPT; "" is the null sender. Raises AddressError."""
    return parse_address(text) if text else None


def complete(text: str, domain: str, aliases: Mapping[str, str]) -> Address:
    """Read an address that a local program wrote, perhaps without a domain.

    "root" and "root@localhost" are local names: the alias table decides (names in lower case), else
    `domain` completes them. Anything else is read by `parse_address`. Raises AddressError.
    """
    local, at, host = text.rpartition("@")
    if not at:
        local = text
    elif host.lower() not in LOCAL_DOMAINS:
        return parse_address(text)
    target = aliases.get(_ascii_lower(local))
    if target is not None:
        return parse_address(target)
    if not domain:
        raise AddressError(f"{shown(text)} has no domain, and no domain is set that would complete it.")
    return parse_address(f"{local}@{domain}")


@lru_cache(maxsize=16384)
def _parse(text: str) -> Address:
    try:
        address = _read(text)
    except ValueError as reason:
        raise AddressError(f"{shown(text)} is not an address: it {reason}.") from None
    return address


def _read(text: str) -> Address:
    if not text:
        raise ValueError("is empty")
    if text[0] == '"':
        local, domain = _split_quoted(text)
    else:
        local, at, domain = text.partition("@")
        if not at:
            raise ValueError(_first_special(text) or "has no @")
        if not local:
            raise ValueError("has no local part; source routes are not accepted")
        if not _DOT_ATOM.fullmatch(local):
            local = _check_local(local)
    if "=?" in local:
        raise ValueError("holds an encoded word")
    if local[0] == "-":
        raise ValueError("begins with a hyphen, which programs read as an option")
    if len(local) > MAX_LOCAL or len(local.encode()) > MAX_LOCAL:
        raise ValueError(f"has a local part longer than {MAX_LOCAL} octets")
    if not domain.startswith("[") and (reason := _first_special(domain)):
        raise ValueError(reason)
    domain = canonical_domain(domain)
    if len(local.encode()) + 1 + len(domain) > MAX_ADDRESS:
        raise ValueError(f"is longer than {MAX_ADDRESS} octets")
    return Address(local, domain)


def _first_special(text: str) -> str:
    """The reason why this holds more, or something else, than one plain address; "" if it does not."""
    for char in text:
        if char < " " or char == "\x7f":
            return f"holds {name_of(char)}" if char in "\r\n\0\t" else "holds a control character"
        if char in _SPECIAL:
            return _SPECIAL[char]
    return ""


def _check_local(local: str) -> str:
    if reason := _first_special(local):
        raise ValueError(reason)
    if local.startswith(".") or local.endswith(".") or ".." in local:
        raise ValueError("has a dot at an end of its local part, or two in a row; put it in quotes")
    if not local.isascii():
        _check_utf8(local)
    return local


def _check_utf8(local: str) -> None:
    for char in local:
        if not char.isascii() and unicodedata.category(char) in _INVISIBLE:
            raise ValueError(f"holds {name_of(char)}, which cannot be seen")
    if unicodedata.normalize("NFC", local) != local:
        raise ValueError("is not in Unicode normal form C")
    if unicodedata.normalize("NFKC", local) != local:
        raise ValueError("holds a compatibility character, which some programs read as another one")
    if unicodedata.combining(local[0]):
        raise ValueError("begins with a combining mark")


def _split_quoted(text: str) -> tuple[str, str]:
    """Local part and domain of `"…"@…`; the local part without its quotes where it does not need them."""
    match = _QUOTED.fullmatch(text)
    if match is None:
        raise ValueError(
            _first_special(text.replace('"', "").replace("@", "")) or "has a quote that does not end at the @"
        )
    inner, domain = match.groups()
    if _ESCAPED.search(inner):
        raise ValueError("has a quote or a backslash inside its quoted local part")
    inner = inner.replace("\\", "")
    if not inner:
        raise ValueError("has an empty local part")
    if wrong := _NOT_QUOTABLE.search(inner):
        raise ValueError(f"has {name_of(wrong[0])} inside quotes")
    if inner.startswith(" ") or inner.endswith(" ") or "  " in inner:
        raise ValueError("has a space at an end of its quoted local part, or two in a row")
    if not inner.isascii():
        _check_utf8(inner)
    needs = " " in inner or inner.startswith(".") or inner.endswith(".") or ".." in inner
    if inner[0] == "-":
        raise ValueError("begins with a hyphen, which programs read as an option")
    return (f'"{inner}"' if needs else inner), domain


def _ascii_lower(text: str) -> str:
    return text.lower() if text.isascii() else re.sub("[A-Z]+", lambda found: found[0].lower(), text)


def shown(text: str, limit: int = 100) -> str:
    """A text from outside inside a message of ours: in quotes, printable ASCII only, never long."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")
