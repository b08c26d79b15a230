"""Faults of the route: paused, probed, returned; and no message pays."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from memory_spool import MemorySpool
from world import World, run, upstream

from peers.hostile import Fault as Planned
from peers.hostile import Hostile, Plan
from smarthost.engine.delivery import Fault
from smarthost.engine.delivery._route import RouteState
from smarthost.engine.delivery._schedule import DAY, HOUR, MINUTE, SECOND
from smarthost.errors import StoreUnavailable
from smarthost.spool import Door, Priority, State, now_us


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_refused_login_pauses_the_route_and_a_changed_password_ends_it(tmp_path: Any) -> None:
    async def main() -> None:
        plan = Plan(mechanisms=("PLAIN",), users={"u": "new"})
        async with Hostile(plan) as server:
            world = World(tmp_path)
            world.change(upstream(server.port, key=world.key, username="u", password="old"))
            async with world:
                for n in range(10):
                    world.add(f"r{n}@example.net")
                await world.until(lambda: world.lane().health.paused)
                route = world.lane().health.route
                assert route.fault is Fault.CREDENTIALS
                assert 14 * MINUTE < route.until - now_us() < 17 * MINUTE
                await asyncio.sleep(0.1)
                assert server.logins == [("u", "old")], "one attempt: more would lock the account"
                assert world.states() == ["queued"] * 10
                assert world.spool.stored_routes["up"].reason == "credentials"
                world.change(upstream(server.port, key=world.key, username="u", password="new", version=2))
                await world.settled()
                assert world.states() == ["sent"] * 10
                assert {row.attempts for row in world.spool.rows} == {1}
                await world.until(lambda: "up" not in world.spool.stored_routes)
                assert [one.kind for one in world.spool.events] == ["route.paused", "route.returned"]
                assert {one.subject for one in world.spool.events} == {"up"}, "the id as it is stored"
                alerts = world.log.events("alert")
                assert [one["kind"] for one in alerts] == ["route-paused", "route-returned"]

    run(main())


def test_a_pause_survives_a_restart(tmp_path: Any) -> None:
    async def main() -> None:
        spool = MemorySpool()
        plan = Plan(mechanisms=("PLAIN",), users={"u": "other"})
        async with Hostile(plan) as server:
            for restarts in range(3):
                world = World(tmp_path, spool=spool)
                world.change(upstream(server.port, key=world.key, username="u", password="wrong"))
                async with world:
                    world.add(f"r{restarts}@example.net")
                    await world.until(lambda: world.lane().health.paused and bool(spool.stored_routes))  # noqa: B023
                    await asyncio.sleep(0.05)
            assert len(server.logins) == 1
            assert [one.kind for one in spool.events] == ["route.paused"]

    run(main())


@pytest.mark.parametrize("kind", ["nobody-listens", "no-such-name", "itself"])
def test_a_server_that_cannot_be_reached_is_the_routes_fault(kind: str, tmp_path: Any) -> None:
    async def main() -> None:
        port = closed_port()
        host = "no-such-host.invalid" if kind == "no-such-name" else "127.0.0.1"
        own = [("0.0.0.0", port)] if kind == "itself" else []
        world = World(tmp_path, upstream(port, host=host), own_addresses=lambda: own)
        async with world:
            row = world.add("r@example.net").rows[0]
            await world.until(lambda: bool(world.log.events("session-failed")))
            fault = world.log.events("session-failed")[0]["fault"]
            assert fault == {"nobody-listens": "connect", "no-such-name": "dns", "itself": "config"}[kind]
            assert row.state is State.QUEUED and row.attempts == 0
            if kind == "itself":
                assert world.lane().health.paused
            else:
                assert not world.lane().health.paused, "a hiccup pauses nothing"

    run(main())


def test_a_dead_address_does_not_delay_a_live_one(tmp_path: Any) -> None:
    from smarthost.engine.delivery._connect import race

    async def main() -> None:
        async with Hostile() as server:
            loop = asyncio.get_running_loop()
            silent = (int(socket.AF_INET), ("192.0.2.1", server.port))
            live = (int(socket.AF_INET), ("127.0.0.1", server.port))
            async with asyncio.timeout(5):
                sock = await race(loop, [silent, live])
            assert sock.getpeername() == ("127.0.0.1", server.port)
            sock.close()

    run(main())


def test_five_identical_refusals_of_everything_pause_the_route_and_nobody_pays(tmp_path: Any) -> None:
    refuse = [True]

    def reply(state: str, argument: object) -> str | None:
        return f"550 5.7.1 <{argument!s:.40}>: relaying denied" if state == "dot" and refuse else None

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            for n in range(20):
                world.add(f"r{n}@example.net", content=b"Subject: %d\r\n\r\nx\r\n" % n)
            await world.until(lambda: world.lane().health.paused and not world.lane().busy)
            await asyncio.sleep(0.05)
            assert world.lane().health.route.fault is Fault.REFUSAL
            assert world.states() == ["queued"] * 20
            assert {row.attempts for row in world.spool.rows} == {0}
            await world.next_probe()
            await world.until(lambda: world.lane().health.route.probes == 1 and world.lane().health.paused)
            assert world.states() == ["queued"] * 20, "the probe was refused the same way"
            refuse.clear()
            await world.next_probe()
            await world.settled()
            assert world.states() == ["sent"] * 20

    run(main())


def test_one_refused_message_among_good_ones_fails_alone(tmp_path: Any) -> None:
    def reply(state: str, argument: object) -> str | None:
        return "554 5.7.1 spam" if state == "dot" and b"BAD" in argument else None  # type: ignore[operator]

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            for n in range(9):
                world.add(
                    f"r{n}@example.net",
                    content=b"Subject: x\r\n\r\n" + (b"BAD\r\n" if n == 4 else b"good\r\n"),
                )
            await world.settled()
            assert [n for n, state in enumerate(world.states()) if state == "failed"] == [4]
            assert world.states().count("sent") == 8
            assert not world.spool.events

    run(main())


def test_a_lone_refusal_is_told_without_waiting_for_others(tmp_path: Any) -> None:
    def reply(state: str, argument: object) -> str | None:
        return "554 5.7.1 no" if state == "mail" else None

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            world.add("r@example.net")
            await world.settled(2)
            outcome = world.spool.rows[0].outcomes[0]
            assert (outcome.state, outcome.code, outcome.stage) == (State.FAILED, 554, "mail")
            assert "554" in (outcome.transcript or "")

    run(main())


def test_a_refused_notice_is_never_a_fault_of_the_route(tmp_path: Any) -> None:
    def reply(state: str, argument: object) -> str | None:
        return "530 5.7.0 Authentication Required." if state == "mail" and "<>" in str(argument) else None

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            for n in range(7):
                world.add(f"r{n}@example.net", sender="", door=Door.NOTICE)
            world.add("real@example.net")
            await world.settled()
            assert world.states() == ["failed"] * 7 + ["sent"]
            assert world.lane().health.route.state is RouteState.OPEN and not world.spool.events

    run(main())


def test_a_used_up_quota_of_the_server_pauses_and_gives_back(tmp_path: Any) -> None:
    def reply(state: str, argument: object) -> str | None:
        return "454 Throttling failure: Daily message quota exceeded" if state == "dot" else None

    async def main() -> None:
        async with Hostile(Plan(reply=reply)) as server, World(tmp_path, upstream(server.port)) as world:
            world.add("r@example.net")
            await world.until(lambda: world.lane().health.paused)
            await world.until(lambda: world.states() == ["queued"])
            assert world.lane().health.route.fault is Fault.QUOTA
            assert world.spool.rows[0].attempts == 0

    run(main())


def test_our_own_quota_stops_for_the_day_and_is_said_once(tmp_path: Any) -> None:
    async def main() -> None:
        async with Hostile() as server, World(tmp_path, upstream(server.port, quota=7)) as world:
            for n in range(12):
                world.add(f"r{n}@example.net")
            await world.until(lambda: len(server.answered) == 7 and not world.lane().busy)
            await asyncio.sleep(0.1)
            assert len(server.answered) == 7
            assert sorted(world.states()) == ["queued"] * 5 + ["sent"] * 7
            assert [(one.kind, one.subject) for one in world.spool.events] == [("upstream.quota", "up")]

    run(main())


def test_mail_that_grew_too_old_during_a_pause_is_held_when_the_route_returns(tmp_path: Any) -> None:
    async def main() -> None:
        port = closed_port()
        async with World(tmp_path, upstream(port)) as world:
            now = now_us()
            old = world.add("old@example.net", created_at=now - 5 * DAY - HOUR)
            urgent = world.add("urgent@example.net", created_at=now - 25 * HOUR, priority=Priority.URGENT)
            young = world.add("young@example.net", created_at=now - 4 * DAY)
            health = world.lane().health
            health.route = type(health.route)(
                RouteState.PAUSED, Fault.CONNECT, "down", since=now - 2 * DAY, until=now + HOUR
            )
            world.spool.stored_routes["up"] = health.stored("up", now)
            async with Hostile(port=port):
                await world.next_probe()
                await world.settled()
            assert [m.rows[0].state for m in (old, urgent, young)] == [State.HELD, State.HELD, State.SENT]

    run(main())


def test_a_dead_upstream_does_not_disturb_a_good_one(tmp_path: Any) -> None:
    async def main() -> None:
        dead = Plan(faults=[Planned("banner", "hang", times=None)])
        async with Hostile(dead) as bad, Hostile() as good:
            ups = upstream(bad.port, id="bad"), upstream(good.port, id="good")
            async with World(tmp_path, *ups) as world:
                for n in range(60):
                    world.add(f"d{n}@example.net", upstream="bad")
                    world.add(f"g{n}@example.net", upstream="good")
                await world.until(lambda: len(good.answered) == 60)
                assert {row.attempts for row in world.spool.rows if row.recipient.startswith("d")} == {0}
                assert bad.most_open <= 2

    run(main())


def test_outcomes_that_the_store_does_not_take_are_kept_and_nothing_more_is_leased(tmp_path: Any) -> None:
    """DISK-02: a success that cannot be noted must not become another one."""

    async def main() -> None:
        async with Hostile() as server, World(tmp_path, upstream(server.port, connections=1)) as world:
            world.spool.broken = StoreUnavailable("no space")
            for n in range(20):
                world.add(f"r{n}@example.net")
            await world.until(lambda: world.delivery.stalled and not world.lane().busy)
            sent = len(server.answered)
            asked = len(world.spool.leases)
            await asyncio.sleep(0.3)
            assert len(server.answered) == sent < 20
            assert len(world.spool.leases) == asked
            world.spool.broken = None
            await world.settled()
            assert world.states() == ["sent"] * 20
            assert len(server.answered) == 20

    run(main())


def test_an_engine_without_a_heartbeat_writes_nothing_more(tmp_path: Any) -> None:
    """LEASE-01: fenced before the final dot."""
    import time

    async def main() -> None:
        beat = [time.monotonic()]

        def reply(state: str, argument: object) -> str | None:
            if state == "data":
                beat[0] = time.monotonic() - 60  # the engine slept for a minute just here
            return None

        plan = Plan(extensions=("PIPELINING",), reply=reply)
        async with (
            Hostile(plan) as server,
            World(tmp_path, upstream(server.port), last_beat=lambda: beat[0]) as world,
        ):
            row = world.add("r@example.net").rows[0]
            await world.until(lambda: row.state is not State.SENDING and row.state is not State.QUEUED)
            assert row.state is State.DEFERRED
            assert not server.taken

    run(main())


def test_a_drain_finishes_what_is_open_and_gives_the_rest_back(tmp_path: Any) -> None:
    async def main() -> None:
        async with Hostile(Plan(delay=0.005)) as server, World(tmp_path, upstream(server.port)) as world:
            for n in range(300):
                world.add(f"r{n}@example.net")
            await world.until(lambda: len(server.answered) > 20)
            assert await world.delivery.drain(5)
            states = world.states()
            assert set(states) == {"sent", "queued"}
            assert states.count("sent") == len(server.answered) == len(server.taken)
            assert {row.attempts for row in world.spool.rows if row.state is State.QUEUED} == {0}

    run(main())


def test_a_drain_ends_in_time_with_a_server_that_hangs(tmp_path: Any) -> None:
    async def main() -> None:
        plan = Plan(faults=[Planned("dot", "hang", times=None)])
        from world import QUICK

        async with (
            Hostile(plan) as server,
            World(tmp_path, upstream(server.port), deadlines=QUICK.scaled(1000)) as world,
        ):
            world.add("r@example.net")
            await world.until(lambda: bool(server.taken))
            assert not await world.delivery.drain(0.2)
            assert world.states() == ["unknown"]

    run(main())


def test_held_unknown_ends_wait_for_a_person(tmp_path: Any) -> None:
    from smarthost.routing import UnknownPolicy

    async def main() -> None:
        plan = Plan(faults=[Planned("dot", "close")])
        async with (
            Hostile(plan) as server,
            World(tmp_path, upstream(server.port, unknown=UnknownPolicy.HOLD)) as world,
        ):
            row = world.add("r@example.net").rows[0]
            await world.settled()
            assert row.state is State.UNKNOWN and row.due_at is None

    run(main())


def test_switched_off_mail_waits_unharmed(tmp_path: Any) -> None:
    async def main() -> None:
        async with Hostile() as server, World(tmp_path, upstream(server.port, enabled=False)) as world:
            world.add("r@example.net")
            await asyncio.sleep(0.1)
            assert world.states() == ["queued"] and server.sessions == 0
            world.change(upstream(server.port, version=2))
            await world.settled()
            assert world.states() == ["sent"]

    run(main())


def test_a_rate_is_kept(tmp_path: Any) -> None:
    async def main() -> None:
        async with Hostile() as server, World(tmp_path, upstream(server.port, rate=60)) as world:
            for n in range(30):
                world.add(f"r{n}@example.net")
            await world.until(lambda: len(server.answered) >= 6)
            await asyncio.sleep(0.3)
            assert len(server.answered) <= 8, "six at once, then one a second"

    run(main())


def test_a_poisoned_message_is_parked_and_the_others_flow(tmp_path: Any) -> None:
    """DOS-11."""

    async def main() -> None:
        async with Hostile() as server, World(tmp_path, upstream(server.port)) as world:
            poison = world.spool.add("p@example.net")
            poison.rows[0].edits = "{not json"
            for n in range(10):
                world.add(f"r{n}@example.net")
            await world.settled()
            assert poison.rows[0].state is State.HELD
            assert world.states().count("sent") == 10

    run(main())


def test_seconds_are_microseconds_times_a_million() -> None:
    assert SECOND == 1_000_000
