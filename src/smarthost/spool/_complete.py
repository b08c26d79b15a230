"""Completion: what attempts did becomes the deliveries' state, fenced by their tokens, in one commit with the
attempt rows and with the failure notice where this was a message's last open delivery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from smarthost.faults import planted, point
from smarthost.spool import _accept, _query
from smarthost.spool._routes import record
from smarthost.spool._tables import ATTEMPT
from smarthost.spool._types import FINAL, Event, Outcome, State

if TYPE_CHECKING:
    from smarthost.spool._database import Row, SettleRow
    from smarthost.spool._transaction import Transaction

FENCED = not planted("complete-without-token")
GIVEN_BACK_US = 3_600_000_000
_NOTICED = "1 = 1" if planted("notice-loop") else "door IN ('smtp', 'sendmail')"
_FINAL = "(" + ", ".join(str(int(state)) for state in sorted(FINAL)) + ")"
_FAILURES = frozenset({State.FAILED, State.EXPIRED})
_SENT, _QUEUED, _DEFERRED, _UNKNOWN = State.SENT, State.QUEUED, State.DEFERRED, State.UNKNOWN


def complete(tx: Transaction, outcomes: Sequence[Outcome]) -> list[int]:
    """Store outcomes, at most one a delivery; gives the ids that were fenced out."""
    session = tx.session
    found = session.settle([_row(outcome, tx.now) for outcome in outcomes], FENCED)
    mine: dict[int, Row] = {row[0]: row for row in found}
    attempts: list[Row] = []
    ending: list[str] = []
    fenced: list[int] = []
    sent = 0
    for o in outcomes:
        row = mine.get(o.delivery)
        if row is None:
            fenced.append(o.delivery)
            continue
        state = o.state
        if state is _SENT:
            sent += 1
            if not row[2]:
                ending.append(row[1])
        else:
            tx.move(2, state)
            if state is _QUEUED:
                tx.ready = True
                if not o.reply:
                    continue
            elif state in FINAL:
                ending.append(row[1])
        attempts.append(
            (
                row[1],
                o.delivery,
                o.at,
                int(state),
                int(o.counts),
                o.code,
                _clean(o.enhanced),
                _clean(o.reply),
                o.stage,
                int(o.local),
                o.session,
                o.timings,
                None if o.transcript is None else _clean(o.transcript),
            )
        )
    if sent:
        tx.move(2, _SENT, sent)
    if attempts:
        tx.session.insert(ATTEMPT, attempts)
    if ending:
        finish(tx, ending)
    return fenced


def _row(o: Outcome, now: int) -> SettleRow:
    """The change of one row. A row that waits has due_at, one that is ready has rank, any other neither."""
    state = o.state
    rank = due = None
    unknown = 0
    counts = int(o.counts)
    if state is not _SENT:
        if state is _QUEUED:
            counts = 0
            if o.due_at is not None and o.due_at > now:
                due = o.due_at
            else:  # it had its turn already: in front of what came later
                rank = o.at - GIVEN_BACK_US
        elif state is _DEFERRED:
            if o.due_at is None:
                raise ValueError("an outcome DEFERRED needs due_at")
            due = o.due_at
        elif state is _UNKNOWN:
            unknown = 1
            due = o.due_at
        elif state not in FINAL and state is not State.HELD:
            raise ValueError(f"an attempt cannot end as {state.word}")
    return (o.delivery, o.token, int(state), rank, due, counts, unknown, o.at)


def _clean(text: str) -> str:
    """Text as both databases can store it."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def finish(tx: Transaction, message_ids: Iterable[str]) -> None:
    """Where the last delivery of a message has become final and some failed: its one failure notice."""
    if tx.notice is None:
        return
    session = tx.session
    ids = sorted(set(message_ids))
    rows = session.run(
        f"SELECT id FROM message WHERE id {session.TEXTS} AND noticed = 0 AND {_NOTICED}"
        f" ORDER BY id {session.LOCK}",
        (session.pack(ids),),
    )
    for (message_id,) in rows:
        # Asked after the lock: whoever completed the other recipients has committed by now.
        failed, still_open = session.run(
            "SELECT sum(CASE WHEN state IN (7, 8) THEN 1 ELSE 0 END),"
            f" sum(CASE WHEN state IN {_FINAL} THEN 0 ELSE 1 END) FROM delivery WHERE message_id = ?",
            (message_id,),
        )[0]
        if failed and not still_open:
            _notice(tx, message_id)


def _notice(tx: Transaction, message_id: str) -> None:
    session = tx.session
    view = _query.message(session, message_id, True)
    session.run("UPDATE message SET noticed = 1 WHERE id = ?", (message_id,))
    if view is None or tx.notice is None:
        return
    try:
        notice = tx.notice(view)
    except Exception as error:  # a notice that cannot be made must not undo what was delivered
        record(
            tx,
            (
                Event(
                    at=tx.now,
                    kind="notice.failed",
                    subject=f"message:{message_id}",
                    text=f"No failure notice could be made: {type(error).__name__}.",
                    severity="error",
                ),
            ),
        )
        return
    if notice is not None:
        point("during-notice")
        _accept.accept(tx, [notice])
