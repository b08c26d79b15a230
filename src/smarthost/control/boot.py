"""Makes Django ready in a process, and brings the schema up to date exactly once.

`smarthost run` starts web and engine together, and an administrator may run a command at the same moment. So
migrating happens under a lock that dies with its holder: `flock` on a file in the data folder for SQLite, an
advisory lock of the session for PostgreSQL. Who comes second finds nothing to do. Each migration is one
transaction, so a process killed in between leaves whole steps only.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import django

from smarthost import faults
from smarthost.config import ProcessSettings, process_settings

_ADVISORY_LOCK = 0x536D6172  # any number that nobody else in this database uses


def setup(*, migrate: bool = True) -> None:
    """Configure Django, and with `migrate` create or update the schema and compile the first directory.

    Raises ConfigError for environment that cannot be used; database errors as Django gives them.
    """
    prepare_data(process_settings())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "smarthost.control.settings")
    django.setup()
    if migrate:
        _migrate()


def prepare_data(process: ProcessSettings) -> None:
    """Create the data folder, and the embedded database as a file that nobody else can read.

    Others may pass through the folder (the sendmail socket stands in it) but not list it.
    """
    if not process.data.exists():
        process.data.mkdir(parents=True, mode=0o711)
    if process.database_url.startswith("sqlite:///"):
        path = Path(process.database_url.removeprefix("sqlite://"))
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _migrate() -> None:
    from django.core.management import call_command
    from django.db import connection
    from django.db.migrations.executor import MigrationExecutor

    from smarthost.control.directory.services import ensure_compiled

    with _alone():
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            faults.point("during-migration")
            call_command("migrate", verbosity=0, interactive=False)
            faults.point("during-migration")
        ensure_compiled()


@contextmanager
def _alone() -> Iterator[None]:
    from django.conf import settings
    from django.db import connection

    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [_ADVISORY_LOCK])
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [_ADVISORY_LOCK])
        return
    with (settings.PROCESS.data / "migrate.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
