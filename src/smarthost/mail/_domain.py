"""The domain of an address in its one canonical form: A-labels in lower case, or an address literal.

Only two changes are made to what was written, because no two programs disagree about them: letters
become lower case, and a U-label becomes its A-label (RFC 5891). UTS 46 maps much more (full-width
letters, circled digits, ideographic dots, soft hyphens), and programs disagree whether they apply it.
So what it would map is refused, never mapped: whoever meant that name can write it plainly.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import idna

MAX_DOMAIN = 255  # octets, RFC 5321 4.5.3.1.2

_LDH = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LDH}(?:\.{_LDH})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_QUAD = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}")


def canonical_domain(text: str) -> str:
    """The canonical form of what stands after the @. Raises ValueError whose text completes "…: it …".

    RFC 5321 4.1.2 (Domain) and 4.1.3 (address-literal); RFC 6531 3.3 and RFC 5890 for U-labels.
    """
    if text.startswith("["):
        return _literal(text)
    domain = text.lower() if text.isascii() else _to_a_labels(text)
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(_why_not(domain))
    if "xn--" in domain:
        for label in domain.split("."):
            _check_a_label(label)
    if _NUMBER.fullmatch(domain[domain.rfind(".") + 1 :]):
        raise ValueError("has a number for its domain; an IP address stands in brackets, as [192.0.2.1]")
    if len(domain) > MAX_DOMAIN:
        raise ValueError(f"has a domain longer than {MAX_DOMAIN} octets")
    return domain


def _why_not(domain: str) -> str:
    if not domain:
        return "has no domain after the @"
    if domain.endswith("."):
        return "ends with a dot"
    if domain.startswith(".") or ".." in domain:
        return "has an empty label in its domain"
    if any(len(label) > 63 for label in domain.split(".")):
        return "has a domain label longer than 63 octets"
    if any(label.startswith("-") or label.endswith("-") for label in domain.split(".")):
        return "has a domain label that begins or ends with a hyphen"
    wrong = next(char for char in domain if not (char.isascii() and (char.isalnum() or char in ".-")))
    return f"has {name_of(wrong)} in its domain"


def _to_a_labels(text: str) -> str:
    """A-labels for a domain with U-labels. All but plain and valid U-labels is refused (RFC 5891 4.2)."""
    lower = unicodedata.normalize("NFC", text.lower())
    for char in text:
        if not char.isascii() and _ambiguous(char.lower()):
            raise ValueError(
                f"has {name_of(char)} in its domain, which some programs read as another character"
            )
    try:
        labels = lower.split(".")
        return ".".join(label if label.isascii() else idna.alabel(label).decode("ascii") for label in labels)
    except idna.IDNAError as error:
        raise ValueError(f"has a domain that is no valid internationalised name ({_plain(error)})") from None


def _ambiguous(char: str) -> bool:
    """Whether a non-ASCII character in lower case is, or may be taken for, a plainer one."""
    mapped = unicodedata.normalize("NFKC", char)
    return mapped != unicodedata.normalize("NFC", char) or any(each.isascii() for each in mapped)


def _check_a_label(label: str) -> None:
    if not label.startswith("xn--"):
        return
    try:
        again = idna.alabel(idna.ulabel(label)).decode("ascii")
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(
            f"has the domain label {label}, which encodes no valid name ({_plain(error)})"
        ) from None
    if again != label:
        raise ValueError(f"has the domain label {label}, which is not how that name is encoded")


def _literal(text: str) -> str:
    if not text.endswith("]"):
        raise ValueError("has an address literal without its closing bracket")
    inner = text[1:-1]
    if _QUAD.fullmatch(inner):
        try:
            return f"[{ipaddress.IPv4Address(inner)}]"
        except ValueError:
            raise ValueError("has an address literal that is no IPv4 address") from None
    if inner[:5].lower() != "ipv6:":
        raise ValueError("has an address literal that is neither [IPv4] nor [IPv6:...]")
    if "%" in inner:
        raise ValueError("has an address literal with a zone")
    try:
        address = ipaddress.IPv6Address(inner[5:])
    except ValueError:
        raise ValueError("has an address literal that is no IPv6 address") from None
    if address.ipv4_mapped is not None:
        raise ValueError(f"has an IPv4 address written as IPv6; write [{address.ipv4_mapped}]")
    return f"[IPv6:{address.compressed}]"


def name_of(char: str) -> str:
    """A character for people: itself where it is plain, its code point where it might hide."""
    names = {" ": "a space", "\r": "a line break", "\n": "a line break", "\t": "a tab", "\0": "a NUL"}
    if char in names:
        return names[char]
    return f"'{char}'" if "!" <= char <= "~" else f"the character U+{ord(char):04X}"


def _plain(error: Exception) -> str:
    return ascii(str(error))[1:-1][:120]
