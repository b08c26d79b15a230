"""Commands as a server reads them: verbs, paths, ESMTP parameters; xtext both ways.

Pure functions on one line without its CRLF. A line that is wrong raises `CommandError` with the reply that
says so. Paths are only cut out here, quoted strings respected; whether they are addresses is for others.
"""

from __future__ import annotations

import re
from functools import lru_cache

from smarthost.smtp._types import MailParams, RcptParams, Reply

# One mailbox between angle brackets. Quantifiers are possessive: nothing backtracks.
_PATH = re.compile(
    rb' *+<((?:[^<>"\\\x00-\x20\x7f]++|"(?:[^"\\\x00-\x1f\x7f]++|\\[\x20-\x7e])*+")*+)>'
    rb"(?: ++([^\x00-\x1f\x7f]*+))?+"
)
_PARAM = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^= ]+))?")
_SIZE = re.compile(r"[0-9]{1,20}")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,40};.+", re.DOTALL)
_UNITEXT = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_NOTIFY = frozenset({"SUCCESS", "FAILURE", "DELAY"})
_HTTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE"})

NO_MAIL_PARAMS = MailParams()
NO_RCPT_PARAMS = RcptParams()


class CommandError(Exception):
    """A command that cannot be followed, and what to answer."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, enhanced, text)


def verb_of(line: bytes) -> tuple[bytes, bytes]:
    """The verb in upper case and the rest behind it."""
    verb, _, rest = line.partition(b" ")
    return verb.upper(), rest


def speaks_http(verb: bytes, rest: bytes) -> bool:
    """Whether the line is a browser's and no client's: what follows would be a form written by a stranger."""
    return verb in _HTTP and (not rest or b"/" in rest or b":" in rest or b"*" in rest)


def parse_hello(rest: bytes) -> str:
    """The name in EHLO or HELO: any one printable word, since clients say all sorts of things."""
    name = rest.strip(b" ")
    if not name or len(name) > 255 or not name.isascii() or b" " in name:
        raise CommandError(501, "5.5.4", "A host name or address literal is needed")
    return name.decode("ascii")


def parse_path(rest: bytes, word: bytes) -> tuple[str, str]:
    """Path and parameters of MAIL ("FROM:") and RCPT ("TO:")."""
    if rest[: len(word)].upper() != word:
        raise CommandError(501, "5.5.2", f"{word.decode('ascii')}<address> is needed")
    match = _PATH.fullmatch(rest, len(word))
    if match is None:
        raise CommandError(
            501, "5.5.2", f"{word.decode('ascii')}<address> is needed, one address between < and >"
        )
    try:
        return match[1].decode("utf-8"), (match[2] or b"").decode("utf-8").strip(" ")
    except UnicodeDecodeError:
        raise CommandError(501, "5.5.2", "Neither ASCII nor UTF-8") from None


def _split(text: str, known: str) -> dict[str, str]:
    params: dict[str, str] = {}
    for item in text.split():
        match = _PARAM.fullmatch(item)
        if match is None:
            raise CommandError(501, "5.5.4", "A parameter is malformed")
        name = match[1].upper()
        if name not in known.split():
            raise CommandError(555, "5.5.4", f"The parameter {name[:40]} is not known here")
        if name in params:
            raise CommandError(501, "5.5.4", f"The parameter {name} stands twice")
        params[name] = match[2] or ""
    return params


@lru_cache(maxsize=512)
def parse_mail_params(text: str) -> MailParams:
    """SIZE (RFC 1870), BODY (6152), SMTPUTF8 (6531), RET and ENVID (3461), AUTH (4954; read, not used)."""
    if not text:
        return NO_MAIL_PARAMS
    params = _split(text, "SIZE BODY SMTPUTF8 RET ENVID AUTH")
    size = params.get("SIZE")
    if size is not None and not _SIZE.fullmatch(size):
        raise CommandError(501, "5.5.4", "SIZE needs a number of bytes")
    body = params.get("BODY", "7BIT").upper()
    if body not in ("7BIT", "8BITMIME"):
        raise CommandError(501, "5.5.4", "BODY is 7BIT or 8BITMIME")
    if params.get("SMTPUTF8"):
        raise CommandError(501, "5.5.4", "SMTPUTF8 has no value")
    ret = params.get("RET", "").upper()
    if "RET" in params and ret not in ("FULL", "HDRS"):
        raise CommandError(501, "5.5.4", "RET is FULL or HDRS")
    if "ENVID" in params and not 0 < len(params["ENVID"]) <= 100:
        raise CommandError(501, "5.5.4", "ENVID needs 1 to 100 characters")
    if "AUTH" in params:
        from_xtext(params["AUTH"])
    return MailParams(
        size=None if size is None else int(size),
        eight_bit=body == "8BITMIME",
        smtputf8="SMTPUTF8" in params,
        ret=ret,
        envid=from_xtext(params.get("ENVID", "")),
    )


@lru_cache(maxsize=512)
def parse_rcpt_params(text: str) -> RcptParams:
    """NOTIFY and ORCPT (RFC 3461 4.1, 4.2)."""
    if not text:
        return NO_RCPT_PARAMS
    params = _split(text, "NOTIFY ORCPT")
    notify = params.get("NOTIFY", "").upper()
    words = notify.split(",")
    if "NOTIFY" in params and notify != "NEVER" and (set(words) - _NOTIFY or len(set(words)) < len(words)):
        raise CommandError(501, "5.5.4", "NOTIFY is NEVER or a list of SUCCESS, FAILURE, DELAY")
    orcpt = params.get("ORCPT", "")
    if "ORCPT" in params:
        if not _ORCPT.fullmatch(orcpt) or len(orcpt) > 500:
            raise CommandError(501, "5.5.4", "ORCPT needs a type, a semicolon and an address")
        kind, _, address = orcpt.partition(";")
        orcpt = f"{kind.lower()};{_from_unitext(address) if kind.lower() == 'utf-8' else from_xtext(address)}"
    return RcptParams(notify=notify, orcpt=orcpt)


def to_xtext(text: str) -> str:
    """RFC 3461 4: ASCII, with "+", "=" and whatever is not printable written as +XX."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def from_xtext(text: str) -> str:
    """The text behind xtext. Control characters and bytes above 127 are refused."""
    if not _XTEXT.fullmatch(text):
        raise CommandError(501, "5.5.4", "A parameter is not xtext")
    if "+" not in text:
        return text
    return _printable(re.sub(r"\+([0-9A-F]{2})", lambda match: chr(int(match[1], 16)), text), ascii_only=True)


def to_orcpt(orcpt: str) -> str:
    """ORCPT's value as written; one with other than ASCII as utf-8-addr-xtext (RFC 6533 3)."""
    kind, _, address = orcpt.partition(";")
    if orcpt.isascii():
        return f"{kind};{to_xtext(address)}"
    coded = "".join(c if "!" <= c <= "~" and c not in "+=\\" else f"\\x{{{ord(c):02X}}}" for c in address)
    return f"utf-8;{coded}"


def _from_unitext(text: str) -> str:
    def decode(match: re.Match[str]) -> str:
        code = int(match[1], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise CommandError(501, "5.5.4", "ORCPT is malformed")
        return chr(code)

    if "\\x{" in text:
        text = _UNITEXT.sub(decode, text)
    elif "+" in text:
        text = from_xtext(text)
    return _printable(text, ascii_only=False)


def _printable(text: str, *, ascii_only: bool) -> str:
    if (ascii_only and not text.isascii()) or not text.isprintable():
        raise CommandError(501, "5.5.4", "A parameter holds a control character")
    return text
