"""The server's side of a session."""

from __future__ import annotations

from smarthost.smtp._events import ServerEvent
from smarthost.smtp._states import ServerState
from smarthost.smtp._types import NEED_DATA, Need, Reply, ServerOptions


class Server:
    """One session with a client, from our greeting to the end.

    secure   TLS from the first byte. trusted: no login is needed (a trusted network, a Unix socket).
    closing  write what is to be written, then close; nothing is read any more.
    """

    def __init__(self, options: ServerOptions, *, secure: bool = False, trusted: bool = False) -> None:
        self.options = options
        self.secure = secure
        self.trusted = trusted
        self.state = ServerState.GREETING
        self.closing = False
        self.authenticated = False
        self.hello = ""
        self.esmtp = False
        self.smtputf8 = False
        self.recipients = 0

    @property
    def protocol(self) -> str:
        """The word for a Received field: "SMTP", "ESMTPSA", "UTF8SMTPS", … (RFC 3848, RFC 6531 4.3)."""
        return "SMTP"

    @property
    def busy(self) -> bool:
        """Whether a transaction is under way."""
        return False

    def greet(self, refuse: Reply | None = None) -> None:
        """Write the greeting, or a refusal (421 or 554) and end."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the client."""

    def next_event(self) -> ServerEvent | Need:
        """The next event, NEED_DATA, or NEED_ANSWER while an event marked * is not answered."""
        return NEED_DATA

    def answer(self, reply: Reply) -> None:
        """Answer the last event marked *. LocalError: nothing to answer. 421 ends the session."""

    def tls_started(self) -> None:
        """The handshake that `StartTls` asked for is done: all is forgotten (RFC 3207 4.2)."""

    def shut(self, reply: Reply) -> None:
        """End the session with this reply (421: shutting down, timed out). Whatever is under way is gone."""

    def data_to_send(self) -> bytes:
        """What to write now."""
        return b""
