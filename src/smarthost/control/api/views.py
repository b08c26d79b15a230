"""What the API answers: plain mappings with times in ISO 8601, and how an operation's body is documented."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import msgspec
from django.http import HttpResponse

from smarthost.spool import (
    Acceptance,
    Accepted,
    AttemptView,
    DeliveryRow,
    DeliveryView,
    EventRow,
    Flag,
    MessageView,
    NewMessage,
    Route,
)

CAPTURED = "captured, not sent"
ANSWERS: Any = {200: Any, 202: Any}
"""Operations write their answers themselves, so the framework converts nothing."""

_encode = msgspec.json.Encoder().encode


def reply(value: object, status: int = 200) -> HttpResponse:
    """The value as JSON."""
    return HttpResponse(_encode(value), status=status, content_type="application/json")


def takes(schema: str, *, array: bool = False, multipart: bool = False) -> dict[str, Any]:
    """For the API's description: this operation's body."""
    one: dict[str, Any] = {"$ref": f"#/components/schemas/{schema}"}
    content = {"application/json": {"schema": {"type": "array", "items": one} if array else one}}
    if multipart:
        content["multipart/form-data"] = {"schema": one}
    return {"requestBody": {"required": True, "content": content}}


def when(us: int | None) -> str | None:
    """Microseconds since the epoch as text."""
    if us is None:
        return None
    return dt.datetime.fromtimestamp(us / 1_000_000, dt.UTC).isoformat(timespec="milliseconds")


def accepted(message: NewMessage, how: Accepted) -> dict[str, Any]:
    """The durable yes. A repeated request gets the first one's id."""
    repeated = how.how is Acceptance.REPEATED
    found: dict[str, Any] = {
        "id": how.id,
        "status": "accepted",
        "recipients": [
            {"address": delivery.recipient, "state": delivery.state.word} for delivery in message.deliveries
        ],
    }
    if repeated:
        found["repeated"] = True
    if all(delivery.state.word == "captured" for delivery in message.deliveries):
        found["captured"] = CAPTURED
    return found


def row(entry: DeliveryRow) -> dict[str, Any]:
    return {
        "id": entry.message_id,
        "delivery": entry.id,
        "created_at": when(entry.created_at),
        "principal": entry.principal,
        "principal_name": entry.principal_name,
        "door": entry.door,
        "from": entry.header_from,
        "sender": entry.sender,
        "recipient": entry.recipient,
        "subject": entry.subject,
        "size": entry.size,
        "priority": entry.priority.name.lower(),
        "upstream": entry.upstream,
        "state": entry.state.word,
        "attempts": entry.attempts,
        "due_at": when(entry.due_at),
        "updated_at": when(entry.updated_at),
        "code": entry.code,
        "reply": entry.reply,
    }


def message(found: MessageView) -> dict[str, Any]:
    return {
        "id": found.id,
        "created_at": when(found.created_at),
        "principal": found.principal,
        "principal_name": found.principal_name,
        "door": found.door,
        "from": found.header_from,
        "sender": found.sender,
        "subject": "" if found.flags & Flag.ONE_TIME_LINK else found.subject,
        "message_id": found.message_id,
        "size": found.size,
        "priority": found.priority.name.lower(),
        "send_at": when(found.send_at),
        "expires_at": when(found.expires_at),
        "has_content": found.has_content,
        "recipients": [_delivery(entry) for entry in found.deliveries],
    }


def _delivery(entry: DeliveryView) -> dict[str, Any]:
    return {
        "delivery": entry.id,
        "address": entry.recipient,
        "upstream": entry.upstream,
        "state": entry.state.word,
        "attempts": entry.attempts,
        "unknown_ends": entry.unknown_ends,
        "due_at": when(entry.due_at),
        "expires_at": when(entry.expires_at),
        "updated_at": when(entry.updated_at),
        "tries": [attempt(each) for each in entry.tries],
    }


def attempt(entry: AttemptView) -> dict[str, Any]:
    return {
        "at": when(entry.at),
        "message": entry.message_id,
        "delivery": entry.delivery,
        "state": entry.state.word,
        "stage": entry.stage,
        "code": entry.code,
        "enhanced": entry.enhanced,
        "reply": entry.reply,
        "local": entry.local,
        "counts": entry.counts,
        "session": entry.session,
    }


def event(entry: EventRow) -> dict[str, Any]:
    return {
        "cursor": entry.cursor,
        "at": when(entry.at),
        "kind": entry.kind,
        "subject": entry.subject,
        "severity": entry.severity,
        "text": entry.text,
        "actor": entry.actor,
        "data": _data(entry.data),
    }


def route(entry: Route) -> dict[str, Any]:
    return {
        "paused_until": when(entry.paused_until),
        "reason": entry.reason,
        "text": entry.text,
        "since": when(entry.since) if entry.since else None,
    }


def _data(text: str) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}
