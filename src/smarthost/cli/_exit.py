"""Exit codes: part of the contract (docs/reference/commands.md). `sendmail` has those of sysexits.h."""

from __future__ import annotations

from enum import IntEnum

from smarthost.errors import (
    ConfigError,
    Conflict,
    CredentialError,
    Forbidden,
    NotFound,
    OverCap,
    SecretError,
    SmarthostError,
    StoreFull,
    StoreUnavailable,
)


class Exit(IntEnum):
    """OK: done. FAILED: a check found an error. REFUSED: policy or state does not allow it."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    NOT_FOUND = 4
    UNAVAILABLE = 5
    CONFIG = 6
    INTERRUPTED = 130


_CODES: tuple[tuple[type[SmarthostError], Exit], ...] = (
    (NotFound, Exit.NOT_FOUND),
    (StoreUnavailable, Exit.UNAVAILABLE),
    (StoreFull, Exit.UNAVAILABLE),
    (OverCap, Exit.UNAVAILABLE),
    (ConfigError, Exit.CONFIG),
    (SecretError, Exit.CONFIG),
    (Conflict, Exit.REFUSED),
    (Forbidden, Exit.REFUSED),
    (CredentialError, Exit.REFUSED),
)


def exit_code(error: SmarthostError) -> Exit:
    """The stable exit code of an error; what no rule names is a refusal."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return Exit.UNAVAILABLE if error.temporary else Exit.REFUSED
