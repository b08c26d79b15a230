"""Events, and what the engines share about upstreams' health."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from smarthost.spool._tables import EVENT
from smarthost.spool._types import Event
from smarthost.spool._views import Route

if TYPE_CHECKING:
    from smarthost.spool._database import Session
    from smarthost.spool._transaction import Transaction


def record(tx: Transaction, events: Sequence[Event]) -> None:
    """Write events."""
    if events:
        tx.session.insert(
            EVENT, [(e.at, e.kind, e.subject, e.text, e.severity, e.actor, e.data) for e in events]
        )


def set_route(tx: Transaction, route: Route) -> None:
    """See Spool.set_route."""
    if route == Route(route.upstream):
        tx.session.run("DELETE FROM route WHERE upstream = ?", (route.upstream,))
        return
    tx.session.run(
        "INSERT INTO route (upstream, paused_until, reason, text, since, failures, probe_at, detail)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (upstream) DO UPDATE SET"
        " paused_until = excluded.paused_until, reason = excluded.reason, text = excluded.text,"
        " since = excluded.since, failures = excluded.failures, probe_at = excluded.probe_at,"
        " detail = excluded.detail",
        (
            route.upstream,
            route.paused_until,
            route.reason,
            route.text,
            route.since,
            route.failures,
            route.probe_at,
            route.detail,
        ),
    )


def claim_probe(tx: Transaction, upstream: str, now: int, next_at: int) -> bool:
    """See AsyncSpool.claim_probe."""
    return bool(
        tx.session.change(
            "UPDATE route SET probe_at = ? WHERE upstream = ? AND probe_at <= ?", (next_at, upstream, now)
        )
    )


def routes(session: Session) -> dict[str, Route]:
    """See Spool.routes."""
    rows = session.run(
        "SELECT upstream, paused_until, reason, text, since, failures, probe_at, detail FROM route"
    )
    return {row[0]: Route(*row) for row in rows}
