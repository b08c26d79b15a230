"""Run by test_django.py in a process of its own: Django can be configured once a process."""

import sys
from pathlib import Path

import django

import smarthost.control  # noqa: F401 - puts the bundled SQLite in place

django.setup()

from django.db import connection, transaction  # noqa: E402

from smarthost.errors import IdempotencyConflict  # noqa: E402
from smarthost.spool import (  # noqa: E402
    Acceptance,
    Door,
    Idempotency,
    NewDelivery,
    NewMessage,
    accept_on,
    new_id,
    now_us,
    open_spool,
)


def build(**fields):
    now = now_us()
    values = {
        "id": new_id(),
        "created_at": now,
        "principal": "user:1",
        "principal_name": "Ann",
        "door": Door.SYSTEM,
        "sender": "a@example.com",
        "deliveries": (NewDelivery("b@example.net", "up"),),
        "size": 8,
        "header_size": 8,
        "trace": b"",
        "expires_at": now + 10**12,
        "content": b"a: b\r\n\r\n",
    }
    return NewMessage(**values | fields)


class Undo(Exception):
    pass


url, data = sys.argv[1], Path(sys.argv[2])
with open_spool(url, data, name="web") as spool:
    undone = build()
    try:
        with transaction.atomic():
            assert accept_on(connection, [undone])[0].how is Acceptance.ACCEPTED
            raise Undo
    except Undo:
        pass
    assert spool.message(undone.id) is None
    assert spool.counts()["queued"] == 0

    kept = [build(), build(content=b"a: b\r\n\r\n" + b"z" * 600_000, size=600_008)]
    with transaction.atomic():
        accept_on(connection, kept)
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM message")
            assert cursor.fetchone() == (2,)
        assert spool.message(kept[0].id) is None
    spool.wake("mail")
    assert spool.counts()["queued"] == 2
    assert len(b"".join(spool.content(kept[1].id))) == 600_008

    with transaction.atomic():
        assert accept_on(connection, [kept[0]])[0].how is Acceptance.REPEATED
    key = Idempotency("k", b"1")
    try:
        with transaction.atomic():
            accept_on(connection, [build(idempotency=key)])
            accept_on(connection, [build(idempotency=Idempotency("k", b"2"))])
    except IdempotencyConflict:
        pass
    else:
        raise AssertionError("no conflict")
    assert spool.counts()["queued"] == 2

    try:
        accept_on(connection, [build()])
    except RuntimeError as error:
        assert "transaction" in str(error)
    else:
        raise AssertionError("accepted in autocommit")

    # A long transaction of a request does not hold up the process's own commits on PostgreSQL.
    if connection.vendor == "postgresql":
        with transaction.atomic():
            accept_on(connection, [build()])
            spool.accept(build())
        assert spool.counts()["queued"] == 4
    spool.register()
    assert len(spool.lease("up", 8)) == (4 if connection.vendor == "postgresql" else 2)
print("well")
