"""Delivery on the real store, with notices, and towards real peers."""

from __future__ import annotations

import asyncio
import email
import email.policy
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pysqlite3
from aiosmtpd.controller import Controller
from world import QUICK, Lines, directory, run, upstream

from peers.hostile import Fault, Hostile, Plan
from smarthost.config import process_settings
from smarthost.engine.delivery import Notices, Waiting
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.runtime import Rhythm, Runtime
from smarthost.routing import Principal, Upstream, encode_directory, encode_principal
from smarthost.spool import Door, Filter, Flag, NewDelivery, NewMessage, State, new_id, now_us, open_spool
from smarthost.vault import load_or_create_key

APP = Principal(
    id="app:1", name="App", login="app", identities=("a@example.org",), owner_address="owner@example.org"
)
CONTENT = b"From: a@example.org\r\nSubject: the report\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n"
BRISK = Rhythm(beat=0.2, promote=0.1, recover=0.5, probe=0.1, poll=0.2, expire=0.2, purge=60, drain=3)


def message(*recipients: str, content: bytes = CONTENT, **facts: Any) -> NewMessage:
    now = now_us()
    facts = {
        "created_at": now, "principal": "app:1", "principal_name": "App", "door": Door.SMTP, "sender": "a@example.org",
        "expires_at": now + 600_000_000, "trace": b"Received: by us\r\n", "subject": "the report",
        "header_from": "a@example.org", "message_id": "<1@example.org>",
    } | facts  # fmt: skip
    return NewMessage(
        id=new_id(),
        deliveries=tuple(NewDelivery(one, "up") for one in recipients),
        content=content,
        size=len(content),
        header_size=content.index(b"\r\n\r\n") + 4,
        **facts,
    )


def with_engine(
    folder: Path,
    url: str,
    up: Upstream,
    work: Callable[[Runtime], Awaitable[Any]],
    *,
    principals: tuple[Principal, ...] = (APP,),
) -> Any:
    """Run `work` beside a whole engine but for its listeners."""
    store = open_spool(url, folder, name="test", notice=(late := Late()))
    connection = pysqlite3.connect(url.removeprefix("sqlite://"), isolation_level=None, timeout=5)
    connection.execute(
        "INSERT OR REPLACE INTO directory VALUES (1, 1, ?)", (encode_directory(directory(up)).decode(),)
    )
    for one in principals:
        connection.execute(
            "INSERT OR REPLACE INTO principal VALUES (?, ?, ?, 1)",
            (one.id, one.login, encode_principal(one).decode()),
        )
    connection.close()

    async def main() -> Any:
        spool = store.bind(asyncio.get_running_loop())
        cache = DirectoryCache(spool)
        late.target = Notices(cache)
        process = process_settings({"SMARTHOST_DATA": str(folder), "SMARTHOST_DATABASE_URL": url})
        key = load_or_create_key(folder / "key")
        runtime = Runtime(
            process, spool, cache, Lines(), key, notices=late.target, rhythm=BRISK, deadlines=QUICK
        )
        try:
            await runtime.start()
            return await work(runtime)
        finally:
            await runtime.stop()

    try:
        return run(main())
    finally:
        store.close()


class Late:
    target: Any = None

    def __call__(self, view: Any) -> Any:
        return self.target(view)


async def until(
    runtime: Runtime, condition: Callable[[dict[str, int]], bool], seconds: float = 10
) -> dict[str, int]:
    end = time.monotonic() + seconds
    while not condition(counts := await runtime.spool.counts()):
        if time.monotonic() > end:
            raise AssertionError(f"{counts} {runtime.log.lines[-20:]}")  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)
    return counts


def test_what_is_accepted_is_delivered_without_anybody_polling(tmp_path: Path, store_url: str) -> None:
    async def main() -> None:
        async with Hostile() as server:
            pass
        port = server.port

        async def work(runtime: Runtime) -> None:
            async with Hostile(port=port) as server:
                for n in range(100):
                    await runtime.spool.accept(message(f"r{n}@example.net"))
                await until(runtime, lambda counts: counts["sent"] == 100)
                assert sorted(one.recipients[0] for one in server.answered) == sorted(
                    f"r{n}@example.net" for n in range(100)
                )

        return port, work

    port, work = asyncio.run(main())
    with_engine(tmp_path, store_url, upstream(port), work)


def served(
    tmp_path: Path, url: str, plan: Plan, work: Callable[[Runtime, Hostile], Awaitable[Any]], **options: Any
) -> Any:
    """An engine beside a hostile server."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])

    async def both(runtime: Runtime) -> Any:
        async with Hostile(plan, port=port) as server:
            return await work(runtime, server)

    return with_engine(tmp_path, url, upstream(port), both, **options)


def reply(state: str, argument: object) -> str | None:
    return "550 5.1.1 no such user" if state == "rcpt" and str(argument).startswith("bad") else None


def notices(server: Hostile) -> list[Any]:
    return [
        (one, email.message_from_bytes(one.content, policy=email.policy.default))
        for one in server.answered
        if one.sender == ""
    ]


def test_a_failure_is_told_once_to_the_writer(tmp_path: Path, store_url: str) -> None:
    async def work(runtime: Runtime, server: Hostile) -> None:
        await runtime.spool.accept(message("bad1@example.net", "bad2@example.net", "good@example.net"))
        await until(runtime, lambda counts: counts["sent"] == 2 and counts["failed"] == 2)
        await asyncio.sleep(0.3)
        ((taken, notice),) = notices(server)
        assert taken.recipients == ["a@example.org"]
        assert notice["Auto-Submitted"] == "auto-replied"
        assert notice.get_content_type() == "multipart/report"
        text = taken.content.decode()
        assert "bad1@example.net" in text and "bad2@example.net" in text and "good@example.net" not in text
        assert "no such user" in text and "the report" in text and "hello" not in text

    served(tmp_path, store_url, Plan(reply=reply), work)


def test_a_writer_who_is_nobody_here_is_not_written_to(tmp_path: Path, store_url: str) -> None:
    """LOOP-02: the application's owner is told instead."""

    async def work(runtime: Runtime, server: Hostile) -> None:
        await runtime.spool.accept(
            message(
                "bad@example.net", sender="victim@elsewhere.example", header_from="victim@elsewhere.example"
            )
        )
        await until(runtime, lambda counts: counts["sent"] == 1 and counts["failed"] == 1)
        ((taken, _),) = notices(server)
        assert taken.recipients == ["owner@example.org"]

    served(tmp_path, store_url, Plan(reply=reply), work)


def test_null_senders_automatic_mail_and_api_mail_get_no_notice(tmp_path: Path, store_url: str) -> None:
    """LOOP-03, LOOP-04."""

    async def work(runtime: Runtime, server: Hostile) -> None:
        for facts in (
            {"sender": ""},
            {"flags": Flag.AUTOMATIC},
            {"door": Door.HTTP},
            {"door": Door.NOTICE, "sender": ""},
        ):
            await runtime.spool.accept(message("bad@example.net", **facts))
        await until(runtime, lambda counts: counts["failed"] == 4)
        await asyncio.sleep(0.3)
        assert not notices(server)

    served(tmp_path, store_url, Plan(reply=reply), work)


def test_a_notice_that_is_refused_begets_nothing(tmp_path: Path, store_url: str) -> None:
    def refuse(state: str, argument: object) -> str | None:
        return "550 5.1.1 no such user" if state == "rcpt" else None

    async def work(runtime: Runtime, server: Hostile) -> None:
        await runtime.spool.accept(message("bad@example.net"))
        await until(runtime, lambda counts: counts["failed"] == 2)
        await asyncio.sleep(0.3)
        assert (await runtime.spool.counts())["failed"] == 2

    served(tmp_path, store_url, Plan(reply=refuse), work)


def test_mail_that_expires_in_a_pause_is_told_of_too(tmp_path: Path, store_url: str) -> None:
    async def work(runtime: Runtime, server: Hostile) -> None:
        now = now_us()
        await runtime.spool.accept(
            message("late@example.net", expires_at=now - 1, send_at=now + 3_600_000_000)
        )
        await until(runtime, lambda counts: counts["expired"] == 1 and counts["sent"] == 1)
        ((taken, _),) = notices(server)
        assert taken.recipients == ["a@example.org"] and b"4.7" in taken.content

    served(tmp_path, store_url, Plan(), work)


def test_large_mail_goes_from_chunks_of_the_store(tmp_path: Path, store_url: str) -> None:
    content = b"Subject: big\r\n\r\n" + b"".join(b".%09d\r\n" % n for n in range(100_000))

    async def work(runtime: Runtime, server: Hostile) -> None:
        await runtime.spool.accept(message("r@example.net", content=content))
        await until(runtime, lambda counts: counts["sent"] == 1)
        assert server.answered[0].content == b"Received: by us\r\n" + content

    served(tmp_path, store_url, Plan(), work)


def test_what_was_under_way_when_an_engine_died_is_unknown_and_tried_later(
    tmp_path: Path, store_url: str
) -> None:
    async def dies(runtime: Runtime, server: Hostile) -> None:
        await runtime.spool.accept(message("r@example.net"))
        await until(runtime, lambda counts: counts["sending"] == 1)
        lane = runtime.delivery.lanes["up"]
        lane.done = lambda *_: None  # type: ignore[method-assign] - as if it was killed before it could tell

    async def lives(runtime: Runtime, server: Hostile) -> None:
        counts = await runtime.spool.counts()
        assert counts["unknown"] == 1
        row = runtime.spool.blocking.find(Filter())[0]
        assert row.attempts == 1 and row.due_at and row.due_at > now_us() + 800_000_000

    served(tmp_path, store_url, Plan(faults=[Fault("dot", "hang")]), dies)
    served(tmp_path, store_url, Plan(), lives)


def test_a_deferred_message_comes_back_by_itself(tmp_path: Path, store_url: str) -> None:
    tries = [0]

    def later(state: str, argument: object) -> str | None:
        if state == "rcpt":
            tries[0] += 1
            return "450 4.2.0 Greylisted, try again in 1 seconds" if tries[0] == 1 else None
        return None

    async def work(runtime: Runtime, server: Hostile) -> None:
        await runtime.spool.accept(message("r@example.net"))
        await until(runtime, lambda counts: counts["sent"] == 1, 15)
        view = await runtime.spool.message((runtime.spool.blocking.find(Filter())[0]).message_id)
        assert view is not None
        delivery = view.deliveries[0]
        assert delivery.attempts == 2
        assert delivery.tries[0].state is State.DEFERRED
        assert "450" in (delivery.tries[0].transcript or "")

    served(tmp_path, store_url, Plan(reply=later), work)


class Collector:
    def __init__(self) -> None:
        self.got: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 OK"


def test_aiosmtpd_takes_it_as_it_was(tmp_path: Path, store_url: str) -> None:
    collector = Collector()
    controller = Controller(collector, hostname="127.0.0.1", port=0)
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        controller.port = probe.getsockname()[1]
    controller.start()
    try:

        async def work(runtime: Runtime) -> None:
            for n in range(20):
                await runtime.spool.accept(
                    message(f"r{n}@example.net", content=CONTENT + b".\r\n..%d\r\n" % n)
                )
            await until(runtime, lambda counts: counts["sent"] == 20)

        with_engine(tmp_path, store_url, upstream(controller.port), work)
    finally:
        controller.stop()
    assert sorted(content for _, _, content in collector.got) == sorted(
        b"Received: by us\r\n" + CONTENT + b".\r\n..%d\r\n" % n for n in range(20)
    )


def test_senders_are_told_once_when_a_route_is_paused_for_four_hours(tmp_path: Path, store_url: str) -> None:
    hours = 3_600_000_000

    async def work(runtime: Runtime, server: Hostile) -> None:
        dead = upstream(server.port, id="dead")
        runtime.directory.current = directory(*runtime.directory.current.upstreams.values(), dead)
        old, now = now_us() - 5 * hours, now_us()
        for facts in ({"sender": "a@example.org"}, {"flags": Flag.AUTOMATIC}, {"door": Door.HTTP}):
            waiting = message(
                "w@example.net", created_at=old, expires_at=now + hours, send_at=now + hours, **facts
            )
            waiting = replace(waiting, deliveries=(NewDelivery("w@example.net", "dead"),))
            await runtime.spool.accept(waiting)
        for _ in range(2):  # the second pass is another engine, or this one after a restart
            await Waiting(runtime.spool, runtime.directory).look(["dead"])
            await until(runtime, lambda counts: counts["sent"] == 1)
        await asyncio.sleep(0.2)
        ((taken, _),) = notices(server)
        assert taken.recipients == ["a@example.org"] and b"Action: delayed" in taken.content
        assert await Waiting(runtime.spool, runtime.directory).look(["dead", "up"]) == 0, (
            "not by the paused route"
        )

    served(tmp_path, store_url, Plan(), work)
