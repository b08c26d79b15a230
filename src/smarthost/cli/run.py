"""`smarthost run | web | engine`: the supervisor and its two children.

The supervisor starts the web process, which brings the installation up to date, and the engine, waits until
both answer, says where to look, and then only waits for signals: one that ends a child, or one that ends
itself. A child that dies after it had answered is started again, at once and then ever more slowly, with a
line for each time. One that never answered cannot run here at all (its own words were printed), so the other
is ended and the supervisor leaves with an error. SIGTERM and SIGINT are passed on; the children drain, and a
second signal ends them at once. Children die with their supervisor, so none keeps a port or a lock.

Signals are blocked and taken with sigtimedwait: no handler runs at an unexpected place.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from smarthost.cli._context import process
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output
from smarthost.errors import ConfigError

if TYPE_CHECKING:
    from smarthost.config import Listen, ProcessSettings

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
_FIRST_PAUSE = 0.25  # seconds before a second restart; doubles
_LONGEST_PAUSE = 30.0
_STEADY = 60.0  # seconds of life after which the pause begins anew
_START_LIMIT = 60.0  # seconds a first start may take (a large migration runs before it)
_DRAIN_LIMIT = 45.0  # the engine ends its own drain after 30


def register(commands: Any) -> None:
    run = commands.add_parser("run", help="serve: pages, API, SMTP, delivery")
    run.set_defaults(call=_run)
    web = commands.add_parser("web", help="serve pages and API only, and follow the configuration")
    web.add_argument("--prepare-fd", type=int, help=argparse.SUPPRESS)
    web.set_defaults(call=_web)
    engine = commands.add_parser("engine", help="serve SMTP and deliver only")
    engine.add_argument("--wait-fd", type=int, help=argparse.SUPPRESS)
    engine.set_defaults(call=_engine)


@dataclass(slots=True)
class Child:
    """A child process by its role. `ready`: it answered at least once in this supervisor's life."""

    role: str
    listens: Listen | None
    pid: int = 0
    started: float = 0.0
    pause: float = 0.0
    due: float = field(default=0.0)
    ready: bool = False

    def start(self, option: str = "", fd: int = -1) -> None:
        self.pid = _spawn(self.role, option, fd)
        self.started = time.monotonic()


def _run(_args: argparse.Namespace, out: Output) -> int:
    settings = process()
    for name, listen in (
        ("SMARTHOST_HTTP", settings.http),
        ("SMARTHOST_SMTP", settings.smtp),
        ("SMARTHOST_SMTPS", settings.smtps),
    ):
        if listen:
            _free(name, listen)
    if not settings.data.exists():
        # Others may pass through, to the sendmail socket, but not look; our umask would forbid that too.
        settings.data.mkdir(parents=True)
        settings.data.chmod(0o711)
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    children, found = _start(settings)
    return _watch(children, settings, found, out)


def _start(settings: ProcessSettings) -> tuple[list[Child], dict[str, str]]:
    """Start both children and let them load side by side: the web process prepares the installation (schema,
    key, first link) and tells so, and only then the engine goes on.

    Raises ConfigError with what the preparation says was wrong.
    """
    told, tell = os.pipe()
    wait, go = os.pipe()
    engine, web = Child("engine", settings.smtp), Child("web", settings.http)
    engine.start("--wait-fd", wait)
    web.start("--prepare-fd", tell)
    os.close(tell)
    os.close(wait)
    with os.fdopen(told, "rb") as pipe:
        answer = pipe.read()
    found: dict[str, str] = json.loads(answer) if answer else {"error": "it ended, see the lines above"}
    if "error" in found:
        _signal([engine, web], signal.SIGKILL)
        raise ConfigError(f"The installation could not be prepared: {found['error']}")
    with contextlib.suppress(BrokenPipeError):  # it died already: `_watch` will see and say so
        os.write(go, b"go")
    os.close(go)
    return [engine, web], found


def _free(name: str, listen: Listen) -> None:
    """Raise ConfigError naming the variable where this address cannot be listened on."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listen.host, listen.port))
        except OSError as error:
            why = {
                errno.EADDRINUSE: "is in use by another program, or by a Smarthost that still runs",
                errno.EACCES: "needs a privilege: ports below 1024 are for root, or CAP_NET_BIND_SERVICE",
                errno.EADDRNOTAVAIL: "is no address of this machine",
            }.get(error.errno or 0, f"cannot be listened on ({error.strerror or error})")
            raise ConfigError(f"{listen} {why}. Choose another: {name}=host:port", origin=name) from error


def _spawn(role: str, option: str = "", fd: int = -1) -> int:
    """Start a child in a process group of its own: a terminal's Ctrl-C reaches the supervisor alone.

    option, fd: an open pipe that it is handed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.setpgid(0, 0)
        die_with_parent()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        words = [sys.executable, "-m", "smarthost.cli", role]
        if option:
            os.set_inheritable(fd, True)
            words += [option, str(fd)]
        os.execv(sys.executable, words)  # noqa: S606 - our own
    finally:
        os._exit(127)


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it dies; elsewhere it stays a hope."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _watch(children: list[Child], settings: ProcessSettings, found: dict[str, str], out: Output) -> int:
    """Wait for signals until everything has ended; the exit code."""
    begun = time.monotonic()
    announced = False
    leaving: float | None = None
    code: int = Exit.OK
    while True:
        now = time.monotonic()
        for child in children:
            if leaving is None and not child.pid and child.due <= now:
                child.start()
        if not announced and leaving is None:
            for child in children:
                child.ready = child.ready or bool(child.pid and _answers(child))
            if all(child.ready for child in children):
                announced = True
                _announce(settings, found, out)
            elif now - begun > _START_LIMIT:
                _say("a child does not answer: giving up", limit=f"{_START_LIMIT:.0f}s")
                code, leaving = Exit.FAILED, now
                _signal(children, signal.SIGTERM)
        if leaving is not None and not any(child.pid for child in children):
            return code
        if leaving is not None and now - leaving > _DRAIN_LIMIT:
            _say("not ended after a drain: killed", limit=f"{_DRAIN_LIMIT:.0f}s")
            _signal(children, signal.SIGKILL)
            code, leaving = Exit.FAILED, now
        caught = signal.sigtimedwait(_SIGNALS, _next(children, announced, leaving))
        if caught is None:
            continue
        if caught.si_signo in (signal.SIGTERM, signal.SIGINT):
            _signal(children, signal.SIGTERM if leaving is None else signal.SIGKILL)
            leaving = leaving or time.monotonic()
        elif caught.si_signo == signal.SIGHUP:
            _signal([child for child in children if child.role == "engine"], signal.SIGHUP)
        elif failed := _reap(children, leaving is not None):
            code, leaving = failed, time.monotonic()
            _signal(children, signal.SIGTERM)


def _next(children: list[Child], announced: bool, leaving: float | None) -> float:
    """Seconds until something is to be done without a signal."""
    if not announced and leaving is None:
        return 0.02
    if leaving is not None:
        return 1.0
    waits = [child.due - time.monotonic() for child in children if not child.pid]
    return max(0.0, min(waits, default=60.0))


def _reap(children: list[Child], leaving: bool) -> int:
    """Note which children ended. Returns an exit code where one cannot run at all, else 0."""
    failed = 0
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return failed
        if pid == 0:
            return failed
        for child in children:
            if child.pid == pid:
                failed = _ended(child, os.waitstatus_to_exitcode(status), leaving) or failed


def _ended(child: Child, status: int, leaving: bool) -> int:
    child.pid = 0
    if leaving:
        return 0
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit {status}"
    if not child.ready:
        _say("child cannot start", child=child.role, how=how)
        return status if status > 0 else int(Exit.FAILED)
    lived = time.monotonic() - child.started
    child.pause = 0.0 if lived > _STEADY else min(_LONGEST_PAUSE, child.pause * 2 or _FIRST_PAUSE)
    child.due = time.monotonic() + child.pause
    _say("child died; starting it again", child=child.role, how=how, pause=f"{child.pause:g}s")
    return 0


def _signal(children: list[Child], number: signal.Signals) -> None:
    for child in children:
        if child.pid:
            os.kill(child.pid, number)


def _answers(child: Child) -> bool:
    """Whether the child serves: the web process its health page, the engine its greeting."""
    if child.listens is None:
        return time.monotonic() - child.started > 1.0
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(child.listens.host, child.listens.host)  # noqa: S104
    try:
        with socket.create_connection((host, child.listens.port), timeout=2) as peer:
            if child.role == "web":
                peer.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
                return peer.recv(64).split(b" ")[1:2] == [b"200"]
            greeting = peer.recv(512)
            peer.sendall(b"QUIT\r\n")
            return greeting[:1] in (b"2", b"4")
    except OSError:
        return False


def _announce(settings: ProcessSettings, found: dict[str, str], out: Output) -> None:
    from smarthost.cli._welcome import welcome

    out.result(*welcome(settings, found))
    sys.stdout.flush()


def _say(what: str, **values: object) -> None:
    """One logfmt line, like those of the children."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    rest = " ".join(f"{name}={str(value).replace(' ', '-')}" for name, value in values.items())
    print(f'time={stamp} level=warning event=supervisor text="{what}" {rest}', file=sys.stderr, flush=True)


def _engine(args: argparse.Namespace, _out: Output) -> int:
    from smarthost.engine.main import run

    settings = process()
    if args.wait_fd is not None and not os.read(args.wait_fd, 2):
        return Exit.FAILED  # nobody is there any more who could say go
    return int(run(settings) or 0)


def _web(args: argparse.Namespace, _out: Output) -> int:
    settings = process()
    if settings.http:
        _free("SMARTHOST_HTTP", settings.http)
    if args.prepare_fd is not None:
        from smarthost.cli._first import prepare

        if not prepare(args.prepare_fd):
            return Exit.FAILED
    from smarthost.cli._web import follow_alone, serve

    return serve(settings.http) if settings.http else follow_alone()
