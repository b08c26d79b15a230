"""A store in trouble: what is said yes to is there, what is not there was never said yes to."""

import shutil
import threading
import time

import psycopg
import pysqlite3
import pytest

from smarthost.errors import ContentError, StoreFull, StoreUnavailable
from smarthost.spool import Acceptance, Charge, State
from smarthost.spool import _committer as committer

only_postgres = pytest.mark.parametrize("place", ["postgresql"], indirect=True)
only_sqlite = pytest.mark.parametrize("place", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(committer, "PATIENCE_S", 0.3)


def once(session, name, replacement):
    """Replace a method of the committer's session for its next call."""
    original = getattr(session, name)

    def called(*arguments):
        setattr(session, name, original)
        return replacement(original, *arguments)

    setattr(session, name, called)


def writer(spool):
    return spool._committer._session


def lose(session):
    session.connection.close()
    raise psycopg.OperationalError("server closed the connection unexpectedly")


@only_postgres
@pytest.mark.parametrize("happened", [True, False])
def test_a_commit_of_unknown_outcome_is_found_out(place, spool, message, happened):
    session = writer(spool)

    def lost_in_commit(commit):
        if happened:
            commit()
        lose(session)

    once(session, "commit", lost_in_commit)
    m = message()
    assert spool.accept(m).how is Acceptance.ACCEPTED
    assert place.sql("SELECT id FROM message") == [(m.id,)]
    assert spool.counts()["queued"] == 1
    assert place.consistent()


@only_postgres
def test_a_commit_whose_outcome_stays_unknown_is_no_yes_and_can_be_repeated(
    place, spool, message, monkeypatch
):
    session, database = writer(spool), spool._database

    def lost_in_commit(commit):
        commit()
        monkeypatch.setattr(database, "url", "host=/nowhere")
        lose(session)

    once(session, "commit", lost_in_commit)
    m = message()
    with pytest.raises(StoreUnavailable):
        spool.accept(m)
    monkeypatch.undo()
    assert spool.accept(m).how is Acceptance.REPEATED
    assert place.consistent()


@only_postgres
def test_leases_that_nobody_was_told_of_are_given_back(place, spool, message, monkeypatch):
    spool.accept_many([message() for _ in range(3)])
    session, database = writer(spool), spool._database

    def lost_in_commit(commit):
        commit()
        monkeypatch.setattr(database, "url", "host=/nowhere")
        lose(session)

    once(session, "commit", lost_in_commit)
    with pytest.raises(StoreUnavailable):
        spool.lease("up", 2)
    monkeypatch.undo()
    assert place.sql("SELECT count(*) FROM delivery WHERE state = 2") == [(2,)]
    spool.beat()
    assert len(spool.lease("up", 8)) == 3
    assert place.consistent()


@only_postgres
def test_an_idle_connection_that_was_cut_is_replaced(place, spool, message):
    place.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ^@ 'smarthost'")
    spool.accept(message())
    assert spool.counts()["queued"] == 1


@only_postgres
def test_while_the_server_is_away_callers_are_told_so_quickly(place, spool, message, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(spool._database, "url", "host=/nowhere")
        writer(spool).connection.close()
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                spool.accept(message())
    spool.accept(message())
    assert spool.counts()["queued"] == 1


@only_postgres
def test_a_deadlock_that_we_lost_is_tried_again(place, spool, message):
    def deadlock(insert, *arguments):
        raise psycopg.errors.DeadlockDetected("deadlock detected")

    once(writer(spool), "insert", deadlock)
    spool.accept(message())
    assert place.consistent()


def failure(code):
    error = pysqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


@only_sqlite
def test_after_a_failed_fsync_nothing_is_acknowledged_any_more(place, spool, message):
    session = writer(spool)

    class DiskFails:
        def __init__(self, cursor):
            self.cursor = cursor

        def __getattr__(self, name):
            return getattr(self.cursor, name)

        def execute(self, sql, *params):
            if sql == "COMMIT":
                raise failure(pysqlite3.SQLITE_IOERR)  # what the module says of an fsync, too
            return self.cursor.execute(sql, *params)

    session._cursor = DiskFails(session._cursor)
    with pytest.raises(StoreUnavailable):
        spool.accept(message())
    assert "fsync" in spool.failed
    with pytest.raises(StoreUnavailable):
        spool.accept(message())
    assert spool.counts()["queued"] == 0
    spool.close()
    second = place.open()
    second.accept(message())
    assert second.failed is None
    assert place.consistent()


@only_sqlite
def test_a_full_database_refuses_and_goes_on_when_there_is_space(place, spool, message):
    session = writer(spool)
    pages = session.one("PRAGMA page_count")
    session.run(f"PRAGMA max_page_count={pages}")
    big = b"x: y\r\n\r\n" + b"z" * 1_000_000
    with pytest.raises(StoreFull):
        spool.accept(message(content=big))
    assert spool.counts()["queued"] == 0
    session.run("PRAGMA max_page_count=100000000")
    spool.accept(message(content=big))
    assert spool.failed is None
    assert place.consistent()


@only_sqlite
def test_who_waits_for_the_lock_is_seen_and_gets_its_turn(place, spool, message):
    other = place.open()
    blocker = place.connect()
    blocker.execute("BEGIN IMMEDIATE")
    waiting = threading.Thread(target=other.accept, args=(message(),))
    waiting.start()
    deadline = time.monotonic() + 10
    while not writer(spool)._turns.waiting():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    blocker.execute("COMMIT")
    blocker.close()
    waiting.join()
    assert spool.counts()["queued"] == 1


@only_sqlite
def test_a_lock_that_is_never_released_is_unavailable(place, spool, message, monkeypatch):
    from smarthost.spool import _sqlite

    monkeypatch.setattr(_sqlite, "BUSY_TIMEOUT_S", 0.05)
    blocker = place.connect()
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        spool.accept(message())
    blocker.execute("COMMIT")
    blocker.close()
    spool.accept(message())
    assert spool.counts()["queued"] == 1


@only_sqlite
def test_the_log_stays_short_under_load(place, spool, message, monkeypatch):
    from smarthost.spool import _sqlite

    monkeypatch.setattr(_sqlite, "CHECKPOINT_PAGES", 100)
    wal = place.data / "spool.db-wal"
    content = b"x: y\r\n\r\n" + b"z" * 20_000
    for _ in range(300):
        spool.accept(message(content=content))
    assert wal.stat().st_size < 100 * 300 * 4096 / 10
    assert spool.counts()["queued"] == 300


def test_a_message_that_cannot_be_stored_does_not_stop_completions(spool, message, ended, run):
    spool.accept(message())
    (lease,) = spool.lease("up", 1)

    async def main(store):
        poison = store.accept(message(sender=object()))
        done = store.complete(ended(lease))
        with pytest.raises(ContentError):
            await poison
        return await done

    assert run(spool, main) == []
    assert spool.counts()["sent"] == 1


def test_nothing_is_handed_back_before_the_commit(place, spool, message):
    order = []
    session = writer(spool)

    def commit(original):
        order.append(place.sql("SELECT count(*) FROM message")[0][0])
        original()

    once(session, "commit", commit)
    spool.accept(message())
    order.append(place.sql("SELECT count(*) FROM message")[0][0])
    assert order == [0, 1]


def test_closing_executes_what_was_handed_in(place, message, run):
    spool = place.open()

    async def main(store):
        futures = [store.accept(message()) for _ in range(50)]
        import asyncio

        await asyncio.to_thread(spool.close)
        return len(await asyncio.gather(*futures))

    assert run(spool, main) == 50
    assert place.sql("SELECT count(*) FROM delivery WHERE state = ?", int(State.QUEUED)) == [(50,)]


@only_postgres
def test_a_counter_that_somebody_holds_fails_only_who_needs_it(place, spool, message, run):
    charge = Charge("cap", 0, 1, 10)
    spool.charge_quota(charge)
    holder = place.connect()
    holder.execute("BEGIN")
    holder.execute("UPDATE usage SET used = 5")

    async def main(store):
        stuck, free = store.accept(message(charges=(charge,))), store.accept(message())
        with pytest.raises(StoreUnavailable):
            await stuck
        return (await free).how

    assert run(spool, main) is Acceptance.ACCEPTED
    holder.execute("ROLLBACK")
    holder.close()
    assert place.consistent()


@only_sqlite
def test_on_a_full_disk_waiting_still_works(place, message, monkeypatch):
    import errno
    import os

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    place.open().accept(message())


@only_sqlite
@pytest.mark.parametrize("how", ["folder", "file", "other file"])
def test_nothing_is_acknowledged_once_the_database_is_gone(place, spool, message, how):
    spool.accept(message())
    spool._space._next = 0.0  # what was looked at last counts for 50 ms
    file = place.data / "spool.db"
    if how == "folder":
        shutil.rmtree(place.data)
    else:
        file.rename(place.data / "old.db")
    if how == "other file":
        shutil.copy(place.data / "old.db", file)
    with pytest.raises(StoreUnavailable) as caught:
        spool.accept(message())
    assert "cannot be used any more" in str(spool.failed)
    assert caught.value.private == spool.failed
    with pytest.raises(StoreUnavailable):
        spool.beat()  # whoever waits is answered
    spool.close()


def test_whatever_breaks_in_the_committer_its_callers_are_told(spool, message, monkeypatch):
    def broken():
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(spool._space, "look", broken)
        with pytest.raises(StoreUnavailable):
            spool.accept(message())
    assert spool.accept(message()).how is Acceptance.ACCEPTED
