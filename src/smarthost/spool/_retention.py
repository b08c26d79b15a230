"""What time does: waiting mail comes due, old mail expires, what was kept long enough goes away.

All of it runs in slices, each a short transaction of its own, and finds its rows by an index: messages and
chunks by their id, which begins with their time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from smarthost.faults import point
from smarthost.spool import _complete
from smarthost.spool._ids import id_before
from smarthost.spool._tables import ATTEMPT
from smarthost.spool._types import FINAL, State
from smarthost.spool._views import Purged

if TYPE_CHECKING:
    from smarthost.spool._transaction import Transaction

SLICE = 500
PROMOTED = 2_000
HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
KEYS_US = 7 * DAY_US
USAGE_US = 32 * DAY_US
ORPHANS_US = DAY_US
_FINAL = "(" + ", ".join(str(int(state)) for state in sorted(FINAL)) + ")"
_EXPIRED = "It could not be delivered in the time that it had."


def promote(tx: Transaction, now: int) -> int:
    """See AsyncSpool.promote; one slice."""
    session = tx.session
    promoted = session.change(
        "UPDATE delivery SET rank = due_at, due_at = NULL WHERE id IN (SELECT id FROM delivery"
        f" WHERE rank IS NULL AND due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT {PROMOTED}"
        f" {session.SKIP})",
        (now,),
    )
    if promoted:
        tx.ready = True
    return promoted


def expire(tx: Transaction, now: int) -> int:
    """See Spool.expire; one slice. An unknown end without a time waits for a person, however long."""
    session = tx.session
    rows = session.gather(
        ("id", "message_id", "state"),
        "FROM delivery WHERE state IN (1, 5, 6) AND expires_at <= ?"
        " AND NOT (state = 6 AND rank IS NULL AND due_at IS NULL)"
        f" ORDER BY expires_at LIMIT {SLICE} {session.SKIP}",
        (now,),
    )
    if not rows:
        return 0
    session.run(
        f"UPDATE delivery SET state = ?, rank = NULL, due_at = NULL, updated_at = ? WHERE id {session.INTS}",
        (int(State.EXPIRED), tx.now, session.pack([row[0] for row in rows])),
    )
    point("during-expiry")
    for row in rows:
        tx.move(row[2], State.EXPIRED)
    session.insert(
        ATTEMPT,
        [
            (row[1], row[0], tx.now, int(State.EXPIRED), 0, 0, "4.4.7", _EXPIRED, "", 1, "", "", None)
            for row in rows
        ],
    )
    _complete.finish(tx, [row[1] for row in rows])
    return len(rows)


def give_back(tx: Transaction, tokens: list[int]) -> None:
    """Leases of which nobody was told: ready again."""
    session = tx.session
    rows = session.run(
        "UPDATE delivery SET state = 1, rank = ?, lease_engine = NULL"
        f" WHERE state = 2 AND lease_engine = ? AND token {session.INTS} RETURNING id",
        (tx.now - HOUR_US, tx.engine, session.pack(tokens)),
    )
    if rows:
        tx.move(State.SENDING, State.QUEUED, len(rows))
        tx.ready = True


def discard(tx: Transaction, message_id: str) -> None:
    """See Spool.discard."""
    tx.session.run(
        "DELETE FROM chunk WHERE message_id = ? AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?)",
        (message_id, message_id),
    )


def purge(tx: Transaction, now: int, before: tuple[int, int, int], limit: int) -> Purged:
    """See Spool.purge; `before` is for contents, rows and events."""
    content_before, rows_before, events_before = before
    contents = _contents(tx, id_before(content_before), limit)
    orphans = _orphans(tx, id_before(now - ORPHANS_US), limit)
    point("during-purge")
    messages = _messages(tx, id_before(min(rows_before, content_before)), limit)
    others = _others(tx, now, events_before, limit)
    return Purged(contents, messages, orphans, others, max(contents, messages, orphans) >= limit)


def _contents(tx: Transaction, before: str, limit: int) -> int:
    """Oldest first, found among the chunks themselves: what has none left is not looked at again."""
    session = tx.session
    ids = [
        row[0]
        for row in session.gather(
            ("c.message_id",),
            "FROM chunk c WHERE c.n = 0 AND c.message_id < ?"
            " AND EXISTS (SELECT 1 FROM message m WHERE m.id = c.message_id)"
            " AND NOT EXISTS (SELECT 1 FROM delivery d WHERE d.message_id = c.message_id"
            f" AND d.state NOT IN {_FINAL}) ORDER BY c.message_id LIMIT ?",
            (before, limit),
        )
    ]
    if ids:
        session.run(f"DELETE FROM chunk WHERE message_id {session.TEXTS}", (session.pack(ids),))
    return len(ids)


def _orphans(tx: Transaction, before: str, limit: int) -> int:
    """Chunks of large mail that never became a message; a day is longer than any DATA may take."""
    session = tx.session
    ids = [
        row[0]
        for row in session.gather(
            ("DISTINCT c.message_id",),
            "FROM chunk c WHERE c.message_id < ?"
            " AND NOT EXISTS (SELECT 1 FROM message m WHERE m.id = c.message_id) LIMIT ?",
            (before, limit),
        )
    ]
    if ids:
        session.run(f"DELETE FROM chunk WHERE message_id {session.TEXTS}", (session.pack(ids),))
    return len(ids)


def _messages(tx: Transaction, before: str, limit: int) -> int:
    session = tx.session
    ids = [
        row[0]
        for row in session.gather(
            ("m.id",),
            "FROM message m WHERE m.id < ? AND NOT EXISTS (SELECT 1 FROM delivery d"
            f" WHERE d.message_id = m.id AND d.state NOT IN {_FINAL}) ORDER BY m.id LIMIT ?",
            (before, limit),
        )
    ]
    if not ids:
        return 0
    packed = session.pack(ids)
    for state, n in session.run(
        f"SELECT state, count(*) FROM delivery WHERE message_id {session.TEXTS} GROUP BY state", (packed,)
    ):
        tx.count(state, -int(n))
    session.run(f"DELETE FROM attempt WHERE message_id {session.TEXTS}", (packed,))
    session.run(f"DELETE FROM delivery WHERE message_id {session.TEXTS}", (packed,))
    session.run(f"DELETE FROM chunk WHERE message_id {session.TEXTS}", (packed,))
    session.run(f"DELETE FROM message WHERE id {session.TEXTS}", (packed,))
    return len(ids)


def _others(tx: Transaction, now: int, events_before: int, limit: int) -> int:
    session = tx.session
    gone = session.change("DELETE FROM idempotency WHERE created_at < ?", (now - KEYS_US,))
    gone += session.change("DELETE FROM usage WHERE since < ?", (now - USAGE_US,))
    gone += session.change(
        f"DELETE FROM event WHERE id IN (SELECT id FROM event WHERE at < ? LIMIT {int(limit)})",
        (events_before,),
    )
    gone += session.change(f"DELETE FROM incarnation WHERE beat < {session.CLOCK} - {DAY_US}")
    return gone
