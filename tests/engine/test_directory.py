"""The engine's view of the directory: whole, current, and never an old credential after a change."""

import asyncio

import msgspec
import pytest

from smarthost.engine import directory as module
from smarthost.engine.directory import LOCAL, DirectoryCache
from smarthost.routing import Directory, Mode, Principal, encode_directory, encode_principal

ONE = Directory(version=1, mode=Mode.LIVE, hostname="h.example.test", domain="example.test", upstreams={})
APP = Principal(id="app:1", name="Printer", login="printer", secrets=("a" * 64,))


class Source:
    def __init__(self):
        self.now, self.principals, self.reads = ONE, {APP.id: APP}, 0
        self.pause = None

    async def directory_version(self):
        return self.now.version

    async def directory(self):
        return encode_directory(self.now)

    async def principal(self, id):
        self.reads += 1
        found = self.principals.get(id)
        if self.pause is not None:
            await self.pause.wait()
        return encode_principal(found) if found else None

    async def principal_by_login(self, login):
        for one in self.principals.values():
            if one.login == login:
                return await self.principal(one.id)
        self.reads += 1
        return None


@pytest.fixture
def source():
    return Source()


def test_before_there_is_a_directory_mail_is_captured():
    assert DirectoryCache(Source()).current.mode is Mode.CAPTURE


def test_a_newer_version_replaces_the_snapshot_as_a_whole(source):
    async def main():
        cache = DirectoryCache(source)
        assert await cache.refresh() and cache.current == ONE
        assert not await cache.refresh(), "the same version is not read again"
        source.now = msgspec.structs.replace(ONE, version=2, domain="other.example.test")
        assert await cache.refresh() and cache.current.domain == "other.example.test"

    asyncio.run(main())


def test_an_empty_row_is_no_directory(source):
    async def empty():
        return b""

    async def main():
        source.directory = empty
        cache = DirectoryCache(source)
        assert not await cache.refresh() and cache.current.mode is Mode.CAPTURE

    asyncio.run(main())


def test_a_principal_is_read_once_and_again_after_a_change(source):
    async def main():
        cache = DirectoryCache(source)
        await cache.refresh()
        assert cache.get(APP.id) is None and cache.get_by_login("printer") is None
        assert await cache.principal_by_login("printer") == APP
        assert await cache.principal(APP.id) is cache.get(APP.id) is cache.get_by_login("printer")
        assert source.reads == 1
        source.principals[APP.id] = msgspec.structs.replace(APP, secrets=("b" * 64,))
        source.now = msgspec.structs.replace(ONE, version=2)
        await cache.refresh()
        assert cache.get(APP.id) is None
        assert (await cache.principal(APP.id)).secrets == ("b" * 64,)

    asyncio.run(main())


def test_an_old_principal_that_arrives_after_a_change_is_not_kept(source):
    async def main():
        cache = DirectoryCache(source)
        await cache.refresh()
        source.pause = asyncio.Event()
        reading = asyncio.ensure_future(cache.principal(APP.id))
        await asyncio.sleep(0)
        source.principals[APP.id] = msgspec.structs.replace(APP, secrets=())
        source.now = msgspec.structs.replace(ONE, version=2)
        await cache.refresh()
        source.pause.set()
        assert await reading == APP
        assert cache.get(APP.id) is None
        assert (await cache.principal(APP.id)).secrets == ()

    asyncio.run(main())


def test_guesses_at_names_fill_no_memory_and_neither_do_many_principals(source, monkeypatch):
    monkeypatch.setattr(module, "MOST_PRINCIPALS", 10)

    async def main():
        cache = DirectoryCache(source)
        for n in range(50):
            assert await cache.principal_by_login(f"nobody-{n}") is None
        assert len(cache._by_id) == 1 and not cache._by_login
        source.principals = {f"app:{n}": Principal(id=f"app:{n}", name="x", login=f"l{n}") for n in range(50)}
        for n in range(50):
            assert (await cache.principal(f"app:{n}")).id == f"app:{n}"
        assert len(cache._by_id) <= 10

    asyncio.run(main())


def test_the_local_principal_of_capture_mode_is_always_there(source):
    async def main():
        cache = DirectoryCache(source)
        await cache.refresh()
        assert cache.get(LOCAL.id) is LOCAL

    asyncio.run(main())
