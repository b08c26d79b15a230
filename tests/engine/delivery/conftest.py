"""What the tests of delivery share: their helpers on the path, and a store to copy."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

SPOOL_TESTS = Path(__file__).parent.parent.parent / "spool"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """A database with the spool's tables, to be copied."""
    path = tmp_path_factory.mktemp("template") / "spool.db"
    environ = os.environ | {
        "PYTHONPATH": str(SPOOL_TESTS),
        "DJANGO_SETTINGS_MODULE": "minimal_settings",
        "SMARTHOST_DATABASE_URL": f"sqlite:///{path}",
    }
    script = (
        "import smarthost.control, django; django.setup();"
        "from django.core.management import call_command; call_command('migrate', verbosity=0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environ, timeout=60)
    import pysqlite3

    connection = pysqlite3.connect(str(path), isolation_level=None)
    connection.execute(
        "CREATE TABLE directory (id int PRIMARY KEY, version bigint NOT NULL, body text NOT NULL)"
    )
    connection.execute(
        "CREATE TABLE principal (id text PRIMARY KEY, login text, body text NOT NULL, version bigint)"
    )
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    return path


@pytest.fixture
def store_url(empty_store, tmp_path):
    """The address of a fresh store of this test."""
    path = tmp_path / "smarthost.db"
    shutil.copy(empty_store, path)
    return f"sqlite:///{path}"
