"""Django with nothing but the spool's tables and the directory's: the store's tests need no more."""

import os

os.environ.setdefault("SMARTHOST_DATABASE_URL", "sqlite:///:memory:")

from smarthost.config import process_settings

_URL = process_settings().database_url

if _URL.startswith("sqlite"):
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": _URL.removeprefix("sqlite://"),
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL",
            },
        }
    }
else:
    from psycopg.conninfo import conninfo_to_dict

    _parts = conninfo_to_dict(_URL)
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _parts["dbname"],
            "USER": _parts.get("user", ""),
            "HOST": _parts.get("host", ""),
            "PORT": _parts.get("port", ""),
            "PASSWORD": _parts.get("password", ""),
        }
    }
SECRET_KEY = "tests"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["smarthost.control.messages"]
