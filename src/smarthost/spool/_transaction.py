"""What one transaction of the committer knows while it runs, and what waits for its commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smarthost.spool._types import NewMessage

if TYPE_CHECKING:
    from smarthost.spool._database import Session
    from smarthost.spool._memory import Memory
    from smarthost.spool._views import NoticeBuilder


class Transaction:
    """Passed to everything that writes.

    now       the process's clock, once for all.
    careful   one operation at a time, each in a savepoint: keys are looked for before they are inserted.
    engine    the incarnation that leases here, or None.
    ready     set where a delivery became ready: somebody is to be woken after the commit.
    accepted  messages inserted: kept in memory after the commit, looked for where a commit is in doubt.
    tokens    of leases made: given back where a commit stays in doubt.
    """

    __slots__ = (
        "_counts",
        "accepted",
        "careful",
        "engine",
        "full",
        "memory",
        "notice",
        "now",
        "ready",
        "session",
        "shard",
        "tokens",
    )

    def __init__(
        self,
        session: Session,
        now: int,
        *,
        shard: int,
        careful: bool = False,
        engine: int | None = None,
        full: bool = False,
        memory: Memory | None = None,
        notice: NoticeBuilder | None = None,
    ) -> None:
        self.session = session
        self.now = now
        self.shard = shard
        self.careful = careful
        self.engine = engine
        self.full = full
        self.memory = memory
        self.notice = notice
        self.ready = False
        self.accepted: list[NewMessage] = []
        self.tokens: list[int] = []
        self._counts: dict[int, int] = {}

    def count(self, state: int, n: int) -> None:
        """Deliveries entered (or, negative, left) a state."""
        self._counts[state] = self._counts.get(state, 0) + n

    def move(self, before: int, after: int, n: int = 1) -> None:
        """Deliveries went from one state to another."""
        self._counts[before] = self._counts.get(before, 0) - n
        self._counts[after] = self._counts.get(after, 0) + n

    def rank(self, principal: str, deliveries: int) -> int:
        """The rank of a principal's next message; see `_accept`."""
        return self.now if self.memory is None else self.memory.rank(principal, deliveries, self.now)

    def snapshot(self) -> tuple[dict[int, int], bool, int, int]:
        """What `restore` goes back to when an operation of a careful transaction failed."""
        return dict(self._counts), self.ready, len(self.accepted), len(self.tokens)

    def restore(self, snapshot: tuple[dict[int, int], bool, int, int]) -> None:
        self._counts, self.ready, accepted, tokens = snapshot
        del self.accepted[accepted:]
        del self.tokens[tokens:]

    def store_counts(self) -> None:
        """Write the tally's changes: the last statement before the commit, so that its rows are locked
        for the shortest time."""
        changes = sorted((int(state), n) for state, n in self._counts.items() if n)
        self._counts = {}
        if not changes:
            return
        rows = ",".join(["(?, ?, ?)"] * len(changes))
        self.session.run(
            f"INSERT INTO tally (shard, state, n) VALUES {rows}"
            " ON CONFLICT (shard, state) DO UPDATE SET n = tally.n + excluded.n",
            [value for state, n in changes for value in (self.shard, state, n)],
        )
