"""The hostile upstream: twelve states, eight faults (UP-001 to UP-096).

One message goes out, the fault strikes once, and later everything works. What must hold in every cell: the
attempt ends within its deadline; what failed before MAIL costs the message nothing; a temporary end is only
called so before the final dot was given out, UNKNOWN only after; a refusal is one only in reply to MAIL,
RCPT, DATA or the dot; a failure at QUIT changes nothing; in the end the message is there, and never more
often than once plus its unknown ends.
"""

from __future__ import annotations

import ssl
from itertools import product

import pytest
import trustme
from world import World, run, upstream

from peers.hostile import FAULTS, STATES, Fault, Hostile, Plan
from smarthost.routing import Encryption
from smarthost.spool import State

SETUP = ("connect", "banner", "ehlo", "starttls", "tls", "auth")
REFUSALS = ("421", "5xx")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(made)
    return made


SHAPES = {
    "pipelining": ("PIPELINING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"),
    "chunking": ("PIPELINING", "CHUNKING", "8BITMIME", "SIZE", "ENHANCEDSTATUSCODES"),
}


def expected(state: str, fault: str, shape: str) -> set[State]:
    """What one attempt may end as."""
    if state in SETUP:
        return {State.QUEUED}
    if state == "quit":
        return {State.SENT}
    if fault == "5xx":
        return {State.FAILED}
    if fault == "421":
        return {State.DEFERRED}
    if state == "dot" or shape == "chunking":
        return {State.UNKNOWN}  # with CHUNKING the last byte is out with the first
    if state == "body":
        return {State.UNKNOWN}  # the whole content was written before the server stopped reading
    return {State.DEFERRED}


@pytest.mark.parametrize(
    ("state", "fault", "shape"),
    [cell for cell in product(STATES, FAULTS, SHAPES) if cell[0::2] != ("data", "chunking")],
)
def test_one_state_one_fault(
    state: str, fault: str, shape: str, tmp_path, authority: trustme.CA, context: ssl.SSLContext
) -> None:
    plan = Plan(
        faults=[Fault(state, fault)],
        extensions=SHAPES[shape],
        tls="starttls",
        context=context,
        mechanisms=("PLAIN",),
        users={"u": "secret"},
        pause=0.05,
    )

    async def main() -> None:
        async with Hostile(plan) as server:
            world = World(tmp_path)
            up = upstream(
                server.port,
                key=world.key,
                password="secret",
                username="u",
                encryption=Encryption.STARTTLS,
                ca_pem=authority.cert_pem.bytes().decode(),
                connections=2,
            )
            world.change(up)
            async with world:
                message = world.add("r@example.net")
                row = message.rows[0]
                if state in SETUP:
                    await world.until(lambda: bool(world.log.events("session-failed")))
                else:
                    await world.settled()
                if state == "quit":
                    await world.delivery.drain(5)
                    await world.until(lambda: not world.lane().sessions)
                assert row.state in expected(state, fault, shape), world.log.lines
                assert row.attempts == (0 if state in SETUP else 1)
                if row.state in (State.SENT, State.FAILED):
                    return

                world.spool.make_due()
                await world.next_probe()
                await world.settled()
                assert row.state is State.SENT, world.log.lines
                unknown = sum(one.state is State.UNKNOWN for one in row.outcomes)
                assert len(server.taken) <= 1 + unknown
                assert len(server.answered) == 1
                assert "secret" not in repr(world.log.lines)

    run(main())


@pytest.mark.parametrize("kind", ["close", "hang"])
def test_three_lost_answers_make_at_most_four_copies_and_each_is_visible(kind: str, tmp_path) -> None:
    """UP-AMB."""

    async def main() -> None:
        plan = Plan(faults=[Fault("dot", kind, times=3)])
        async with Hostile(plan) as server, World(tmp_path, upstream(server.port)) as world:
            row = world.add("r@example.net").rows[0]
            for ends in (1, 2, 3):
                await world.settled()
                assert row.state is State.UNKNOWN and row.unknown_ends == ends
                world.spool.make_due()
                await world.next_probe()
            await world.settled()
            assert row.state is State.SENT and row.attempts == 4
            assert [one.state for one in row.outcomes] == [State.UNKNOWN] * 3 + [State.SENT]
            assert len(server.taken) <= 4
            assert len({one.content for one in server.taken}) == 1

    run(main())


@pytest.mark.parametrize("dot", ["250 2.0.0 ok", "451 4.3.0 later", "554 5.7.1 no", "DROP"])
def test_each_of_a_hundred_recipients_is_judged_for_itself(dot: str, tmp_path) -> None:
    """UP-PART."""
    said = {0: "250 2.1.5 ok", 1: "450 4.2.1 busy", 2: "550 5.1.1 no such user"}
    refuse_dot = [dot]

    def reply(state: str, argument: object) -> str | None:
        if state == "rcpt":
            number = int(str(argument).split("@")[0][1:])
            return said[number % 3] if refuse_dot else "250 2.1.5 ok"
        if state == "dot" and refuse_dot:
            return refuse_dot.pop()
        return None

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            message = world.add(*(f"r{n}@example.net" for n in range(100)))
            await world.settled()
            of_dot = {"2": State.SENT, "4": State.DEFERRED, "5": State.FAILED, "D": State.UNKNOWN}[dot[0]]
            for n, row in enumerate(message.rows):
                assert row.state is (of_dot, State.DEFERRED, State.FAILED)[n % 3]
            world.spool.make_due()
            await world.next_probe()
            await world.settled()
            delivered: dict[str, int] = {}
            for taken in server.answered:
                for recipient in taken.recipients:
                    delivered[recipient] = delivered.get(recipient, 0) + 1
            assert set(delivered.values()) == {1}
            for n, row in enumerate(message.rows):
                final = State.FAILED if n % 3 == 2 or (n % 3 == 0 and dot[0] == "5") else State.SENT
                assert row.state is final
                assert (row.recipient in delivered) == (final is State.SENT)

    run(main())


def test_a_server_that_limits_is_asked_ever_slower_and_no_message_pays(tmp_path) -> None:
    """UP-THROTTLE."""
    taken = [0]

    def reply(state: str, argument: object) -> str | None:
        if state == "mail":
            taken[0] += 1
            if taken[0] > 5:
                return "450 4.7.1 rate limit: too many messages per minute"
        return None

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            for n in range(40):
                world.add(f"r{n}@example.net")
            await world.until(lambda: taken[0] > 5 and not world.lane().busy)
            import asyncio

            await asyncio.sleep(0.3)
            assert world.lane().health.calm_until > 0
            assert len(server.answered) == 5
            assert taken[0] < 5 + 2 * 16 + 1, "no hot loop"
            assert {row.attempts for row in world.spool.rows if row.state is State.QUEUED} == {0}
            assert world.states().count("sent") == 5 and world.states().count("queued") == 35
            assert world.lane().window.size < 8

    run(main())
