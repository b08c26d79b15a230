"""What a server said in its answer to EHLO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Extensions as offered, keywords in upper case with their parameters as written (RFC 5321 4.1.1.1).

    size      None: SIZE not offered; 0: offered without a bound; else bytes (RFC 1870).
    auth      SASL mechanisms in upper case, in the server's order.
    mail_max, rcpt_max, rcpt_domain_max  LIMITS (RFC 9422), 0 where not told.
    """

    greeting: str = ""
    esmtp: bool = False
    extensions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    pipelining: bool = False
    chunking: bool = False
    eight_bit_mime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    enhanced: bool = False
    starttls: bool = False
    size: int | None = None
    auth: tuple[str, ...] = ()
    mail_max: int = 0
    rcpt_max: int = 0
    rcpt_domain_max: int = 0


NOTHING = Capabilities()


def parse_capabilities(text: str) -> Capabilities:
    """Read the text of a positive answer to EHLO, its lines joined by "\\n". The malformed is left out."""
    greeting, *lines = text.split("\n")
    extensions: dict[str, str] = {}
    for line in lines:
        keyword, _, params = line.strip().partition(" ")
        keyword = keyword.upper()
        if keyword.startswith("AUTH="):  # the form before RFC 2554, still sent beside the right one
            keyword, params = "AUTH", f"{keyword[5:]} {params}"
        if not keyword:
            continue
        params = params.strip()
        extensions[keyword] = f"{extensions[keyword]} {params}".strip() if keyword in extensions else params
    limits = _limits(extensions.get("LIMITS", ""))
    return Capabilities(
        greeting=greeting,
        esmtp=True,
        extensions=MappingProxyType(extensions),
        pipelining="PIPELINING" in extensions,
        chunking="CHUNKING" in extensions,
        eight_bit_mime="8BITMIME" in extensions,
        smtputf8="SMTPUTF8" in extensions,
        dsn="DSN" in extensions,
        enhanced="ENHANCEDSTATUSCODES" in extensions,
        starttls="STARTTLS" in extensions,
        size=(_number(extensions["SIZE"].split(" ")[0]) or 0) if "SIZE" in extensions else None,
        auth=tuple(dict.fromkeys(extensions.get("AUTH", "").upper().split())),
        mail_max=limits.get("MAILMAX", 0),
        rcpt_max=limits.get("RCPTMAX", 0),
        rcpt_domain_max=limits.get("RCPTDOMAINMAX", 0),
    )


def _limits(params: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in params.split():
        name, _, value = item.partition("=")
        number = _number(value)
        if number:
            found[name.upper()] = number
    return found


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
