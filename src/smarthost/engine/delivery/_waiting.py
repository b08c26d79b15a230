"""Telling senders that their mail waits: when a route has been paused for four hours.

Once a message, by a delay notice (RFC 3464, action "delayed"), under the same rules as failure notices and
under an idempotency key, so that restarts and other engines tell nobody twice. A notice that would have to
take the paused route itself is not made: it would arrive together with what it speaks of. The pause as such
was alerted by another way (log and event) when it began.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from hashlib import sha256

from smarthost.engine.delivery._notice import DOORS, dsn_wishes, write_notice
from smarthost.engine.delivery._schedule import HOUR
from smarthost.engine.directory import DirectoryCache
from smarthost.mail import Action, NoticeRecipient
from smarthost.spool import AsyncSpool, Filter, Flag, Idempotency, MessageView, NewMessage, State, now_us

PATIENCE = 4 * HOUR
PAGE = 500
MOST_TOLD = 100_000
WAITING = (State.QUEUED, State.DEFERRED)


class Waiting:
    """Tells each sender once. `look` is called every few minutes."""

    def __init__(self, spool: AsyncSpool, cache: DirectoryCache) -> None:
        self._spool = spool
        self._cache = cache
        self._seen: set[str] = set()

    async def look(self, paused: Collection[str]) -> int:
        """Look at the mail of upstreams that have been paused for so long; how many senders were told."""
        if len(self._seen) > MOST_TOLD:
            self._seen.clear()
        told = 0
        for upstream in paused:
            after: int | None = None
            until = now_us() - PATIENCE
            while True:
                wanted = Filter(upstream=upstream, states=WAITING, until=until)
                rows = await asyncio.to_thread(self._spool.blocking.find, wanted, after, PAGE)
                for id_ in dict.fromkeys(row.message_id for row in rows if row.door in DOORS):
                    if id_ not in self._seen:
                        self._seen.add(id_)
                        told += await self._tell(id_, upstream, paused)
                if len(rows) < PAGE:
                    break
                after = rows[-1].id
        return told

    async def _tell(self, message_id: str, upstream: str, paused: Collection[str]) -> bool:
        view = await self._spool.message(message_id)
        if view is None or not view.sender or view.flags & Flag.AUTOMATIC:
            return False
        principal = await self._cache.principal(view.principal)
        if principal is None:
            return False
        notice = write_notice(view, principal, self._cache.current, Action.DELAYED, delayed(view, upstream))
        if notice is None or any(one.upstream in paused for one in notice.deliveries):
            return False
        await self._spool.accept(once(notice, f"delay:{view.id}"))
        return True


def delayed(view: MessageView, upstream: str) -> list[NoticeRecipient]:
    """The recipients that wait for `upstream` and whose submitter did not forbid to say so (RFC 3461 4.1)."""
    found = []
    for delivery in view.deliveries:
        notify, original = dsn_wishes(delivery.dsn)
        if delivery.state in WAITING and delivery.upstream == upstream and (not notify or "DELAY" in notify):
            found.append(
                NoticeRecipient(
                    address=delivery.recipient,
                    enhanced="4.4.1",
                    reply="The way to this server is interrupted at the moment",
                    original=original,
                    until=delivery.expires_at,
                )
            )
    return found


def once(message: NewMessage, key: str) -> NewMessage:
    """The message under an idempotency key: accepting it again changes nothing."""
    return replace(message, idempotency=Idempotency(key, sha256(key.encode()).digest()))
