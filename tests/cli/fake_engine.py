"""What stands at the sendmail socket in tests: it answers as told and remembers what it was given."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class FakeEngine:
    """`answers` by the first word of a command ("banner", "MAIL", "RCPT x@y", "BDAT"); else 250."""

    answers: dict[str, str] = field(default_factory=dict)
    hang_up_at: str = ""
    commands: list[str] = field(default_factory=list)
    content: bytes = b""

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, suppress(OSError):  # the program does not wait for the end
                self.dialogue(peer)

    def dialogue(self, peer: socket.socket) -> None:
        stream = peer.makefile("rwb")

        def say(text: str) -> None:
            stream.write(text.encode() + b"\r\n")
            stream.flush()

        with stream:
            say(self.answers.get("banner", "220 fake"))
            for raw in stream:
                line = raw.decode().rstrip("\r\n")
                self.commands.append(line)
                word = line.partition(" ")[0].upper()
                if word == self.hang_up_at:
                    return
                if word == "BDAT":
                    self.content = stream.read(int(line.split()[1]))
                path = line.partition("<")[2].partition(">")[0]
                default = "250-fake\r\n250 CHUNKING" if word == "EHLO" else "250 2.0.0 OK"
                say(self.answers.get(f"{word} {path}") or self.answers.get(word) or default)
                if word == "QUIT":
                    return


@contextmanager
def fake_engine(data: Path, **options: object) -> Iterator[FakeEngine]:
    """Serve `<data>/sendmail.sock`."""
    engine = FakeEngine(**options)  # type: ignore[arg-type]
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "sendmail.sock"))
        listener.listen()
        (data / "sendmail.sock").chmod(0o666)
        thread = threading.Thread(target=engine.serve, args=(listener,))
        thread.start()
        try:
            yield engine
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            (data / "sendmail.sock").unlink()
