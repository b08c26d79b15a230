"""Clients that send until told to stop and remember exactly what they were promised.

Each message has one or more recipients of its own (`m<number>-<k>@sink.example`) and a random body. A
message counts as acknowledged when "250" to the end of data was read, and not before.
"""

from __future__ import annotations

import random
import smtplib
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from peers.witness import body_hash


@dataclass
class Promise:
    """What one client asked for. `acknowledged` is the time of the yes, None where it never came."""

    recipients: tuple[str, ...]
    body: str
    acknowledged: float | None = None


@dataclass
class Load:
    """`clients` threads against `port`; `promises` is what they asked for, acknowledged or not."""

    port: int
    seed: int
    clients: int = 6
    recipients: int = 3
    largest: int = 20_000
    pause: float = 0.0
    promises: list[Promise] = field(default_factory=list)
    first: int = 1

    def __enter__(self) -> Load:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._number = self.first - 1
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(self.seed * 1000 + n),), daemon=True)
            for n in range(self.clients)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def acknowledged(self) -> int:
        return sum(promise.acknowledged is not None for promise in self.promises)

    def _work(self, chance: random.Random) -> None:
        client: smtplib.SMTP | None = None
        while not self._stop.is_set():
            try:
                if client is None:
                    client = smtplib.SMTP("127.0.0.1", self.port, timeout=20)
                    client.ehlo("load.example")
                self._send(client, chance)
            except (OSError, smtplib.SMTPException):
                if client is not None:
                    client.close()
                client = None
                time.sleep(0.05)
            if self.pause:
                time.sleep(self.pause)
        if client is not None:
            try:
                client.quit()
            except (OSError, smtplib.SMTPException):
                client.close()

    def _send(self, client: smtplib.SMTP, chance: random.Random) -> None:
        with self._lock:
            self._number += 1
            number = self._number
        recipients = tuple(f"m{number}-{k}@sink.example" for k in range(chance.randint(1, self.recipients)))
        content = _content(number, chance, self.largest)
        promise = Promise(recipients, body_hash(content))
        self.promises.append(promise)
        code, text = client.mail("load@example.test")
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
        for recipient in recipients:
            code, text = client.rcpt(recipient)
            if code not in (250, 251):
                raise smtplib.SMTPResponseException(code, text)
        code, text = client.data(content)
        if code != 250:
            raise smtplib.SMTPResponseException(code, text)
        promise.acknowledged = time.monotonic()


def _content(number: int, chance: random.Random, largest: int) -> bytes:
    """A message whose body has dots, empty lines and any octets but CR and LF within lines."""
    lines = [b"Subject: m%d" % number, b"From: load@example.test", b""]
    size = chance.choice((200, 2_000, largest))
    while size > 0:
        kind = chance.random()
        if kind < 0.1:
            line = b"." * chance.randint(1, 3)
        elif kind < 0.15:
            line = b""
        else:
            line = bytes(chance.choice(b" .abcdefghij\xc3\xa4") for _ in range(chance.randint(1, 100)))
        lines.append(line)
        size -= len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"
