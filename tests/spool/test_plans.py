"""With 100,000 rows the statements that run all the time use their indexes."""

import pytest

from smarthost.spool import Filter, State, now_us

ROWS = 100_000
SERIES = {
    "sqlite": "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 100000) ",
    "postgresql": "WITH g AS (SELECT n::int AS n FROM generate_series(1, 100000) AS n) ",
}


class Recorder:
    """Stands before a cursor and keeps what was executed."""

    def __init__(self, cursor, seen):
        self._cursor, self._seen = cursor, seen

    def __getattr__(self, name):
        return getattr(self._cursor, name)

    def execute(self, sql, params=()):
        if sql.startswith(("SELECT", "UPDATE", "DELETE", "WITH")) and "pg_current_xact" not in sql:
            self._seen.append((sql, params))
        return self._cursor.execute(sql, params)


@pytest.fixture
def filled(place):
    """Half deferred, some of everything else; a few ready rows."""
    _fill(place, now_us())
    return place


def _fill(place, now):
    sqlite = place.vendor == "sqlite"
    identity = (
        "'01' || substr('000000000000000000000000' || n, -24)" if sqlite else "'01' || lpad(n::text,24,'0')"
    )
    empty = "x''" if sqlite else "''::bytea"
    series = SERIES[place.vendor]
    place.sql(
        "INSERT INTO message (id, created_at, principal, principal_name, door, sender, size, header_size, chunks,"
        f" trace, header_from, subject, message_id, flags, priority, expires_at) {series}"
        f" SELECT {identity}, {now} + n, 'app:1', 'App', 'smtp', 'a@example.com', 100, 50, 1, {empty}, '', 's', '',"
        f" 0, 1, {now} + CAST(1000000 AS bigint) * n FROM g"
    )
    place.sql(
        "INSERT INTO delivery (message_id, recipient, upstream, priority, state, rank, due_at, expires_at, single,"
        f" updated_at) {series} SELECT {identity}, 'b@example.net', CASE n % 3 WHEN 0 THEN 'up' ELSE 'other' END, 1,"
        " CASE WHEN n % 10 < 5 THEN 5 WHEN n % 10 < 9 THEN 3 WHEN n % 100 = 9 THEN 1 ELSE 7 END,"
        f" CASE WHEN n % 100 = 9 THEN {now} + n END,"
        f" CASE WHEN n % 10 < 5 THEN {now} + CAST(1000000 AS bigint) * n END, {now} + CAST(1000000 AS bigint) * n, 1, {now} FROM g"
    )
    place.sql(
        "INSERT INTO attempt (message_id, delivery_id, at, state, counts, code, enhanced, reply, stage, local,"
        f" session, timings) {series} SELECT {identity}, n, {now}, 5, 1, 451, '', 'later', '', 0, '', '' FROM g"
    )
    place.sql(
        f"INSERT INTO chunk (message_id, n, data, crc32) {series} SELECT {identity}, 0, {empty}, 0 FROM g"
    )
    place.sql("INSERT INTO tally SELECT 0, state, count(*) FROM delivery GROUP BY state")
    place.sql("ANALYZE")


def plans(place, statements):
    connection = place.connect()
    try:
        if place.vendor == "postgresql":
            connection.execute("SET enable_seqscan = off")  # as on the store's own connections
        for sql, params in statements:
            if place.vendor == "sqlite":
                rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()
                for row in rows:
                    yield row[3], sql
            else:
                for (line,) in connection.execute(f"EXPLAIN {sql}", params).fetchall():
                    yield line, sql
    finally:
        connection.close()


BIG = ("delivery", "message", "attempt", "chunk", "d", "m", "c")


def scans(plan, vendor):
    """Whether a line of a plan reads a whole big table."""
    words = plan.replace("(", " ").split()
    if vendor == "sqlite":
        return words[0] == "SCAN" and words[1] in BIG and "USING" not in words
    return "Seq Scan on" in plan and plan.split("Seq Scan on ")[1].split()[0] in BIG


def test_what_runs_all_the_time_and_the_pages_of_lists_read_no_whole_table(filled):
    """One test, for filling the tables is what takes its time."""
    seen = [*_engine(filled), *_lists(filled)]
    assert len(seen) >= 14
    for plan, sql in plans(filled, seen):
        assert not scans(plan, filled.vendor), (plan, sql)
        if filled.vendor == "sqlite" and "ORDER BY d.id DESC" in sql:
            assert "TEMP B-TREE" not in plan, (plan, sql)


def _engine(place):
    spool = place.open()
    spool.register()
    seen = []
    session = spool._committer._session
    session._cursor = Recorder(session._cursor, seen)
    assert len(spool.lease("up", 8)) == 8
    spool.promote(now_us() + 5_000_000_000)
    spool.expire(now_us() + 100_000_000)
    spool.recover({})
    spool.close()
    return seen


def _lists(place):
    spool = place.open()
    reader = spool._database.reader()
    seen = []
    reader._cursor = Recorder(reader._cursor, seen)
    spool._database._idle.append(reader)
    spool.find(Filter(), after=5000, limit=50)
    spool.find(Filter(states=(State.FAILED,)), limit=50)
    spool.message("01" + "5".zfill(24))
    spool.ready_upstreams()
    spool.queue_age()
    spool.next_due()
    spool.events()
    spool.attempts("0.5", limit=10)
    return seen
