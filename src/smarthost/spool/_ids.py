"""Message ids and the clock.

An id is a ULID: 48 bits of milliseconds, then 80 random bits, in Crockford's base 32. So ids sort by time,
rows are appended at the right edge of their index, an id tells its age (see `id_before`), and whoever makes
a message can name it before the store has seen it: that makes a repeated accept safe.
"""

from __future__ import annotations

import os
import time

CHUNK = 256 * 1024
"""Bytes of content that a chunk row holds; content up to this size comes with its message."""

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(a + b for a in _ALPHABET for b in _ALPHABET)
_TIME_BITS, _RANDOM_BITS = 48, 80
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}


def now_us() -> int:
    """Microseconds since the epoch, UTC."""
    return time.time_ns() // 1000


def _encode(value: int) -> str:
    pairs = _PAIRS
    return "".join([pairs[(value >> shift) & 1023] for shift in range(120, -1, -10)])


def new_id(at: int | None = None) -> str:
    """A new message id: 26 characters. `at` (microseconds) instead of now is for tests and imports."""
    ms = (time.time_ns() // 1_000_000) if at is None else at // 1000
    return _encode((ms << _RANDOM_BITS) | int.from_bytes(os.urandom(10), "big"))


def id_before(at: int) -> str:
    """The smallest id that a message made at `at` (microseconds) can have: ids below it are older."""
    return _encode((max(at, 0) // 1000) << _RANDOM_BITS)


def id_time(message_id: str) -> int:
    """When an id was made, in microseconds. ValueError where it is none."""
    if len(message_id) != 26 or any(char not in _VALUES for char in message_id):
        raise ValueError(f"not a message id: {message_id!r}")
    value = 0
    for char in message_id[:10]:
        value = value << 5 | _VALUES[char]
    return value * 1000
