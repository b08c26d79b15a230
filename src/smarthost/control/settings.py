"""Django's settings, derived from the process's."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import unquote, urlsplit

from smarthost.config import process_settings
from smarthost.control.secret_key import signing_key
from smarthost.errors import ConfigError

PROCESS = process_settings()


def _networks(name: str, texts: Iterable[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}; a network is written like 192.0.2.0/24", origin=name) from None


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

# One folder a capability. Adding one is its folder and its line here.
CAPABILITIES = [
    "smarthost.control.accounts",
    "smarthost.control.upstreams",
    "smarthost.control.applications",
    "smarthost.control.directory",
    "smarthost.control.messages",
]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "smarthost.control.api",
    "smarthost.control.pages",
    *CAPABILITIES,
]
AUTH_USER_MODEL = "accounts.User"
MIDDLEWARE = [
    "smarthost.control.security.SecurityHeaders",
    "smarthost.control.api.problems.explain_methods",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]

PASSWORD_LENGTH = 10
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}", "OPTIONS": options}
    for name, options in (
        ("MinimumLengthValidator", {"min_length": PASSWORD_LENGTH}),
        ("CommonPasswordValidator", {}),
        ("NumericPasswordValidator", {}),
        ("UserAttributeSimilarityValidator", {"user_attributes": ("username", "email")}),
    )
]
_SECURE = PROCESS.public_url.startswith("https://")
SESSION_COOKIE_NAME = "smarthost_session"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _SECURE
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_TRUSTED_ORIGINS = ["/".join(PROCESS.public_url.split("/")[:3])]
APPEND_SLASH = False
USE_X_FORWARDED_HOST = False

TRUSTED_PROXIES = _networks("SMARTHOST_TRUSTED_PROXIES", PROCESS.trusted_proxies)
METRICS_NETWORKS = _networks("SMARTHOST_METRICS_NETWORKS", PROCESS.metrics_networks)

# The accept path reads the body itself, to the message limit; Django's own form parsing stays small.
DATA_UPLOAD_MAX_MEMORY_SIZE = 10 * 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
LOGGING_CONFIG = None  # the process that serves decides; one line a request error, on standard error
