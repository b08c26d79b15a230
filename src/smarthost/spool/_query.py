"""Reading: lists, one message, followers, the directory. Nothing here writes or locks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from zlib import crc32

from smarthost.errors import ContentError
from smarthost.spool._ids import now_us
from smarthost.spool._types import Door, Flag, Priority, State
from smarthost.spool._views import (
    AttemptView,
    DeliveryRow,
    DeliveryView,
    EventRow,
    Filter,
    MessageView,
)

if TYPE_CHECKING:
    from smarthost.spool._database import Row, Session

HEADER_MOST = 64 * 1024
_SHOWN = frozenset(State(number) for number in (5, 6, 7, 8, 9, 10))

# Walks from one value to the next by the index, instead of reading all rows of each.
_READY = (
    "WITH RECURSIVE u(x) AS (SELECT min(upstream) FROM delivery WHERE rank IS NOT NULL UNION ALL"
    " SELECT (SELECT min(upstream) FROM delivery WHERE rank IS NOT NULL AND upstream > u.x) FROM u"
    " WHERE u.x IS NOT NULL)"
)
_ATTEMPT = (
    "id, delivery_id, message_id, at, state, counts, code, enhanced, reply, stage, local, session, timings,"
    " transcript, tx"
)
_EVENT = "id, at, kind, subject, text, severity, actor, data, tx"


def counts(session: Session) -> dict[str, int]:
    """See Spool.counts."""
    found = {state.word: 0 for state in State}
    for state, n in session.run("SELECT state, sum(n) FROM tally GROUP BY state"):
        found[State(state).word] = int(n)
    return found


def find(session: Session, filter: Filter, after: int | None, limit: int) -> list[DeliveryRow]:
    """See Spool.find."""
    where: list[str] = []
    params: list[Any] = []

    def add(condition: str, *values: object) -> None:
        where.append(condition)
        params.extend(values)

    if len(filter.states) == 1:
        add(f"d.state = {int(filter.states[0])}")
    elif filter.states:
        add("d.state IN (" + ",".join(str(int(state)) for state in filter.states) + ")")
    if filter.states and _SHOWN.issuperset(filter.states):
        add("d.state IN (5, 6, 7, 8, 9, 10)")  # in the words of the partial index, or it is not used
    if filter.upstream is not None:
        add("d.upstream = ?", filter.upstream)
    if filter.message is not None:
        add("d.message_id = ?", filter.message)
    if filter.recipient is not None:
        add("lower(d.recipient) = ?", filter.recipient.lower())
    if filter.principal is not None:
        add("m.principal = ?", filter.principal)
    if filter.sender is not None:
        add("lower(m.sender) = ?", filter.sender.lower())
    if filter.since is not None:
        add("m.created_at >= ?", filter.since)
    if filter.until is not None:
        add("m.created_at < ?", filter.until)
    if filter.text:
        like = "%" + filter.text.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        add(
            "(lower(m.subject) LIKE ? ESCAPE '\\' OR lower(m.sender) LIKE ? ESCAPE '\\'"
            " OR lower(d.recipient) LIKE ? ESCAPE '\\')",
            like,
            like,
            like,
        )
    if after is not None:
        add("d.id < ?", after)
    rows = session.run(
        "SELECT d.id, d.message_id, m.created_at, m.principal, m.principal_name, m.door, m.sender,"
        " m.header_from, m.subject, m.size, d.recipient, d.upstream, d.priority, d.state, d.due_at,"
        " d.attempts, d.updated_at FROM delivery d JOIN message m ON m.id = d.message_id"
        f" {'WHERE ' + ' AND '.join(where) if where else ''} ORDER BY d.id DESC LIMIT ?",
        (*params, limit),
    )
    last = _last_replies(session, rows)
    casts = {5: Door, 12: Priority, 13: State}
    return [DeliveryRow(*[*_cast(row, casts), *last.get(row[0], (0, ""))]) for row in rows]


def _cast(row: Row, casts: Mapping[int, Callable[[Any], object]]) -> Row:
    """The row with some of its values given their type."""
    values = list(row)
    for index, cast in casts.items():
        values[index] = cast(values[index])
    return values


def _last_replies(session: Session, rows: list[Row]) -> dict[int, tuple[int, str]]:
    """The newest attempt of each delivery of a page."""
    messages = list({row[1] for row in rows})
    if not messages:
        return {}
    found = session.run(
        "SELECT delivery_id, code, reply FROM attempt WHERE id IN (SELECT max(id) FROM attempt"
        f" WHERE message_id {session.TEXTS} GROUP BY delivery_id)",
        (session.pack(messages),),
    )
    return {row[0]: (row[1], row[2]) for row in found}


def message(session: Session, message_id: str, header: bool = False) -> MessageView | None:
    """See Spool.message; with `header` also the header section, for a notice."""
    rows = session.run(
        "SELECT m.id, created_at, principal, principal_name, door, sender, header_from, subject,"
        " m.message_id, size, header_size, chunks, trace, flags, priority, send_at, expires_at, dsn_ret,"
        " dsn_envid, noticed, CASE WHEN EXISTS (SELECT 1 FROM chunk c WHERE c.message_id = m.id AND c.n = 0)"
        " THEN 1 ELSE 0 END FROM message m WHERE m.id = ?",
        (message_id,),
    )
    if not rows:
        return None
    row = rows[0]
    tries: dict[int, list[AttemptView]] = {}
    for attempt in session.run(
        f"SELECT {_ATTEMPT} FROM attempt WHERE message_id = ? ORDER BY id", (message_id,)
    ):
        tries.setdefault(attempt[1], []).append(_attempt(attempt))
    deliveries = tuple(
        DeliveryView(*[*_cast(d, {3: State}), tuple(tries.get(d[0], ()))])
        for d in session.run(
            "SELECT id, recipient, upstream, state, due_at, expires_at, attempts, unknown_ends, updated_at,"
            " edits, dsn FROM delivery WHERE message_id = ? ORDER BY id",
            (message_id,),
        )
    )
    first = chunk(session, message_id, 0) if header and row[20] else None
    casts = {4: Door, 12: bytes, 13: Flag, 14: Priority, 19: bool, 20: bool}
    shown = (first or b"")[: min(row[10], HEADER_MOST)]
    return MessageView(*[*_cast(row, casts), deliveries, shown])


def _attempt(row: Row) -> AttemptView:
    *values, tx = _cast(row, {4: State, 5: bool, 10: bool})
    return AttemptView(*[*values, f"{tx}.{row[0]}"])


def chunk(session: Session, message_id: str, n: int) -> bytes | None:
    """One chunk, or None past the end. Raises ContentError where the checksum disagrees."""
    rows = session.run("SELECT data, crc32 FROM chunk WHERE message_id = ? AND n = ?", (message_id, n))
    if not rows:
        return None
    data = bytes(rows[0][0])
    if crc32(data) != rows[0][1]:
        raise ContentError("The stored content is damaged.", private=f"chunk {n} of {message_id}")
    return data


def chunk_or_raise(session: Session, message_id: str, n: int) -> bytes:
    """See Spool.chunk."""
    data = chunk(session, message_id, n)
    if data is None:
        raise ContentError("The stored content is gone.", private=f"chunk {n} of {message_id}")
    return data


def _follow(
    session: Session, select: str, where: Mapping[str, str], after: str, limit: int, *, newest: bool
) -> list[Row]:
    """Rows after a cursor, in an order into which nothing is ever added behind it; oldest first only as
    far as no slower transaction can still come before."""
    conditions = [f"{column} = ?" for column in where]
    params: list[Any] = [*where.values()]
    if after:
        tx, _, number = after.partition(".")
        if not (tx.isdecimal() and number.isdecimal()):
            raise ValueError(f"not a cursor: {after!r}")
        conditions.append(session.BACKWARD if newest else session.FORWARD)
        params += session.cursor(int(tx), int(number))
    conditions.append("tx >= 0" if newest else session.SETTLED)
    order = session.NEWEST if newest else session.OLDEST
    return session.run(
        f"{select} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT ?", (*params, limit)
    )


def attempts(session: Session, after: str, limit: int, newest: bool) -> list[AttemptView]:
    """See Spool.attempts."""
    rows = _follow(session, f"SELECT {_ATTEMPT} FROM attempt", {}, after, limit, newest=newest)
    return [_attempt(row) for row in rows]


def events(
    session: Session, after: str, where: Mapping[str, str], limit: int, newest: bool
) -> list[EventRow]:
    """See Spool.events."""
    rows = _follow(session, f"SELECT {_EVENT} FROM event", where, after, limit, newest=newest)
    return [EventRow(*[*row[:8], f"{row[8]}.{row[0]}"]) for row in rows]


def ready_upstreams(session: Session) -> list[str]:
    """See Spool.ready_upstreams."""
    return [row[0] for row in session.run(f"{_READY} SELECT x FROM u WHERE x IS NOT NULL")]


def queue_age(session: Session) -> float:
    """See Spool.queue_age."""
    oldest = session.one(
        f"{_READY}, p(priority) AS (VALUES (0), (1), (2)) SELECT min((SELECT min(d.rank) FROM delivery d"
        " WHERE d.upstream = u.x AND d.priority = p.priority AND d.rank IS NOT NULL)) FROM u, p"
        " WHERE u.x IS NOT NULL"
    )
    return 0.0 if oldest is None else max((now_us() - int(oldest)) / 1e6, 0.0)


def next_due(session: Session) -> int | None:
    """See Spool.next_due."""
    due: int | None = session.one(
        "SELECT min(due_at) FROM delivery WHERE rank IS NULL AND due_at IS NOT NULL"
    )
    return due


def usage(session: Session, keys: tuple[str, ...]) -> dict[tuple[str, int], int]:
    """See Spool.usage."""
    rows = session.run(f"SELECT key, since, used FROM usage WHERE key {session.TEXTS}", (session.pack(keys),))
    return {(row[0], row[1]): row[2] for row in rows}


def directory_version(session: Session) -> int:
    """See Spool.directory_version."""
    return int(session.one("SELECT version FROM directory WHERE id = 1") or 0)


def _json(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def directory(session: Session) -> bytes | None:
    """See Spool.directory."""
    return _json(session.one("SELECT body FROM directory WHERE id = 1"))


def principal(session: Session, principal_id: str) -> bytes | None:
    """See Spool.principal."""
    return _json(session.one("SELECT body FROM principal WHERE id = ?", (principal_id,)))


def principal_by_login(session: Session, login: str) -> bytes | None:
    """See Spool.principal_by_login."""
    return _json(session.one("SELECT body FROM principal WHERE login = ?", (login,)))


def principal_by_secret(session: Session, secret_hash: str) -> bytes | None:
    """See Spool.principal_by_secret."""
    return _json(
        session.one(
            "SELECT p.body FROM principal_secret s JOIN principal p ON p.id = s.principal_id"
            " WHERE s.hash = ? AND (s.expires_at IS NULL OR s.expires_at > ?)",
            (secret_hash, now_us()),
        )
    )
