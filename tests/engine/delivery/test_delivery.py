"""Mail goes out: one upstream that behaves."""

from __future__ import annotations

import pytest
from world import World, run, upstream

from peers.hostile import Hostile, Plan
from smarthost.smtp import Verdict

PLAIN = ("8BITMIME", "SIZE 50000000", "ENHANCEDSTATUSCODES")
SHAPES = {
    "chunking": (*PLAIN, "PIPELINING", "CHUNKING", "SMTPUTF8", "DSN"),
    "pipelining": (*PLAIN, "PIPELINING", "SMTPUTF8"),
    "lock-step": PLAIN,
    "nothing": (),
}
BODY = b"Subject: x\r\n\r\n.dot\r\n..dots\r\nend\r\n"


@pytest.mark.parametrize("shape", SHAPES)
def test_mail_arrives_as_it_was_with_our_trace_on_top(shape: str, tmp_path) -> None:
    async def main() -> None:
        async with (
            Hostile(Plan(extensions=SHAPES[shape])) as server,
            World(tmp_path, upstream(server.port)) as world,
        ):
            for n in range(30):
                world.add(f"r{n}@example.net", content=BODY + b"%d\r\n" % n)
            await world.settled()
            assert set(world.states()) == {"sent"}
            got = sorted((one.recipients, one.content) for one in server.answered)
            assert got == sorted(
                ([f"r{n}@example.net"], b"Received: by us\r\n" + BODY + b"%d\r\n" % n) for n in range(30)
            )
            assert server.most_open <= 8
            assert all(row.outcomes[0].code == 250 and row.attempts == 1 for row in world.spool.rows)

    run(main())


@pytest.mark.parametrize("shape", ["chunking", "pipelining", "lock-step"])
def test_large_mail_is_streamed_from_its_chunks(shape: str, tmp_path) -> None:
    content = b"Subject: big\r\n\r\n" + b"".join(b".%07d line\r\n" % n for n in range(90_000))

    async def main() -> None:
        async with (
            Hostile(Plan(extensions=SHAPES[shape])) as server,
            World(tmp_path, upstream(server.port)) as world,
        ):
            world.add("big@example.net", content=content)
            world.add("small@example.net")
            await world.settled()
            assert world.states() == ["sent", "sent"]
            by_recipient = {one.recipients[0]: one.content for one in server.answered}
            assert by_recipient["big@example.net"] == b"Received: by us\r\n" + content

    run(main())


def test_sessions_are_kept_and_say_goodbye(tmp_path) -> None:
    async def main() -> None:
        async with Hostile() as server, World(tmp_path, upstream(server.port, connections=1)) as world:
            for n in range(5):
                world.add(f"r{n}@example.net")
                await world.settled()
            assert server.sessions == 1
            assert await world.delivery.drain(5)
            await world.until(lambda: not server.open)
            assert server.commands[-1] == "QUIT"

    run(main())


def test_a_session_that_is_used_up_is_followed_by_another(tmp_path) -> None:
    """RFC 9422: LIMITS MAILMAX."""

    async def main() -> None:
        plan = Plan(extensions=("PIPELINING", "LIMITS MAILMAX=3"))
        async with Hostile(plan) as server, World(tmp_path, upstream(server.port, connections=1)) as world:
            for n in range(10):
                world.add(f"r{n}@example.net")
            await world.settled()
            assert server.sessions == 4
            per_session = [sum(one.session == number for one in server.answered) for number in (1, 2, 3, 4)]
            assert per_session == [3, 3, 3, 1]

    run(main())


def test_the_verdicts_of_the_protocol_are_those_that_are_judged() -> None:
    assert {one.value for one in Verdict} == {"accepted", "temporary", "permanent", "unsent", "unknown"}
