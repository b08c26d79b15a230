"""What people do with deliveries: which states each action takes, what it leaves alone, what it records."""

import pytest

from smarthost.spool import Outcome, Selection, State, now_us

ALL = Selection(everything=True)
QUEUED, SENDING, SENT, DEFERRED, UNKNOWN, FAILED, EXPIRED, CANCELLED, HELD = (
    State.QUEUED,
    State.SENDING,
    State.SENT,
    State.DEFERRED,
    State.UNKNOWN,
    State.FAILED,
    State.EXPIRED,
    State.CANCELLED,
    State.HELD,
)
NAMED = {"states": tuple(State)}


@pytest.fixture
def one_of_each(spool, message, ended):
    """A message in every state: state → id."""
    found = {}
    for state in (SENT, DEFERRED, UNKNOWN, FAILED, EXPIRED, HELD):
        m = message()
        spool.accept(m)
        (lease,) = spool.lease("up", 1)
        due = now_us() + 10**9 if state in (DEFERRED, UNKNOWN) else None
        spool.complete(ended(lease, state, due_at=due))
        found[state] = m.id
    cancelled, sending, queued = message(), message(), message()
    spool.accept(cancelled)
    spool.cancel(Selection(messages=(cancelled.id,)), "eve")
    spool.accept(sending)
    spool.lease("up", 1)
    spool.accept(queued)
    return found | {CANCELLED: cancelled.id, SENDING: sending.id, QUEUED: queued.id}


def states(spool, one_of_each):
    return {before: spool.message(id).deliveries[0].state for before, id in one_of_each.items()}


TABLE = [
    ("hold", ALL, {QUEUED: HELD, DEFERRED: HELD, UNKNOWN: HELD}),
    ("release", ALL, {HELD: QUEUED}),
    ("cancel", ALL, {QUEUED: CANCELLED, DEFERRED: CANCELLED, UNKNOWN: CANCELLED, HELD: CANCELLED}),
    ("retry", ALL, {DEFERRED: QUEUED}),
    (
        "retry",
        Selection(**NAMED),
        {DEFERRED: QUEUED, UNKNOWN: QUEUED, FAILED: QUEUED, EXPIRED: QUEUED, CANCELLED: QUEUED},
    ),
    ("hold", Selection(states=(UNKNOWN,)), {UNKNOWN: HELD}),
    ("cancel", Selection(upstream="elsewhere"), {}),
    ("cancel", Selection(principal="app:1", states=(QUEUED,)), {QUEUED: CANCELLED}),
    ("cancel", Selection(principal="app:2"), {}),
]


@pytest.mark.parametrize(("action", "selection", "changes"), TABLE)
def test_an_action_takes_its_states_and_no_others(place, spool, one_of_each, action, selection, changes):
    assert getattr(spool, action)(selection, "eve") == len(changes)
    assert states(spool, one_of_each) == {state: changes.get(state, state) for state in one_of_each}
    assert place.consistent()
    if changes:
        (event,) = list(spool.events(newest=True, limit=1))
        assert event.actor == "eve"


@pytest.mark.parametrize("verdict", [SENT, FAILED, QUEUED])
def test_a_person_resolves_an_unknown_end(place, spool, one_of_each, verdict):
    assert spool.resolve(ALL, verdict, "eve") == 1
    assert states(spool, one_of_each) == {s: verdict if s is UNKNOWN else s for s in one_of_each}
    assert place.consistent()


def test_what_was_held_after_an_unknown_end_can_be_resolved(spool, one_of_each):
    spool.hold(Selection(states=(UNKNOWN,)), "eve")
    assert spool.resolve(ALL, SENT, "eve") == 1
    assert spool.message(one_of_each[UNKNOWN]).deliveries[0].state is SENT


def test_another_verdict_is_an_error(spool):
    with pytest.raises(ValueError, match="resolved"):
        spool.resolve(ALL, EXPIRED, "eve")


def test_an_empty_selection_is_an_error(spool):
    with pytest.raises(ValueError, match="empty"):
        spool.cancel(Selection(), "eve")


def test_rerouted_mail_goes_by_the_other_upstream(place, spool, one_of_each):
    assert spool.reroute(ALL, "other", "eve") == 4
    assert spool.reroute(ALL, "other", "eve") == 0
    assert states(spool, one_of_each) == {state: state for state in one_of_each}
    (lease,) = spool.lease("other", 8)
    assert lease.message_id == one_of_each[QUEUED]
    assert place.consistent()


def test_released_and_retried_mail_is_ready_now(spool, one_of_each):
    spool.release(ALL, "eve")
    spool.retry(Selection(messages=(one_of_each[EXPIRED],)), "eve")
    leased = {lease.message_id for lease in spool.lease("up", 8)}
    assert leased == {one_of_each[HELD], one_of_each[EXPIRED], one_of_each[QUEUED]}


def _hold_and_release(spool, id):
    spool.hold(Selection(messages=(id,)), "eve")
    return spool.release(Selection(messages=(id,)), "eve")


def _cancel_and_retry(spool, id):
    spool.cancel(Selection(messages=(id,)), "eve")
    return spool.retry(Selection(messages=(id,)), "eve")


def _resolve_as_queued(spool, id):
    spool.hold(Selection(messages=(id,)), "eve")
    return spool.resolve(Selection(messages=(id,)), QUEUED, "eve")


@pytest.mark.parametrize("action", [_hold_and_release, _cancel_and_retry, _resolve_as_queued])
def test_no_action_sends_earlier_what_was_to_be_sent_later(place, spool, message, action):
    later = now_us() + 3_600_000_000
    now, then = message(), message(send_at=later)
    spool.accept_many([now, then])
    place.sql("UPDATE delivery SET unknown_ends = 1")
    assert [action(spool, m.id) for m in (now, then)] == [1, 1]
    assert [lease.message_id for lease in spool.lease("up", 8)] == [now.id]
    assert spool.message(then.id).deliveries[0].due_at == later
    assert place.consistent()
    assert spool.promote(later)[0] == 1
    assert [lease.message_id for lease in spool.lease("up", 8)] == [then.id]


def test_retried_mail_gets_time(spool, message):
    m = message(expires_at=now_us() - 1)
    spool.accept(m)
    assert spool.expire(now_us()) == 1
    spool.retry(Selection(messages=(m.id,)), "eve")
    assert spool.expire(now_us()) == 0
    assert spool.message(m.id).deliveries[0].state is QUEUED


def test_without_content_nothing_is_retried(place, spool, one_of_each):
    place.sql("DELETE FROM chunk")
    assert spool.retry(Selection(**NAMED), "eve") == 0


def test_big_selections_are_changed_whole(place, spool, message):
    spool.accept_many([message() for _ in range(1203)])
    assert spool.hold(ALL, "eve") == 1203
    assert spool.counts()["held"] == 1203
    assert place.consistent()


def test_one_recipient_of_many(spool, message):
    m = message("b@example.net", "c@example.net")
    spool.accept(m)
    second = spool.message(m.id).deliveries[1]
    assert spool.cancel(Selection(deliveries=(second.id,)), "eve") == 1
    assert [d.state for d in spool.message(m.id).deliveries] == [QUEUED, CANCELLED]


def test_a_route_is_stored_claimed_once_and_healed(spool):
    from smarthost.spool import Route

    route = Route("up", paused_until=50, reason="auth", text="refused", since=1, failures=3, probe_at=40)
    spool.set_route(route)
    assert spool.routes() == {"up": route}
    assert not spool.claim_probe("up", 39, 90)
    assert spool.claim_probe("up", 40, 90)
    assert not spool.claim_probe("up", 41, 91)
    spool.set_route(Route("up"))
    assert spool.routes() == {}


def test_outcomes_of_a_retried_message_do_not_mix_with_old_ones(spool, message, ended):
    m = message()
    spool.accept(m)
    (old,) = spool.lease("up", 1)
    spool.complete(ended(old, FAILED))
    spool.retry(Selection(messages=(m.id,)), "eve")
    stale = Outcome(old.deliveries[0].id, old.token, SENT, now_us())
    assert spool.complete([stale]) == [old.deliveries[0].id]
    assert spool.message(m.id).deliveries[0].state is QUEUED
