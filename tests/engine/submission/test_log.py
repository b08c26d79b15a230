"""One line an event, whatever strangers put into it."""

import asyncio
import os

from hypothesis import given
from hypothesis import strategies as some

from smarthost.engine.log import LONGEST, Log, quote


def lines_of(write):
    read, end = os.pipe()
    log = Log(end, clock=lambda: 1_795_254_131.5)
    write(log)
    log.flush()
    os.close(end)
    with os.fdopen(read, "rb") as file:
        return file.read().decode()


def test_a_line_has_time_level_event_and_fields():
    text = lines_of(
        lambda log: log.warning("login-refused", ip="192.0.2.7", login="a b", size=5, none=None, no="")
    )
    assert (
        text
        == 'time=2026-11-21T09:42:11.500Z level=warning event=login-refused ip=192.0.2.7 login="a b" size=5\n'
    )


@given(some.text())
def test_a_value_is_one_printable_word_or_one_quoted_text(value):
    quoted = quote(value)
    assert quoted.isprintable() and "\n" not in quoted
    if quoted.startswith('"'):
        inside = quoted[1:-1].replace("\\\\", "").replace('\\"', "")
        assert '"' not in inside
    else:
        assert " " not in quoted and "=" not in quoted and '"' not in quoted


def test_long_values_are_cut():
    assert len(quote("x" * 10_000)) < LONGEST + 10


def test_on_a_loop_the_lines_of_a_turn_go_out_in_one_write():
    read, end = os.pipe()

    async def main():
        log = Log(end)
        log.bind(asyncio.get_running_loop())
        for n in range(10):
            log.info("accepted", n=n)
        os.set_blocking(read, False)
        try:
            early = os.read(read, 10)
        except BlockingIOError:
            early = b""
        await asyncio.sleep(0)
        return early

    assert asyncio.run(main()) == b""
    assert os.read(read, 65536).count(b"\n") == 10
    os.close(read), os.close(end)


def test_a_log_that_nobody_reads_any_more_stops_nothing():
    read, end = os.pipe()
    os.close(read)
    Log(end).info("accepted", id="x")
    os.close(end)
