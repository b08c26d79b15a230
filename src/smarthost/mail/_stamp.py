"""What we write about a message's way: Received, Date, Message-ID (RFC 5321 4.4, RFC 5322 3.3 and 3.6.4)."""

from __future__ import annotations

import re
import secrets
import time
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HELO = re.compile(r"[A-Za-z0-9._-]{1,255}|\[[A-Za-z0-9.:]{2,60}\]")
_UNSAFE = re.compile(r"[^A-Za-z0-9._:/ =+-]")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


def date_text(us: int) -> str:
    """A time (microseconds since the epoch, UTC) as a Date field says it."""
    return _date(us // 1_000_000)


@lru_cache(maxsize=64)
def _date(seconds: int) -> str:
    at = time.gmtime(seconds)
    return (
        f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year:04d} "
        f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d} +0000"
    )


def new_message_id(hostname: str) -> str:
    """A fresh Message-ID with its angle brackets: 128 random bits at this host."""
    host = hostname.lower() if _HOST.fullmatch(hostname) else "smarthost.invalid"
    return f"<{secrets.token_hex(16)}@{host}>"


def received(
    *,
    hostname: str,
    protocol: str,
    id: str,
    at_us: int,
    helo: str = "",
    peer: str = "",
    tls: str = "",
    by_login: str = "",
) -> bytes:
    """Our trace field, folded, with its CRLF.

    protocol  the word after "with": ESMTP, ESMTPS, ESMTPSA, HTTP, … (RFC 3848).
    id        the message's id, which is also the queue id.
    helo, peer  what the client called itself and its IP address ("" where there is none).
    tls       version and cipher, "TLSv1.3 TLS_AES_256_GCM_SHA384"; by_login the principal's name.

    What clients said is written only where it cannot be anything else than a name.
    """
    lines = []
    if peer or helo:
        said = helo if _HELO.fullmatch(helo) else "unknown"
        address = f"[{'IPv6:' if ':' in peer else ''}{_UNSAFE.sub('?', peer)}]" if peer else "unknown"
        lines.append(f"from {said} ({address})")
    host = hostname if _HELO.fullmatch(hostname) else "localhost"
    lines.append(f"by {host} (Smarthost) with {protocol} id {id}")
    notes = [f"({_UNSAFE.sub('?', text)[:120]})" for text in (tls, by_login and f"as {by_login}") if text]
    if notes:
        lines.append(" ".join(notes))
    return ("Received: " + "\r\n\t".join(lines) + ";\r\n\t" + date_text(at_us) + "\r\n").encode(
        "ascii", "replace"
    )
