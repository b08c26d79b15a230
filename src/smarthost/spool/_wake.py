"""Being written."""

from typing import Any


class Wakeups:
    def __init__(self, *args: Any) -> None: ...
    def __getattr__(self, name: str) -> Any: ...
