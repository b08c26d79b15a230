"""Being written."""

from typing import Any


class Database:
    def __getattr__(self, name: str) -> Any: ...


def open_database(*args: Any) -> Any: ...
