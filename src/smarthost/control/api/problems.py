"""Errors as problem+json (RFC 9457). `type` is a path of our own docs; `slug` is what programs compare."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from django.http import HttpRequest, HttpResponse
from pydantic import ValidationError

from smarthost.errors import CredentialError, OverCap, SmarthostError, StoreFull, StoreUnavailable


class FieldError(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong, by its place in the request: "to.1", "attachments.0.content"."""

    field: str
    message: str
    slug: str = ""


class Invalid(SmarthostError):
    """A request in which one field or several cannot be used. `http`: a status that says more than 422."""

    http, slug = 422, "validation"

    def __init__(
        self,
        errors: Sequence[FieldError],
        *,
        public: str = "",
        slug: str | None = None,
        http: int | None = None,
    ) -> None:
        first = f"{errors[0].field}: {errors[0].message}" if errors else "The request cannot be used"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(public or first + more, slug=slug, http=http)
        self.errors = tuple(errors)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    slug: str
    errors: tuple[FieldError, ...] = ()


_MOST_ERRORS = 1000
_encode = msgspec.json.Encoder().encode


def problem(error: SmarthostError) -> Problem:
    """The error as its caller may see it: never its private cause."""
    errors: tuple[FieldError, ...] = ()
    if isinstance(error, Invalid):
        errors = error.errors[:_MOST_ERRORS]
    elif error.field:
        errors = (FieldError(error.field, error.public),)
    return Problem(
        type=f"/api/docs#{error.slug}",
        title=HTTPStatus(error.http).phrase,
        status=error.http,
        detail=error.public,
        slug=error.slug,
        errors=errors,
    )


def answer(request: HttpRequest, error: SmarthostError) -> HttpResponse:
    """The whole response."""
    response = HttpResponse(
        _encode(problem(error)), status=error.http, content_type="application/problem+json"
    )
    if isinstance(error, CredentialError):
        response["WWW-Authenticate"] = 'Bearer realm="Smarthost"'
    if isinstance(error, OverCap | StoreUnavailable | StoreFull):
        response["Retry-After"] = "60" if isinstance(error, OverCap) else "5"
    return response


def explain_methods(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Middleware: a method that an address of the API does not take is answered as the API answers."""

    def respond(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code != HTTPStatus.METHOD_NOT_ALLOWED or not request.path.startswith("/api/"):
            return response
        allowed = response.headers.get("Allow", "")
        text = f"{request.method} is not allowed at this address" + (f"; {allowed} is" if allowed else "")
        explained = answer(request, SmarthostError(text, http=405, slug="method-not-allowed"))
        if allowed:
            explained["Allow"] = allowed
        return explained

    return respond


def from_pydantic(error: ValidationError) -> Invalid:
    """Every field that is wrong, without echoing what was given: it may be a secret or 50 MB."""
    return invalid(
        [(item["loc"], item["msg"]) for item in error.errors(include_input=False, include_url=False)]
    )


def invalid(items: Sequence[tuple[Sequence[int | str], str]]) -> Invalid:
    """An Invalid from (path, message) pairs."""
    return Invalid([FieldError(".".join(str(part) for part in path) or "body", text) for path, text in items])
