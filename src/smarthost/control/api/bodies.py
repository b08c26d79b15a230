"""Reading what a request carries, within limits that are known before anything is read.

A body is read once, no longer than its Content-Length, which must be there and within the limit. Few large
bodies are held at the same time, so that many of them cannot use up the memory; the others wait their turn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParserError
from pydantic import BaseModel, ValidationError

from smarthost.control.api.problems import from_pydantic
from smarthost.control.api.strict import loads
from smarthost.errors import ContentError, TooLarge

SMALL = 1024 * 1024
_LARGE = 4 * 1024 * 1024
_large = threading.BoundedSemaphore(2)
_ADDRESS_FIELDS = frozenset({"to", "cc", "bcc", "reply_to"})

M = TypeVar("M", bound=BaseModel)


def message_limit(max_size: int) -> int:
    """Bytes of a body that may carry a message of `max_size`: base64 makes it a third longer, and a bit."""
    return max_size * 7 // 5 + SMALL


@contextmanager
def room(request: HttpRequest, limit: int) -> Iterator[None]:
    """Hold a place while a large body is worked on. Raises TooLarge, ContentError without a length."""
    length = _length(request, limit)
    if length <= _LARGE:
        yield
        return
    with _large:
        yield


def json_body(request: HttpRequest, limit: int = SMALL) -> object:
    """The body as strict JSON. Raises ContentError (400, 415), TooLarge (413)."""
    if request.content_type != "application/json":
        raise ContentError("The body must be application/json", http=415, slug="media-type")
    length = _length(request, limit)
    data = request.read(length)
    if len(data) != length:
        raise ContentError("The body is shorter than its Content-Length says", http=400, slug="body-short")
    return loads(data)


def parse(model: type[M], value: object) -> M:
    """The value as `model`. Raises Invalid naming every field that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise from_pydantic(error) from None


def form_body(request: HttpRequest) -> dict[str, object]:
    """A multipart form as the same mapping that JSON gives; every file is an attachment.

    Raises ContentError for a form that cannot be read, or a field that stands there twice.
    """
    try:
        fields, files = request.POST, request.FILES
    except (MultiPartParserError, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent) as error:
        raise ContentError(f"The form cannot be read: {error}", http=400, slug="form-invalid") from None
    found: dict[str, object] = {}
    headers: dict[str, str] = {}
    for name in fields:
        values = fields.getlist(name)
        if name in _ADDRESS_FIELDS:
            found[name] = values
        elif len(values) > 1:
            raise ContentError(f"{name} stands there twice", http=400, slug="form-invalid", field=name)
        elif name.startswith("headers[") and name.endswith("]"):
            headers[name[8:-1]] = values[0]
        else:
            found[name] = values[0]
    attachments = []
    for name in files:
        for file in files.getlist(name):
            content = file.read()
            if name == "raw":
                found["raw"] = content
                continue
            attachments.append(
                {
                    "filename": file.name or "attachment",
                    "content_type": file.content_type or "application/octet-stream",
                    "content": content,
                }
            )
    if headers:
        found["headers"] = headers
    if attachments:
        found["attachments"] = attachments
    return found


def _length(request: HttpRequest, limit: int) -> int:
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text.isascii() or not text.isdigit():
        raise ContentError("The request needs a Content-Length", http=411, slug="length-required")
    if len(text) > 15 or int(text) > limit:
        raise TooLarge(
            f"The body is larger than the {limit} bytes that are accepted here", slug="body-too-large"
        )
    return int(text)
