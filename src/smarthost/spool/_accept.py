"""Accepting: from messages to rows, in as few statements as a whole batch needs.

The order matters. A repeated idempotency key is found first and costs nothing; caps are charged next, under
the locks of their counters; only then are rows made. What one message is refused for never touches the
others of the batch.

`rank` orders what is ready and gives fairness between principals: each principal's next message ranks at
least a millisecond after its last one, so that whoever hands in 10,000 at once queues up behind itself and
not in front of others. It never delays anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from smarthost.errors import ContentError, IdempotencyConflict, OverCap, SmarthostError
from smarthost.faults import point
from smarthost.spool._ids import CHUNK as CHUNK_SIZE
from smarthost.spool._ids import now_us
from smarthost.spool._tables import CHUNK, DELIVERY, MESSAGE
from smarthost.spool._transaction import Transaction
from smarthost.spool._types import Acceptance, Accepted, Charge, NewMessage, State

if TYPE_CHECKING:
    from smarthost.spool._database import Row, Session


def accept(tx: Transaction, messages: Sequence[NewMessage]) -> list[Accepted | SmarthostError]:
    """Insert messages; one result each. A key that exists already raises the database's own error, unless
    the transaction is `careful`: then it is looked for first."""
    results: dict[str, Accepted | SmarthostError] = {}
    fresh: Sequence[NewMessage] = messages
    if tx.careful:
        fresh = _without_known(tx, fresh, results)
    if any(message.idempotency for message in fresh):
        fresh = _without_repeated(tx, fresh, results)
    if any(message.charges for message in fresh):
        fresh = _within_caps(tx, fresh, results)
    if any(message.content is None for message in fresh):
        fresh = [message for message in fresh if _complete(tx.session, message, results)]
    if fresh:
        _insert(tx, fresh)
    if not results:
        return [Accepted(message.id) for message in messages]
    return [results.get(message.id) or Accepted(message.id) for message in messages]


def _insert(tx: Transaction, messages: Sequence[NewMessage]) -> None:
    now = tx.now
    rows: list[Row] = []
    chunks: list[Row] = []
    deliveries: list[Row] = []
    for m in messages:
        content = m.content
        count = m.chunks
        if content is not None:
            if len(content) <= CHUNK_SIZE:
                count = 1
                chunks.append((m.id, 0, content, crc32(content)))
            else:
                pieces = [content[at : at + CHUNK_SIZE] for at in range(0, len(content), CHUNK_SIZE)]
                count = len(pieces)
                chunks += [(m.id, n, piece, crc32(piece)) for n, piece in enumerate(pieces)]
        rows.append(
            (
                m.id,
                m.created_at,
                m.principal,
                m.principal_name,
                m.door.value,
                m.sender,
                m.size,
                m.header_size,
                count,
                m.trace,
                m.header_from,
                m.subject,
                m.message_id,
                int(m.flags),
                int(m.priority),
                m.send_at,
                m.expires_at,
                m.dsn_ret,
                m.dsn_envid,
            )
        )
        later = m.send_at if m.send_at is not None and m.send_at > now else None
        rank = now if later is not None else tx.rank(m.principal, len(m.deliveries))
        single = int(len(m.deliveries) == 1)
        for d in m.deliveries:
            state = d.state
            queued = state is State.QUEUED
            if queued and later is None:
                tx.ready = True
            deliveries.append(
                (
                    m.id,
                    d.recipient,
                    d.upstream,
                    int(m.priority),
                    int(state),
                    rank if queued and later is None else None,
                    later if queued else None,
                    m.expires_at,
                    d.edits,
                    d.dsn,
                    single,
                    now,
                )
            )
            tx.count(state, 1)
    point("before-insert")
    session = tx.session
    session.insert(MESSAGE, rows)
    if chunks:
        session.insert(CHUNK, chunks)
    session.insert(DELIVERY, deliveries)
    tx.accepted += messages


def _without_known(
    tx: Transaction, messages: Sequence[NewMessage], results: dict[str, Accepted | SmarthostError]
) -> list[NewMessage]:
    session = tx.session
    known = {
        row[0]
        for row in session.run(
            f"SELECT id FROM message WHERE id {session.TEXTS}", (session.pack([m.id for m in messages]),)
        )
    }
    fresh = []
    for message in messages:
        if message.id in known:
            results[message.id] = Accepted(message.id, Acceptance.REPEATED)
        else:
            known.add(message.id)
            fresh.append(message)
    return fresh


def _without_repeated(
    tx: Transaction, messages: Sequence[NewMessage], results: dict[str, Accepted | SmarthostError]
) -> list[NewMessage]:
    """Keep those whose key is new, and store their keys; the conflict rule of the database is the judge
    where two processes bring the same key at once."""
    session = tx.session
    fresh: list[NewMessage] = []
    for message in messages:
        wanted = message.idempotency
        if wanted is None:
            fresh.append(message)
            continue
        key = (message.principal, wanted.key)
        if session.change(
            "INSERT INTO idempotency (principal, key, fingerprint, message_id, created_at)"
            " VALUES (?, ?, ?, ?, ?) ON CONFLICT (principal, key) DO NOTHING",
            (*key, wanted.fingerprint, message.id, tx.now),
        ):
            fresh.append(message)
            continue
        fingerprint, first = session.run(
            "SELECT fingerprint, message_id FROM idempotency WHERE principal = ? AND key = ?", key
        )[0]
        if bytes(fingerprint) == wanted.fingerprint:
            results[message.id] = Accepted(first, Acceptance.REPEATED)
        else:
            results[message.id] = IdempotencyConflict(
                "This idempotency key was used for a different request.", field="Idempotency-Key"
            )
    return fresh


def _forget_key(tx: Transaction, message: NewMessage) -> None:
    if message.idempotency is not None:
        tx.session.run(
            "DELETE FROM idempotency WHERE principal = ? AND key = ? AND message_id = ?",
            (message.principal, message.idempotency.key, message.id),
        )


def _lock_usage(session: Session, counters: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    """Create the counters where needed, lock them in one order for everybody, and read them."""
    used = {}
    for key, since in sorted(counters):
        row = session.run(
            "INSERT INTO usage (key, since, used) VALUES (?, ?, 0)"
            " ON CONFLICT (key, since) DO UPDATE SET used = usage.used RETURNING used",
            (key, since),
        )
        used[key, since] = int(row[0][0])
    return used


def _within_caps(
    tx: Transaction, messages: Sequence[NewMessage], results: dict[str, Accepted | SmarthostError]
) -> list[NewMessage]:
    session = tx.session
    used = _lock_usage(session, list({(c.key, c.window) for m in messages for c in m.charges}))
    before = dict(used)
    fresh = []
    for message in messages:
        over = next((c for c in message.charges if used[c.key, c.window] + c.amount > c.limit), None)
        if over is None:
            for charge in message.charges:
                used[charge.key, charge.window] += charge.amount
            fresh.append(message)
        else:
            results[message.id] = OverCap(
                f"The sending limit of {over.limit} is used up for now; try again later.", private=over.key
            )
            _forget_key(tx, message)
    for counter, amount in used.items():
        if amount != before[counter]:
            session.run("UPDATE usage SET used = ? WHERE key = ? AND since = ?", (amount, *counter))
    return fresh


def _complete(session: Session, message: NewMessage, results: dict[str, Accepted | SmarthostError]) -> bool:
    """Whether the chunks that were written before are the whole content."""
    if message.content is not None:
        return True
    count, size = session.run(
        "SELECT count(*), coalesce(sum(length(data)), 0) FROM chunk WHERE message_id = ?", (message.id,)
    )[0]
    if (int(count), int(size)) == (message.chunks, message.size):
        return True
    results[message.id] = ContentError(
        "The content did not arrive completely; send it again.",
        code=451,
        enhanced="4.3.0",
        private=f"{count} chunks with {size} bytes instead of {message.chunks} with {message.size}",
    )
    return False


def charge_quota(tx: Transaction, charge: Charge) -> bool:
    """See Spool.charge_quota."""
    used = _lock_usage(tx.session, [(charge.key, charge.window)])[charge.key, charge.window]
    if used + charge.amount > charge.limit:
        return False
    tx.session.run(
        "UPDATE usage SET used = used + ? WHERE key = ? AND since = ?",
        (charge.amount, charge.key, charge.window),
    )
    return True


def accept_on(connection: Any, messages: Sequence[NewMessage]) -> list[Accepted]:
    """See the facade. The tally shard is one that no committer uses: a long transaction of a request must
    not hold up anybody else's commit."""
    session, shard = _borrow(connection)
    tx = Transaction(session, now_us(), shard=shard, careful=True)
    results = accept(tx, messages)
    for result in results:
        if isinstance(result, SmarthostError):
            raise result
    tx.store_counts()
    return [result for result in results if isinstance(result, Accepted)]


def _borrow(connection: Any) -> tuple[Session, int]:
    import secrets

    import pysqlite3

    raw = connection
    if hasattr(connection, "ensure_connection"):
        connection.ensure_connection()
        raw = connection.connection
    if isinstance(raw, pysqlite3.Connection):
        from smarthost.spool._sqlite import SqliteSession

        opened = raw.in_transaction
        session: Session = SqliteSession(raw)
    else:
        import psycopg

        from smarthost.spool._postgres import PostgresSession

        if not isinstance(raw, psycopg.Connection):
            raise TypeError(f"not a connection of pysqlite3, psycopg or Django: {type(raw).__name__}")

        # Without autocommit the first statement opens it.
        opened = not raw.autocommit or raw.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        session = PostgresSession(raw)
    if not opened:
        raise RuntimeError("accept_on needs an open transaction: use it inside transaction.atomic()")
    return session, 10_000 + secrets.randbelow(64)


def write_chunks(tx: Transaction, chunks: Sequence[tuple[str, int, bytes]]) -> None:
    """Pieces of large mail that is still coming in. Writing one again after a doubt replaces nothing:
    what stands there is the same."""
    session = tx.session
    rows = [(message_id, n, data, crc32(data)) for message_id, n, data in chunks]
    if tx.careful:
        keys = set(map(tuple, (row[:2] for row in rows)))
        for message_id in {row[0] for row in rows}:
            known = session.run("SELECT message_id, n FROM chunk WHERE message_id = ?", (message_id,))
            keys -= set(map(tuple, known))
        rows = [row for row in rows if row[:2] in keys]
    if rows:
        session.insert(CHUNK, rows)
