"""Engines' lives. A lease belongs to an incarnation and is valid while its heartbeat is fresh by the
database's clock; the rows of one that died are found by it and become UNKNOWN, for nobody knows how far it
got with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from smarthost.faults import planted
from smarthost.spool import _complete
from smarthost.spool._tables import ATTEMPT
from smarthost.spool._types import State
from smarthost.spool._unknown import after_unknown

if TYPE_CHECKING:
    from smarthost.spool._database import Session
    from smarthost.spool._transaction import Transaction

LEASE_S = 30
SLICE = 500
_NEVER_EXPIRES = planted("lease-never-expires")
_UNKNOWN_AS_FAILED = planted("unknown-as-failed")
_DELETE_LEASED = planted("delete-leased-on-start")
_LOST = "The engine stopped while this was being sent; whether it was delivered is not known."


def register(tx: Transaction, name: str, alone: bool) -> int:
    """A new incarnation; this process's earlier one ends. Where there can be one engine only (`alone`),
    every other one is dead."""
    session = tx.session
    if alone:
        session.run("DELETE FROM incarnation")
    elif tx.engine is not None:
        retire(tx)
    if _DELETE_LEASED:
        session.run("DELETE FROM delivery WHERE state = 2")
    return int(
        session.one(
            f"INSERT INTO incarnation (name, started, beat) VALUES (?, {session.CLOCK}, {session.CLOCK})"
            " RETURNING id",
            (name,),
        )
    )


def beat(tx: Transaction) -> None:
    """Renew; a row that retention removed meanwhile comes back: its leases were recovered long before."""
    session = tx.session
    if tx.engine is None:
        return
    if not session.change(f"UPDATE incarnation SET beat = {session.CLOCK} WHERE id = ?", (tx.engine,)):
        session.run(
            "INSERT INTO incarnation (id, name, started, beat)"
            f" VALUES (?, 'returned', {session.CLOCK}, {session.CLOCK})",
            (tx.engine,),
        )


def retire(tx: Transaction) -> None:
    """The end of this process's incarnation."""
    tx.session.run("DELETE FROM incarnation WHERE id = ?", (tx.engine,))


def alive(session: Session) -> list[tuple[int, str, float]]:
    """See Spool.engines."""
    rows = session.run(
        f"SELECT id, name, {session.CLOCK} - beat FROM incarnation"
        f" WHERE beat > {session.CLOCK} - {LEASE_S * 1_000_000} ORDER BY id"
    )
    return [(int(row[0]), row[1], max(int(row[2]), 0) / 1e6) for row in rows]


def recover(tx: Transaction, policy: Mapping[str, str], retry_after_s: int, default: str) -> int:
    """See AsyncSpool.recover; one slice."""
    if _NEVER_EXPIRES:
        return 0
    session = tx.session
    rows = session.gather(
        ("id", "message_id", "upstream", "unknown_ends"),
        "FROM delivery WHERE state = 2 AND lease_engine NOT IN (SELECT id FROM incarnation"
        f" WHERE beat > {session.CLOCK} - {LEASE_S * 1_000_000}) LIMIT {SLICE} {session.SKIP}",
    )
    if not rows:
        return 0
    state = State.FAILED if _UNKNOWN_AS_FAILED else State.UNKNOWN
    dues: dict[int | None, list[int]] = {}
    for row in rows:
        due = after_unknown(tx.now, row[3] + 1, policy.get(row[2], default), retry_after_s)
        dues.setdefault(None if _UNKNOWN_AS_FAILED else due, []).append(row[0])
    for due_at, ids in dues.items():
        session.run(
            "UPDATE delivery SET state = ?, due_at = ?, attempts = attempts + 1,"
            f" unknown_ends = unknown_ends + 1, updated_at = ? WHERE id {session.INTS}",
            (int(state), due_at, tx.now, session.pack(ids)),
        )
    tx.move(2, state, len(rows))
    session.insert(
        ATTEMPT,
        [(row[1], row[0], tx.now, int(state), 1, 0, "4.4.2", _LOST, "", 1, "", "", None) for row in rows],
    )
    if _UNKNOWN_AS_FAILED:
        _complete.finish(tx, [row[1] for row in rows])
    return len(rows)
