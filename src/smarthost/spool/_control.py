"""What people do with deliveries. One table says which states an action takes and what they become; each
action is a slice of at most SLICE rows, called again until nothing is left to change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from smarthost.spool import _complete
from smarthost.spool._routes import record
from smarthost.spool._types import Event, State
from smarthost.spool._views import Selection

if TYPE_CHECKING:
    from smarthost.spool._transaction import Transaction

SLICE = 500
RETRY_US = 24 * 3_600_000_000


@dataclass(frozen=True, slots=True)
class Action:
    """takes: states that it changes. becomes: None leaves the state. ready: rank now."""

    name: str
    takes: tuple[State, ...]
    becomes: State | None
    extra: str = ""


_WAITING = (State.QUEUED, State.DEFERRED, State.UNKNOWN)
_LAID_UP = (*_WAITING, State.HELD)
_AGAIN = (State.DEFERRED, State.UNKNOWN, State.FAILED, State.EXPIRED, State.CANCELLED)
_CONTENT = " AND EXISTS (SELECT 1 FROM chunk c WHERE c.message_id = d.message_id AND c.n = 0)"
_DOUBTFUL = " AND (d.state = 6 OR d.unknown_ends > 0)"

HOLD = Action("held", _WAITING, State.HELD)
RELEASE = Action("released", (State.HELD,), State.QUEUED)
CANCEL = Action("cancelled", _LAID_UP, State.CANCELLED)
RETRY = Action("retried", _AGAIN, State.QUEUED, _CONTENT)
RETRY_DEFERRED = Action("retried", (State.DEFERRED,), State.QUEUED, _CONTENT)
REROUTE = Action("rerouted", _LAID_UP, None)
RESOLVE = {
    State.SENT: Action("resolved", (State.UNKNOWN, State.HELD), State.SENT, _DOUBTFUL),
    State.FAILED: Action("resolved", (State.UNKNOWN, State.HELD), State.FAILED, _DOUBTFUL),
    State.QUEUED: Action("resolved", (State.UNKNOWN, State.HELD), State.QUEUED, _DOUBTFUL + _CONTENT),
}


def hold(tx: Transaction, selection: Selection, actor: str) -> int:
    """See Spool.hold."""
    return _act(tx, HOLD, selection, actor)


def release(tx: Transaction, selection: Selection, actor: str) -> int:
    """See Spool.release."""
    return _act(tx, RELEASE, selection, actor)


def cancel(tx: Transaction, selection: Selection, actor: str) -> int:
    """See Spool.cancel."""
    return _act(tx, CANCEL, selection, actor)


def retry(tx: Transaction, selection: Selection, actor: str) -> int:
    """See Spool.retry."""
    named = selection.messages or selection.deliveries or selection.states
    return _act(tx, RETRY if named else RETRY_DEFERRED, selection, actor)


def resolve(tx: Transaction, selection: Selection, verdict: State, actor: str) -> int:
    """See Spool.resolve."""
    if verdict not in RESOLVE:
        raise ValueError("an unknown end is resolved as sent, failed or queued")
    return _act(tx, RESOLVE[verdict], selection, actor)


def reroute(tx: Transaction, selection: Selection, upstream: str, actor: str) -> int:
    """See Spool.reroute. Those that go by that upstream already are not counted, so the slices end."""
    return _act(tx, REROUTE, selection, actor, upstream=upstream)


def _act(
    tx: Transaction, action: Action, selection: Selection, actor: str, *, upstream: str | None = None
) -> int:
    session = tx.session
    where, params = _where(tx, selection, action.takes)
    where += action.extra
    if upstream is not None:
        where += " AND d.upstream <> ?"
        params.append(upstream)
    rows = session.gather(
        ("d.id", "d.message_id", "d.state", "d.rank"),
        f"FROM delivery d {where} ORDER BY d.id LIMIT {SLICE} {session.LOCK}",
        params,
    )
    if not rows:
        return 0
    packed = session.pack([row[0] for row in rows])
    becomes = action.becomes
    if upstream is not None:
        session.run(
            f"UPDATE delivery SET upstream = ?, updated_at = ? WHERE id {session.INTS}",
            (upstream, tx.now, packed),
        )
        tx.ready = tx.ready or any(row[3] is not None for row in rows)
    elif becomes is not None:
        ready = becomes is State.QUEUED
        session.run(
            "UPDATE delivery SET state = ?, rank = ?, due_at = NULL, updated_at = ?,"
            " expires_at = CASE WHEN expires_at < ? THEN ? ELSE expires_at END"
            f" WHERE id {session.INTS}",
            (
                int(becomes),
                tx.now if ready else None,
                tx.now,
                *((tx.now + RETRY_US,) * 2 if ready else (0, 0)),
                packed,
            ),
        )
        if ready:
            # What was to be sent later still is: no action of people brings it forward.
            session.run(
                "UPDATE delivery SET rank = NULL, due_at = m.send_at FROM message m"
                f" WHERE m.id = delivery.message_id AND m.send_at > ? AND delivery.id {session.INTS}",
                (tx.now, packed),
            )
        for row in rows:
            tx.move(row[2], becomes)
        tx.ready = tx.ready or ready
        _complete.finish(tx, [row[1] for row in rows])
    _tell(tx, action, rows, actor, upstream)
    return len(rows)


def _where(tx: Transaction, selection: Selection, takes: tuple[State, ...]) -> tuple[str, list[Any]]:
    session = tx.session
    states = [state for state in takes if not selection.states or state in selection.states]
    where = f"WHERE d.state {session.INTS}"
    params: list[Any] = [session.pack([int(state) for state in states])]
    if selection.messages:
        where += f" AND d.message_id {session.TEXTS}"
        params.append(session.pack(list(selection.messages)))
    if selection.deliveries:
        where += f" AND d.id {session.INTS}"
        params.append(session.pack(list(selection.deliveries)))
    if selection.upstream is not None:
        where += " AND d.upstream = ?"
        params.append(selection.upstream)
    if selection.principal is not None:
        where += " AND EXISTS (SELECT 1 FROM message m WHERE m.id = d.message_id AND m.principal = ?)"
        params.append(selection.principal)
    if not (selection.everything or selection.states or len(params) > 1):
        raise ValueError("an empty selection selects nothing; say everything=True where all are meant")
    return where, params


def _tell(tx: Transaction, action: Action, rows: Any, actor: str, upstream: str | None) -> None:
    """One event a message for a few messages, one for all where they are many."""
    messages = list(dict.fromkeys(row[1] for row in rows))
    detail = {"deliveries": len(rows), "messages": messages[:100]}
    if upstream is not None:
        detail["upstream"] = upstream
    if action.becomes is not None:
        detail["state"] = action.becomes.word
    one = len(messages) == 1
    text = f"{len(rows)} deliveries {action.name}" if len(rows) > 1 else f"Delivery {action.name}"
    record(
        tx,
        (
            Event(
                at=tx.now,
                kind=f"message.{action.name}",
                subject=f"message:{messages[0]}" if one else "messages",
                text=f"{text} by {actor}.",
                actor=actor,
                data=msgspec.json.encode(detail).decode(),
            ),
        ),
    )
