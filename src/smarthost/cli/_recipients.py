"""What `sendmail -t` and `-F` need of the mail's header; imported only then: the program starts fast."""

from __future__ import annotations

from smarthost.cli import _sysexits as ex
from smarthost.cli._sendmail_session import SendmailError
from smarthost.cli.sendmail import header_section
from smarthost.errors import AddressError, SmarthostError
from smarthost.mail import Composition, Mailbox, build, complete, header_recipients, normalise_newlines

_HERE = "localhost"  # what a local name is completed with; the engine maps it by its aliases and domain


def from_headers(content: bytes) -> list[str]:
    """The addresses of To, Cc and Bcc. Raises SendmailError (67: no address, 65: no header)."""
    section = normalise_newlines(header_section(content) + b"\n")
    try:
        found = header_recipients(section, lambda text: complete(text, _HERE, {}), max_header=1024 * 1024)
    except AddressError as error:
        raise SendmailError(ex.NOUSER, error.public) from error
    except SmarthostError as error:
        raise SendmailError(ex.DATAERR, error.public) from error
    return [str(address) for address in found]


def from_field(full_name: str, sender: str) -> bytes:
    """A From field for mail that has none, of the name given by -F and the envelope sender.

    Raises SendmailError (64) where the sender is no address or the name cannot be written.
    """
    if not sender:
        return b""
    try:
        author = Mailbox(full_name, complete(sender, _HERE, {}))
        written = build(Composition(sender=author, text=""), message_id="<a@localhost>", date="")
    except SmarthostError as error:
        raise SendmailError(ex.USAGE, error.public) from error
    end = written.find(b"\r\n")
    while written[end + 2 : end + 3] in (b" ", b"\t"):
        end = written.find(b"\r\n", end + 2)
    return written[: end + 2]
