"""Encoded words (RFC 2047) read for people, and text from outside made harmless.

Reading is bounded: at most `limit` octets of a value are looked at, a charset must be a plain one (Python
also knows codecs that take quadratic time or execute escapes), and what cannot be read stays as written.
"""

from __future__ import annotations

import base64
import binascii
import quopri
import re
import unicodedata

_WORD = re.compile(r"=\?([A-Za-z0-9_.:-]{1,40})(?:\*[A-Za-z0-9-]*)?\?([bBqQ])\?([!->@-~]*+)\?=")
_BETWEEN = re.compile(r"(\?=)[ \t]+(?==\?)")
_CHARSET = re.compile(
    r"utf-?8|(?:us-)?ascii|iso-8859-\d{1,2}|windows-\d{3,4}|cp\d{3,4}|koi8-[rtu]|gb2312|gbk|gb18030|big5(?:-hkscs)?"
    r"|shift[_-]jis|sjis|euc-(?:jp|kr)|iso-2022-(?:jp|kr)|ks_c_5601-1987|tis-620|macintosh",
    re.IGNORECASE,
)


def text_of(raw: bytes, limit: int = 4096) -> str:
    """The octets of a header value as text: UTF-8 where it is, else byte for byte (RFC 6532 3.2)."""
    raw = raw[:limit]
    if raw.isascii():
        return raw.decode("ascii")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("utf-8", "replace")


def decode_words(text: str) -> str:
    """A header value with its encoded words read. Linear; never raises."""
    if "=?" not in text:
        return text
    return _WORD.sub(_decode_word, _BETWEEN.sub(r"\1", text))


def safe_text(text: str, limit: int) -> str:
    """One printable line of at most `limit` characters: no control, no bidi or invisible character."""
    text = " ".join(text[: limit * 4].split())
    if not (text.isascii() and text.isprintable()):
        text = "".join(char for char in text if unicodedata.category(char) not in _UNSAFE)
    return text if len(text) <= limit else text[: limit - 1] + "…"


_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def _decode_word(match: re.Match[str]) -> str:
    charset, encoding, payload = match.groups()
    if not _CHARSET.fullmatch(charset):
        return match[0]
    try:
        if encoding in "bB":
            octets = base64.b64decode(payload + "=" * (-len(payload) % 4), validate=True)
        else:
            octets = quopri.decodestring(payload.replace("_", " ").encode("ascii"), header=False)
        return octets.decode(charset, "replace")
    except (binascii.Error, ValueError, LookupError):
        return match[0]
