"""What a process remembers of its recent past: copies that save reading, never the only place of anything.

Accepted messages stay here with their content until they are leased or the space is needed for newer ones,
so that mail which goes out as it came in is never read back. It is filled only after the commit. The last
rank of each principal is here too: it orders and never gates, so that losing it with the process is harmless.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from smarthost.spool._types import NewMessage, State

RANK_STEP_US = 1_000
RANKS_KEPT = 20_000
BIG = 64 * 1024
OVERHEAD = 1_500


class Memory:
    """Used by the committer's thread alone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: OrderedDict[str, NewMessage] = OrderedDict()
        self._size = 0
        self._ranks: dict[str, int] = {}

    def remember(self, messages: Sequence[NewMessage]) -> None:
        """Keep small ones that are to be sent; the oldest make room."""
        kept = self._messages
        size = self._size
        for message in messages:
            content = message.content
            if content is None or len(content) > BIG or message.deliveries[0].state is not State.QUEUED:
                continue
            kept[message.id] = message
            size += len(content) + OVERHEAD
        while size > self._limit and kept:
            _, old = kept.popitem(last=False)
            size -= len(old.content or b"") + OVERHEAD
        self._size = size

    def take(self, message_id: str) -> NewMessage | None:
        """The message, or None where it must be read; one with a single recipient is not kept longer."""
        message = self._messages.get(message_id)
        if message is not None and len(message.deliveries) == 1:
            del self._messages[message_id]
            self._size -= len(message.content or b"") + OVERHEAD
        return message

    def rank(self, principal: str, deliveries: int, now: int) -> int:
        """At least a millisecond a delivery after the principal's last rank, and not before now."""
        ranks = self._ranks
        rank = max(ranks.get(principal, 0), now)
        ranks[principal] = rank + RANK_STEP_US * deliveries
        if len(ranks) > RANKS_KEPT:
            self._ranks = {who: last for who, last in ranks.items() if last > now}
        return rank
