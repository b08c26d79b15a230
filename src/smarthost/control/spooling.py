"""The web process's, or a command's, one spool.

It is opened when it is first used, and never carried over a fork: its committer thread would not be there.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
from contextlib import suppress

from django.conf import settings

from smarthost.errors import SmarthostError
from smarthost.spool import Spool, open_spool

_lock = threading.Lock()
_open: tuple[int, Spool] | None = None


def spool() -> Spool:
    """This process's spool. Raises StoreUnavailable."""
    global _open  # noqa: PLW0603 - one for each process is the point
    if _open is not None and _open[0] == os.getpid():
        return _open[1]
    with _lock:
        if _open is None or _open[0] != os.getpid():
            process, name = settings.PROCESS, f"web@{socket.gethostname()}:{os.getpid()}"
            _open = os.getpid(), open_spool(process.database_url, process.data, name=name)
            atexit.register(close)
        return _open[1]


def wake(topic: str) -> None:
    """Tell every process that something changed. A wake-up that is lost costs one polling interval."""
    with suppress(SmarthostError):
        spool().wake(topic)


def close() -> None:
    """Close this process's spool; the next use opens it again."""
    global _open  # noqa: PLW0603
    with _lock:
        if _open is not None and _open[0] == os.getpid():
            _open[1].close()
        _open = None
