"""The machine of a route's health, and the jury that may accuse it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarthost.engine.delivery import _route as r
from smarthost.engine.delivery._classify import Fault
from smarthost.engine.delivery._jury import ENOUGH, Jury
from smarthost.engine.delivery._schedule import HOUR, MINUTE

NOW = 1_800_000_000_000_000
FAULTS = [fault for fault in Fault if fault is not Fault.MESSAGE]


def test_the_table_is_complete() -> None:
    assert set(r.TABLE) == set(itertools.product(r.RouteState, r.Happening))
    assert set(r.PROBES) == set(FAULTS)


def probes(fault: Fault, hours: int) -> list[int]:
    """When a route with this lasting fault is tried, in microseconds from its beginning."""
    now, end, route, tried = NOW, NOW + hours * HOUR, r.OPEN, []
    while now < end:
        route, _ = r.step(route, r.Happening.FAULT, now, fault=fault)
        tried.append(now - NOW)
        now = max(now + 1, route.until)
        route, _ = r.step(route, r.Happening.DUE, now)
    return tried


def test_refused_credentials_are_tried_after_a_quarter_hour_and_then_every_four_hours() -> None:
    assert probes(Fault.CREDENTIALS, 24) == [
        0, 15 * MINUTE, *(15 * MINUTE + n * 4 * HOUR for n in range(1, 6)),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lasting_fault_is_probed_ever_slower_but_for_ever(fault: Fault) -> None:
    tried = probes(fault, 5 * 24)
    gaps = [after - before for before, after in itertools.pairwise(tried)]
    assert gaps == sorted(gaps) or fault in r.GRACE
    assert max(gaps) <= 4 * HOUR
    assert len(tried) < 5 * 24 * 60


happenings = st.lists(
    st.tuples(st.sampled_from(list(r.Happening)), st.sampled_from(FAULTS), st.integers(0, HOUR)), max_size=60
)


@given(happenings)
def test_it_announces_a_pause_once_and_its_end_once(steps: list[tuple[r.Happening, Fault, int]]) -> None:
    route, now, said = r.OPEN, NOW, []
    for happening, fault, wait in steps:
        now += wait
        route, announcement = r.step(route, happening, now, fault=fault, reason="x")
        if announcement is not None:
            said.append(announcement)
        assert (route.state is r.RouteState.OPEN) == (not said or said[-1] is r.Announcement.RETURNED)
        assert route.state is r.RouteState.OPEN or route.since > 0
    assert said == [r.Announcement.PAUSED, r.Announcement.RETURNED] * (len(said) // 2) + [
        r.Announcement.PAUSED
    ] * (len(said) % 2)


def test_a_hiccup_of_the_network_pauses_nothing() -> None:
    route, said = r.step(r.OPEN, r.Happening.FAULT, NOW, fault=Fault.CONNECT)
    assert route.state is r.RouteState.OPEN and said is None and route.until > NOW
    route, said = r.step(route, r.Happening.PROVEN, NOW + 1)
    assert route == r.OPEN and said is None


def test_a_changed_setting_is_tried_at_once() -> None:
    route, _ = r.step(r.OPEN, r.Happening.FAULT, NOW, fault=Fault.CREDENTIALS)
    assert route.state is r.RouteState.PAUSED
    route, _ = r.step(route, r.Happening.CHANGED, NOW + 1)
    assert route.state is r.RouteState.PROBING
    route, said = r.step(route, r.Happening.PROVEN, NOW + 2)
    assert route == r.OPEN and said is r.Announcement.RETURNED


def test_five_identical_refusals_of_five_messages_accuse_the_route() -> None:
    jury: Jury[int] = Jury()
    for n in range(ENOUGH - 1):
        assert jury.hear("550 no", f"m{n}", n) == ([], [])
    assert jury.hear("550 no", "m4", 4) == ([], [0, 1, 2, 3, 4])


def test_one_message_with_many_recipients_accuses_nothing() -> None:
    jury: Jury[int] = Jury()
    for n in range(50):
        assert jury.hear("550 no", "same", n) == ([], [])
    assert jury.rest() == list(range(50))


def test_an_acceptance_makes_every_refusal_its_messages_own() -> None:
    jury: Jury[int] = Jury()
    jury.hear("550 no", "a", 1)
    jury.hear("550 no", "b", 2)
    assert jury.accepted() == [1, 2]
    assert jury.hear("550 no", "c", 3) == ([3], []), "a route that works is trusted with the first refusal"
    assert jury.hear("550 no", "d", 4) == ([], [])
    assert jury.hear("554 other", "e", 5) == ([4, 5], [])


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("refuse"), st.sampled_from("ab"), st.sampled_from("123456")),
            st.tuples(st.sampled_from(["accept", "rest"]), st.just(""), st.just("")),
        ),
        max_size=80,
    )
)
def test_every_refusal_is_judged_exactly_once(steps: list[tuple[str, str, str]]) -> None:
    jury: Jury[int] = Jury()
    judged: list[int] = []
    heard = 0
    for what, key, message in steps:
        if what == "refuse":
            own, routes = jury.hear(key, message, heard)
            heard += 1
            judged += own + routes
        else:
            judged += jury.accepted() if what == "accept" else jury.rest()
    assert sorted(judged + jury.rest()) == list(range(heard))
