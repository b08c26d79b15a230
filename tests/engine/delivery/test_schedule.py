"""A message's own schedule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarthost.engine.delivery import _schedule as s
from smarthost.routing import UnknownPolicy
from smarthost.spool import Priority, after_unknown

chances = st.floats(0, 0.999999)
NOW = 1_800_000_000 * s.SECOND


@given(st.integers(1, 500), chances)
def test_it_starts_at_a_minute_and_never_waits_longer_than_four_hours(attempts: int, chance: float) -> None:
    pause = s.own_pause(attempts, chance)
    assert s.FIRST * (1 - s.JITTER) <= pause <= s.LONGEST


@given(st.integers(1, 100))
def test_it_doubles(attempts: int) -> None:
    assert s.own_pause(attempts + 1, 0) == min(2 * s.own_pause(attempts, 0), s.LONGEST)


@given(st.sampled_from(["", "try again in 1 second", "retry in 3 minutes", "wait 9 hours", "no"]), chances)
def test_a_message_is_tried_for_seven_days_a_bounded_number_of_times(text: str, chance: float) -> None:
    now, attempts, last = NOW, 0, NOW
    expires_at = NOW + s.LIFETIME
    while True:
        attempts += 1
        due = s.next_try(now, attempts, expires_at, text, chance)
        if due is None:
            break
        assert now < due < expires_at
        now = last = due
        assert attempts < 500
    assert attempts >= 42
    assert expires_at - last <= 2 * s.FIRST


def test_a_message_without_hints_makes_some_fifty_attempts_in_its_life() -> None:
    now, attempts = NOW, 0
    while (due := s.next_try(now, attempts + 1, NOW + s.LIFETIME, "", 0.5)) is not None:
        now, attempts = due, attempts + 1
    assert 45 <= attempts <= 65


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisted, please try again in 5 minutes", 300),
        ("Try again in 30 seconds", 30),
        ("greylisted for 300 seconds", 300),
        ("Please retry after 60s", 60),
        ("temporarily deferred, wait 2 hours", 7200),
        ("4.2.0 Greylisting in effect, please come back in 10 minutes", 600),
        ("4.3.2 Please try again later", None),
        ("mailbox holds 300 messages", None),
        ("4.4.2 error 12 s", None),
    ],
)
def test_it_reads_when_the_server_wants_to_be_asked_again(text: str, seconds: int | None) -> None:
    found = s.asked_pause(text)
    assert found == (None if seconds is None else seconds * s.SECOND)


@given(st.text(max_size=2000))
def test_no_reply_breaks_the_reading_of_hints(text: str) -> None:
    due = s.next_try(NOW, 1, NOW + s.LIFETIME, text, 0.5)
    assert due is not None and NOW < due <= NOW + s.LONGEST


def test_a_wish_is_honoured_within_bounds() -> None:
    def after(text: str, attempts: int = 1) -> float:
        due = s.next_try(NOW, attempts, NOW + s.LIFETIME, text, 0)
        assert due is not None
        return (due - NOW) / s.SECOND

    assert after("try again in 5 minutes") == 300
    assert after("try again in 5 minutes", attempts=9) == 4 * 3600 / s.EAGERNESS
    assert after("try again in 99 hours") == 4 * 3600
    assert after("try again in 0 seconds") == 60 / s.EAGERNESS


def test_an_unknown_end_is_retried_later_and_later_and_then_a_person_decides() -> None:
    dues = [after_unknown(NOW, ends, UnknownPolicy.RETRY, 900) for ends in range(1, 8)]
    minutes = [None if due is None else (due - NOW) / s.MINUTE for due in dues]
    assert minutes == [15, 30, 60, 120, None, None, None]
    assert after_unknown(NOW, 1, UnknownPolicy.HOLD, 900) is None
    assert after_unknown(NOW, 4, UnknownPolicy.RETRY, 7200) == NOW + 4 * s.HOUR


def test_mail_that_outgrew_its_age_in_a_pause_is_told_from_old_mail() -> None:
    pause = (NOW, NOW + 2 * s.DAY)
    assert s.outgrew(NOW - 4 * s.DAY, Priority.NORMAL, *pause)
    assert not s.outgrew(NOW - 2 * s.DAY, Priority.NORMAL, *pause)
    assert not s.outgrew(NOW - 6 * s.DAY, Priority.NORMAL, *pause), "it was old before the pause"
    assert s.outgrew(NOW, Priority.URGENT, *pause)
