"""Five identical refusals of everything: do refusals speak of messages, or of the route? Pure.

Refusals wait here unjudged while they are all alike and nothing got through. The fifth message with the
same refusal makes it the route's fault, and none of them pays. An acceptance, a different refusal or the
end of all work makes each of them the fault of its own message. A route that got something through since
its last trouble is trusted: there the first refusal is judged at once, and only the second is suspicious.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")

ENOUGH = 5


class Jury(Generic[T]):
    """Holds unjudged refusals of one upstream. Each method returns what it decided."""

    __slots__ = ("_held", "_key", "_messages", "_trusted")

    def __init__(self) -> None:
        self._key = ""
        self._messages: set[str] = set()
        self._held: list[T] = []
        self._trusted = False

    def hear(self, key: str, message: str, refusal: T) -> tuple[list[T], list[T]]:
        """One more refusal with the fingerprint `key`: (those of messages, those of the route)."""
        judged: list[T] = []
        if key != self._key:
            judged = self._release()
            self._key = key
            self._messages = {message}
            if self._trusted:
                judged.append(refusal)
            else:
                self._held.append(refusal)
            return judged, []
        self._messages.add(message)
        if len(self._messages) >= ENOUGH:
            accused = [*self._release(), refusal]
            self._key, self._messages, self._trusted = "", set(), False
            return [], accused
        if self._trusted and len(self._messages) == 1:
            return [refusal], []
        self._held.append(refusal)
        return [], []

    def accepted(self) -> list[T]:
        """Something got through: what was held is the fault of its messages, which are returned."""
        self._trusted = True
        if not self._key:
            return []
        self._key, self._messages = "", set()
        return self._release()

    def rest(self) -> list[T]:
        """Nothing more is under way. The count goes on, but nobody waits for a sixth message to be told."""
        return self._release() if self._held else []

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def _release(self) -> list[T]:
        held, self._held = self._held, []
        return held
