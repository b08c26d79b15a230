"""Being written."""

from enum import IntEnum
from typing import Any


class Kind(IntEnum):
    ACCEPT_ONE = 0
    ACCEPT = 1
    CHUNK = 2
    COMPLETE = 3
    LEASE = 4
    RUN = 5


class Committer:
    failed: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
