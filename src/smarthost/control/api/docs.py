"""The API's own page: every operation in one readable list, rendered here, without scripts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

ERRORS: tuple[tuple[str, str, str], ...] = (
    (
        "400",
        "json-invalid form-invalid body-short config-invalid error",
        "the request cannot be read, or a value cannot be used",
    ),
    ("401", "credentials-invalid", "no credential, or a wrong one"),
    ("403", "forbidden principal-disabled", "known, and may not"),
    ("404", "not-found content-purged", "not there, or not yours"),
    ("405", "method-not-allowed", "another method is meant here: the header Allow names it"),
    ("409", "conflict idempotency-conflict", "the state does not allow it"),
    ("411, 415", "length-required media-type", "no Content-Length; neither JSON nor a form"),
    (
        "413",
        "message-too-large body-too-large",
        "over a limit, of this installation or of the server that would carry it",
    ),
    (
        "422",
        "validation address-invalid header-invalid content-invalid mail-loop too-many-recipients",
        "a field is wrong",
    ),
    ("422", "no-route sending-off needs-tls no-from refused", "policy refuses; the text says what to do"),
    ("429", "too-many-guesses cap-reached", "later; Retry-After says when"),
    ("500", "internal secret-unusable", "a fault on this side; nothing was accepted, and the log has more"),
    ("503, 507", "store-unavailable store-full", "nothing was accepted; Retry-After says when to try again"),
)
"""Status, slugs and meaning of every problem: where the `type` of a problem leads."""


def docs(request: HttpRequest) -> HttpResponse:
    """GET /api/docs"""
    from smarthost.control.api.urls import api

    schema: Any = api.get_openapi_schema()
    operations = [
        {
            "method": method.upper(),
            "path": path,
            "text": entry.get("description") or entry.get("summary", ""),
            "parameters": [each["name"] for each in entry.get("parameters", []) if each["in"] == "query"],
            "body": _body(entry),
        }
        for path, methods in schema["paths"].items()
        for method, entry in methods.items()
    ]
    schemas = [
        {"name": name, "text": entry.get("description", ""), "fields": _fields(entry)}
        for name, entry in schema["components"]["schemas"].items()
        if name.endswith("In")
    ]
    errors = [(status, slugs.split(), text) for status, slugs, text in ERRORS]
    context = {
        "operations": operations,
        "schemas": schemas,
        "url": settings.PROCESS.public_url,
        "errors": errors,
    }
    return render(request, "api/docs.html", context)


def _body(entry: dict[str, Any]) -> str:
    content = entry.get("requestBody", {}).get("content", {})
    first: dict[str, Any] = next(iter(content.values()), {})
    one: dict[str, Any] = first.get("schema", {})
    name: str = one.get("$ref") or one.get("items", {}).get("$ref", "")
    return name.rpartition("/")[2] + (" …" if "items" in one else "")


def _fields(entry: dict[str, Any]) -> list[dict[str, Any]]:
    required = entry.get("required", [])
    return [
        {"name": name, "kind": _kind(field), "required": name in required}
        for name, field in entry.get("properties", {}).items()
    ]


def _kind(field: dict[str, Any]) -> str:
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    first = options[0] if options else field
    if "enum" in first:
        return ", ".join(str(word) for word in first["enum"])
    if "$ref" in first:
        return str(first["$ref"]).rpartition("/")[2]
    kind = str(first.get("type", "any"))
    if kind == "array":
        return f"array of {_kind(first.get('items', {}))}"
    return str(first.get("contentEncoding") or first.get("format") or kind)
