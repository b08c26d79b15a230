"""The durable store: SQLite and PostgreSQL behind one facade.

`open_spool` gives a `Spool` for threads (Django, commands); `Spool.bind(loop)` gives an `AsyncSpool` for the
engine. Whatever a method returns is durable when it returns. Every failure is a `SmarthostError`:
StoreUnavailable (451, nothing happened), StoreFull (452, below the floor of free space), OverCap,
IdempotencyConflict.
"""

from smarthost.spool._async import AsyncSpool
from smarthost.spool._ids import CHUNK, id_before, id_time, new_id, now_us
from smarthost.spool._spool import Spool, accept_on, open_spool
from smarthost.spool._types import (
    FINAL,
    Acceptance,
    Accepted,
    Charge,
    Door,
    Event,
    Flag,
    Idempotency,
    Lease,
    LeasedDelivery,
    NewDelivery,
    NewMessage,
    Outcome,
    Priority,
    State,
)
from smarthost.spool._unknown import after_unknown
from smarthost.spool._views import (
    AttemptView,
    DeliveryRow,
    DeliveryView,
    EventRow,
    Filter,
    Finding,
    MessageView,
    NoticeBuilder,
    Purged,
    Route,
    Selection,
    Space,
)

__all__ = [
    "CHUNK",
    "FINAL",
    "Acceptance",
    "Accepted",
    "AsyncSpool",
    "AttemptView",
    "Charge",
    "DeliveryRow",
    "DeliveryView",
    "Door",
    "Event",
    "EventRow",
    "Filter",
    "Finding",
    "Flag",
    "Idempotency",
    "Lease",
    "LeasedDelivery",
    "MessageView",
    "NewDelivery",
    "NewMessage",
    "NoticeBuilder",
    "Outcome",
    "Priority",
    "Purged",
    "Route",
    "Selection",
    "Space",
    "Spool",
    "State",
    "accept_on",
    "after_unknown",
    "id_before",
    "id_time",
    "new_id",
    "now_us",
    "open_spool",
]
