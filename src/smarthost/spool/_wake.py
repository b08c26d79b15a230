"""Waking engines without polling delay. A wake-up is a hint: it may be lost or come twice.

SQLite: a Unix datagram to `<data>/wake.sock`, on which the engine of that folder listens. Sending never
blocks: a full buffer means that the engine has plenty of wake-ups to read anyway.
PostgreSQL: LISTEN on a connection of its own, in a thread; NOTIFY goes with the commit, at most once a batch,
because it takes a lock of the whole server, and from an engine's own commits at most ten times a second,
because that engine knows already.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smarthost.spool._database import Database

TOPICS = ("mail", "directory", "control")
ENGINE_PAUSE_S = 0.1


class Wakeups:
    """Sending and listening, for either database. `send` may be called from any thread."""

    def __init__(self, database: Database, data: Path) -> None:
        self._database = database
        self._local = database.vendor == "sqlite"
        self._folder: int | None = None
        self._sender: socket.socket | None = None
        self._receiver: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: _Listener | None = None
        self._callbacks: list[Callable[[str], None]] = []
        self._last_notify = 0.0
        if self._local:
            # Through a descriptor of the folder, for a socket's path may have 107 bytes only.
            self._folder = os.open(data, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._sender.setblocking(False)

    @property
    def _path(self) -> str:
        return f"/proc/self/fd/{self._folder}/wake.sock"

    def send(self, topic: str) -> None:
        """See Spool.wake."""
        if topic not in TOPICS:
            raise ValueError(f"no such topic: {topic}")
        if self._local:
            sender = self._sender
            try:
                if sender is not None:
                    sender.sendto(topic.encode(), self._path)
            except OSError:
                pass  # no engine there, or one that has enough to read
            return
        try:
            self._database.read(_notify, topic)
        except Exception:
            return  # a hint that is lost costs one polling interval

    def notify_in_commit(self, engine: bool) -> bool:
        """Whether the transaction that is about to commit shall NOTIFY."""
        if self._local:
            return False
        now = time.monotonic()
        if engine and now - self._last_notify < ENGINE_PAUSE_S:
            return False
        self._last_notify = now
        return True

    def after_commit(self, engine: bool) -> None:
        """Mail became ready: tell the engine of this folder, unless that is us."""
        if self._local and not engine:
            self.send("mail")

    def listen(self, loop: asyncio.AbstractEventLoop, callback: Callable[[str], None]) -> None:
        """Start listening (once) and call back on the loop."""
        self._callbacks.append(callback)
        if self._loop is not None:
            return
        self._loop = loop
        if self._local:
            receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            receiver.setblocking(False)
            try:
                os.unlink("wake.sock", dir_fd=self._folder)
            except FileNotFoundError:
                pass
            receiver.bind(self._path)
            os.chmod("wake.sock", 0o600, dir_fd=self._folder)
            self._receiver = receiver
            loop.add_reader(receiver, self._received)
        else:
            self._listener = _Listener(self._database, self._heard)
            self._listener.start()

    def _received(self) -> None:
        """Drain the socket, then call once a topic."""
        topics = set()
        assert self._receiver is not None
        while True:
            try:
                topics.add(self._receiver.recv(64).decode("ascii", "replace"))
            except OSError:
                break
        self._call(topics)

    def _heard(self, topics: set[str]) -> None:
        """From the listener's thread."""
        loop = self._loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(self._call, topics)
            except RuntimeError:
                pass  # the loop is closed

    def _call(self, topics: set[str]) -> None:
        for topic in TOPICS:
            if topic in topics:
                for callback in self._callbacks:
                    callback(topic)

    def close(self) -> None:
        """Stop listening and close. Called from any thread once the loop has stopped using it."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
        if self._receiver is not None:
            if self._loop is not None and not self._loop.is_closed():
                self._loop.remove_reader(self._receiver)
            self._receiver.close()
            self._receiver = None
            try:
                os.unlink("wake.sock", dir_fd=self._folder)
            except FileNotFoundError:
                pass
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None


def _notify(session: Any, topic: str) -> None:
    session.run("SELECT pg_notify('smarthost', ?)", (topic,))


class _Listener(threading.Thread):
    """Holds LISTEN; after a lost connection it wakes everybody once, for something may have been missed."""

    def __init__(self, database: Database, heard: Callable[[set[str]], None]) -> None:
        super().__init__(name="spool-listener", daemon=True)
        self._connect = database.connect  # type: ignore[attr-defined]
        self._heard = heard
        self._stopping = threading.Event()

    def run(self) -> None:
        import psycopg

        missed = False
        while not self._stopping.is_set():
            try:
                with self._connect("listener") as connection:
                    connection.execute("LISTEN smarthost")
                    if missed:
                        self._heard(set(TOPICS))
                    while not self._stopping.is_set():
                        topics = {n.payload for n in connection.notifies(timeout=0.5, stop_after=1)}
                        if topics:
                            self._heard(topics)
            except psycopg.Error:
                missed = True
                self._stopping.wait(1.0)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
