"""What can go wrong, one class for each thing that a caller does differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class SmarthostError(Exception):
    """Base. status: HTTP status, 0 where there was no answer. slug: stable machine name. text: one sentence.

    fields  what was wrong with which field of the request: {"to.0": "…"}.
    """

    def __init__(
        self, text: str, *, status: int = 0, slug: str = "", fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.slug = slug
        self.fields = dict(fields or {})


class RefusedError(SmarthostError):
    """The request cannot be accepted as it is; repeating it will not help."""


class UnauthorizedError(SmarthostError):
    """The token is missing, wrong, expired, or may not do this."""


class NotFoundError(SmarthostError):
    """There is no such message that this token may see."""


class ConflictError(SmarthostError):
    """The idempotency key was used before, for another request."""


class UnavailableError(SmarthostError):
    """The service cannot be reached or cannot accept now, after every retry. Nothing is known to be accepted.

    With the same idempotency key it is safe to try again later, in another process as well.
    """


class UnsupportedFeatureError(SmarthostError):
    """The mail holds something that the API has no field for. Nothing was sent."""


def from_answer(status: int, body: Any) -> SmarthostError:
    """The error of an answer: problem+json (RFC 9457), or whatever a proxy in between said."""
    problem = body if isinstance(body, dict) else {}
    slug = str(problem.get("slug") or "")
    text = str(problem.get("detail") or problem.get("title") or f"HTTP {status}")
    fields = {
        str(entry.get("field", "")): str(entry.get("message", ""))
        for entry in problem.get("errors") or []
        if isinstance(entry, dict)
    }
    if fields and not any(said in text for said in fields.values()):
        text += ": " + "; ".join(f"{name}: {said}" for name, said in fields.items())
    kind = {401: UnauthorizedError, 403: UnauthorizedError, 404: NotFoundError, 409: ConflictError}.get(
        status
    )
    if kind is None:
        kind = UnavailableError if status == 429 or status >= 500 else RefusedError
    return kind(text, status=status, slug=slug, fields=fields)
