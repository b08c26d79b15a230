"""`smarthost sendmail`: the program that cron, PHP and monitoring scripts call to send mail.

It needs neither database nor key nor settings: it finds the data folder and speaks SMTP over the Unix socket
in it. The engine learns the caller's uid from the kernel and maps it to an application; whoever is mapped to
none is refused (exit 77). The whole mail is read first, then offered in one BDAT (RFC 3030), so no line in it
can be mistaken for the end. When the engine is down, the mail becomes a synced file in the drop folder, which
the engine takes in when it is back: exit 0 means durable either way. A key that is made here and travels in
the mail makes the two ways one: if the engine dies after its commit and before its answer, the dropped copy
is recognised as a repetition.

Options are those that callers use; one that would read, write or run something (-C, -X, -oQ, -be, …) is
refused like any unknown one, by name. Nothing is imported that does not have to be: a cron job waits for it.
"""

from __future__ import annotations

import os
import socket
import sys

from smarthost.cli import _sysexits as ex
from smarthost.cli._sendmail_session import EngineDownError, SendmailError, Session, submit

MAX_MESSAGE = 128 * 1024 * 1024
"""Bytes read from standard input at most; the engine's own limit is usually smaller."""

_VALUES = frozenset("fFrB")  # options with a value, attached or in the next argument
_IGNORED_O = ("em", "ep", "eq", "ew", "ee", "db", "di", "dq", "dd", "m", "7", "8bitmime")
_SOCKET = "sendmail.sock"
_DROP = "drop"
_KEY = b"X-Smarthost-Idempotency-Key"


class Options:
    """What the command line asked for. `sender` None: the caller's own login name."""

    __slots__ = ("dot_ends", "from_headers", "full_name", "recipients", "sender", "smtp")

    def __init__(self) -> None:
        self.sender: str | None = None
        self.full_name = ""
        self.recipients: list[str] = []
        self.from_headers = False
        self.dot_ends = True
        self.smtp = False


def parse(words: list[str]) -> Options:
    """Read the classic command line. Raises SendmailError (64) naming the option that is not taken."""
    options = Options()
    rest = iter(words)
    for word in rest:
        if word == "--":
            options.recipients.extend(rest)
        elif not word.startswith("-") or word == "-":
            options.recipients.append(word)
        else:
            _option(options, word, rest)
    for address in options.recipients:
        _address(address, "recipient")
    return options


def _option(options: Options, word: str, rest: object) -> None:
    letter, value = word[1:2], word[2:]
    if letter in _VALUES:
        if not value:
            found = next(rest, None)  # type: ignore[call-overload]
            if found is None:
                raise SendmailError(ex.USAGE, f"option -{letter} needs a value")
            value = str(found)
        if letter in "fr":
            options.sender = _sender(value)
        elif letter == "F":
            options.full_name = _plain(value, "name given by -F")
    elif word == "-t":
        options.from_headers = True
    elif word in ("-i", "-oi", "-oitrue"):
        options.dot_ends = False
    elif word == "-bs":
        options.smtp = True
    elif word in ("-ti", "-it"):
        options.from_headers, options.dot_ends = True, False
    elif word in ("-bm", "-m", "-v", "-U", "-G") or (letter == "o" and value.lower() in _IGNORED_O):
        pass
    else:
        raise SendmailError(ex.USAGE, f"option {_shown(word)} is not supported{_hint(word)}")


def _hint(word: str) -> str:
    if word in ("-bp", "-q") or word.startswith("-q"):
        return "; the queue is seen with: smarthost queue list"
    if word in ("-bd", "-bD"):
        return "; the service is started with: smarthost run"
    return ""


def _sender(value: str) -> str:
    value = value[1:-1] if value.startswith("<") and value.endswith(">") else value
    if value.startswith("-"):
        raise SendmailError(ex.USAGE, f"{_shown(value)} is not a sender address; was its value forgotten?")
    return _address(value, "sender")


def _address(text: str, what: str) -> str:
    """Refuse what would leave its angle brackets and become parameters; quoted local parts may hold it."""
    if not text.startswith('"') and not {"<", ">", " "}.isdisjoint(text):
        raise SendmailError(ex.USAGE, f"the {what} is no address: {_shown(text)}")
    return _plain(text, what)


def _plain(text: str, what: str) -> str:
    """Refuse what could leave its line in the dialogue; whether it is an address the engine decides."""
    if len(text) > 1000 or any(ord(char) < 32 or ord(char) == 127 for char in text):
        raise SendmailError(ex.USAGE, f"the {what} is too long or holds a control character: {_shown(text)}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise SendmailError(ex.USAGE, f"the {what} is not UTF-8: {_shown(text)}") from None
    return text


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else text[:57] + "...")


def data_folder() -> str:
    """SMARTHOST_DATA, or what /etc/smarthost/environment says, or /var/lib/smarthost, or ./data.

    cron and PHP run without the service's environment, so the file that systemd reads is read here as well.
    Raises SendmailError (78) when there is none.
    """
    if named := os.environ.get("SMARTHOST_DATA"):
        return named
    try:
        with open("/etc/smarthost/environment", encoding="utf-8", errors="replace") as lines:  # noqa: PTH123
            for line in lines:
                name, _, value = line.strip().partition("=")
                if name.removeprefix("export ").strip() == "SMARTHOST_DATA" and value:
                    return value.strip().strip("\"'")
    except OSError:
        pass
    for guess in ("/var/lib/smarthost", "data"):
        if os.path.exists(f"{guess}/{_SOCKET}") or os.path.isdir(f"{guess}/{_DROP}"):  # noqa: PTH110, PTH112
            return guess
    raise SendmailError(
        ex.CONFIG,
        "no data folder found: set SMARTHOST_DATA, or write SMARTHOST_DATA=/path into "
        "/etc/smarthost/environment",
    )


def read_message(stream: object, *, dot_ends: bool) -> bytes:
    """Read the mail from standard input up to its end, or up to a line with one dot where that ends it.

    Raises SendmailError (65) over MAX_MESSAGE.
    """
    read = stream.readline if dot_ends else stream.read  # type: ignore[attr-defined]
    content = bytearray()
    line_start = True
    while piece := read(65536):
        if dot_ends and line_start and piece in (b".\n", b".\r\n", b"."):
            break
        content += piece
        line_start = piece.endswith(b"\n")
        if len(content) > MAX_MESSAGE:
            raise SendmailError(ex.DATAERR, f"the message is larger than {MAX_MESSAGE // (1024 * 1024)} MB")
    return bytes(content)


def tidy(content: bytes) -> bytes:
    """Give mail that begins with text or an mbox line its header section, an empty one."""
    while content.startswith((b"From ", b">From ")):
        content = content.partition(b"\n")[2]
    line = content.partition(b"\n")[0].rstrip(b"\r")
    name, colon, _ = line.partition(b":")
    name = name.rstrip(b" \t")
    is_header = bool(colon and name and all(33 <= byte <= 126 for byte in name))
    return content if is_header or not line else b"\n" + content


def header_section(content: bytes) -> bytes:
    """The header lines, without the blank line that ends them."""
    if content.startswith((b"\n", b"\r\n")):
        return b""
    ends = [end for end in (content.find(b"\n\n"), content.find(b"\n\r\n")) if end >= 0]
    return content[: min(ends) + 1] if ends else content


def has_field(section: bytes, name: bytes) -> bool:
    """Whether a header section holds a field (name in lower case)."""
    return any(line.partition(b":")[0].rstrip().lower() == name for line in section.split(b"\n"))


def login_name() -> str:
    """The caller's name, as the envelope sender that the engine completes."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def run(words: list[str]) -> int:
    """The command; its exit code. Whatever goes wrong is one line on standard error."""
    try:
        options = parse(words)
        folder = data_folder()
        if options.smtp:
            return _dialogue(folder)
        _send(folder, options)
    except SendmailError as failure:
        for line in failure.text.splitlines():
            print(f"sendmail: {line}", file=sys.stderr)
        return failure.code
    except KeyboardInterrupt:
        return ex.TEMPFAIL
    return ex.OK


class Mail:
    """What is handed over. `sender` "" is the null sender; `named`: it was given by -f."""

    __slots__ = ("content", "key", "named", "recipients", "sender")

    def __init__(self, options: Options, content: bytes) -> None:
        self.named = options.sender is not None
        self.sender = login_name() if options.sender is None else options.sender
        self.recipients = list(options.recipients)
        self.content = content
        self.key = ""


def _send(folder: str, options: Options) -> None:
    mail = _prepare(options, tidy(read_message(sys.stdin.buffer, dot_ends=options.dot_ends)))
    try:
        session = Session(f"{folder}/{_SOCKET}")
        try:
            submit(session, mail.sender, mail.recipients, mail.content)
        finally:
            session.close()
    except EngineDownError as down:
        _drop(folder, mail, str(down))


def _prepare(options: Options, content: bytes) -> Mail:
    """Whom it is for, the name that -F gives, and the key that tells a repetition."""
    mail = Mail(options, content)
    if options.from_headers:
        from smarthost.cli._recipients import from_headers

        mail.recipients += from_headers(content)
    mail.recipients = list(dict.fromkeys(mail.recipients))
    if not mail.recipients:
        raise SendmailError(ex.USAGE, "no recipients: name them as arguments, or use -t with a To field")
    section = header_section(content)
    if options.full_name and not has_field(section, b"from"):
        from smarthost.cli._recipients import from_field

        mail.content = from_field(options.full_name, mail.sender) + mail.content
    if not has_field(section, _KEY.lower()):
        mail.key = os.urandom(16).hex()
        mail.content = _KEY + f": {mail.key}\r\n".encode() + mail.content
    return mail


def _drop(folder: str, mail: Mail, why: str) -> None:
    """Leave the mail for the engine; returns once it is synced."""
    from pathlib import Path

    from smarthost.errors import SmarthostError
    from smarthost.spool.drop import leave

    # "" leaves the caller's name to the engine, which has the file's owner; None is the null sender.
    sender = (mail.sender or None) if mail.named else ""
    try:
        leave(Path(folder), sender=sender, recipients=mail.recipients, content=mail.content, key=mail.key)
    except SmarthostError as error:
        raise SendmailError(
            ex.TEMPFAIL, f"the mail service is not running ({why}). {error.public}: {folder}/{_DROP}"
        ) from error


def _dialogue(folder: str) -> int:
    """-bs: the caller speaks SMTP itself, through standard input and output."""
    import selectors

    out = sys.stdout.buffer
    try:
        session = Session(f"{folder}/{_SOCKET}")
    except EngineDownError:
        out.write(b"421 4.3.2 The mail service is not running\r\n")
        out.flush()
        return ex.TEMPFAIL
    peer = session.socket
    peer.settimeout(None)
    with selectors.SelectSelector() as waiting:
        waiting.register(peer, selectors.EVENT_READ)
        waiting.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select():
                if key.fileobj is peer:
                    data = peer.recv(65536)
                    if not data:
                        session.close()
                        return ex.OK
                    out.write(data)
                    out.flush()
                elif data := os.read(0, 65536):
                    session.send(data)
                else:
                    waiting.unregister(0)
                    peer.shutdown(socket.SHUT_WR)


def main() -> int:
    """Entry point of the program `smarthost-sendmail`, which packagers link to /usr/sbin/sendmail."""
    return run(sys.argv[1:])
