"""Serves the WSGI application with granian: one worker process, a pool of threads.

Without an address to serve at, the same process still follows configuration files and environment.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels

from smarthost.cli.run import die_with_parent
from smarthost.config import Listen

_THREADS = 16
_TARGET = "smarthost.control.wsgi:application"
_LOGGING: dict[str, Any] = {
    "formatters": {
        "generic": {
            "format": 'time=%(asctime)sZ level=%(levelname)s event=web text="%(message)s"',
            "datefmt": "%Y-%m-%dT%H:%M:%S",
        },
        "access": {"format": "%(message)s"},
    },
    "handlers": {
        "console": {"formatter": "generic", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
        "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
    },
}


def serve(listen: Listen) -> int:
    """Serve until SIGTERM; requests under way are finished. The exit code."""
    os.register_at_fork(after_in_child=_listen_to_signals)
    Granian(
        _TARGET,
        address=listen.host,
        port=listen.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=_THREADS,
        websockets=False,
        log_level=LogLevels.error,
        log_dictconfig=_LOGGING,
        workers_kill_timeout=20,
    ).serve(target_loader=_load, wrap_loader=True)
    return 0


def _listen_to_signals() -> None:
    """Until granian's worker takes signals, the handlers of its parent would swallow them in it: ended while
    it still loads, it would be waited for until `workers_kill_timeout`."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def follow_alone() -> int:
    """Follow the configuration until SIGTERM, and serve nothing. The exit code."""
    endings = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, endings)
    from smarthost.control.boot import setup

    setup()
    from smarthost.control.directory.files import follow
    from smarthost.control.logs import configure

    configure()
    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(stop,), name="config")
    thread.start()
    signal.sigwait(endings)
    stop.set()
    thread.join()
    return 0


def _load(_target: str) -> Callable[..., Any]:
    """Runs in the worker: it must not outlive the process that supervises it."""
    die_with_parent()
    from smarthost.control.wsgi import application

    return application
