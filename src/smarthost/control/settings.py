"""Django's settings, derived from the process's."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from smarthost.config import process_settings
from smarthost.control.secret_key import signing_key

PROCESS = process_settings()


def _database(url: str) -> dict[str, object]:
    if url.startswith("sqlite:///"):
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": url.removeprefix("sqlite://"),
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
            },
        }
    parts = urlsplit(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": dict(pair.split("=", 1) for pair in parts.query.split("&") if pair),
        "CONN_MAX_AGE": 60,
    }


DATABASES = {"default": _database(PROCESS.database_url)}
SECRET_KEY = signing_key(PROCESS)
DEBUG = False
ALLOWED_HOSTS = ["*"]  # links never come from the Host header: they come from PROCESS.public_url
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "smarthost.control.urls"
WSGI_APPLICATION = "smarthost.control.wsgi.application"

CAPABILITIES = [
    "smarthost.control.accounts",
    "smarthost.control.messages",
]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    *CAPABILITIES,
]
AUTH_USER_MODEL = "accounts.User"
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
