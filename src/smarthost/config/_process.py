"""What a process needs before it can read anything else: where its data is and what it listens on.

These are settings of the installation, not of policy; they come from `SMARTHOST_…` variables alone, so that
the engine, which reads no policy files, can start from its environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from smarthost.config._kinds import ADDRESS
from smarthost.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Listen:
    """A host and port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """The process's settings. `http`, `smtp` and `smtps` are None where that listener is switched off."""

    data: Path
    database_url: str
    http: Listen | None
    smtp: Listen | None
    smtps: Listen | None
    tls_cert: Path | None
    tls_key: Path | None
    public_url: str
    trusted_proxies: tuple[str, ...]
    secret_key_file: Path
    config: Path | None
    lock: tuple[str, ...]
    metrics_networks: tuple[str, ...] = ()
    owner: str = ""


def process_settings(environ: Mapping[str, str] | None = None) -> ProcessSettings:
    """Read the process's settings from the environment.

    Raises ConfigError naming the variable that cannot be used.
    """
    env = os.environ if environ is None else environ
    data = Path(env.get("SMARTHOST_DATA") or "data").absolute()
    http = _listen(env, "SMARTHOST_HTTP", "127.0.0.1:8025")
    key, cert = env.get("SMARTHOST_TLS_KEY"), env.get("SMARTHOST_TLS_CERT")
    if bool(key) != bool(cert):
        missing = "SMARTHOST_TLS_CERT" if key else "SMARTHOST_TLS_KEY"
        raise ConfigError(
            f"{missing} is missing: certificate and key are set both or neither", origin=missing
        )
    smtps = _listen(env, "SMARTHOST_SMTPS", "")
    if smtps and not cert:
        raise ConfigError(
            "SMARTHOST_SMTPS needs SMARTHOST_TLS_CERT and SMARTHOST_TLS_KEY", origin="SMARTHOST_SMTPS"
        )
    return ProcessSettings(
        data=data,
        database_url=_database_url(env, data),
        http=http,
        smtp=_listen(env, "SMARTHOST_SMTP", "127.0.0.1:2525"),
        smtps=smtps,
        tls_cert=Path(cert).absolute() if cert else None,
        tls_key=Path(key).absolute() if key else None,
        public_url=(env.get("SMARTHOST_PUBLIC_URL") or f"http://{http or '127.0.0.1:8025'}").rstrip("/"),
        trusted_proxies=_words(env.get("SMARTHOST_TRUSTED_PROXIES", "")),
        secret_key_file=Path(env.get("SMARTHOST_SECRET_KEY_FILE") or data / "secret.key").absolute(),
        config=Path(env["SMARTHOST_CONFIG"]).absolute() if env.get("SMARTHOST_CONFIG") else None,
        lock=_words(env.get("SMARTHOST_LOCK", "")),
        metrics_networks=_unless_off(env.get("SMARTHOST_METRICS_NETWORKS") or "127.0.0.0/8 ::1"),
        owner=_address(env, "SMARTHOST_OWNER"),
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _address(env: Mapping[str, str], name: str) -> str:
    text = env.get(name, "")
    try:
        return str(ADDRESS.read(text)) if text else ""
    except ValueError as error:
        raise ConfigError(f"{name} {error}", origin=name) from None


def _unless_off(text: str) -> tuple[str, ...]:
    return () if text.strip() == "off" else _words(text)


def _database_url(env: Mapping[str, str], data: Path) -> str:
    url = env.get("SMARTHOST_DATABASE_URL") or f"sqlite:///{data / 'smarthost.db'}"
    if not url.startswith(("sqlite:///", "postgresql://", "postgres://")):
        raise ConfigError(
            "SMARTHOST_DATABASE_URL must begin with sqlite:/// or postgresql://",
            origin="SMARTHOST_DATABASE_URL",
        )
    return url


def _listen(env: Mapping[str, str], name: str, default: str) -> Listen | None:
    """Read host:port. An empty value or "off" switches the listener off."""
    text = env.get(name, default).strip()
    if text in ("", "off"):
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigError(f"{name} must be host:port, such as 127.0.0.1:2525; it is {text!r}", origin=name)
    return Listen(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 - asked for by leaving the host out
