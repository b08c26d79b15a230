"""A display name with its address, alone or in a list: API fields and the fields From, To, Cc, Bcc.

Strict where two readers would disagree: an unquoted name holds no separator, groups and routes are
refused. Header fields get two kindnesses that cron and old mailers need, both without a second reading: a
comment after the bare address ("root (Cron Daemon)") is its name, and an empty group
("undisclosed-recipients:;") is nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from smarthost.errors import AddressError
from smarthost.mail._address import Address, parse_address, shown
from smarthost.mail._words import decode_words

_NAME = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|\([^()<>@,;:"\\]*+\)|[^<>@,;:"()\[\]\\])*+')
_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"')
_TRAILING = re.compile(r"([^\s()\"<>]+)[ \t]*\(([^()<>@\\]*+)\)")
_EMPTY_GROUP = re.compile(r'[^<>@,;:"()\[\]\\]*+:[ \t]*;')
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
# Unclosed quotes and comments run to the end, so that every octet is looked at once.
_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?$)|\([^()]*+(?:\)|$)|,')
_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")

Reader = Callable[[str], Address]


@dataclass(frozen=True, slots=True)
class Mailbox:
    """name is plain text, "" where there is none; str() is for people and for `parse_mailbox`."""

    name: str
    address: Address

    def __str__(self) -> str:
        if not self.name:
            return str(self.address)
        return f"{quoted_name(self.name)} <{self.address}>"


def parse_mailbox(text: str) -> Mailbox:
    """Read `a@b`, `Name <a@b>` or `"Name" <a@b>`; the name is taken literally. Raises AddressError."""
    return _mailbox(text, parse_address)


def parse_mailbox_list(text: str) -> tuple[Mailbox, ...]:
    """Read one or more mailboxes with commas between them. Raises AddressError naming the bad one."""
    return tuple(_mailbox(piece, parse_address) for piece in split_list(text))


def read_field(text: str, read: Reader) -> list[Mailbox]:
    """Read the unfolded value of an address field of a message; encoded names are decoded.

    `read` decides about each address, so that a local program's "root" can be completed.
    """
    found = []
    for piece in split_list(text):
        stripped = piece.strip(" \t")
        if stripped and not _EMPTY_GROUP.fullmatch(stripped):
            found.append(_field_mailbox(stripped, read))
    return found


def quoted_name(name: str) -> str:
    """A display name as a phrase: quoted where it is not plain atoms (RFC 5322 3.2.5)."""
    if _PLAIN_NAME.fullmatch(name) and name == name.strip() and "  " not in name:
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_list(text: str) -> list[str]:
    """Cut at the commas outside quotes and comments."""
    pieces, begun = [], 0
    for token in _COMMA.finditer(text):
        if token[0] == ",":
            pieces.append(text[begun : token.start()])
            begun = token.end()
    pieces.append(text[begun:])
    return pieces


def _field_mailbox(text: str, read: Reader) -> Mailbox:
    if comment := _TRAILING.fullmatch(text):
        return Mailbox(_tidy(decode_words(comment[2])), read(comment[1]))
    found = _mailbox(text, read)
    return Mailbox(_tidy(decode_words(found.name)), found.address) if "=?" in found.name else found


def _mailbox(text: str, read: Reader) -> Mailbox:
    if _CONTROL.search(text):
        raise AddressError(f"{shown(text)} is not an address: it holds a control character.")
    text = text.strip(" \t")
    if not text.endswith(">"):
        return Mailbox("", read(text))
    name, _, address = text[:-1].rpartition("<")
    if not _NAME.fullmatch(name):
        raise AddressError(
            f"{shown(text)} is not an address: the name before it holds a separator; put the name in quotes."
        )
    return Mailbox(_tidy(_STRING.sub(lambda found: re.sub(r"\\(.)", r"\1", found[1]), name)), read(address))


def _tidy(name: str) -> str:
    return " ".join(_CONTROL.sub(" ", name).split())
