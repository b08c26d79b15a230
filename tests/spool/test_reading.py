"""Lists, followers, the directory, wake-ups, what the store says of itself."""

import asyncio
import threading

import pytest

from smarthost.spool import Event, Filter, NewDelivery, Selection, State, now_us


def test_counts_name_every_state(spool):
    assert spool.counts() == {state.word: 0 for state in State}


@pytest.fixture
def three(spool, message, ended):
    messages = [
        message("bob@example.net", subject="Invoice 100%", principal="app:a"),
        message("Carol@example.org", subject="Résumé_x", upstream="two", sender="x@example.com"),
        message("bob@example.net", subject="invoice 101", principal="app:a"),
    ]
    spool.accept_many(messages)
    (lease,) = spool.lease("up", 1)
    spool.complete(ended(lease, State.FAILED, code=550, reply="550 no"))
    return [m.id for m in messages]


@pytest.mark.parametrize(
    ("filter", "found"),
    [
        (Filter(), [2, 1, 0]),
        (Filter(states=(State.FAILED,)), [0]),
        (Filter(states=(State.QUEUED, State.FAILED)), [2, 1, 0]),
        (Filter(upstream="two"), [1]),
        (Filter(principal="app:a"), [2, 0]),
        (Filter(recipient="carol@example.org"), [1]),
        (Filter(sender="x@example.com"), [1]),
        (Filter(text="invoice"), [2, 0]),
        (Filter(text="100%"), [0]),
        (Filter(text="é_x"), [1]),
        (Filter(text="EXAMPLE.ORG"), [1]),
        (Filter(since=2**60), []),
        (Filter(until=2**60, states=(State.FAILED,)), [0]),
    ],
)
def test_finding(spool, three, filter, found):
    assert [row.message_id for row in spool.find(filter)] == [three[n] for n in found]


def test_pages_follow_each_other_and_rows_show_the_last_reply(spool, three):
    first = spool.find(Filter(), limit=2)
    rest = spool.find(Filter(), after=first[-1].id, limit=2)
    assert [row.message_id for row in first + rest] == three[::-1]
    assert (rest[0].code, rest[0].reply, rest[0].state) == (550, "550 no", State.FAILED)
    assert (first[0].code, first[0].reply) == (0, "")


def test_what_is_not_there(spool):
    assert spool.message("0" * 26) is None
    assert list(spool.content("0" * 26)) == []


def test_events_forwards_and_backwards(spool):
    spool.record([Event(n, "a" if n % 2 else "b", f"upstream:{n}", f"text {n}") for n in range(6)])
    first = spool.events(limit=4)
    assert [e.text for e in first] == ["text 0", "text 1", "text 2", "text 3"]
    assert [e.text for e in spool.events(first[-1].cursor)] == ["text 4", "text 5"]
    newest = spool.events(newest=True, limit=2)
    assert [e.text for e in newest] == ["text 5", "text 4"]
    assert [e.text for e in spool.events(newest[-1].cursor, newest=True, limit=1)] == ["text 3"]
    assert [e.at for e in spool.events(kind="a")] == [1, 3, 5]
    assert [e.at for e in spool.events(subject="upstream:2")] == [2]
    with pytest.raises(ValueError, match="cursor"):
        spool.events("nonsense")


def test_attempts_can_be_followed(spool, three, message, ended):
    (attempt,) = spool.attempts()
    assert attempt.message_id == three[0]
    (lease,) = spool.lease("up", 1)
    spool.complete(ended(lease))
    (new,) = spool.attempts(attempt.cursor)
    assert (new.message_id, new.state) == (three[2], State.SENT)
    assert [a.id for a in spool.attempts(newest=True)] == [new.id, attempt.id]


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_follower_misses_nothing_of_a_slow_transaction(place, spool):
    slow = place.connect()
    insert = (
        "INSERT INTO event (at, kind, subject, text, severity, actor, data) VALUES (1,'k','s',%s,'','','')"
    )
    slow.execute("BEGIN")
    slow.execute(insert, ("slow",))
    spool.record([Event(2, "k", "s", "fast")])
    assert spool.events() == []
    slow.execute("COMMIT")
    slow.close()
    assert {e.text for e in spool.events()} == {"slow", "fast"}


def test_age_and_upstreams_of_what_is_ready(spool, message):
    assert (spool.queue_age(), spool.ready_upstreams(), spool.next_due()) == (0.0, [], None)
    spool.accept_many([message(upstream=name) for name in ("c", "a", "b", "a")])
    assert spool.ready_upstreams() == ["a", "b", "c"]
    assert 0 <= spool.queue_age() < 60
    spool.hold(Selection(everything=True), "eve")
    assert spool.queue_age() == 0.0


def test_the_directory_is_read_as_it_stands(place, spool):
    assert (spool.directory_version(), spool.directory(), spool.principal("app:1")) == (0, None, None)
    place.sql("INSERT INTO directory VALUES (1, 7, ?)", '{"version":7}')
    place.sql("INSERT INTO principal VALUES ('app:1', 'printer', ?, 7)", '{"id":"app:1"}')
    place.sql("INSERT INTO principal_secret VALUES ('aa', 'app:1', '', NULL)")
    place.sql("INSERT INTO principal_secret VALUES ('bb', 'app:1', '', ?)", now_us() - 1)
    assert (spool.directory_version(), spool.directory()) == (7, b'{"version":7}')
    assert spool.principal("app:1") == spool.principal_by_login("printer") == b'{"id":"app:1"}'
    assert spool.principal_by_secret("aa") == b'{"id":"app:1"}'
    assert spool.principal_by_secret("bb") is None
    assert spool.principal_by_secret("cc") is None


def test_it_says_what_its_promises_rest_on(place, spool):
    found = {finding.name: finding for finding in spool.durability()}
    assert {name for name, finding in found.items() if finding.severity == "error"} == set()
    assert ("synchronous" if place.vendor == "sqlite" else "synchronous-commit") in found
    assert "free-space" in found


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_server_that_commits_without_the_disk_is_an_error(place):
    place.url += "&options=-c%20synchronous_commit%3Doff"
    found = {finding.name: finding.severity for finding in place.open().durability()}
    assert found["synchronous-commit"] == "error"


async def _woken(store, act):
    """Topics heard until "mail" (or what act says) came."""
    heard, event = [], asyncio.Event()

    def callback(topic):
        heard.append(topic)
        event.set()

    store.subscribe(callback)
    await act()
    await event.wait()
    return heard


@pytest.mark.parametrize("topic", ["mail", "directory", "control"])
def test_another_process_wakes_the_engine(place, spool, run, topic):
    other = place.open()

    async def main(store):
        async def act():
            for _ in range(20):  # on PostgreSQL the listener may not be there yet
                await asyncio.to_thread(other.wake, topic)
                await asyncio.sleep(0.05 if place.vendor == "postgresql" else 0)

        return await _woken(store, act)

    assert set(run(spool, main)) == {topic}


def test_accepting_in_another_process_wakes_the_engine(place, spool, message, run):
    other = place.open()

    async def main(store):
        async def act():
            await asyncio.sleep(0.2 if place.vendor == "postgresql" else 0)
            await asyncio.to_thread(other.accept, message())

        return await _woken(store, act)

    assert set(run(spool, main)) == {"mail"}


def test_mail_made_ready_here_wakes_here(spool, message, run):
    async def main(store):
        async def act():
            await store.accept(message())

        return await _woken(store, act)

    assert set(run(spool, main)) == {"mail"}


def test_waking_nobody_is_nothing(place):
    other = place.open()
    for _ in range(1000):
        other.wake("mail") if place.vendor == "sqlite" else None
    with pytest.raises(ValueError, match="topic"):
        other.wake("nonsense")


def test_many_threads_write_and_read_at_once(place, spool, message):
    errors = []

    def work():
        try:
            for _ in range(10):
                m = message()
                spool.accept(m)
                assert spool.message(m.id).id == m.id
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert spool.counts()["queued"] == 80
    assert place.consistent()


def test_deliveries_of_one_message_by_two_upstreams(spool, message):
    m = message(deliveries=(NewDelivery("b@example.net", "one"), NewDelivery("c@example.net", "two")))
    spool.accept(m)
    for upstream in ("one", "two"):
        (lease,) = spool.lease(upstream, 8)
        assert (lease.message_id, lease.first) == (m.id, m.content)
        assert len(lease.deliveries) == 1
