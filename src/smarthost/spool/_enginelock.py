"""One engine a data folder: a lock that lives as long as its process, however that dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from smarthost.errors import ConfigError


def lock_engine(path: Path) -> int:
    """One engine a data folder: held as long as the process lives, however it dies."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        pid = os.pread(file, 32, 0).decode("ascii", "replace").strip()
        os.close(file)
        raise ConfigError(
            f"Another engine (pid {pid or 'unknown'}) works on {path.parent}: one a data folder on SQLite.",
            origin=str(path),
        ) from None
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file
