"""Plays dialogues written down in `vectors/*.txt` against our client and our server.

    == title            a new dialogue
    : option …          options of the side under test; "whole" where the bytes must come in one segment
    ! action            what the client's driver does: send, stream, quit, eof
    > line              what the client says, CRLF is added; >> the same without CRLF
    < line              what the server says, CRLF is added; << the same without CRLF
    * event             what the client reports
    = event             what the server reports

Backslash escapes are Python's, of bytes. To a server everything behind > is fed, as one stream, and its
replies are compared by code and status; to a client the groups behind < are fed, and what it says is compared byte
for byte. So one dialogue can drive both.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from smarthost.smtp import (
    Abort,
    Auth,
    Chunk,
    Client,
    ClientOptions,
    Content,
    Done,
    Hello,
    Login,
    Mail,
    Need,
    Rcpt,
    Recipient,
    Refused,
    Reply,
    Security,
    Server,
    ServerLimits,
    ServerOptions,
    StartTls,
    Transaction,
    WantBody,
)

VECTORS = Path(__file__).parent / "vectors"
Cut = Callable[[bytes], list[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data] if data else []


def single(data: bytes) -> list[bytes]:
    return [data[place : place + 1] for place in range(len(data))]


@dataclass
class Dialogue:
    title: str
    options: list[str] = field(default_factory=list)
    lines: list[tuple[str, bytes]] = field(default_factory=list)

    def __str__(self) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", self.title)

    def option(self, name: str, default: str = "") -> str:
        return next((one.partition("=")[2] for one in self.options if one.startswith(f"{name}=")), default)

    @property
    def sides(self) -> set[str]:
        marks = {mark for mark, _ in self.lines}
        return ({"client"} if marks & {"*", "!"} else set()) | ({"server"} if "=" in marks else set())


def unescape(text: str) -> bytes:
    return codecs.escape_decode(text.encode("utf-8"))[0]  # type: ignore[attr-defined,no-any-return]


def dialogues(side: str) -> list[Dialogue]:
    found: list[Dialogue] = []
    for path in sorted(VECTORS.glob("*.txt")):
        for line in path.read_text("utf-8").splitlines():
            mark, _, text = line.partition(" ")
            if mark == "==":
                found.append(Dialogue(text))
            elif mark == ":":
                found[-1].options += text.split()
            elif mark in ("!", "*", "="):
                found[-1].lines.append((mark, text.encode("utf-8")))
            elif mark in (">", "<"):
                found[-1].lines.append((mark, unescape(text) + b"\r\n"))
            elif mark in (">>", "<<"):
                found[-1].lines.append((mark[0], unescape(text)))
            elif line and not line.startswith("#"):
                raise ValueError(f"{path.name}: {line!r}")
    return [dialogue for dialogue in found if side in dialogue.sides]


# --- the server's side


def make_server(dialogue: Dialogue) -> Server:
    has = set(dialogue.options).__contains__
    limits = ServerLimits(
        errors=int(dialogue.option("errors", "20")),
        recipients=int(dialogue.option("recipients", "1000")),
        commands=int(dialogue.option("commands", "5000")),
        transactions=int(dialogue.option("transactions", "0")),
        piece=int(dialogue.option("piece", str(256 * 1024))),
    )
    options = ServerOptions(
        hostname="s.test",
        max_size=int(dialogue.option("max_size", "1000000")),
        starttls=has("starttls"),
        auth=has("auth"),
        auth_in_clear=has("auth_in_clear"),
        auth_required=has("auth_required"),
        tls_required=has("tls_required"),
        limits=limits,
    )
    return Server(options, secure=has("secure"), trusted=has("trusted"))


def answer_for(event: object) -> Reply | None:
    """A driver that accepts what does not ask to be refused."""
    match event:
        case Auth(_, username, password):
            ok = (username, password) == ("user", "right")
            return Reply(235, "2.7.0", "Welcome") if ok else Reply(535, "5.7.8", "No")
        case Mail(path) | Rcpt(path):
            if path.startswith("refuse"):
                return Reply(550, "5.1.1", "Unknown")
            if path.startswith("later"):
                return Reply(450, "4.2.0", "Later")
            if path.startswith("close"):
                return Reply(421, "4.3.2", "Going down")
            return Reply(250, "2.1.0", "Ok")
        case Content():
            return Reply(250, "2.0.0", "Kept")
    return None


def tell_server(event: object) -> str:
    match event:
        case Hello(name, esmtp):
            return f"{'EHLO' if esmtp else 'HELO'} {name}"
        case Auth(mechanism, username, password):
            return f"AUTH {mechanism} {username} {password}"
        case Mail(path, params):
            return f"MAIL {path} {tell_params(params)}".rstrip()
        case Rcpt(path, params):
            return f"RCPT {path} {tell_params(params)}".rstrip()
        case Content(data, size):
            return f"CONTENT {size if data is None else data!r}"
        case Chunk(data):
            return f"CHUNK {data!r}"
        case Abort(reason):
            return f"ABORT {reason.value}"
    return type(event).__name__.upper()


def tell_params(params: object) -> str:
    names = type(params).__dataclass_fields__  # type: ignore[attr-defined]
    values = {name: getattr(params, name) for name in names}
    return ",".join(f"{name}={value}" for name, value in values.items() if value not in (None, False, ""))


def run_server(server: Server, pieces: list[bytes], *, tls: bool = True) -> Iterator[str]:
    """Feed pieces; give events as they come, to the end or a handshake. Answers are `answer_for`'s."""
    for piece in pieces:
        server.receive(piece)
        while not isinstance(event := server.next_event(), Need):
            yield tell_server(event)
            reply = answer_for(event)
            if reply is not None:
                server.answer(reply)
            if isinstance(event, StartTls) and tls:
                server.tls_started()
                return  # what else was sent in clear goes to the handshake


def statuses(data: bytes) -> list[str]:
    """Code and enhanced status of each reply in what a server wrote."""
    found = []
    for line in data.decode("utf-8").split("\r\n")[:-1]:
        if line[3:4] != "-":
            match = re.match(r"(\d{3})(?: (\d\.\d+\.\d+)\b)?", line)
            assert match, line
            found.append(" ".join(filter(None, match.groups())))
    return found


def play_server(dialogue: Dialogue, cut: Cut, trailing: bytes = b"") -> tuple[list[str], list[str], Server]:
    """(events, statuses) of our server in this dialogue. A StartTls ends a stream of bytes, as on a socket."""
    server = make_server(dialogue)
    server.greet()
    events: list[str] = []
    stream = b""
    for mark, text in [*dialogue.lines, (">", trailing)]:
        if mark == ">":
            stream += text
            if text.upper() == b"STARTTLS\r\n":
                events += run_server(server, cut(stream))
                stream = b""
    events += run_server(server, cut(stream))
    return events, statuses(server.data_to_send()), server


def expected_of_server(dialogue: Dialogue) -> tuple[list[str], list[str]]:
    events = [text.decode("utf-8") for mark, text in dialogue.lines if mark == "="]
    return events, statuses(b"".join(text for mark, text in dialogue.lines if mark == "<"))


# --- the client's side


def make_client(dialogue: Dialogue) -> Client:
    login = None
    if dialogue.option("login"):
        username, _, secret = dialogue.option("login").partition(":")
        login = Login(username, secret, dialogue.option("mechanism", "auto"))
    security = Security(dialogue.option("security", "none"))
    return Client(
        ClientOptions(
            helo="c.test", security=security, login=login, ahead="not_ahead" not in dialogue.options
        )
    )


def make_transaction(words: bytes, tag: object, *, streamed: bool) -> tuple[Transaction, bytes]:
    """ "sender recipient … : content", flags as "+8bit", "+utf8", "+size=N" among the recipients."""
    head, _, content_text = words.decode("utf-8").partition(" : ")
    sender, *rest = head.split()
    content = unescape(content_text)
    flags = [word for word in rest if word.startswith("+")]
    size = next((int(flag[6:]) for flag in flags if flag.startswith("+size=")), 0)
    recipients = tuple(Recipient(word) for word in rest if not word.startswith("+"))
    transaction = Transaction(
        tag,
        "" if sender == "<>" else sender,
        recipients,
        size=size,
        content=None if streamed else content,
        eight_bit="+8bit" in flags,
        smtputf8="+utf8" in flags,
    )
    return transaction, content


def tell_client(event: object) -> str:
    match event:
        case Done(transaction, results):
            verdicts = " ".join(result.verdict.value for result in results)
            return f"Done {transaction.tag} {verdicts}"
        case Refused(stage, _, reason):
            return f"Refused {stage.value} {reason.value}"
        case WantBody(transaction):
            return f"WantBody {transaction.tag}"
    return type(event).__name__


def play_client(dialogue: Dialogue, cut: Cut) -> tuple[list[str], Client]:
    """Events of our client in this dialogue; what it says is compared on the way."""
    cut = whole if "whole" in dialogue.options else cut
    client = make_client(dialogue)
    events: list[str] = []
    said = wanted = incoming = b""
    contents: dict[object, bytes] = {}
    count = 0

    def report(found: list[object]) -> None:
        nonlocal said
        for event in found:
            events.append(tell_client(event))
            if isinstance(event, StartTls):
                client.tls_started()
            if isinstance(event, WantBody):
                pieces = (whole if client.capabilities.chunking else cut)(
                    contents[event.transaction.tag]
                ) or [b""]
                for place, piece in enumerate(pieces, 1):
                    report(list(client.body(event.transaction, piece, last=place == len(pieces))))
        said += client.data_to_send()

    def hear() -> None:
        nonlocal incoming
        for piece in cut(incoming):
            report(list(client.receive(piece)))
        incoming = b""

    for mark, text in dialogue.lines:
        if mark == "<":
            assert said == wanted
            incoming += text
            continue
        hear()
        if mark == ">":
            wanted += text
        elif mark == "!":
            verb, _, rest = text.partition(b" ")
            if verb in (b"send", b"stream"):
                count += 1
                transaction, contents[count] = make_transaction(rest, count, streamed=verb == b"stream")
                report(list(client.send(transaction)))
            elif verb == b"quit":
                client.quit()
                report([])
            elif verb == b"eof":
                report(list(client.eof()))
    hear()
    assert said == wanted
    return events, client
