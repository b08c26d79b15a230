"""What time does: expiry with its notice, content purged before rows, orphans, old keys."""

import threading
import time

import pytest

from smarthost.spool import (
    Charge,
    Door,
    Event,
    Flag,
    Idempotency,
    Selection,
    State,
    new_id,
    now_us,
)

DAY = 24 * 3_600_000_000


def test_what_is_over_its_time_expires_and_says_so(place, spool, message, ended):
    now = now_us()
    queued, deferred, held, fresh = (
        message(expires_at=now),
        message(expires_at=now),
        message(expires_at=now, state=State.HELD),
        message(),
    )
    spool.accept(deferred)
    (lease,) = spool.lease("up", 1)
    spool.complete(ended(lease, State.DEFERRED, due_at=now + DAY))
    spool.accept_many([queued, held, fresh])
    assert spool.expire(now) == 2
    for m in (queued, deferred):
        (delivery,) = spool.message(m.id).deliveries
        assert delivery.state is State.EXPIRED
        assert (delivery.tries[-1].state, delivery.tries[-1].local) == (State.EXPIRED, True)
    assert spool.counts() | {"expired": 2, "held": 1, "queued": 1} == spool.counts()
    assert place.consistent()


@pytest.mark.parametrize("again", [False, True])
def test_an_unknown_end_that_waits_for_a_person_never_expires(place, notices, message, ended, again):
    """And is told to nobody as a failure; one that is due again ends with its time."""
    spool, now = notices.spool, now_us()
    m = message(expires_at=now)
    spool.accept(m)
    (lease,) = spool.lease("up", 1)
    spool.complete(ended(lease, State.UNKNOWN, due_at=now + DAY if again else None))
    assert spool.expire(now) == again
    assert spool.message(m.id).deliveries[0].state is (State.EXPIRED if again else State.UNKNOWN)
    assert len(notices.views) == again
    assert place.consistent()


class Notices:
    """A builder that remembers what it was asked, and answers every message but its own."""

    def __init__(self, build):
        self.build = build
        self.views = []

    def __call__(self, view):
        self.views.append(view)
        return self.build(view.sender, sender="", door=Door.NOTICE, flags=Flag.AUTOMATIC)


@pytest.fixture
def notices(place, message):
    notices = Notices(message)
    notices.spool = place.open(notice=notices)
    notices.spool.register()
    return notices


def test_one_notice_a_message_when_its_last_delivery_is_final(place, notices, message, ended):
    spool = notices.spool
    m = message("b@example.net", "c@example.net", "d@example.net")
    spool.accept(m)
    (lease,) = spool.lease("up", 1)
    sent, failed, later = (
        ended(lease, State.SENT)[0],
        ended(lease, State.FAILED, code=550, reply="550 no")[1],
        ended(lease, State.DEFERRED, due_at=now_us())[2],
    )
    spool.complete([sent, failed, later])
    assert notices.views == []
    spool.promote(now_us())
    (lease,) = spool.lease("up", 1)
    spool.complete(ended(lease, State.SENT))
    (view,) = notices.views
    assert view.id == m.id
    assert view.header == b"From: a@example.com\r\nSubject: hello\r\n\r\n"
    assert [d.state for d in view.deliveries] == [State.SENT, State.FAILED, State.SENT]
    assert view.deliveries[1].tries[-1].reply == "550 no"
    (lease,) = spool.lease("up", 1)
    assert (lease.sender, lease.door) == ("", Door.NOTICE)
    spool.complete(ended(lease, State.FAILED))
    assert len(notices.views) == 1
    assert spool.message(m.id).noticed
    assert place.consistent()


def test_a_retried_message_is_not_noticed_twice(notices, message, ended):
    spool = notices.spool
    m = message()
    for _ in range(2):
        spool.accept(m)
        spool.retry(Selection(messages=(m.id,)), "eve")
        (lease,) = [lease for lease in spool.lease("up", 8) if lease.message_id == m.id]
        spool.complete(ended(lease, State.FAILED))
    assert len(notices.views) == 1


@pytest.mark.parametrize("door", [Door.HTTP, Door.CLI, Door.SYSTEM, Door.NOTICE])
def test_no_notice_for_mail_of_other_doors(notices, message, ended, door):
    notices.spool.accept(message(door=door))
    (lease,) = notices.spool.lease("up", 1)
    notices.spool.complete(ended(lease, State.FAILED))
    assert notices.views == []


def test_an_expired_message_is_noticed(notices, message):
    notices.spool.accept(message(door=Door.SENDMAIL, expires_at=now_us()))
    notices.spool.expire(now_us())
    assert len(notices.views) == 1


def test_a_notice_that_cannot_be_made_undoes_nothing(place, message, ended):
    def broken(view):
        raise RuntimeError("no")

    spool = place.open(notice=broken)
    spool.register()
    spool.accept(message())
    (lease,) = spool.lease("up", 1)
    assert spool.complete(ended(lease, State.FAILED)) == []
    assert spool.counts()["failed"] == 1
    assert [e.severity for e in spool.events(kind="notice.failed")] == ["error"]
    assert place.consistent()


def old(message, days, **fields):
    at = now_us() - days * DAY
    return message(id=new_id(at), created_at=at, **fields)


def purge(spool, content=3, rows=30, events=30, limit=500):
    now = now_us()
    return spool.purge(
        now,
        content_before=now - content * DAY,
        rows_before=now - rows * DAY,
        events_before=now - events * DAY,
        limit=limit,
    )


def test_content_goes_before_rows(place, spool, message):
    captured = State.CAPTURED
    fresh, middle, ancient = (
        message(state=captured),
        old(message, 5, state=captured),
        old(message, 40, state=captured),
    )
    waiting = old(message, 40)
    spool.accept_many([fresh, middle, ancient, waiting])
    first = purge(spool)
    assert (first.contents, first.messages, first.orphans) == (2, 1, 0)
    assert spool.message(ancient.id) is None
    assert not spool.message(middle.id).has_content
    assert list(spool.content(middle.id)) == []
    assert spool.message(fresh.id).has_content
    assert spool.message(waiting.id).has_content
    assert not purge(spool).more
    assert spool.counts() | {"captured": 2, "queued": 1} == spool.counts()
    assert place.consistent()


def test_purging_goes_on_in_slices(place, spool, message):
    spool.accept_many([old(message, 5, state=State.CAPTURED) for _ in range(7)])
    slices = 1
    while purge(spool, limit=3).more:
        slices += 1
    assert slices == 3
    assert place.sql("SELECT count(*) FROM chunk") == [(0,)]


def test_chunks_that_never_became_a_message_go_after_a_day(place, spool):
    orphan, coming = new_id(now_us() - 2 * DAY), new_id()
    for id in (orphan, coming):
        spool.write_chunk(id, 0, b"a")
        spool.write_chunk(id, 1, b"b")
    assert purge(spool).orphans == 1
    assert {row[0] for row in place.sql("SELECT message_id FROM chunk")} == {coming}


def test_keys_usage_and_events_age(place, spool, message):
    spool.accept(message(idempotency=Idempotency("k", b"f"), charges=(Charge("c", now_us(), 1, 9),)))
    spool.charge_quota(Charge("old", 0, 1, 9))
    spool.record([Event(at=0, kind="a", subject="b", text="c"), Event(now_us(), "a", "b", "c")])
    place.sql("UPDATE idempotency SET created_at = created_at - ?", 8 * DAY)
    assert purge(spool).others == 3
    assert len(spool.events()) == 1
    assert place.sql("SELECT count(*) FROM idempotency") == [(0,)]
    assert [key for key, _ in spool.usage(["c", "old"])] == ["c"]


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_two_engines_that_end_a_message_at_once_make_one_notice(place, message, ended):
    views = []
    first, second = place.open(notice=views.append), place.open(notice=views.append)
    first.register()
    second.register()
    first.accept(message("b@example.net", "c@example.net"))
    (one,), (other,) = first.lease("up", 1, 1), second.lease("up", 1, 1)
    session = first._committer._session
    commit = session.commit
    reached = threading.Event()

    def commit_when_the_other_waits():
        session.commit = commit
        reached.set()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        deadline = time.monotonic() + 10
        while place.sql(waiting) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.005)
        commit()

    session.commit = commit_when_the_other_waits
    threads = [
        threading.Thread(target=spool.complete, args=(ended(lease, State.FAILED),))
        for spool, lease in ((first, one), (second, other))
    ]
    threads[0].start()
    assert reached.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert len(views) == 1
    assert place.consistent()
