"""The key file: made once, private, whole or not there.

Its text is a comment and one line a key, `ID BASE64URL`, newest first. It is written beside its place,
synced, and *linked* into place: of several processes that start at once exactly one link succeeds, the others
read that one's key, and nobody ever sees half a file. It is made anew only where there is none; whoever knows
that sealed secrets exist calls `load_key`, which never makes one, for a fresh key would hide that the old one
is lost.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
import stat
from pathlib import Path

from smarthost.errors import SecretError
from smarthost.vault._key import KEY_BYTES, Key, KeyEntry, new_entry

HEADING = (
    "# Smarthost's secret key. Keep a copy apart from the database: neither opens stored passwords alone.\n"
)
ENTRY = re.compile(r"([0-9a-f]{8}) ([A-Za-z0-9_-]{43})")


def load_key(path: Path) -> Key:
    """Read the key file.

    Raises SecretError where it is missing, unreadable or not a key file.
    """
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        raise SecretError(
            f"The key file {path} is missing. Put back its copy, or point SMARTHOST_SECRET_KEY_FILE at it;"
            " without it stored passwords have to be entered again."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SecretError(f"The key file {path} cannot be read.", private=str(error)) from error
    lines = [line.strip() for line in text.splitlines()]
    entries = [_entry(line) for line in lines if line and not line.startswith("#")]
    found = [entry for entry in entries if entry is not None]
    if not found or len(found) != len(entries) or len({entry.id for entry in found}) != len(found):
        raise SecretError(f"{path} is not a Smarthost key file, or it is damaged. Put back its copy.")
    return Key(tuple(found))


def create_key(path: Path) -> None:
    """Make a new key file (mode 0600, synced with its folder) unless there is one already.

    Raises SecretError where it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # Others may pass through the folder (the sendmail socket stands there) but not list it.
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(_text(Key((new_entry(),))))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                return  # another process was first: its key is the key
        finally:
            draft.unlink(missing_ok=True)
            _sync_folder(path.parent)
    except OSError as error:
        raise SecretError(
            f"The key file {path} cannot be made: {error.strerror}.", private=str(error)
        ) from error


def load_or_create_key(path: Path) -> Key:
    """Read the key file; the first process of an installation makes it.

    Raises SecretError where it can be neither read nor made.
    """
    if not path.exists():
        create_key(path)
    return load_key(path)


def key_file_findings(path: Path) -> tuple[str, ...]:
    """What an administrator should know of the key file's safety; empty where all is well."""
    try:
        facts = path.stat()
        load_key(path)
    except FileNotFoundError:
        return (f"The key file {path} is missing.",)
    except OSError as error:
        return (f"The key file {path} cannot be examined: {error.strerror}.",)
    except SecretError as error:
        return (error.public,)
    findings = []
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o177:
        findings.append(
            f"The key file {path} has mode {mode:04o}, so others can read it; run: chmod 600 {path}"
        )
    if facts.st_uid not in (os.geteuid(), 0):
        findings.append(
            f"The key file {path} belongs to user id {facts.st_uid}, not to the one that runs Smarthost."
        )
    return tuple(findings)


def _entry(line: str) -> KeyEntry | None:
    match = ENTRY.fullmatch(line)
    if match is None:
        return None
    try:
        material = base64.b64decode(match[2] + "=", altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    return KeyEntry(match[1], material) if len(material) == KEY_BYTES else None


def _text(key: Key) -> str:
    lines = (
        f"{entry.id} {base64.urlsafe_b64encode(entry.material).decode().rstrip('=')}\n"
        for entry in key.entries
    )
    return HEADING + "".join(lines)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
