"""Being written."""

from typing import Any


class SpaceWatch:
    full = False

    def __init__(self, *args: Any) -> None: ...
    def measure(self) -> Any: ...


def findings(*args: Any) -> Any: ...
