"""The API's address space: /api/v1/…, its description and its page."""

from __future__ import annotations

import logging
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, path
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic.json_schema import models_json_schema

from smarthost import __version__
from smarthost.control.api import manage, messages, problems, schemas
from smarthost.control.api.auth import WRONG, authenticate
from smarthost.control.api.docs import docs
from smarthost.errors import CredentialError, NotFound, SmarthostError

_log = logging.getLogger("smarthost.web")
_TAKEN = (
    schemas.MessageIn,
    schemas.UpstreamIn,
    schemas.ApplicationIn,
    schemas.RerouteIn,
    schemas.ResolveIn,
)


def _components() -> dict[str, Any]:
    models: Any = [(model, "validation") for model in _TAKEN]
    _, found = models_json_schema(models, by_alias=True, ref_template="#/components/schemas/{model}")
    bearer = {"type": "http", "scheme": "bearer", "description": "A token: sh_…"}
    return {"schemas": found["$defs"], "securitySchemes": {"token": bearer}}


api = NinjaAPI(
    title="Smarthost",
    version=__version__,
    urls_namespace="api",
    auth=authenticate,
    docs_url=None,
    openapi_extra={"components": _components(), "security": [{"token": []}]},
)
api.add_router("", messages.router)
api.add_router("", manage.router)


@api.exception_handler(SmarthostError)
def _explained(request: HttpRequest, error: SmarthostError) -> HttpResponse:
    if error.http >= 500 and error.private:
        _log.error("%s %s: %r, %s", request.method, request.path, error, error.private)
    return problems.answer(request, error)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """Of paths and queries; bodies are read by us."""
    items = [(item.get("loc", ("query",))[1:], item.get("msg", "cannot be used")) for item in error.errors]
    return problems.answer(request, problems.invalid(items))


@api.exception_handler(AuthenticationError)
def _unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return problems.answer(request, CredentialError(WRONG))


@api.exception_handler(Http404)
def _absent(request: HttpRequest, error: Http404) -> HttpResponse:
    return problems.answer(request, NotFound("There is nothing at this address"))


@api.exception_handler(HttpError)
def _plain(request: HttpRequest, error: HttpError) -> HttpResponse:
    return problems.answer(request, SmarthostError(str(error), http=error.status_code))


@api.exception_handler(Exception)
def _unexplained(request: HttpRequest, error: Exception) -> HttpResponse:
    """Nothing of the error goes out: it may hold anything."""
    _log.error("%s %s failed", request.method, request.path, exc_info=error)
    text = "Something went wrong here, not in your request. Nothing was accepted; the log has more."
    return problems.answer(request, SmarthostError(text, http=500, slug="internal"))


def nothing_here(request: HttpRequest, rest: str = "") -> HttpResponse:
    """Unknown addresses below /api/ are answered as the API answers."""
    return problems.answer(request, NotFound("There is nothing at this address"))


urlpatterns: list[URLPattern | URLResolver] = [
    path("docs", docs, name="api-docs"),
    path("v1/", api.urls),
    path("<path:rest>", nothing_here),
]
nothing_here.csrf_exempt = True  # type: ignore[attr-defined]
