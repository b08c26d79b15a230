"""Whose fault it is: of the message, or of the route that every message would meet. Pure.

A table of signatures, first match wins; what no signature knows is judged by its stage: what fails before
MAIL never depends on a message. A reply is temporary unless it is proven permanent, and a fault of the
route is never held against a message, whatever its first digit (535 is "permanent" and yet cured by the
administrator). The texts are those of real servers; each signature names whose it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What kind of thing went wrong. MESSAGE is the only one that costs a message an attempt."""

    MESSAGE = "message"
    THROTTLE = "throttle"  # slower, please: no pause of the route yet
    QUOTA = "quota"
    CREDENTIALS = "credentials"
    TLS = "tls"
    DNS = "dns"
    CONNECT = "connect"
    SESSION = "session"  # banner or EHLO refused, or no SMTP spoken there
    REFUSAL = "refusal"  # the same refusal for everything
    CONFIG = "config"  # a secret that cannot be opened, a server that is this machine itself


SETUP = frozenset({"dns", "connect", "banner", "ehlo", "starttls", "tls", "auth"})
SETUP_FAULTS = frozenset(
    {Fault.CREDENTIALS, Fault.TLS, Fault.DNS, Fault.CONNECT, Fault.SESSION, Fault.CONFIG}
)  # a session that got ready disproves these


@dataclass(frozen=True, slots=True)
class Signature:
    """Matches when every part that is given matches. stages "" is any; enhanced and text are patterns."""

    fault: Fault
    stages: str = ""
    codes: tuple[int, ...] = ()
    enhanced: str = ""
    text: str = ""


_RATE = (
    r"(\brate\b|throttl|too (many|much) (concurrent |simultaneous )?(smtp )?"
    r"(conn|session|emails? per|messages? per)"
    r"|per (second|minute)|slow down|sending too fast|too fast)"
)
_QUOTA = (
    r"((daily|hourly|monthly|sending|submission|smtp relay|relay|message|account|outbound)[ \w]{0,20}"
    r"(quota|limit|allowance)[ \w]{0,20}(exceeded|reached|used up)|quotaexceeded|credits? exceeded"
    r"|exceeded[ \w]{0,24}(sending|daily|hourly|message|relay|outbound)[ \w]{0,12}(quota|limit)"
    r"|maximum messages sent per (hour|day|month))"
)

SIGNATURES: tuple[Signature, ...] = (
    # The recipient's own mailbox is full, or one message is too big: never a fault of the route.
    Signature(Fault.MESSAGE, "mail rcpt data body dot", enhanced=r"[45]\.(2\.[2-4]|1\.[1-6]|3\.4)"),
    Signature(
        Fault.MESSAGE, "mail rcpt data body dot", text=r"(mailbox|recipient)[ \w]{0,24}(full|quota|limit)"
    ),
    Signature(Fault.MESSAGE, "rcpt", text=r"(user|recipient|mailbox)[^.]{0,60} (receiving|rate)\b"),  # Gmail
    Signature(Fault.MESSAGE, "mail data dot", (530,), text=r"from/sender|sender name"),  # Postal
    # A server's own limits. "Too many connections" only asks to be slower; a used-up quota pauses.
    Signature(
        Fault.QUOTA, codes=(421, 450, 451, 452, 454, 455, 550, 552, 554), text=_QUOTA
    ),  # SES, M365, Google
    Signature(
        Fault.CREDENTIALS, "auth", (454, 421, 450, 451), text=r"too many (login|bad auth|failed)"
    ),  # Gmail, Yahoo
    Signature(
        Fault.THROTTLE, codes=(421, 450, 451, 452, 454, 455, 550, 554), text=_RATE
    ),  # SES, Exim, Mailtrap
    Signature(Fault.THROTTLE, codes=(421, 450, 451, 452), enhanced=r"4\.7\.28"),  # Gmail
    # The login: refused, missing, or of a kind that this server no longer takes.
    Signature(Fault.TLS, "auth mail rcpt", (530, 538, 504), text=r"starttls|encryption|without ssl"),
    Signature(Fault.TLS, enhanced=r"[45]\.7\.(66|10|11)"),  # M365: TLS 1.0 and 1.1
    Signature(Fault.SESSION, "auth", (421, 432, 450, 451, 454, 500, 501, 503)),
    Signature(Fault.CREDENTIALS, "auth"),
    Signature(Fault.CREDENTIALS, "mail rcpt data dot", (530, 534, 535, 538)),
    Signature(Fault.CREDENTIALS, "mail rcpt data dot", enhanced=r"5\.7\.(8|9|14|30|57|139)"),  # M365, Gmail
    Signature(
        Fault.CREDENTIALS,
        "mail rcpt",
        text=r"(authentication|authenticate) (is )?required|not authenticated|please authenticate"
        r"|invalid credentials"
        r"|unauthenticated|(turn on|enable) smtp auth",
    ),
    # What fails before MAIL, by its stage.
    Signature(Fault.DNS, "dns"),
    Signature(Fault.CONNECT, "connect"),
    Signature(Fault.TLS, "starttls tls"),
    Signature(Fault.SESSION, "banner ehlo"),
)

_COMPILED = tuple(
    (
        rule.fault,
        frozenset(rule.stages.split()),
        frozenset(rule.codes),
        re.compile(rule.enhanced + r"\Z") if rule.enhanced else None,
        re.compile(rule.text, re.IGNORECASE) if rule.text else None,
    )
    for rule in SIGNATURES
)


def classify(stage: str, code: int, enhanced: str, text: str) -> Fault:
    """Whose fault a failure at `stage` is. code 0: no reply (a lost connection, our own deadline)."""
    text = text[:1024]
    for fault, stages, codes, enhanced_like, text_like in _COMPILED:
        if (
            (not stages or stage in stages)
            and (not codes or code in codes)
            and (enhanced_like is None or enhanced_like.match(enhanced))
            and (text_like is None or text_like.search(text))
        ):
            return fault
    return Fault.MESSAGE


def permanent(code: int) -> bool:
    """Whether the reply proves that trying again is useless (RFC 5321 4.2.1)."""
    return 500 <= code < 600


_VARIABLE = re.compile(r"<[^<>]{0,320}>|\S{1,320}@\S{1,320}|\[[^\]]{0,64}\]|\b\w*\d\w*\b")


def fingerprint(stage: str, code: int, enhanced: str, text: str) -> str:
    """What stays the same when a server refuses everything: the reply without addresses and numbers."""
    return f"{stage} {code} {enhanced} {_VARIABLE.sub('*', text[:512])}"


_OF_RECIPIENT = re.compile(r"[45]\.(1\.[1-6]|2\.\d{1,3}|4\.6|6\.7)\Z")


def about_recipient(stage: str, enhanced: str, text: str) -> bool:
    """Whether the refusal speaks of this one recipient, so that many alike prove nothing about the route."""
    return stage == "rcpt" and (
        _OF_RECIPIENT.match(enhanced) is not None
        or re.search(r"gr[ea]y-?list", text, re.IGNORECASE) is not None
    )
