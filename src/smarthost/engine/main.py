"""The engine's process: from settings to a running engine, and its orderly end.

Start: settings, key, store, its durability, registration, listeners, then one line that says "ready" (and
sd_notify where systemd asks for it). SIGTERM and SIGINT drain: no new mail is taken in or leased, what is
under way is finished within 25 seconds, the rest is given back. SIGHUP reads certificates and directory
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from pathlib import Path

from smarthost.config import ProcessSettings, process_settings
from smarthost.engine.delivery import Notices
from smarthost.engine.directory import DirectoryCache
from smarthost.engine.log import Log
from smarthost.engine.runtime import Runtime
from smarthost.engine.submission import Submission
from smarthost.errors import ConfigError, SecretError, SmarthostError
from smarthost.routing import Directory
from smarthost.spool import AsyncSpool, MessageView, NewMessage, open_spool
from smarthost.vault import Key, load_key, load_or_create_key

UNSAFE = "SMARTHOST_ALLOW_UNSAFE_STORE"

EXIT_OK = 0
EXIT_FAILED = 75  # EX_TEMPFAIL: start me again
EXIT_CONFIG = 78  # EX_CONFIG: starting again does not help


class _Late:
    """The notice builder, which needs a directory that needs the spool that needs the notice builder."""

    target: Notices | None = None

    def __call__(self, view: MessageView) -> NewMessage | None:
        return self.target(view) if self.target is not None else None


async def main(process: ProcessSettings, log: Log | None = None) -> int:
    """Run the engine until a signal or a failure; the exit status."""
    log = log or Log()
    loop = asyncio.get_running_loop()
    log.bind(loop)
    try:
        prepare_data(process)
        late = _Late()
        store = open_spool(
            process.database_url, process.data, name=f"engine@{socket.gethostname()}", notice=late
        )
    except (SmarthostError, OSError) as error:
        log.error("start-failed", error=str(error))
        return EXIT_CONFIG
    try:
        spool = store.bind(loop)
        cache = DirectoryCache(spool)
        late.target = Notices(cache)
        await cache.refresh()
        key = installation_key(process, cache.current)
        runtime = Runtime(process, spool, cache, log, key, notices=late.target)
        await check_store(spool, log)
        return await _serve(runtime)
    except ConfigError as error:
        log.error("start-failed", error=error.public, origin=error.origin)
        return EXIT_CONFIG
    except SecretError as error:
        log.error("start-failed", error=error.public, private=error.private)
        return EXIT_CONFIG
    except SmarthostError as error:
        log.error("start-failed", error=str(error), private=error.private)
        return EXIT_FAILED
    finally:
        log.flush()
        await asyncio.to_thread(store.close)


def prepare_data(process: ProcessSettings) -> None:
    """Make the data folder where there is none: sockets and the drop folder stand in it. Others may pass
    through it, to these, but not look.

    Raises ConfigError for an embedded database that is not there: only the control plane makes that one, and
    an engine whose folder was deleted must not bring back an empty one.
    """
    url = process.database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite://")).exists():
        raise ConfigError(
            f"No installation in {process.data}: set SMARTHOST_DATA to its data folder, or make one with:"
            " smarthost run",
            origin="SMARTHOST_DATA",
        )
    if not process.data.exists():
        process.data.mkdir(parents=True)
        process.data.chmod(0o711)


def installation_key(process: ProcessSettings, directory: Directory) -> Key:
    """The key of the key file; made only where nothing was sealed with another one, whose loss it would hide.

    Raises SecretError.
    """
    sealed = any(server.password or server.client_key for server in directory.upstreams.values())
    return (load_key if sealed else load_or_create_key)(process.secret_key_file)


async def check_store(spool: AsyncSpool, log: Log) -> None:
    """Look at what the store promises. Raises ConfigError where it cannot keep mail safe."""
    errors = []
    for finding in await spool.durability():
        if finding.severity == "error":
            errors.append(finding.text)
            log.error("store", finding=finding.name, text=finding.text)
        elif finding.severity == "warning":
            log.warning("store", finding=finding.name, text=finding.text)
    if errors and os.environ.get(UNSAFE) != "1":
        raise ConfigError(
            f"The store does not keep mail safe: {'; '.join(errors)} (to run all the same: {UNSAFE}=1)",
            origin="SMARTHOST_DATABASE_URL",
        )


async def _serve(runtime: Runtime) -> int:
    loop, log = asyncio.get_running_loop(), runtime.log
    asked = asyncio.Event()
    signals = {
        signal.SIGTERM: asked.set,
        signal.SIGINT: asked.set,
        signal.SIGHUP: runtime.reload,
    }
    for number, callback in signals.items():
        loop.add_signal_handler(number, callback)
    submission = Submission(runtime)
    runtime.listeners = submission.tcp_addresses
    runtime.on_reload.append(submission.reload)
    try:
        await runtime.start()
        await submission.start()
        runtime.listeners = submission.tcp_addresses
        runtime.on_reload.append(submission.reload)
        process = runtime.process
        log.info(
            "ready",
            incarnation=runtime.incarnation,
            smtp=process.smtp,
            smtps=process.smtps,
            data=process.data,
        )
        # What lives from here on lives long; what is made for a message is freed by its last reference.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        notify("READY=1")
        await _first(asked, runtime.failed)
        notify("STOPPING=1")
        log.info("stopping", reason="a failure" if runtime.failed.is_set() else "a signal")
    finally:
        _, clean = await asyncio.gather(_close(submission), runtime.stop())
        for number in signals:
            loop.remove_signal_handler(number)
    log.info("stopped", finished=clean)
    return EXIT_FAILED if runtime.failed.is_set() else EXIT_OK


async def _close(submission: Submission) -> None:
    with contextlib.suppress(SmarthostError):
        await submission.stop()


async def _first(*events: asyncio.Event) -> None:
    tasks = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def notify(state: str) -> None:
    """Tell systemd (sd_notify(3)), where it asked to be told."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(address)
        channel.sendall(state.encode())


def run(process: ProcessSettings | None = None) -> int:
    """Run the engine on uvloop; the exit status."""
    import uvloop

    try:
        return uvloop.run(main(process or process_settings()))
    except ConfigError as error:
        sys.stderr.write(f"smarthost engine: {error.public}\n")
        return EXIT_CONFIG
