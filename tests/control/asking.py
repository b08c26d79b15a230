"""How these tests speak with the API."""

from __future__ import annotations

import json
import uuid
from typing import Any


class Api:
    """A caller of the API with one credential."""

    def __init__(self, token: str | None) -> None:
        from django.test import Client

        self.client = Client()
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.token = token

    def request(
        self, method: str, path: str, body: Any = None, *, raw: bytes | None = None, **headers: str
    ) -> Any:
        data = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        content_type = headers.pop("content_type", "application/json")
        extra = {key: value for key, value in headers.items() if key.isupper()}
        named = {key.replace("_", "-"): value for key, value in headers.items() if not key.isupper()}
        return self.client.generic(
            method, f"/api/v1{path}", data, content_type, headers=self.headers | named, **extra
        )

    def get(self, path: str, **headers: str) -> Any:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: Any) -> Any:
        return self.request("POST", path, body, **headers)

    def put(self, path: str, body: Any = None, **headers: Any) -> Any:
        return self.request("PUT", path, body, **headers)

    def delete(self, path: str, **headers: Any) -> Any:
        return self.request("DELETE", path, **headers)


def mail(**fields: Any) -> dict[str, Any]:
    """A small good request, with `fields` in place of its own; None leaves a field out."""
    body = {"from": "app@example.com", "to": ["ada@example.org"], "subject": "Hello", "text": "Hi."} | fields
    return {key: value for key, value in body.items() if value is not None}


def key() -> str:
    return uuid.uuid4().hex
