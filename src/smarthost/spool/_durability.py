"""What the promises rest on: versions, settings, the file system, free space.

A database that answers "committed" before the disk has it would make every acknowledgement a lie, so the
engine asks here before it starts, and `doctor` shows the same list.
"""

from __future__ import annotations

import errno
import os
import platform
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from smarthost.errors import SmarthostError
from smarthost.spool._views import Finding, Space

if TYPE_CHECKING:
    from smarthost.spool._database import Database, Session

MIB = 1024 * 1024
LEAST_FLOOR, MOST_FLOOR = 12 * MIB, 256 * MIB
LOOK_EVERY_S = 0.05
NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "fuse.sshfs",
    "ceph",
    "afs",
    "glusterfs",
}


class SpaceWatch:
    """Free space of the data folder, measured at most every 50 ms. The floor leaves room to note what
    became of mail that is being sent: a full database cannot even record a success.

    It also sees that the embedded database was taken away or replaced: SQLite would go on writing into a file
    that has no name any more, and every commit of that is a lie.
    """

    def __init__(self, database: Database, data: Path, floor: int | None) -> None:
        self._path = getattr(database, "path", data).parent if database.vendor == "sqlite" else data
        self.data = data
        self._file = getattr(database, "path", None)
        self._identity = _identity(self._file)
        if floor is None:
            floor = min(MOST_FLOOR, max(LEAST_FLOOR, self._total() // 20))
        self._floor = floor
        self._next = 0.0
        self._lock = threading.Lock()
        self.full = self.measure().full

    def _total(self) -> int:
        status = os.statvfs(self._path)
        return status.f_blocks * status.f_frsize

    def measure(self) -> Space:
        """Now."""
        status = os.statvfs(self._path)
        return Space(status.f_bavail * status.f_frsize, self._floor)

    def look(self) -> bool:
        """Whether space is below the floor, as last measured. OSError: folder or database is gone."""
        now = time.monotonic()
        if now >= self._next:
            if _identity(self._file) != self._identity:
                raise FileNotFoundError(
                    errno.ENOENT, "the database was taken away or replaced", str(self._file)
                )
            self._next = now + LOOK_EVERY_S
            self.full = self.measure().full
        return self.full


def _identity(file: Path | None) -> tuple[int, int] | None:
    if file is None:
        return None
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def findings(database: Database, space: SpaceWatch) -> list[Finding]:
    """See Spool.durability."""
    found = [*_versions(), *_space(space)]
    try:
        found += database.read(_sqlite if database.vendor == "sqlite" else _postgres)
    except SmarthostError as error:
        found.append(Finding("database", "error", f"{error.public} ({error.private})"))
    if database.vendor == "sqlite":
        found.append(_file_system(space.data))
    return found


def _versions() -> list[Finding]:
    ssl_version = ssl.OPENSSL_VERSION_INFO[:3]
    return [
        Finding("python", "ok", f"Python {platform.python_version()}"),
        Finding("openssl", "ok", ssl.OPENSSL_VERSION)
        if ssl_version >= (3, 0, 0)
        else Finding("openssl", "warning", f"{ssl.OPENSSL_VERSION} gets no security fixes any more"),
    ]


def _space(space: SpaceWatch) -> list[Finding]:
    now = space.measure()
    text = f"{now.free // MIB} MiB free, floor {now.floor // MIB} MiB"
    if now.full:
        return [Finding("free-space", "error", f"{text}: no mail is accepted or sent until there is more")]
    severity = "warning" if now.free < 4 * now.floor else "ok"
    return [Finding("free-space", severity, text)]


def _sqlite(session: Session) -> list[Finding]:
    version = str(session.one("SELECT sqlite_version()"))
    numbers = tuple(int(part) for part in version.split("."))
    found = [
        Finding("sqlite", "ok", f"SQLite {version}")
        if numbers >= (3, 51, 3)
        else Finding(
            "sqlite",
            "error",
            f"SQLite {version}: before 3.51.3 two connections that reset the log can corrupt the database",
        )
    ]
    mode = str(session.one("PRAGMA journal_mode")).lower()
    level = int(session.one("PRAGMA synchronous"))
    found.append(
        Finding("journal-mode", "ok", "journal_mode is wal")
        if mode == "wal"
        else Finding("journal-mode", "error", f"journal_mode is {mode}, must be wal")
    )
    found.append(
        Finding("synchronous", "ok", "synchronous is FULL")
        if level >= 2
        else Finding("synchronous", "error", "synchronous is below FULL: a power cut loses accepted mail")
    )
    return found


def _postgres(session: Session) -> list[Finding]:
    found = [Finding("postgresql", "ok", f"PostgreSQL {session.one('SHOW server_version')}")]
    for name, lost in (
        ("fsync", "a crash can lose or corrupt everything"),
        ("full_page_writes", "a power cut can corrupt the database"),
    ):
        value = str(session.one(f"SHOW {name}"))
        found.append(
            Finding(name.replace("_", "-"), "ok", f"{name} is {value}")
            if value == "on"
            else Finding(name.replace("_", "-"), "error", f"{name} is {value}: {lost}; set it to on")
        )
    # The committer asks for it itself; Django's connections do not, so the server's own setting counts.
    value = str(session.one("SHOW synchronous_commit"))
    found.append(
        Finding("synchronous-commit", "ok", f"synchronous_commit is {value}")
        if value != "off"
        else Finding("synchronous-commit", "error", "synchronous_commit is off: a crash loses accepted mail")
    )
    return found


def _file_system(data: Path) -> Finding:
    """SQLite's locks and log need a local file system."""
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return Finding("file-system", "warning", f"the file system of {data} cannot be found out")
    real = os.path.realpath(data)
    best, kind = "", "unknown"
    for line in mounts:
        _, where, what, *_ = line.split()
        where = where.replace("\\040", " ")
        if (real == where or real.startswith(where.rstrip("/") + "/")) and len(where) > len(best):
            best, kind = where, what
    if kind in NETWORK_FILE_SYSTEMS:
        return Finding(
            "file-system",
            "error",
            f"{data} is on a network file system ({kind}): SQLite needs a local one; or use PostgreSQL",
        )
    return Finding("file-system", "ok", f"{data} is on {kind}")
