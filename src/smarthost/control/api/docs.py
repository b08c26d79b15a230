"""The API's own page: every operation in one readable list, rendered here, without scripts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


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
    context = {"operations": operations, "schemas": schemas, "url": settings.PROCESS.public_url}
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
