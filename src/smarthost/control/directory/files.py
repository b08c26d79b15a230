"""Takes over configuration files and environment in the serving process, and follows the files.

Once a second the files' names, sizes and times are compared, which reads nothing. Files that changed are
read; with a problem nothing changes but an event that says so, once for each state of the files.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.db import close_old_connections

from smarthost.config import UPSTREAM, Layer, UpstreamSource, load, resolve
from smarthost.control.directory import policy
from smarthost.control.directory.services import Change, changing
from smarthost.control.ids import fresh
from smarthost.control.spooling import spool
from smarthost.control.upstreams.models import Upstream
from smarthost.control.upstreams.services import make_default, open_secret, seal_for
from smarthost.engine.log import Log
from smarthost.errors import SecretError, SmarthostError
from smarthost.spool import Event, now_us

ACTOR = "configuration"
SECRETS = tuple(row.field for row in UPSTREAM if row.secret)
_log = Log()


class Follower:
    """What this process last took over. One a process; not for use from several threads."""

    def __init__(self) -> None:
        self._seen: object = None
        self._version = -1

    def reload(self) -> bool:
        """Take over what changed since the last call; whether anything did. Problems become an event.

        A changed directory counts too: an administrator may have removed a server that a file describes.
        """
        seen, version = _state(django_settings.PROCESS.config), spool().directory_version()
        if seen == self._seen and version == self._version:
            return False
        told, self._seen = self._seen == seen, seen
        loaded = load(django_settings.PROCESS)
        if loaded.problems:
            self._version = version
            if not told:
                _tell(loaded.problems)
            return False
        changed = take_over(loaded.files, loaded.environment)
        self._version = spool().directory_version()
        return changed


def take_over(files: Layer, environment: Layer) -> bool:
    """Make these layers and their servers the ones in force; whether that changed anything."""
    with changing(ACTOR) as change:
        differs = policy.keep(files, environment)
        # The kept layers hold no secrets; servers are taken from the ones just read.
        servers = resolve((files, environment), django_settings.PROCESS.lock).upstreams
        differs = _sync(change, servers) or differs
        if differs:
            change.record(ACTOR, "Configuration files or environment were taken over")
        else:
            change.unchanged = True
    return differs


def follow(stop: threading.Event) -> None:
    """Body of the web process's background thread: until `stop`, look once a second."""
    follower = Follower()
    while not stop.is_set():
        try:
            follower.reload()
        except SmarthostError as error:
            _log.error("config-reload", text=error.public)
        except Exception as error:
            _log.error("config-reload", text=f"{type(error).__name__}: {error}")
        finally:
            close_old_connections()
        stop.wait(1.0)


def _sync(change: Change, sources: tuple[UpstreamSource, ...]) -> bool:
    """Rows for the servers that files and variables describe; whether any changed."""
    changed = False
    for row in Upstream.objects.exclude(origin="").exclude(name__in=[source.name for source in sources]):
        change.record(row.id, f"Server {row.name} is no longer in {row.origin}", {"name": (row.name, "")})
        row.delete()
        changed = True
    for source in sources:
        changed = _sync_one(change, source) or changed
    if sources:
        policy.end_capture(change)
    return changed


def _sync_one(change: Change, source: UpstreamSource) -> bool:
    row = Upstream.objects.filter(name=source.name).first()
    if row is not None and not row.origin and not source.locked:
        return False  # an administrator's
    fields = source.full()
    if row is not None and not _differs(row, source, fields):
        return False
    added = row is None
    if row is None:
        row = Upstream(id=fresh("upstream"), name=source.name, version=0)
    for field, value in fields.items():
        if field not in (*SECRETS, "name"):
            setattr(row, field, value)
    for field in SECRETS:
        setattr(row, field, seal_for(row, fields[field]))
    row.origin, row.locked, row.version = source.origin, source.locked, row.version + 1
    row.save()
    text = f"Server {row.name} was {'added' if added else 'changed'} by {source.origin}"
    change.record(row.id, text, {"host": ("", f"{row.host}:{row.port}")})
    if source.default or not Upstream.objects.filter(is_default=True).exists():
        make_default(row, change)
    return True


def _differs(row: Upstream, source: UpstreamSource, fields: dict[str, Any]) -> bool:
    if (row.origin, row.locked) != (source.origin, source.locked) or (source.default and not row.is_default):
        return True
    plain = all(getattr(row, field) == value for field, value in fields.items() if field not in SECRETS)
    try:
        return not plain or any(open_secret(row, field) != fields[field] for field in SECRETS)
    except SecretError:
        return True


def _tell(problems: tuple[SmarthostError, ...]) -> None:
    for problem in problems[:20]:
        where = f"{getattr(problem, 'origin', '') or 'configuration'}: {problem.public}"
        _log.error("config-broken", text=where)
        text = f"The configuration was not taken over. {where}"
        spool().record([Event(now_us(), "config.broken", "setting:configuration", text, "error", ACTOR)])


def _state(config: Path | None) -> object:
    """Names, sizes and times of the files, without reading any."""
    if config is None:
        return ()
    try:
        paths = sorted(config.glob("*.toml")) if config.is_dir() else [config]
        return tuple((str(path), *_stat(path)) for path in paths)
    except OSError as error:
        return str(error)


def _stat(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_size, found.st_ino
