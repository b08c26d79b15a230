"""What people see: aligned, relative, and never able to steer their terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from smarthost.cli._exit import Exit, exit_code
from smarthost.cli._output import fields, iso, relative, safe, table
from smarthost.errors import ConfigError, Conflict, NotFound, OverCap, Refused, StoreFull

SECOND = 1_000_000


def test_a_table_is_aligned_and_says_when_it_is_empty() -> None:
    assert table(("A", "LONG"), [("x", 1), ("yyy", None)]) == "A    LONG\nx    1\nyyy  -"
    assert table(("A",), [], "None.") == "None."
    assert fields((("a", 1), ("long", "x"), ("empty", ""))) == "a     1\nlong  x"


def test_times_are_relative_for_people_and_exact_for_programs() -> None:
    now = 1_800_000_000 * SECOND
    assert relative(now, now) == "now"
    assert relative(now - 65 * SECOND, now) == "1 min ago"
    assert relative(now + 7200 * SECOND, now) == "in 2 h"
    assert relative(None, now) == "-"
    assert iso(now) == "2027-01-15T08:00:00.000Z"
    assert iso(None) is None


@given(st.text())
def test_nothing_a_sender_wrote_can_steer_a_terminal(text: str) -> None:
    shown = safe(text)
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "\r" not in shown
    assert "\u202e" not in shown
    assert len(table(("A",), [(text,)]).splitlines()) <= 2 or "\x85" not in shown


def test_exit_codes_are_stable() -> None:
    codes = {
        NotFound("x"): 4,
        StoreFull("x"): 5,
        OverCap("x"): 5,
        ConfigError("x"): 6,
        Conflict("x"): 3,
        Refused("x"): 3,
    }
    assert {error: int(exit_code(error)) for error in codes} == codes
    assert [int(code) for code in Exit] == [0, 1, 2, 3, 4, 5, 6, 130]
