"""JSON as RFC 8259 means it, without what two readers could understand in two ways.

Refused: names that stand twice in an object, NaN and Infinity, halves of surrogate pairs, bytes that are no
UTF-8, numbers of more than 4,300 digits, and nesting deeper than anything of ours.
"""

from __future__ import annotations

import json
import re

from smarthost.errors import ContentError

_HALF_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_DEPTH = 32


def loads(body: bytes) -> object:
    """The value. Raises ContentError (HTTP 400)."""
    try:
        text = body.decode("utf-8")
        _check_depth(text)
        value: object = _decoder.decode(text)
    except (ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, _RefusedError) else "it is not well-formed"
        raise ContentError(
            f"The body is not JSON that can be accepted: {why}", http=400, slug="json-invalid"
        ) from None
    if _HALF_ESCAPE.search(body):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ContentError(
                "The body holds half a surrogate pair, which is no character", http=400, slug="json-invalid"
            ) from None
    return value


class _RefusedError(ValueError):
    """A value of ours to say why; its text is public."""


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _RefusedError("a name stands twice in one object")
    return found


def _constant(word: str) -> object:
    raise _RefusedError(f"{word} is no number")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def _check_depth(text: str) -> None:
    """Count brackets outside strings; most bodies have too few in all to need counting."""
    if text.count("[") + text.count("{") <= _DEPTH:
        return
    depth = 0
    for char in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if char in "[{" else -1
        if depth > _DEPTH:
            raise _RefusedError(f"it is nested deeper than {_DEPTH}")
