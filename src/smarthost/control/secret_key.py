"""Django's signing key, derived from the installation's key file so that there is one secret to keep.

Every command of the control plane comes by here before it does anything, so here a lost key file is noticed.
A new key is made only where the database holds nothing that another key sealed: a fresh one instead would
hide the loss until a server's password is needed.
"""

from __future__ import annotations

from pathlib import Path

import pysqlite3

from smarthost.config import ProcessSettings
from smarthost.errors import StoreUnavailable
from smarthost.vault import Key, load_key, load_or_create_key

_SEALED = "SELECT count(*) FROM upstream WHERE password <> '' OR client_key <> ''"


def installation_key(process: ProcessSettings) -> Key:
    """The key of the key file; made where there is none and nothing was ever sealed.

    Raises SecretError where the file cannot be used, or is missing while the database holds sealed secrets;
    StoreUnavailable where it is missing and the database cannot say.
    """
    path = process.secret_key_file
    if not path.exists() and _holds_sealed(process):
        return load_key(path)
    return load_or_create_key(path)


def signing_key(process: ProcessSettings) -> str:
    """The key that signs sessions, links and tokens: the same in every process of an installation.

    Raises as `installation_key`.
    """
    return installation_key(process).derive("django-signing").hex()


def _holds_sealed(process: ProcessSettings) -> bool:
    """Whether a server's secret is stored. Asked of the database itself: Django is not configured yet."""
    ask = _ask_sqlite if process.database_url.startswith("sqlite:///") else _ask_postgresql
    try:
        return ask(process.database_url)
    except (pysqlite3.Error, ConnectionError) as error:
        raise StoreUnavailable(
            f"The key file {process.secret_key_file} is missing, and the database cannot say whether anything"
            " needs it. Put back its copy, or try again when the database answers.",
            private=str(error),
        ) from error


def _ask_sqlite(url: str) -> bool:
    path = Path(url.removeprefix("sqlite://"))
    if not path.exists() or not path.stat().st_size:
        return False
    connection = pysqlite3.connect(str(path), timeout=10)
    try:
        known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'upstream'").fetchone()
        return bool(known and connection.execute(_SEALED).fetchone()[0])
    finally:
        connection.close()


def _ask_postgresql(url: str) -> bool:
    """Raises ConnectionError."""
    import psycopg  # takes 70 ms, and most installations have no PostgreSQL

    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            known = connection.execute("SELECT to_regclass('upstream')").fetchone()
            if known is None or known[0] is None:
                return False
            found = connection.execute(_SEALED).fetchone()
            return bool(found and found[0])
    except psycopg.Error as error:
        raise ConnectionError(str(error)) from error
