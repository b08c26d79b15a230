"""AUTH as a server hears it: PLAIN (RFC 4616) and LOGIN, to the credentials that a driver checks."""

from __future__ import annotations

from smarthost.smtp._command import CommandError
from smarthost.smtp._events import Auth
from smarthost.smtp._sasl import from_base64, read_plain, read_text

_ASK = b"334 \r\n"
_ASK_NAME = b"334 VXNlcm5hbWU6\r\n"
_ASK_WORD = b"334 UGFzc3dvcmQ6\r\n"


class LoginDialogue:
    """One AUTH command. Each step gives what to ask next, or the credentials; CommandError ends it."""

    __slots__ = ("_mechanism", "_name")

    def __init__(self, mechanism: bytes) -> None:
        if mechanism not in (b"PLAIN", b"LOGIN"):
            raise CommandError(504, "5.5.4", "The mechanism is not known; PLAIN and LOGIN are")
        self._mechanism = mechanism
        self._name: str | None = None

    def begin(self, initial: bytes) -> bytes | Auth:
        """initial is what stood behind the mechanism, "=" for an empty response (RFC 4954 4)."""
        if initial:
            return self.take(b"" if initial == b"=" else initial)
        return _ASK if self._mechanism == b"PLAIN" else _ASK_NAME

    def take(self, line: bytes) -> bytes | Auth:
        """The client's next line."""
        if line == b"*":
            raise CommandError(501, "5.7.0", "Cancelled")
        data = from_base64(line)
        if data is None:
            raise CommandError(501, "5.5.2", "That is not base64")
        if self._mechanism == b"PLAIN":
            message = read_plain(data)
            if message is None or message[0] not in ("", message[1]):
                raise CommandError(501, "5.5.2", "That is no message of PLAIN for the user itself")
            return Auth("PLAIN", message[1], message[2])
        text = read_text(data)
        if text is None:
            raise CommandError(501, "5.5.2", "That is no user name or password")
        if self._name is None:
            self._name = text
            return _ASK_WORD
        return Auth("LOGIN", self._name, text)
