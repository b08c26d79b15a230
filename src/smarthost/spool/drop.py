"""The drop folder: mail that the sendmail program leaves while the engine is down.

`<data>/drop` has mode 1733: everybody may leave a file, nobody may list it, and only its owner may remove it.
A file is one JSON line (envelope, length of the content) and the content. Who owns the file is who sends;
what it says of itself counts for nothing. So a file is taken only where it is a regular one, with one name (a
hard link would carry somebody else's ownership in), not a symlink, whole, and named as `leave` names.

Writing: a name beginning with a dot, fsync, rename, fsync of the folder. A caller who may not open the folder
asks the system to sync everything instead: this happens only while the engine is down. The engine may run as
another user, so files are readable by all; their names have 104 random bits and nobody may list them.
Reading: the engine unlinks after the commit, and the file's name is the idempotency key, so a crash between
the two makes no second copy.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from smarthost.errors import ContentError, StoreFull, StoreUnavailable, TooLarge

MODE = 0o1733
_NAME = re.compile(r"[0-9a-zA-Z_]{8,64}\.mail").fullmatch
_LONGEST_LINE = 1024 * 1024  # 1000 recipients fit


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The first line. sender None: the null sender; "": the caller's own name, completed by the engine."""

    smarthost: int = 1
    sender: str | None
    recipients: tuple[str, ...]
    length: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A file as it was left. uid is its owner; key the idempotency key, its name unless one was given."""

    name: str
    uid: int
    sender: str | None
    recipients: tuple[str, ...]
    key: str
    left_at: int  # microseconds since the epoch
    content: bytes


def folder(data: Path) -> Path:
    """Where the drop folder of a data folder is."""
    return data / "drop"


def make(data: Path) -> Path:
    """Make the drop folder with its mode. Raises OSError."""
    path = folder(data)
    path.mkdir(exist_ok=True)
    path.chmod(MODE)
    return path


def leave(data: Path, *, sender: str | None, recipients: Sequence[str], content: bytes, key: str = "") -> str:
    """Leave a message for the engine, synced; gives the file's name.

    sender and recipients as the caller wrote them (the engine completes and checks them); sender None is the
    null sender. Raises StoreFull, or StoreUnavailable where there is no folder to write to.
    """
    line = msgspec.json.encode(
        Envelope(sender=sender, recipients=tuple(recipients), length=len(content), key=key)
    )
    path = folder(data)
    name = f"{os.urandom(13).hex()}.mail"
    temporary = path / f".{name}"
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(line + b"\n")
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        temporary.rename(path / name)
        _sync(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StoreFull("No space left in the drop folder", private=str(error)) from error
        raise StoreUnavailable("The drop folder cannot be written", private=str(error)) from error
    return name


def _sync(path: Path) -> None:
    """Make the rename durable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        os.sync()
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def waiting(data: Path) -> list[str]:
    """Names of what waits, in no order. An absent folder holds nothing."""
    try:
        return [entry.name for entry in os.scandir(folder(data)) if _NAME(entry.name)]
    except FileNotFoundError:
        return []


def read(data: Path, name: str, max_size: int) -> Dropped:
    """Read one file. Raises ContentError where it is no file that `leave` wrote, TooLarge, OSError."""
    if not _NAME(name):
        raise ContentError("not a name of the drop folder")
    try:  # O_NONBLOCK: a FIFO must not hold the reader
        descriptor = os.open(folder(data) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ContentError("a symlink, not a file") from error
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise ContentError("not a regular file with one name")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > max_size + _LONGEST_LINE:
            raise TooLarge("larger than the size limit")
        try:
            envelope = msgspec.json.decode(file.readline(_LONGEST_LINE), type=Envelope)
        except msgspec.MsgspecError as error:
            raise ContentError("not a file of the drop folder", private=str(error)) from error
        content = file.read(max_size + 1)
    if len(content) > max_size:
        raise TooLarge("larger than the size limit")
    if len(content) != envelope.length:
        raise ContentError(f"holds {len(content)} bytes where {envelope.length} were announced")
    return Dropped(
        name=name,
        uid=status.st_uid,
        sender=envelope.sender,
        recipients=envelope.recipients,
        key=envelope.key or name,
        left_at=status.st_mtime_ns // 1000,
        content=content,
    )


def remove(data: Path, name: str) -> None:
    """Take it away, after its commit."""
    (folder(data) / name).unlink(missing_ok=True)


def set_aside(data: Path, name: str) -> Path:
    """Move what cannot be taken in to `<data>/drop-refused`, where an administrator finds it."""
    aside = data / "drop-refused"
    aside.mkdir(mode=0o700, exist_ok=True)
    target = aside / name
    return (folder(data) / name).rename(target)
