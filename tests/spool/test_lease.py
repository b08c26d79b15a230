"""Leasing and completion: order, fairness, fences, what a dead engine leaves behind."""

import threading

import pytest

from smarthost.errors import ConfigError, StoreUnavailable
from smarthost.spool import Outcome, Priority, State, now_us

SECOND = 1_000_000


def ids(leases):
    return [lease.message_id for lease in leases]


def test_it_gives_what_sending_needs(place, spool, message):
    m = message("b@example.net", header_from="a@example.com", priority=Priority.URGENT, dsn_ret="FULL")
    spool.accept(m)
    (lease,) = spool.lease("up", 4)
    place.open(cache=0)
    for name in [
        "sender",
        "size",
        "header_size",
        "chunks",
        "trace",
        "flags",
        "priority",
        "created_at",
        "expires_at",
        "principal",
        "principal_name",
        "door",
        "header_from",
        "dsn_ret",
        "dsn_envid",
    ]:
        assert getattr(lease, name) == getattr(m, name), name
    assert (lease.message_id, lease.upstream, lease.first) == (m.id, "up", m.content)
    assert [(d.recipient, d.attempts) for d in lease.deliveries] == [("b@example.net", 0)]
    assert spool.counts()["sending"] == 1
    assert spool.lease("up", 4) == []


def test_memory_and_database_give_the_same_lease(place, message):
    cold = place.open(cache=0)
    cold.register()
    warm = place.open()
    warm._committer._engine = cold._committer._engine
    warm._committer._leaser.start(cold._committer._engine)
    m = message(header_from="a@example.com", send_at=now_us() - 1, dsn_envid="x")
    warm.accept(m)
    (first,) = warm.lease("up", 1)
    token = first.token
    warm.complete([Outcome(first.deliveries[0].id, token, State.QUEUED, now_us())])
    (second,) = cold.lease("up", 1)
    second.token = token
    assert first == second
    warm._committer._engine = None


def test_recipients_of_one_message_go_together(spool, message):
    one, many = message(), message(*[f"r{n}@example.net" for n in range(25)])
    spool.accept_many([many, one])
    leases = spool.lease("up", 2, 10)
    assert [len(lease.deliveries) for lease in leases] == [10, 10]
    assert ids(leases) == [many.id, many.id]
    rest = spool.lease("up", 5, 10)
    assert [(lease.message_id, len(lease.deliveries)) for lease in rest] == [(many.id, 5), (one.id, 1)]


def test_a_place_is_filled_with_all_recipients_that_fit(spool, message):
    many = message(*[f"r{n}@example.net" for n in range(7)])
    spool.accept(many)
    (lease,) = spool.lease("up", 1, 100)
    assert [d.recipient for d in lease.deliveries] == [f"r{n}@example.net" for n in range(7)]


def test_fewer_leases_than_places_means_nothing_more_is_ready(spool, message):
    messages = [message(*[f"r{n}@example.net" for n in range(20)]) for _ in range(6)]
    spool.accept_many(messages)
    assert sorted(ids(spool.lease("up", 8, 100))) == sorted(m.id for m in messages)


def test_only_the_upstream_asked_for(spool, message):
    here, there = message(upstream="up"), message(upstream="other")
    spool.accept_many([here, there])
    assert sorted(spool.ready_upstreams()) == ["other", "up"]
    assert ids(spool.lease("up", 8)) == [here.id]
    assert spool.ready_upstreams() == ["other"]


def test_urgent_before_normal_before_bulk(spool, message):
    bulk, normal, urgent = (message(priority=p) for p in (Priority.BULK, Priority.NORMAL, Priority.URGENT))
    spool.accept_many([bulk, normal, urgent])
    assert ids(spool.lease("up", 3)) == [urgent.id, normal.id, bulk.id]


def test_one_of_eight_contested_places_goes_to_the_lowest_class(spool, message):
    spool.accept_many([message(priority=Priority.URGENT) for _ in range(40)])
    spool.accept_many([message(priority=Priority.BULK) for _ in range(40)])
    classes = [lease.priority for _ in range(8) for lease in spool.lease("up", 2)]
    assert classes.count(Priority.BULK) == 2
    classes = [lease.priority for lease in spool.lease("up", 16)]
    assert classes.count(Priority.BULK) == 2


def test_a_flood_of_one_principal_does_not_hold_up_another(spool, message):
    spool.accept_many([message(principal="app:flood") for _ in range(200)])
    other = message(principal="app:quiet")
    spool.accept(other)
    leases = spool.lease("up", 60)
    assert other.id in ids(leases)


def test_given_back_mail_goes_first_and_costs_no_attempt(spool, message, ended):
    first = message()
    spool.accept(first)
    (lease,) = spool.lease("up", 1)
    spool.accept(message())
    spool.complete(ended(lease, State.QUEUED, reply=""))
    view = spool.message(first.id)
    assert (view.deliveries[0].state, view.deliveries[0].attempts) == (State.QUEUED, 0)
    assert view.deliveries[0].tries == ()
    assert ids(spool.lease("up", 1)) == [first.id]


def test_completion_writes_the_attempt(place, spool, message):
    m = message()
    spool.accept(m)
    (lease,) = spool.lease("up", 1)
    at = now_us()
    outcome = Outcome(
        lease.deliveries[0].id,
        lease.token,
        State.DEFERRED,
        at,
        due_at=at + 60 * SECOND,
        code=451,
        enhanced="4.7.1",
        reply="451 4.7.1 later\0, please ü\udcff",
        stage="rcpt",
        session="s1",
        timings='{"connect":5}',
        transcript="C: MAIL",
    )
    assert spool.complete([outcome]) == []
    (delivery,) = spool.message(m.id).deliveries
    assert (delivery.state, delivery.due_at, delivery.attempts) == (State.DEFERRED, at + 60 * SECOND, 1)
    (attempt,) = delivery.tries
    assert (attempt.at, attempt.state, attempt.code, attempt.stage) == (at, State.DEFERRED, 451, "rcpt")
    assert attempt.reply == "451 4.7.1 later\ufffd, please ü?"
    assert (attempt.session, attempt.timings, attempt.transcript) == ("s1", '{"connect":5}', "C: MAIL")
    assert place.consistent()


def test_deferred_mail_comes_back_when_due(place, spool, message, ended):
    spool.accept(message())
    (lease,) = spool.lease("up", 1)
    due = now_us() + 60 * SECOND
    spool.complete(ended(lease, State.DEFERRED, due_at=due))
    assert spool.lease("up", 1) == []
    assert spool.next_due() == due
    assert spool.promote(due)[0] == 1
    (again,) = spool.lease("up", 1)
    assert again.deliveries[0].attempts == 1
    assert place.consistent()


def test_a_wrong_token_changes_nothing(place, spool, message, ended):
    m = message()
    spool.accept(m)
    (old,) = spool.lease("up", 1)
    spool.complete(ended(old, State.QUEUED))
    (new,) = spool.lease("up", 1)
    assert new.token != old.token
    assert spool.complete(ended(old)) == [old.deliveries[0].id]
    assert spool.counts()["sending"] == 1
    assert spool.complete(ended(new)) == []
    assert spool.complete(ended(new)) == [new.deliveries[0].id]
    (delivery,) = spool.message(m.id).deliveries
    assert [attempt.state for attempt in delivery.tries if attempt.state is State.SENT] == [State.SENT]
    assert place.consistent()


def test_of_two_words_about_one_delivery_the_right_token_counts(place, spool, message, ended, run):
    spool.accept(message())
    (lease,) = spool.lease("up", 1)
    (right,) = ended(lease)
    wrong = Outcome(right.delivery, right.token - 1, State.FAILED, now_us())

    async def main(store):
        futures = [store.complete([wrong]), store.complete([right]), store.complete([right])]
        return [await future for future in futures]

    assert run(spool, main) == [[right.delivery], [], [right.delivery]]
    assert spool.counts()["sent"] == 1
    assert place.consistent()


def test_an_impossible_outcome_fails_alone(place, spool, message, ended, run):
    spool.accept_many([message(), message()])
    first, second = spool.lease("up", 2)

    async def main(store):
        bad = store.complete(ended(first, State.DEFERRED))  # without due_at
        good = store.complete(ended(second))
        with pytest.raises(ValueError, match="due_at"):
            await bad
        return await good

    assert run(spool, main) == []
    assert (spool.counts()["sending"], spool.counts()["sent"]) == (1, 1)
    assert place.consistent()


def test_who_is_no_engine_leases_nothing(place, message):
    spool = place.open()
    spool.accept(message())
    with pytest.raises(StoreUnavailable):
        spool.lease("up", 1)


def test_mail_accepted_and_leased_in_one_batch(spool, message, run):
    async def main(store):
        accepted, leases = store.accept(m := message()), store.lease("up", 1)
        return m.id, (await accepted).id, ids(await leases)

    wanted, accepted, leased = run(spool, main)
    assert accepted == wanted
    assert leased in ([wanted], [])


def dead(place, engine):
    """Make a heartbeat as old as one of an engine that died."""
    place.sql("UPDATE incarnation SET beat = beat - 40000000 WHERE id = ?", engine)


@pytest.mark.parametrize("policy", ["retry", "hold"])
def test_mail_of_a_dead_engine_becomes_unknown_by_policy(place, message, ended, policy):
    first = place.open()
    engine = first.register()
    m = message()
    first.accept(m)
    (lease,) = first.lease("up", 1)
    assert first.recover({"up": policy}) == 0
    dead(place, engine)
    assert first.recover({"up": policy}, 900) == 1
    (delivery,) = first.message(m.id).deliveries
    assert (delivery.state, delivery.attempts, delivery.unknown_ends) == (State.UNKNOWN, 1, 1)
    assert (delivery.due_at is None) == (policy == "hold")
    assert delivery.tries[-1].state is State.UNKNOWN
    assert first.complete(ended(lease)) == [lease.deliveries[0].id]
    if policy == "retry":
        assert delivery.due_at >= now_us() + 890 * SECOND
        assert first.promote(delivery.due_at)[0] == 1
        first.beat()
        (again,) = first.lease("up", 1)
        assert again.deliveries[0].unknown_ends == 1
    assert place.consistent()


def test_mail_that_outlives_five_engines_waits_twice_as_long_each_time_and_then_for_a_person(place, message):
    spool = place.open()
    engine = spool.register()
    m = message()
    spool.accept(m)
    pauses = []
    for _ in range(5):
        assert len(spool.lease("up", 1)) == 1
        dead(place, engine)
        before = now_us()
        assert spool.recover({}, 900) == 1
        (delivery,) = spool.message(m.id).deliveries
        spool.beat()
        if delivery.due_at is not None:
            pauses.append((delivery.due_at - before) // (60 * SECOND))
            spool.promote(delivery.due_at)
    assert pauses == [15, 30, 60, 120]
    assert (delivery.state, delivery.due_at, delivery.unknown_ends) == (State.UNKNOWN, None, 5)
    assert spool.lease("up", 1) == []
    assert place.consistent()


def test_a_beating_engine_keeps_its_leases(place, spool, message):
    engine = spool.register()
    spool.accept(message())
    spool.lease("up", 1)
    dead(place, engine)
    spool.beat()
    assert spool.recover({}) == 0
    assert [row[0] for row in spool.engines()] == [engine]


def test_an_engine_whose_row_was_removed_comes_back(place, spool):
    engine = spool.register()
    place.sql("DELETE FROM incarnation")
    spool.beat()
    assert [row[0] for row in spool.engines()] == [engine]


def test_one_engine_a_data_folder_on_sqlite(place, message):
    first, second = place.open(), place.open()
    engine = first.register()
    if place.vendor == "postgresql":
        assert second.register() != engine
        return
    with pytest.raises(ConfigError, match=r"pid \d+"):
        second.register()
    first.retire()
    assert second.register() > engine


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_two_engines_never_lease_the_same_row(place, message):
    first, second = place.open(), place.open()
    first.register()
    second.register()
    first.accept_many([message() for _ in range(300)])
    taken = [], []

    def take(spool, into):
        while leases := spool.lease("up", 7):
            into.extend(d.id for lease in leases for d in lease.deliveries)

    threads = [threading.Thread(target=take, args=pair) for pair in zip((first, second), taken, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = taken[0] + taken[1]
    assert len(both) == len(set(both)) == 300
    assert place.consistent()


def test_damaged_content_is_held_and_never_sent(place, message):
    spool = place.open(cache=0)
    spool.register()
    bad, good = message(), message()
    spool.accept_many([bad, good])
    place.sql("UPDATE chunk SET crc32 = crc32 + 1 WHERE message_id = ?", bad.id)
    leases = {lease.message_id: lease for lease in spool.lease("up", 2)}
    assert (leases[bad.id].first, leases[bad.id].deliveries) == (None, [])
    assert leases[good.id].first == good.content
    assert spool.message(bad.id).deliveries[0].state is State.HELD
    assert [e.subject for e in spool.events(kind="message.damaged")] == [f"message:{bad.id}"]
    assert place.consistent()
