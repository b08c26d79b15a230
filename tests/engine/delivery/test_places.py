"""How many connections and rows a lane takes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from smarthost.engine.delivery._places import NOTHING, Facts, Pace, Rate, Window, decide
from smarthost.engine.delivery._route import RouteState

facts = st.builds(
    Facts,
    state=st.sampled_from(RouteState),
    limit=st.integers(1, 50),
    ready=st.integers(0, 50),
    connecting=st.integers(0, 50),
    free=st.integers(0, 100),
    waiting=st.booleans(),
    full=st.booleans(),
    leasing=st.booleans(),
    allowance=st.integers(-5, 1000),
    may_open=st.booleans(),
)


@given(facts)
def test_it_never_takes_more_than_there_is_room_for(given_: Facts) -> None:
    steps = decide(given_)
    assert 0 <= steps.lease <= min(given_.free, max(0, given_.allowance))
    assert steps.open == 0 or given_.ready + given_.connecting + steps.open <= given_.limit
    if given_.state is RouteState.PAUSED or not given_.waiting:
        assert steps == NOTHING
    if given_.state is RouteState.PROBING:
        assert steps.lease <= 1 and steps.open <= 1
    if given_.leasing:
        assert steps.lease == 0


def test_mail_that_waits_gets_a_connection() -> None:
    idle = Facts(RouteState.OPEN, 8, 0, 0, 0, True, False, False, 1 << 30, True)
    assert decide(idle).open == 1


def test_connections_double_while_every_lease_comes_back_full() -> None:
    present, grown = 1, [1]
    for _ in range(5):
        present += decide(Facts(RouteState.OPEN, 20, present, 0, 0, True, True, True, 1 << 30, True)).open
        grown.append(present)
    assert grown == [1, 2, 4, 8, 16, 20]


def test_the_window_halves_when_the_server_complains_and_comes_back_slowly() -> None:
    window = Window(8)
    window.limited(8)
    assert window.size == 4
    window.limited(4)
    assert window.size == 2
    window.success(39)
    assert window.size == 2
    window.success(1)
    assert window.size == 3
    window.success(10_000_000)
    for _ in range(100):
        window.success(10_000)
    assert window.size == 8


@given(st.integers(1, 6000), st.lists(st.floats(0, 5), max_size=60))
def test_no_minute_sees_more_than_the_rate_and_its_burst(per_minute: int, waits: list[float]) -> None:
    now, sent = 0.0, 0
    rate = Rate(per_minute, now)
    for wait in waits:
        now += wait
        count = rate.available(now)
        rate.take(count)
        sent += count
    assert sent <= now * per_minute / 60 + max(1, per_minute / 10) + 1
    assert rate.wait(now) >= 0


def test_without_a_rate_there_is_no_limit() -> None:
    assert Rate(0, 0.0).available(0.0) > 1_000_000


def test_messages_stand_by_only_where_the_server_is_faster_than_the_store():
    """A lease of 5 ms: a server next door that takes 2 ms has messages standing by, one far away has none."""
    near, far = Pace(), Pace()
    assert near.standby(16) == 0
    for _ in range(100):
        near.leased(0.005)
        near.served(0.002)
        far.leased(0.005)
        far.served(0.2)
    assert near.standby(16) == 40
    assert near.standby(1000) == Pace.MOST
    assert far.standby(16) == 0


def test_what_stands_by_is_leased_besides_the_free_places_and_never_beyond_the_allowance():
    facts = Facts(RouteState.OPEN, 8, 8, 0, 3, True, True, False, 1 << 30, True, standby=10)
    assert decide(facts).lease == 13
    assert decide(replace(facts, allowance=5)).lease == 5
    assert decide(replace(facts, state=RouteState.PROBING)).lease == 1
