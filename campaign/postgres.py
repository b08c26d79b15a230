"""PostgreSQL stopped at once under load, and its connection cut in the middle of a COMMIT."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from bench.installation import postgresql_server
from campaign.installation import admit_loopback, installation
from campaign.kill import finish
from campaign.load import Load
from campaign.score import Score
from peers.witness import Manner, Witness


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    return [
        immediate_stop(folder / "stop", seed, stops=30 if long else 3, planted=planted),
        cut_in_commit(folder / "cut", seed, cuts=60 if long else 8, planted=planted),
    ]


def immediate_stop(folder: Path, seed: int, *, stops: int, planted: str = "") -> Score:
    """`pg_ctl stop -m immediate` and a start, again and again: clients see 451 meanwhile, then 250 again."""
    score = Score("PostgreSQL immediate stop", "postgresql", cases=stops)
    chance = random.Random(seed)
    with postgresql_server() as server, Witness(Manner(pause=0.002), seed=seed) as witness:
        with installation(folder, witness.port, server.get_uri(), planted=planted) as service:
            admit_loopback(service)
            with Load(service.smtp, seed, pause=0.005) as load:
                for _ in range(stops):
                    time.sleep(chance.uniform(0.3, 1.0))
                    os.kill(server.get_pid(), signal.SIGQUIT)
                    _wait_gone(server)
                    server.ensure_postgres_running()
                    _wait_for_more(load, score, "PostgreSQL was back")
            score.verdict = finish(service, load, witness)
    return score


def cut_in_commit(folder: Path, seed: int, *, cuts: int, planted: str = "", patience: float = 90.0) -> Score:
    """The connection is lost after COMMIT was sent and before its answer came: was it committed or not?"""
    score = Score("connection cut in COMMIT", "postgresql", cases=cuts)
    with postgresql_server() as server, Witness(Manner(pause=0.002), seed=seed) as witness:
        uri = server.get_uri()
        parts = urlsplit(uri)
        behind = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
        folder.mkdir(parents=True, exist_ok=True)
        with Cutter(folder / "cutter", behind) as cutter:
            url = uri.replace(str(behind.parent), str(cutter.folder))
            with installation(folder, witness.port, url, planted=planted) as service:
                admit_loopback(service)
                service.database_url = uri  # what the campaign itself reads goes past the cutter
                with Load(service.smtp, seed, pause=0.005) as load:
                    for _ in range(cuts):
                        time.sleep(0.2)
                        cutter.arm()
                        _wait_for_more(load, score, "a connection was cut in COMMIT")
                score.verdict = finish(service, load, witness, patience)
        score.cases = cutter.cuts
        if cutter.cuts < cuts // 2:
            score.faults.append(f"only {cutter.cuts} of {cuts} cuts found a COMMIT")
    return score


# What a driver says when it prepares COMMIT under a name, and when it uses that name.
_PREPARED = re.compile(rb"P....([^\0]+)\0COMMIT\0", re.DOTALL)


class Cutter:
    """A proxy on a Unix socket. Once armed it hangs up at the next COMMIT: in turn after PostgreSQL has
    answered it and before PostgreSQL has seen it. From outside the two look the same."""

    def __init__(self, folder: Path, behind: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.cuts = 0
        self._behind = behind
        self._armed = threading.Event()
        self._stop = threading.Event()

    def arm(self) -> None:
        self._armed.set()

    def __enter__(self) -> Cutter:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / ".s.PGSQL.5432"))
        self._listener.listen(64)
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            threading.Thread(target=self._pump, args=(client,), daemon=True).start()

    def _pump(self, client: socket.socket) -> None:
        commit = b"COMMIT"
        with client, socket.socket(socket.AF_UNIX) as server:
            try:
                server.connect(str(self._behind))
                while not self._stop.is_set():
                    ready, _, _ = select.select([client, server], [], [], 0.2)
                    for side in ready:
                        data = side.recv(1 << 16)
                        if not data:
                            return
                        if side is server:
                            client.sendall(data)
                            continue
                        if named := _PREPARED.search(data):
                            commit = named[1]
                        if self._armed.is_set() and (commit in data or b"COMMIT" in data):
                            self._armed.clear()
                            self.cuts += 1
                            if self.cuts % 2:
                                server.sendall(data)
                                server.recv(1 << 16)  # PostgreSQL has answered; nobody will know
                            return
                        server.sendall(data)
            except OSError:
                return


def _wait_gone(server: object, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    pid = server.get_pid()  # type: ignore[attr-defined]
    while pid and Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        if "zombie" in Path(f"/proc/{pid}/status").read_text():
            return
        time.sleep(0.02)


def _wait_for_more(load: Load, score: Score, after: str) -> None:
    before, deadline = load.acknowledged, time.monotonic() + 20
    while load.acknowledged <= before:
        if time.monotonic() > deadline:
            score.faults.append(f"nothing was accepted within 20 s after {after}")
            return
        time.sleep(0.05)
