"""The client's side of a session."""

from __future__ import annotations

from smarthost.smtp._capabilities import NOTHING, Capabilities
from smarthost.smtp._events import ClientEvent
from smarthost.smtp._states import ClientState
from smarthost.smtp._types import ClientOptions, LocalError, Stage, Transaction


class Client:
    """One session with a server, from its greeting to QUIT.

    capabilities  of the last EHLO; those before STARTTLS are forgotten.
    """

    def __init__(self, options: ClientOptions) -> None:
        self.options = options
        self.state = ClientState.BANNER
        self.capabilities: Capabilities = NOTHING

    @property
    def stage(self) -> Stage:
        """What is waited for now: the oldest command without a reply."""
        return Stage.BANNER

    @property
    def room(self) -> int:
        """How many transactions may be given now: 0, 1 or 2. 0 for good where `worn_out` or not READY."""
        return 0

    @property
    def worn_out(self) -> bool:
        """Whether the server's MAILMAX is used up: QUIT and connect anew."""
        return False

    @property
    def in_doubt(self) -> tuple[Transaction, ...]:
        """Transactions whose final bytes were given out and are not answered."""
        return ()

    @property
    def transcript(self) -> tuple[str, ...]:
        """The dialogue's last lines, "> " ours and "< " theirs, without secrets and without content."""
        return ()

    def receive(self, data: bytes) -> list[ClientEvent]:
        """Take bytes from the server."""
        return []

    def eof(self, text: str = "the connection was lost") -> list[ClientEvent]:
        """The connection is lost, or given up for the reason in text. Once over, nothing more happens."""
        return []

    def tls_started(self) -> list[ClientEvent]:
        """The handshake that `StartTls` asked for is done. All capabilities are forgotten (RFC 3207 4.2)."""
        return []

    def send(self, transaction: Transaction) -> list[ClientEvent]:
        """Begin a transaction. Done at once where nothing of it can be offered to this server.

        LocalError: there is no room, no recipient, or an address with a control character.
        """
        raise LocalError("no room")

    def body(self, transaction: Transaction, data: bytes, *, last: bool) -> list[ClientEvent]:
        """Give a piece of the content that `WantBody` asked for; ignored where the transaction is over."""
        return []

    def quit(self) -> None:
        """Say QUIT after the last open transaction. No room from now on."""

    def data_to_send(self) -> bytes:
        """What to write now; it counts as given out."""
        return b""
