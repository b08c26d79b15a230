"""Leasing: which mail goes into the free places of an upstream, and everything that sending it needs.

Urgent goes before normal before bulk; of every eight contested places one goes to the lowest class that
waits, so that none starves. A lease is one message; where it has more recipients than one transaction may
carry, it fills several places. The rows are SENDING from the commit on, with a token that no other lease
ever had: the incarnation's number above a counter.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import TYPE_CHECKING, Any
from zlib import crc32

from smarthost.errors import StoreUnavailable
from smarthost.spool._routes import record
from smarthost.spool._types import Door, Event, Flag, Lease, LeasedDelivery, NewMessage, Priority, State

if TYPE_CHECKING:
    from smarthost.spool._database import Row
    from smarthost.spool._transaction import Transaction

SHARE = 8
MOST_ROWS = 4_096

_COLUMNS = (
    "id",
    "message_id",
    "priority",
    "single",
    "recipient",
    "attempts",
    "unknown_ends",
    "edits",
    "dsn",
    "state",
    "expires_at",
)
_ID, _MESSAGE, _PRIORITY, _SINGLE, _STATE, _EXPIRES = 0, 1, 2, 3, 9, 10
_READY = "FROM delivery WHERE upstream = ? AND rank IS NOT NULL"
_ORDER = "ORDER BY priority, rank, id LIMIT ?"

_FACTS = (
    "m.id, m.sender, m.size, m.header_size, m.chunks, m.trace, m.flags, m.priority, m.created_at,"
    " m.principal, m.principal_name, m.door, m.header_from, m.dsn_ret, m.dsn_envid, c.data, c.crc32"
)


class Leaser:
    """Keeps, for the committer, the token counter and what each upstream's lower classes are owed."""

    def __init__(self) -> None:
        self._token = 0
        self._owed: dict[str, int] = {}

    def start(self, engine: int) -> None:
        """A new incarnation: tokens from here on are its own."""
        self._token = engine << 32

    def lease(self, tx: Transaction, upstream: str, places: int, recipient_limit: int) -> list[Lease]:
        """See AsyncSpool.lease."""
        if tx.engine is None:
            raise StoreUnavailable("This process is no registered engine.")
        if tx.full or places < 1:
            return []
        groups = self._pick(tx, upstream, places, max(recipient_limit, 1))
        if not groups:
            return []
        self._token += 1
        token = self._token
        tx.tokens.append(token)
        rows = [row for group in groups for row in group]
        session = tx.session
        session.run(
            "UPDATE delivery SET state = 2, rank = NULL, due_at = NULL, token = ?, lease_engine = ?,"
            f" updated_at = ? WHERE id {session.INTS}",
            (token, tx.engine, tx.now, session.pack([row[_ID] for row in rows])),
        )
        for row in rows:
            tx.move(row[_STATE], 2)
        return self._leases(tx, upstream, token, groups)

    def _pick(self, tx: Transaction, upstream: str, places: int, limit: int) -> list[list[Row]]:
        session = tx.session
        window = places
        rest = f"{_READY} {_ORDER} {session.SKIP}"
        while True:
            rows = session.gather(_COLUMNS, rest, (upstream, window))
            groups = self._grouped(tx, upstream, rows, places, limit)
            if len(rows) < window or len(groups) >= places or window >= MOST_ROWS:
                break
            window = min(window * 4, MOST_ROWS)
        if len(rows) == window:
            self._share(tx, upstream, groups, rows[-1][_PRIORITY], limit)
        return groups

    def _grouped(
        self, tx: Transaction, upstream: str, rows: list[Row], places: int, limit: int
    ) -> list[list[Row]]:
        """The first `places` groups. A message with several recipients is looked at as a whole, for its
        others may rank just behind the window."""
        if all(row[_SINGLE] for row in rows):
            return [[row] for row in rows[:places]]
        chosen = list(dict.fromkeys(row[_MESSAGE] for row in rows))[:places]
        session = tx.session
        whole = session.gather(
            _COLUMNS,
            f"{_READY} AND message_id {session.TEXTS} {_ORDER} {session.SKIP}",
            (upstream, session.pack(chosen), MOST_ROWS),
        )
        by_message: dict[str, list[Row]] = {message: [] for message in chosen}
        for row in whole:
            by_message[row[_MESSAGE]].append(row)
        groups = [of[at : at + limit] for of in by_message.values() for at in range(0, len(of), limit)]
        return groups[:places]

    def _share(self, tx: Transaction, upstream: str, groups: list[list[Row]], last: int, limit: int) -> None:
        """Everything wanted is contested: give the lowest class what it is owed."""
        if last == Priority.BULK:
            return
        lowest = tx.session.one(f"SELECT max(priority) {_READY}", (upstream,))
        if lowest is None or lowest <= last:
            return
        owed = self._owed.get(upstream, 0) + len(groups)
        share, self._owed[upstream] = divmod(owed, SHARE)
        if not share:
            return
        rows = tx.session.gather(
            _COLUMNS,
            f"{_READY} AND priority = ? {_ORDER} {tx.session.SKIP}",
            (upstream, lowest, share),
        )
        lower = self._grouped(tx, upstream, rows, share, limit)
        del groups[len(groups) - len(lower) :]
        groups += lower

    def _leases(self, tx: Transaction, upstream: str, token: int, groups: list[list[Row]]) -> list[Lease]:
        memory = tx.memory
        known: dict[str, Lease] = {}
        missing: list[str] = []
        for group in groups:
            message_id = group[0][_MESSAGE]
            if message_id in known or message_id in missing:
                continue
            message = memory.take(message_id) if memory is not None else None
            if message is None:
                missing.append(message_id)
            else:
                known[message_id] = _from_memory(message, token, upstream)
        for row in _read(tx, missing):
            lease = _from_row(row, token, upstream)
            known[lease.message_id] = lease
        leases = []
        for group in groups:
            message_id = group[0][_MESSAGE]
            lease = known.get(message_id) or _nothing(message_id, token, upstream)
            if lease.first is None:
                _hold_damaged(tx, message_id, group)
            else:
                if lease.deliveries:
                    lease = copy(lease)
                lease.expires_at = group[0][_EXPIRES]
                lease.deliveries = [
                    LeasedDelivery(row[0], row[4], row[5], row[6], row[7], row[8]) for row in group
                ]
            leases.append(lease)
        return leases


def _from_memory(m: NewMessage, token: int, upstream: str) -> Lease:
    return Lease(
        m.id,
        token,
        upstream,
        m.sender,
        m.size,
        m.header_size,
        1,
        m.trace,
        m.flags,
        m.priority,
        m.created_at,
        m.expires_at,
        m.principal,
        m.principal_name,
        m.door,
        m.header_from,
        m.dsn_ret,
        m.dsn_envid,
        m.content,
    )


def _read(tx: Transaction, messages: list[str]) -> Iterable[Row]:
    """The facts and first chunks of messages that are not in memory. A page of SQLite's that cannot be
    read costs its own message only."""
    if not messages:
        return []
    session = tx.session
    sql = (
        f"SELECT {_FACTS} FROM message m LEFT JOIN chunk c ON c.message_id = m.id AND c.n = 0"
        f" WHERE m.id {session.TEXTS}"
    )
    try:
        return session.run(sql, (session.pack(messages),))
    except Exception:
        if not session.SURVIVES:
            raise
        if len(messages) == 1:
            return []
        return [row for message in messages for row in _read(tx, [message])]


def _from_row(row: Row, token: int, upstream: str) -> Lease:
    data: Any = row[15]
    first = None if data is None else bytes(data)
    if first is not None and crc32(first) != row[16]:
        first = None
    return Lease(
        row[0],
        token,
        upstream,
        row[1],
        row[2],
        row[3],
        row[4],
        bytes(row[5]),
        Flag(row[6]),
        Priority(row[7]),
        row[8],
        0,
        row[9],
        row[10],
        Door(row[11]),
        row[12],
        row[13],
        row[14],
        first,
    )


def _nothing(message_id: str, token: int, upstream: str) -> Lease:
    """A lease of a message whose row cannot be read."""
    return Lease(
        message_id,
        token,
        upstream,
        "",
        0,
        0,
        0,
        b"",
        Flag.NONE,
        Priority.NORMAL,
        0,
        0,
        "",
        "",
        Door.SYSTEM,
        "",
        None,
        None,
        None,
    )


def _hold_damaged(tx: Transaction, message_id: str, group: list[Row]) -> None:
    """Content that cannot be read, or is not what was stored, is never sent: a person must look."""
    session = tx.session
    session.run(
        f"UPDATE delivery SET state = ? WHERE id {session.INTS}",
        (int(State.HELD), session.pack([row[_ID] for row in group])),
    )
    tx.move(2, State.HELD, len(group))
    record(
        tx,
        (
            Event(
                at=tx.now,
                kind="message.damaged",
                subject=f"message:{message_id}",
                text="The stored content is damaged or gone; the message is held and was not sent.",
                severity="error",
            ),
        ),
    )
