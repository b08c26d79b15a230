"""A delivery side in a test: one store, one upstream (or more), short deadlines, no timers to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from memory_spool import MemorySpool

from smarthost.engine.delivery import Deadlines, Delivery
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.routing import Directory, Encryption, Mode, Upstream, destination
from smarthost.spool import State
from smarthost.vault import Key, load_or_create_key, seal

QUICK = Deadlines(
    connect=2, banner=0.3, ehlo=0.3, starttls=0.3, tls=0.3, auth=0.3, mail=0.3, rcpt=0.3, data=0.3, body=0.3,
    dot=0.3, recipient=0.01, rset=0.3, quit=0.2, setup=1, idle=30, sweep=0.03,
)  # fmt: skip


class Lines(Log):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        self.lines.append((level, event, fields))

    def events(self, name: str) -> list[dict[str, object]]:
        return [fields for _, event, fields in self.lines if event == name]


def upstream(
    port: int, *, id: str = "up", key: Key | None = None, password: str = "", **settings: Any
) -> Upstream:
    settings.setdefault("host", "127.0.0.1")
    settings.setdefault("encryption", Encryption.NONE)
    made = Upstream(id=id, name=id, port=port, **settings)
    if password:
        assert key is not None
        sealed = seal(key, password, destination(made))
        made = Upstream(id=id, name=id, port=port, password=sealed, **settings)
    return made


def directory(*upstreams: Upstream, version: int = 1) -> Directory:
    return Directory(
        version=version,
        mode=Mode.LIVE,
        hostname="hub.example",
        domain="example.org",
        upstreams={one.id: one for one in upstreams},
        default_upstream=upstreams[0].id if upstreams else "",
    )


class World:
    """`async with World(tmp_path, upstream(port)) as world: world.add(…); await world.settled()`."""

    def __init__(
        self,
        folder: Path,
        *upstreams: Upstream,
        deadlines: Deadlines = QUICK,
        spool: Any = None,
        **options: Any,
    ) -> None:
        self.key = load_or_create_key(folder / "key")
        self.spool = spool or MemorySpool()
        self.log = Lines()
        self.cache = DirectoryCache(self.spool, directory(*upstreams))
        self.delivery = Delivery(self.spool, self.cache, self.key, self.log, deadlines=deadlines, **options)

    async def __aenter__(self) -> World:
        await self.delivery.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.delivery.stop()
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)

    def add(self, *recipients: str, **facts: Any) -> Any:
        message = self.spool.add(*recipients, **facts)
        self.delivery.wake()
        return message

    def change(self, *upstreams: Upstream) -> None:
        self.cache.current = directory(*upstreams, version=self.cache.current.version + 1)
        self.delivery.apply_directory()

    def lane(self, id: str = "up") -> Any:
        return self.delivery.lanes[id]

    async def until(self, condition: Callable[[], bool], seconds: float = 8) -> None:
        """Wait for a condition; fails loudly with what was logged."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                states = [(row.recipient, row.state.word, row.due_at) for row in self.spool.rows]
                raise AssertionError(
                    f"never came true; {states[:20]} {self.log.lines[-20:]} {self.delivery.lanes}"
                )
            await asyncio.sleep(0.005)

    async def settled(self, seconds: float = 8) -> None:
        """Wait until no row is on its way or ready."""
        busy = (State.QUEUED, State.SENDING)
        await self.until(lambda: not any(row.state in busy for row in self.spool.rows), seconds)

    async def next_probe(self, id: str = "up") -> None:
        """As if the time of the route's next probe, or the end of its grace, had come."""
        await self.until(lambda: not self.delivery._persisting)
        health = self.lane(id).health
        health.route = replace(health.route, until=1 if health.paused else 0)
        health.calm_until = 0
        await self.delivery.probe()
        self.delivery.wake()

    def states(self) -> list[str]:
        return [row.state.word for row in self.spool.rows]


def run(work: Any, *, loop: str = "uvloop") -> Any:
    """Run a coroutine on uvloop, as the engine does."""
    import uvloop

    if loop == "uvloop":
        return uvloop.run(work)
    return asyncio.run(work)
