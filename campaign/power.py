"""Power cuts on SQLite: the engine's own system calls are replayed, keeping only what was synced.

The engine runs under strace while mail is accepted. From the trace come, in order, every write to the
database's files, every fsync, and every "250 … queued as ID" that went to a client. At a cut point a disk is
rebuilt on which a write exists only if a sync of its file followed it (*strict*), or on which a random half
of the unsynced 512-byte sectors made it too (*torn*). A message acknowledged before the cut must be in it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pysqlite3

from campaign.installation import admit_loopback, installation
from campaign.load import Load
from campaign.score import Score
from peers.ports import wait_for_port
from peers.witness import Manner, Witness

SECTOR = 512
FOLDER = "/"
_CALL = re.compile(r"^\d+ +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
_DESCRIPTOR = re.compile(r"^(?:AT_FDCWD|\d+)<([^>]*)>")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_ACKNOWLEDGED = re.compile(rb"250 2\.0\.0 [^\r\n]*?\b([0-9A-HJKMNP-TV-Z]{26})\b")
_ID = re.compile(rb"(?=([0-9A-HJKMNP-TV-Z]{26}))")
_CALLS = "pwrite64,write,writev,sendto,sendmsg,ftruncate,fsync,fdatasync,unlink"


def missing() -> str | None:
    """What keeps this from running here and the command that helps, or None."""
    return None if shutil.which("strace") else "strace is missing: apt-get install strace"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing of the trace: write, truncate, sync, unlink (of `name`), or an acknowledgement (of `name`)."""

    kind: str
    name: str
    offset: int = 0
    data: bytes = b""


@dataclass(slots=True)
class Disk:
    """Files by name: what is synced, and the writes that are not. A file that is new is there after a cut
    only once its folder was synced, too."""

    synced: dict[str, bytearray] = field(default_factory=dict)
    pending: dict[str, list[Step]] = field(default_factory=dict)
    entries: set[str] = field(default_factory=set)
    safe: set[bytes] = field(default_factory=set)  # ids of messages that stand in what was synced

    def take(self, step: Step) -> None:
        if step.kind == "sync" and step.name == FOLDER:
            self.entries |= self.synced.keys() | self.pending.keys()
        elif step.kind == "sync":
            for waiting in self.pending.pop(step.name, []):
                _apply(self.synced.setdefault(step.name, bytearray()), waiting)
                self.safe.update(_ID.findall(waiting.data))
        elif step.kind == "unlink":
            self.synced.pop(step.name, None)
            self.pending.pop(step.name, None)
            self.entries.discard(step.name)
        else:
            self.pending.setdefault(step.name, []).append(step)

    def survivors(self, chance: random.Random | None) -> dict[str, bytes]:
        """The files after a cut; with `chance`, half of the unsynced sectors survive as well."""
        files = {name: bytearray(content) for name, content in self.synced.items()}
        if chance:
            for name, waiting in self.pending.items():
                for step in waiting:
                    for part in _sectors(step):
                        if chance.random() < 0.5:
                            _apply(files.setdefault(name, bytearray()), part)
        return {name: bytes(content) for name, content in files.items() if name in self.entries}


def _apply(content: bytearray, step: Step) -> None:
    if step.kind == "truncate":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    if len(content) < step.offset:
        content.extend(bytes(step.offset - len(content)))
    content[step.offset : step.offset + len(step.data)] = step.data


def _sectors(step: Step) -> Iterator[Step]:
    if step.kind == "truncate":
        yield step
        return
    for begin in range(0, len(step.data), SECTOR):
        yield Step("write", step.name, step.offset + begin, step.data[begin : begin + SECTOR])


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """At least 200 cut points; 1,000 in the long form."""
    score = Score("power cut, trace replayed", "sqlite")
    if why := missing():
        score.skipped = why
        return [score]
    folder.mkdir(parents=True, exist_ok=True)
    base, steps = record(folder, seed, messages=1_000 if long else 250, planted=planted)
    acknowledged = [number for number, step in enumerate(steps) if step.kind == "acknowledged"]
    chance = random.Random(seed)
    points = set(chance.sample(acknowledged, min(len(acknowledged), 500 if long else 120)))
    points |= {chance.randrange(len(steps)) for _ in range(500 if long else 120)}
    score.verdict.acknowledged = len(acknowledged)
    score.cases = len(points)
    replay(folder / "disk", base, steps, points, chance, score)
    syncs = sum(step.kind == "sync" for step in steps)
    score.note = f"{len(acknowledged)} times 250, each after an fsync of its own message; {syncs} fsyncs"
    if len(acknowledged) < 50:
        score.faults.append(f"only {len(acknowledged)} acknowledgements in the trace")
    return [score]


def record(folder: Path, seed: int, *, messages: int, planted: str) -> tuple[dict[str, bytes], list[Step]]:
    """Run the engine under strace; the database's files before it and the steps of the trace."""
    with Witness(Manner(pause=0.002), seed=seed) as witness:
        # A store that is not safe keeps Smarthost from starting: a planted one has to be let through.
        service = installation(
            folder, witness.port, None, planted=planted, SMARTHOST_ALLOW_UNSAFE_STORE="1" if planted else ""
        )
        with service:
            admit_loopback(service)
        base = {
            path.name: path.read_bytes()
            for path in service.folder.glob("smarthost.db*")
            if "shm" not in path.name
        }
        trace = folder / "trace"
        command = ["strace", "-f", "-y", "-xx", "-s", "16777216", "-e", f"trace={_CALLS}", "-o", str(trace)]
        engine = subprocess.Popen(
            [*command, str(Path(sys.executable).with_name("smarthost")), "engine"],
            env=service.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_for_port(service.smtp, 60)
            with Load(service.smtp, seed, clients=8, largest=3_000, pause=0.02) as load:
                deadline = time.monotonic() + 90
                while load.acknowledged < messages and time.monotonic() < deadline:
                    time.sleep(0.1)
        finally:
            children = Path(f"/proc/{engine.pid}/task/{engine.pid}/children").read_text().split()
            for child in children:  # strace itself blocks signals while it writes a file
                os.kill(int(child), signal.SIGTERM)
            engine.wait(60)
    return base, list(parse(trace, service.folder))


def parse(trace: Path, data: Path) -> Iterator[Step]:
    """The steps of a trace. A write counts when it begins, a sync when it ends, a reply when it begins."""
    unfinished: dict[str, Step] = {}
    with trace.open() as lines:
        for line in lines:
            if resumed := _RESUMED.match(line):
                step = unfinished.pop(resumed[1], None)
                if step is not None and line.rstrip().endswith("= 0"):
                    yield step
                continue
            call = _CALL.match(line)
            if call is None:
                continue
            for step in _steps(call[1], call[2], data):
                if step.kind == "sync" and line.rstrip().endswith("<unfinished ...>"):
                    unfinished[line.partition(" ")[0]] = step
                elif step.kind != "sync" or line.rstrip().endswith("= 0"):
                    yield step


def _steps(name: str, arguments: str, data: Path) -> Iterator[Step]:
    if name == "unlink":
        if path := _STRING.match(arguments):
            file = _unhex(path[1]).decode()
            if _ours(file, data):
                yield Step("unlink", Path(file).name)
        return
    descriptor = _DESCRIPTOR.match(arguments)
    if descriptor is None:
        return
    file = _unhex(descriptor[1]).decode(errors="replace") if "\\x" in descriptor[1] else descriptor[1]
    if name in ("write", "writev", "sendto", "sendmsg"):
        written = b"".join(_unhex(part) for part in _STRING.findall(arguments))
        for found in _ACKNOWLEDGED.findall(written):
            yield Step("acknowledged", found.decode())
    elif file == str(data) and name in ("fsync", "fdatasync"):
        yield Step("sync", FOLDER)
    elif not _ours(file, data):
        return
    elif name in ("fsync", "fdatasync"):
        yield Step("sync", Path(file).name)
    elif name == "ftruncate":
        yield Step("truncate", Path(file).name, int(re.search(r", (\d+)", arguments)[1]))  # type: ignore[index]
    elif name == "pwrite64":
        content = _unhex(_STRING.search(arguments)[1])  # type: ignore[index]
        offset = int(re.search(r'", \d+, (\d+)', arguments)[1])  # type: ignore[index]
        yield Step("write", Path(file).name, offset, content)


def _ours(file: str, data: Path) -> bool:
    return file.startswith(str(data / "smarthost.db")) and not file.endswith("-shm")


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def replay(
    disk_folder: Path,
    base: dict[str, bytes],
    steps: list[Step],
    points: set[int],
    chance: random.Random,
    score: Score,
) -> None:
    """Cut at each of `points`, before the step of that number has followed, and look into what is left."""
    disk = Disk({name: bytearray(content) for name, content in base.items()}, entries=set(base))
    promised: set[str] = set()
    for number, step in enumerate(steps):
        if step.kind == "acknowledged":
            promised.add(step.name)
            if step.name.encode() not in disk.safe:
                score.faults.append(f"step {number}: 250 for {step.name} before its fsync")
        else:
            disk.take(step)
        if number in points:
            for manner in (None, chance):
                kept = _messages(disk_folder, disk.survivors(manner))
                if isinstance(kept, str):
                    score.faults.append(f"step {number}: {kept}")
                elif gone := promised - kept:
                    score.verdict.lost.append(f"step {number}: {len(gone)} of {len(promised)}")


def _messages(folder: Path, files: dict[str, bytes]) -> set[str] | str:
    """The ids of the messages that SQLite finds on such a disk, or what it found wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    connection = pysqlite3.connect(str(folder / "smarthost.db"))
    try:
        verdict = connection.execute("PRAGMA quick_check").fetchone()[0]
        if verdict != "ok":
            return f"quick_check: {verdict}"
        return {row[0] for row in connection.execute("SELECT id FROM message")}
    except pysqlite3.DatabaseError as error:
        return str(error)
    finally:
        connection.close()
