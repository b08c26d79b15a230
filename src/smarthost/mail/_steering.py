"""The fields by which a submitted message says how it is to be sent; they never leave with it.

    X-Smarthost-Idempotency-Key: KEY           the same key and message again send nothing again
    X-Smarthost-Priority: urgent|normal|bulk
    X-Smarthost-Send-At: TIME                  not before; RFC 3339, or seconds since the epoch

Every door honours them alike. A value that cannot be used refuses the message: sent at the wrong time, or
twice, is worse. Other X-Smarthost-* fields are removed and mean nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from smarthost.errors import HeaderError
from smarthost.mail._address import shown
from smarthost.mail._words import text_of

PREFIX = b"x-smarthost-"
KEY, PRIORITY, SEND_AT = (
    "X-Smarthost-Idempotency-Key",
    "X-Smarthost-Priority",
    "X-Smarthost-Send-At",
)
FIELDS = {name.lower().encode(): name for name in (KEY, PRIORITY, SEND_AT)}
PRIORITIES = ("urgent", "normal", "bulk")

_KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?")
_SECONDS = re.compile(r"[0-9]{1,11}")
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Steering(NamedTuple):
    """What these fields say; send_at in microseconds since the epoch."""

    idempotency_key: str | None = None
    priority: str = ""
    send_at: int | None = None


NONE = Steering()


def steering(values: Mapping[bytes, bytes]) -> Steering:
    """Read the values, by the lower-case names of FIELDS. Raises HeaderError naming the field."""
    found = {FIELDS[name]: text_of(value, 1000).strip() for name, value in values.items() if name in FIELDS}
    return Steering(
        _key(found[KEY]) if KEY in found else None,
        _priority(found[PRIORITY]) if PRIORITY in found else "",
        _send_at(found[SEND_AT]) if SEND_AT in found else None,
    )


def _key(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise HeaderError("The idempotency key must be 1 to 255 printable ASCII characters.", field=KEY)
    return text


def _priority(text: str) -> str:
    if text.lower() not in PRIORITIES:
        raise HeaderError(
            f"{PRIORITY} must be urgent, normal or bulk; it is {shown(text, 40)}.", field=PRIORITY
        )
    return text.lower()


def _send_at(text: str) -> int:
    if _SECONDS.fullmatch(text):
        return int(text) * 1_000_000
    try:
        if not _RFC_3339.fullmatch(text):
            raise ValueError
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // timedelta(microseconds=1)
    except ValueError:
        raise HeaderError(
            f"{SEND_AT} must be a time such as 2027-01-31T08:00:00+01:00, or seconds since the epoch;"
            f" it is {shown(text, 40)}.",
            field=SEND_AT,
        ) from None
