"""Delivery: leases what is ready, speaks SMTP over kept sessions, records what became of it."""

from smarthost.engine.delivery._classify import Fault, classify
from smarthost.engine.delivery._deadlines import Deadlines
from smarthost.engine.delivery._delivery import Delivery
from smarthost.engine.delivery._notice import Notices
from smarthost.engine.delivery._waiting import PATIENCE, Waiting

__all__ = ["PATIENCE", "Deadlines", "Delivery", "Fault", "Notices", "Waiting", "classify"]
