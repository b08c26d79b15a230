"""A batch of operations inside one transaction: alike ones together, or one after another where one of them
is poison."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Any

from smarthost.errors import ContentError, SmarthostError
from smarthost.spool import _accept, _complete
from smarthost.spool._database import Trouble, explain
from smarthost.spool._lease import Leaser
from smarthost.spool._transaction import Transaction
from smarthost.spool._types import NewMessage, Outcome

LOCK_NOT_AVAILABLE = "55P03"  # somebody's long transaction holds a counter or a key that this one needs

Judge = Callable[[BaseException], Trouble]


class Kind(IntEnum):
    """The operations, in the order in which a batch executes them: what was accepted can be leased in the
    same commit, and what was completed makes no second lease wait."""

    CHUNK = 0
    COMPLETE = 1
    ACCEPT_ONE = 2
    ACCEPT = 3
    RUN = 4
    LEASE = 5


class Operation:
    """One thing to do for one caller, who waits on `lock` or on `future`."""

    __slots__ = ("argument", "error", "future", "kind", "lock", "result")

    def __init__(self, kind: Kind, argument: Any, future: asyncio.Future[Any] | None) -> None:
        self.kind = kind
        self.argument = argument
        self.future = future
        self.lock: threading.Lock | None = None
        self.result: Any = None
        self.error: BaseException | None = None


def execute(tx: Transaction, batch: list[Operation], leaser: Leaser, trouble: Judge) -> None:
    """Execute all; results stand in the operations. Raises what the whole batch must be rolled back for."""
    if tx.careful:
        for operation in batch:
            _one(tx, operation, leaser, trouble)
    else:
        _all(tx, batch, leaser)


def _one(tx: Transaction, operation: Operation, leaser: Leaser, trouble: Judge) -> None:
    """One operation in a savepoint: its own fault fails it alone."""
    session = tx.session
    session.run("SAVEPOINT one")
    before = tx.snapshot()
    operation.error = None
    try:
        _group(tx, operation.kind, [operation], leaser)
    except Exception as error:
        if not isinstance(error, SmarthostError) and trouble(error) is not Trouble.OURS:
            raise
        session.run("ROLLBACK TO SAVEPOINT one")
        tx.restore(before)
        operation.result, operation.error = None, _failure(operation.kind, error)
    session.run("RELEASE SAVEPOINT one")


def _failure(kind: Kind, error: Exception) -> Exception:
    """What the caller is told of its own operation's fault."""
    if isinstance(error, SmarthostError):
        return error
    if getattr(error, "sqlstate", None) == LOCK_NOT_AVAILABLE:
        return explain(Trouble.BUSY, error)
    if kind in (Kind.ACCEPT, Kind.ACCEPT_ONE):
        return ContentError(
            "This message cannot be stored as it is.", private=f"{type(error).__name__}: {error}"
        )
    return error


def _all(tx: Transaction, batch: list[Operation], leaser: Leaser) -> None:
    groups: dict[Kind, list[Operation]] = {}
    for operation in batch:
        operation.error = None
        groups.setdefault(operation.kind, []).append(operation)
    for kind in sorted(groups):
        _group(tx, kind, groups[kind], leaser)


def _group(tx: Transaction, kind: Kind, operations: list[Operation], leaser: Leaser) -> None:
    if kind is Kind.ACCEPT_ONE:
        results = _accept.accept(tx, [operation.argument for operation in operations])
        for operation, result in zip(operations, results, strict=True):
            if isinstance(result, SmarthostError):
                operation.error = result
            else:
                operation.result = result
    elif kind is Kind.COMPLETE:
        _complete_all(tx, operations)
    elif kind is Kind.LEASE:
        _lease(tx, operations, leaser)
    elif kind is Kind.CHUNK:
        _accept.write_chunks(tx, [operation.argument for operation in operations])
    elif kind is Kind.ACCEPT:
        messages: list[NewMessage] = []
        for operation in operations:
            messages += operation.argument
        results = _accept.accept(tx, messages)
        at = 0
        for operation in operations:
            operation.result = results[at : at + len(operation.argument)]
            at += len(operation.argument)
    else:
        for operation in operations:
            function, arguments = operation.argument
            operation.result = function(tx, *arguments)


def _lease(tx: Transaction, operations: list[Operation], leaser: Leaser) -> None:
    """Those who ask for the same upstream are served by one search, in the order in which they came."""
    asked: dict[tuple[str, int], list[Operation]] = {}
    for operation in operations:
        upstream, _, limit = operation.argument
        asked.setdefault((upstream, limit), []).append(operation)
    for (upstream, limit), same in asked.items():
        leases = leaser.lease(tx, upstream, sum(o.argument[1] for o in same), limit)
        at = 0
        for operation in same:
            places = operation.argument[1]
            operation.result = leases[at : at + places]
            at += places


def _complete_all(tx: Transaction, operations: list[Operation]) -> None:
    outcomes: list[Outcome] = []
    for operation in operations:
        outcomes += operation.argument
    if len({outcome.delivery for outcome in outcomes}) != len(outcomes):
        # Two words about one delivery: the first one whose token is right counts.
        for operation in operations:
            operation.result = [
                fenced for outcome in operation.argument for fenced in _complete.complete(tx, [outcome])
            ]
        return
    fenced = set(_complete.complete(tx, outcomes)) if outcomes else set()
    for operation in operations:
        operation.result = [o.delivery for o in operation.argument if o.delivery in fenced] if fenced else []
