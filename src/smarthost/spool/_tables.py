"""The tables that are written many rows at a time: their columns in the order of the rows, and the types
that PostgreSQL's binary COPY needs to be told. Columns left out have their default in the database."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]


def _table(name: str, **columns: str) -> Table:
    return Table(name, tuple(columns), tuple(columns.values()))


MESSAGE = _table(
    "message",
    id="varchar",
    created_at="int8",
    principal="text",
    principal_name="text",
    door="text",
    sender="text",
    size="int8",
    header_size="int4",
    chunks="int4",
    trace="bytea",
    header_from="text",
    subject="text",
    message_id="text",
    flags="int4",
    priority="int2",
    send_at="int8",
    expires_at="int8",
    dsn_ret="text",
    dsn_envid="text",
)
DELIVERY = _table(
    "delivery",
    message_id="varchar",
    recipient="text",
    upstream="text",
    priority="int2",
    state="int2",
    rank="int8",
    due_at="int8",
    expires_at="int8",
    edits="text",
    dsn="text",
    single="int2",
    updated_at="int8",
)
CHUNK = _table("chunk", message_id="varchar", n="int4", data="bytea", crc32="int8")
ATTEMPT = _table(
    "attempt",
    message_id="varchar",
    delivery_id="int8",
    at="int8",
    state="int2",
    counts="int2",
    code="int2",
    enhanced="text",
    reply="text",
    stage="text",
    local="int2",
    session="text",
    timings="text",
    transcript="text",
)
EVENT = _table(
    "event",
    at="int8",
    kind="text",
    subject="text",
    text="text",
    severity="text",
    actor="text",
    data="text",
)
