"""The part of AsyncSpool that delivery uses, in memory: for tests of what happens on the wire.

The store's own behaviour (commits, fencing, promotion) is tested with the real one; here rows change state
as the Outcome says and every outcome is kept.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

from smarthost.spool import Door, Event, Flag, Lease, LeasedDelivery, Outcome, Priority, State, new_id, now_us


class Row:
    def __init__(self, id_: int, recipient: str) -> None:
        self.id, self.recipient = id_, recipient
        self.state = State.QUEUED
        self.token = 0
        self.attempts = self.unknown_ends = 0
        self.due_at: int | None = None
        self.outcomes: list[Outcome] = []
        self.edits: str | None = None
        self.dsn: str | None = None


class Message:
    def __init__(self, content: bytes, sender: str, rows: list[Row], upstream: str, **facts: Any) -> None:
        self.id = new_id()
        self.content, self.sender, self.rows, self.upstream = content, sender, rows, upstream
        self.header_size = content.index(b"\r\n\r\n") + 4
        self.created_at = facts.get("created_at", now_us())
        self.expires_at = self.created_at + 7 * 86_400_000_000
        self.priority = facts.get("priority", Priority.NORMAL)
        self.door = facts.get("door", Door.HTTP)
        self.flags = facts.get("flags", Flag.NONE)


class MemorySpool:
    """`broken`: every completion fails with this. `leases` is every (upstream, places) that was asked."""

    CHUNK = 256 * 1024

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.stored_routes: dict[str, Any] = {}
        self.events: list[Event] = []
        self.leases: list[tuple[str, int]] = []
        self.broken: Exception | None = None
        self.quota_used = 0
        self.changed = asyncio.Event()
        self._ids = itertools.count(1)
        self._tokens = itertools.count(1)

    def add(
        self,
        *recipients: str,
        content: bytes = b"From: a@example.org\r\n\r\nhello\r\n",
        sender: str = "a@example.org",
        upstream: str = "up",
        **facts: Any,
    ) -> Message:
        rows = [Row(next(self._ids), recipient) for recipient in recipients]
        message = Message(content, sender, rows, upstream, **facts)
        self.messages.append(message)
        return message

    @property
    def rows(self) -> list[Row]:
        return [row for message in self.messages for row in message.rows]

    def _soon(self, result: Any) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()

        def set_() -> None:
            if not future.done():
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

        loop.call_soon(set_)
        return future

    def lease(self, upstream: str, places: int, recipient_limit: int = 100) -> asyncio.Future[list[Lease]]:
        self.leases.append((upstream, places))
        leases = []
        for m in sorted(self.messages, key=lambda one: one.priority):
            ready = [row for row in m.rows if row.state is State.QUEUED and m.upstream == upstream]
            if not ready or len(leases) == places:
                continue
            token = next(self._tokens)
            for row in ready[:recipient_limit]:
                row.state, row.token = State.SENDING, token
            chunks = max(1, -(-len(m.content) // self.CHUNK))
            leases.append(
                Lease(
                    m.id, token, upstream, m.sender, len(m.content), m.header_size, chunks, b"Received: by us\r\n",
                    m.flags, m.priority, m.created_at, m.expires_at, "app:1", "App", m.door, "", None, None,
                    m.content[: self.CHUNK],
                    [LeasedDelivery(row.id, row.recipient, row.attempts, row.unknown_ends, row.edits, row.dsn) for row in ready[:recipient_limit]],
                )
            )  # fmt: skip
        return self._soon(leases)

    def complete(self, outcomes: Sequence[Outcome]) -> asyncio.Future[list[int]]:
        if self.broken is not None:
            return self._soon(self.broken)
        by_id = {row.id: row for row in self.rows}
        fenced = []
        for outcome in outcomes:
            row = by_id[outcome.delivery]
            if row.token != outcome.token or row.state is not State.SENDING:
                fenced.append(row.id)
                continue
            row.state, row.due_at = outcome.state, outcome.due_at
            row.attempts += outcome.counts
            row.unknown_ends += outcome.state is State.UNKNOWN
            row.outcomes.append(outcome)
        self.changed.set()
        return self._soon(fenced)

    def make_due(self) -> None:
        """As if the time of everything that waits had come."""
        for row in self.rows:
            if row.state in (State.DEFERRED, State.UNKNOWN) and row.due_at is not None:
                row.state, row.due_at = State.QUEUED, None

    async def chunk(self, message_id: str, n: int) -> bytes:
        content = next(m.content for m in self.messages if m.id == message_id)
        return content[n * self.CHUNK : (n + 1) * self.CHUNK]

    async def ready_upstreams(self) -> list[str]:
        return sorted({m.upstream for m in self.messages if any(row.state is State.QUEUED for row in m.rows)})

    async def routes(self) -> dict[str, Any]:
        return dict(self.stored_routes)

    async def set_route(self, route: Any) -> None:
        if route.paused_until is None:
            self.stored_routes.pop(route.upstream, None)
        else:
            self.stored_routes[route.upstream] = route

    async def claim_probe(self, upstream: str, now: int, next_at: int) -> bool:
        return True

    async def charge_quota(self, charge: Any) -> bool:
        if self.quota_used + charge.amount > charge.limit:
            return False
        self.quota_used += charge.amount
        return True

    async def record(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        self.changed.set()

    async def principal(self, id_: str) -> None:
        return None
