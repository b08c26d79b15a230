"""Accepting: durable, once, within caps, each message for itself."""

import pytest

from smarthost.errors import ContentError, IdempotencyConflict, OverCap, StoreUnavailable
from smarthost.spool import (
    CHUNK,
    Acceptance,
    Charge,
    Idempotency,
    NewDelivery,
    Selection,
    State,
    new_id,
    now_us,
)


def test_it_keeps_every_field(place, spool, message):
    m = message(
        "b@example.net",
        "C.C@example.org",
        header_from="a@example.com",
        message_id="<1@example.com>",
        dsn_ret="HDRS",
        dsn_envid="abc",
        trace="Received: from ü\r\n".encode(),
    )
    assert spool.accept(m).how is Acceptance.ACCEPTED
    view = spool.message(m.id)
    for name in [
        "id",
        "created_at",
        "principal",
        "principal_name",
        "door",
        "sender",
        "header_from",
        "subject",
        "message_id",
        "size",
        "header_size",
        "chunks",
        "trace",
        "flags",
        "priority",
        "send_at",
        "expires_at",
        "dsn_ret",
        "dsn_envid",
    ]:
        assert getattr(view, name) == getattr(m, name), name
    assert [(d.recipient, d.upstream, d.state) for d in view.deliveries] == [
        ("b@example.net", "up", State.QUEUED),
        ("C.C@example.org", "up", State.QUEUED),
    ]
    assert b"".join(spool.content(m.id)) == m.content
    assert spool.counts()["queued"] == 2
    assert place.consistent()


def test_it_is_there_after_the_store_was_opened_again(place, message):
    m = message()
    with place.open() as first:
        first.accept(m)
    assert place.open().message(m.id).id == m.id


def test_handing_the_same_message_in_again_is_one_message(place, spool, message):
    m, other = message(), message()
    spool.accept(m)
    first, second = spool.accept_many([m, other])
    assert (first.how, second.how) == (Acceptance.REPEATED, Acceptance.ACCEPTED)
    assert spool.counts()["queued"] == 2
    assert place.consistent()


def test_a_poisoned_message_fails_alone(place, spool, message, run):
    good, bad, also_good = message(), message(recipient := "b@example.net"), message()
    bad = message(recipient, subject=object())

    async def main(store):
        futures = [store.accept(m) for m in (good, bad, also_good)]
        return [f.exception() or f.result() for f in [await _settled(f) for f in futures]]

    results = run(spool, main)
    assert [isinstance(result, Exception) for result in results] == [False, True, False]
    assert spool.counts()["queued"] == 2
    assert place.consistent()


async def _settled(future):
    try:
        await future
    except Exception:
        pass
    return future


@pytest.mark.parametrize("extra", [0, 1, CHUNK])
def test_content_of_any_size_comes_back(spool, message, extra):
    content = b"x: y\r\n\r\n" + b"0123456789" * (CHUNK // 10) + b"z" * extra
    m = message(content=content)
    spool.accept(m)
    assert b"".join(spool.content(m.id)) == content
    assert spool.message(m.id).chunks == -(-len(content) // CHUNK)
    (lease,) = spool.lease("up", 1)
    assert lease.first == content[:CHUNK]
    assert lease.chunks == -(-len(content) // CHUNK)


def test_chunks_written_before_are_the_content(place, spool, message):
    pieces = [b"x: y\r\n\r\n" + b"a" * (CHUNK - 8), b"b" * 100]
    m = message(content=None, size=CHUNK + 100, chunks=2)
    for n, piece in enumerate(pieces):
        spool.write_chunk(m.id, n, piece)
    assert spool.message(m.id) is None
    spool.accept(m)
    assert b"".join(spool.content(m.id)) == b"".join(pieces)
    assert place.consistent()


def test_it_refuses_chunks_that_are_not_all_there(place, spool, message):
    m = message(content=None, size=CHUNK + 100, chunks=2)
    spool.write_chunk(m.id, 0, b"a" * CHUNK)
    with pytest.raises(ContentError) as caught:
        spool.accept(m)
    assert caught.value.temporary
    assert spool.counts()["queued"] == 0


def test_discarding_forgets_chunks_but_never_a_message(place, spool, message):
    lost, kept = new_id(), message()
    spool.accept(kept)
    spool.write_chunk(lost, 0, b"a")
    spool.discard(lost)
    spool.discard(kept.id)
    assert place.sql("SELECT message_id FROM chunk") == [(kept.id,)]


def test_the_same_key_and_request_is_the_same_message(place, spool, message):
    key = Idempotency("k", b"f" * 32)
    first = message(idempotency=key)
    assert spool.accept(first).how is Acceptance.ACCEPTED
    again = spool.accept(message(idempotency=key))
    assert (again.id, again.how) == (first.id, Acceptance.REPEATED)
    with pytest.raises(IdempotencyConflict):
        spool.accept(message(idempotency=Idempotency("k", b"g" * 32)))
    other = spool.accept(message(principal="app:2", idempotency=key))
    assert other.how is Acceptance.ACCEPTED
    assert spool.counts()["queued"] == 2


def test_the_same_key_twice_in_one_batch_is_one_message(place, spool, message):
    key = Idempotency("k", b"f" * 32)
    first, second = message(idempotency=key), message(idempotency=key)
    results = spool.accept_many([first, second])
    assert [(r.id, r.how) for r in results] == [
        (first.id, Acceptance.ACCEPTED),
        (first.id, Acceptance.REPEATED),
    ]
    assert spool.counts()["queued"] == 1


def test_a_cap_is_charged_with_the_message_and_never_passed(place, spool, message):
    window = now_us()

    def charged(amount, limit=10):
        return message(charges=(Charge("app:1/day", window, amount, limit),))

    results = spool.accept_many([charged(6), charged(5), charged(4), charged(1)])
    assert [isinstance(result, OverCap) for result in results] == [False, True, False, True]
    assert spool.usage(["app:1/day"]) == {("app:1/day", window): 10}
    assert spool.counts()["queued"] == 2


def test_a_refused_message_leaves_neither_key_nor_charge(place, spool, message):
    window, key = now_us(), Idempotency("k", b"f" * 32)
    over = message(idempotency=key, charges=(Charge("a", window, 1, 1), Charge("b", window, 2, 1)))
    with pytest.raises(OverCap):
        spool.accept(over)
    assert set(spool.usage(["a", "b"]).values()) == {0}
    assert spool.accept(message(idempotency=key)).how is Acceptance.ACCEPTED


def test_a_repeated_request_is_not_charged(spool, message):
    window, key = now_us(), Idempotency("k", b"f" * 32)
    charge = Charge("a", window, 1, 10)
    spool.accept(message(idempotency=key, charges=(charge,)))
    spool.accept(message(idempotency=key, charges=(charge,)))
    assert spool.usage(["a"]) == {("a", window): 1}


def test_a_quota_is_charged_only_where_it_fits(spool):
    charge = Charge("up/day", 0, 3, 7)
    assert [spool.charge_quota(charge) for _ in range(3)] == [True, True, False]
    assert spool.usage(["up/day"]) == {("up/day", 0): 6}


def test_captured_and_held_mail_is_stored_and_not_leased(place, spool, message):
    m = message()
    deliveries = (
        NewDelivery("b@example.net", "", State.CAPTURED),
        NewDelivery("c@example.net", "up", State.HELD),
    )
    spool.accept(message(deliveries=deliveries))
    assert spool.lease("up", 8) == []
    assert (spool.counts()["captured"], spool.counts()["held"]) == (1, 1)
    assert spool.release(Selection(everything=True), "eve") == 1
    assert len(spool.lease("up", 8)) == 1
    assert m.id not in place.sql("SELECT id FROM message")
    assert place.consistent()


def test_mail_for_later_waits_for_its_time(place, spool, message):
    later = now_us() + 3_600_000_000
    spool.accept(message(send_at=later))
    assert spool.lease("up", 1) == []
    assert spool.promote(later - 1) == (0, later)
    assert spool.promote(later) == (1, None)
    assert len(spool.lease("up", 1)) == 1


def test_below_the_floor_nothing_is_accepted_or_leased(place, message, ended):
    from smarthost.errors import StoreFull

    spool = place.open()
    spool.register()
    spool.accept_many([message(), message()])
    (lease,) = spool.lease("up", 1)
    spool._space._floor = spool.space().free * 2
    spool._space._next = 0.0
    with pytest.raises(StoreFull):
        spool.accept(message())
    assert spool.full
    assert spool.lease("up", 1) == []
    assert spool.complete(ended(lease)) == []
    assert spool.counts()["sent"] == 1


def test_a_closed_store_says_so(place, message):
    spool = place.open()
    spool.close()
    with pytest.raises(StoreUnavailable):
        spool.accept(message())


def test_a_store_without_tables_says_so(tmp_path):
    import pysqlite3

    from smarthost.spool import open_spool

    pysqlite3.connect(str(tmp_path / "empty.db")).close()
    for name in ("empty.db", "missing.db"):
        with pytest.raises(StoreUnavailable):
            open_spool(f"sqlite:///{tmp_path / name}", tmp_path, name="test")
