"""The checks of `smarthost doctor`. Each gives findings and never raises for what it looks at."""

from __future__ import annotations

import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote

from smarthost.config import Listen, ProcessSettings, server_warning
from smarthost.errors import SmarthostError
from smarthost.routing import Encryption, decode_directory
from smarthost.spool import Filter, Finding, Spool, drop, now_us, open_spool

_EXPIRES_SOON_DAYS = 14
_STALE_DROP_S = 120
_WRITTEN = datetime(2026, 1, 1, tzinfo=UTC)
"""A clock before this is wrong: the program is younger."""


def examine(settings: ProcessSettings) -> list[Finding]:
    """Every finding about this installation, in an order that reads from the ground up."""
    findings = [*_folder(settings), *_key_file(settings), *_certificates(settings), *_addresses(settings)]
    try:
        with open_spool(settings.database_url, settings.data, name="doctor") as store:
            findings += store.durability()
            findings += _clock(store)
            findings += _servers(store)
            findings += _engine(settings, store)
    except SmarthostError as error:
        findings.append(_error("database", f"{error.public}. If this is a new installation: smarthost run"))
        findings += [*_ports(settings, engine_runs=False)]
    return findings


def _ok(name: str, text: str) -> Finding:
    return Finding(name, "ok", text)


def _warning(name: str, text: str) -> Finding:
    return Finding(name, "warning", text)


def _error(name: str, text: str) -> Finding:
    return Finding(name, "error", text)


def _folder(settings: ProcessSettings) -> Iterator[Finding]:
    data = settings.data
    try:
        status = data.stat()
    except OSError as error:
        yield _error("data-folder", f"{data}: {error.strerror}. Set SMARTHOST_DATA, or start: smarthost run")
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o022:
        yield _error("data-folder", f"{data} can be written by others (mode {mode:o}): chmod 711 {data}")
    elif mode & 0o044:
        yield _warning("data-folder", f"{data} can be listed by others (mode {mode:o}): chmod 711 {data}")
    elif not mode & 0o001:
        yield _warning(
            "data-folder",
            f"{data} has mode {mode:o}: other users cannot reach sendmail.sock: chmod 711 {data}",
        )
    else:
        yield _ok("data-folder", f"{data}, mode {mode:o}")
    inodes = os.statvfs(data)
    if inodes.f_files and inodes.f_favail < 1000:
        yield _error("inodes", f"{inodes.f_favail} free inodes under {data}: remove files there")
    yield from _private(settings)


def _private(settings: ProcessSettings) -> Iterator[Finding]:
    """The embedded database holds everybody's mail."""
    if not settings.database_url.startswith("sqlite:///"):
        return
    path = Path(settings.database_url.removeprefix("sqlite://"))
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        try:
            mode = stat.S_IMODE(name.stat().st_mode)
        except OSError:
            continue
        if mode & 0o077:
            yield _error("database-mode", f"{name} can be read by others (mode {mode:o}): chmod 600 {name}")


def _key_file(settings: ProcessSettings) -> Iterator[Finding]:
    path = settings.secret_key_file
    try:
        status = path.stat()
    except FileNotFoundError:
        yield _error(
            "key-file",
            f"{path} is missing. If there was one, restore it: stored passwords cannot be opened without it",
        )
        return
    except OSError as error:
        yield _error("key-file", f"{path}: {error.strerror}: run doctor as the service's user")
        return
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        yield _error("key-file", f"{path} can be read by others (mode {mode:o}): chmod 600 {path}")
    elif settings.data.exists() and status.st_uid not in (settings.data.stat().st_uid, 0):
        yield _warning("key-file", f"{path} belongs to uid {status.st_uid}, the data folder to another user")
    else:
        yield _ok("key-file", f"{path}, mode {mode:o}")


def _certificates(settings: ProcessSettings) -> Iterator[Finding]:
    if settings.tls_cert is None or settings.tls_key is None:
        yield from _without_tls(settings.smtp)
        return
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        certificate = x509.load_pem_x509_certificates(settings.tls_cert.read_bytes())[0]
        key = load_pem_private_key(settings.tls_key.read_bytes(), password=None)
    except OSError as error:
        yield _error(
            "certificate", f"{error.filename}: {error.strerror}: see SMARTHOST_TLS_CERT, SMARTHOST_TLS_KEY"
        )
        return
    except (ValueError, TypeError) as error:
        yield _error("certificate", f"{settings.tls_cert} or {settings.tls_key} is not usable PEM: {error}")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        yield _error("certificate", f"{settings.tls_key} is not the key of {settings.tls_cert}")
        return
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d}"
    if left.total_seconds() < 0:
        yield _error(
            "certificate", f"{settings.tls_cert} expired on {until}: renew it; it is reloaded by itself"
        )
    elif left.days < _EXPIRES_SOON_DAYS:
        yield _warning(
            "certificate", f"{settings.tls_cert} expires in {left.days} days, on {until}: renew it"
        )
    else:
        yield _ok("certificate", f"{settings.tls_cert}, good for {left.days} days, until {until}")
    mode = stat.S_IMODE(settings.tls_key.stat().st_mode)
    if mode & 0o007:
        yield _warning(
            "certificate-key", f"{settings.tls_key} can be read by everybody: chmod 600 {settings.tls_key}"
        )


def _without_tls(listen: Listen | None) -> Iterator[Finding]:
    if listen and not _loopback(listen.host):
        yield _warning(
            "certificate",
            f"SMTP listens on {listen} without a certificate: passwords are refused there. "
            "Set SMARTHOST_TLS_CERT and SMARTHOST_TLS_KEY.",
        )
    else:
        yield _ok("certificate", "none: SMTP listens on this machine only")


def _loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _addresses(settings: ProcessSettings) -> Iterator[Finding]:
    listen = settings.http
    if listen and not _loopback(listen.host) and not settings.public_url.startswith("https://"):
        yield _warning(
            "public-url",
            f"pages listen on {listen} and SMARTHOST_PUBLIC_URL is {settings.public_url}: "
            "put a proxy with TLS in front, or passwords travel in clear",
        )


def _clock(store: Spool) -> Iterator[Finding]:
    """The times in the store order everything, so a clock that jumped back shows there."""
    now = now_us()
    if now < _WRITTEN.timestamp() * 1_000_000:
        yield _error("clock", f"this machine says it is {datetime.now(UTC):%Y-%m-%d}: set its clock")
        return
    newest = store.find(Filter(), limit=1)
    ahead = (newest[0].created_at - now) / 1_000_000 if newest else 0.0
    if ahead > 60:
        yield _warning(
            "clock", f"the newest message is {ahead:.0f} s in the future: the clock went back. Run NTP."
        )
        return
    yield from _monotonic()


def _monotonic() -> Iterator[Finding]:
    wall, steady = time.time(), time.monotonic()
    time.sleep(0.05)
    drift = abs((time.time() - wall) - (time.monotonic() - steady))
    if drift > 0.02:
        yield _warning(
            "clock", f"the clock moved by {drift:.3f} s while it was watched: something keeps setting it"
        )
    else:
        yield _ok("clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")


def _engine(settings: ProcessSettings, store: Spool) -> Iterator[Finding]:
    alive = store.engines()
    if alive:
        name, age = alive[0][1], min(age for _, _, age in alive)
        yield _ok(
            "engine",
            f"{name}, last heartbeat {age:.0f} s ago; engines alive: {len(alive)}",
        )
    else:
        yield _warning(
            "engine", "no engine is running: mail is neither taken by SMTP nor sent. Start: smarthost run"
        )
    yield from _ports(settings, engine_runs=bool(alive))
    yield from _dropped(settings, bool(alive))


def _servers(store: Spool) -> Iterator[Finding]:
    """What mail goes by, as the engine has it, whoever set it."""
    body = store.directory()
    if body is None:
        return
    routes = store.routes()
    for row in sorted(decode_directory(body).upstreams.values(), key=lambda row: row.name):
        if not row.enabled:
            yield _ok("server", f"{row.name} is switched off")
            continue
        text = server_warning(row.name, row.encryption, row.username, row.verify, row.pin)
        if text:
            wanted = "--encryption starttls" if row.encryption is Encryption.NONE else "--verify"
            yield _warning("server", f"{text}: smarthost upstream set --name {quote(row.name)} {wanted}")
        else:
            how = "verified" if row.verify else "held to one certificate"
            yield _ok("server", f"{row.name}, {row.host}:{row.port}, {row.encryption}, {how}")
        route = routes.get(row.id)
        if route is not None and route.paused_until is not None:
            yield _warning("route", f"the server {row.name} is paused: {route.text or route.reason}")


def _ports(settings: ProcessSettings, *, engine_runs: bool) -> Iterator[Finding]:
    listeners: tuple[tuple[str, Listen | None, Callable[[Listen], bool]], ...] = (
        ("SMARTHOST_HTTP", settings.http, _is_web),
        ("SMARTHOST_SMTP", settings.smtp, lambda listen: engine_runs and _accepts(listen)),
        ("SMARTHOST_SMTPS", settings.smtps, lambda listen: engine_runs and _accepts(listen)),
    )
    for name, listen, ours in listeners:
        if listen is None:
            continue
        if ours(listen):
            yield _ok("port", f"{listen} ({name}) answers")
        elif (why := _taken(listen)) is None:
            yield _ok("port", f"{listen} ({name}) is free")
        else:
            yield _error("port", f"{listen} ({name}) {why}: choose another with {name}=host:port")


def _here(listen: Listen) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104


def _accepts(listen: Listen) -> bool:
    try:
        socket.create_connection((_here(listen), listen.port), timeout=2).close()
    except OSError:
        return False
    return True


def _is_web(listen: Listen) -> bool:
    try:
        with socket.create_connection((_here(listen), listen.port), timeout=2) as peer:
            peer.settimeout(5)
            peer.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return peer.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def _taken(listen: Listen) -> str | None:
    """Why this address cannot be listened on, or None."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except PermissionError:
            return "needs a privilege that this user does not have"
        except OSError as error:
            return f"cannot be listened on ({error.strerror})"
    return None


def _dropped(settings: ProcessSettings, engine_runs: bool) -> Iterator[Finding]:
    data = settings.data
    try:
        waiting = drop.waiting(data)
    except OSError as error:
        yield _warning(
            "drop-folder", f"{drop.folder(data)}: {error.strerror}: run doctor as the service's user"
        )
        return
    oldest = max((_age(drop.folder(data) / name) for name in waiting), default=0.0)
    if not waiting:
        yield _ok("drop-folder", "empty")
    elif engine_runs and oldest > _STALE_DROP_S:
        yield _warning(
            "drop-folder",
            f"{len(waiting)} mails wait in {drop.folder(data)}, the oldest {oldest:.0f} s: see the log",
        )
    else:
        yield _ok("drop-folder", f"{len(waiting)} mails wait for the engine")
    aside = data / "drop-refused"
    if aside.is_dir() and (refused := list(aside.iterdir())):
        yield _warning(
            "drop-refused", f"{len(refused)} mails could not be taken in: see {aside}, then remove them"
        )


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
