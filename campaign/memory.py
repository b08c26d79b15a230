"""Peers that try to use up memory: 30 MB of three-byte lines, 100,000 RCPT, 500 slow clients, endless replies."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from campaign.installation import admit_loopback, installation
from campaign.score import Score
from peers.ports import free_port
from peers.service import Service
from peers.witness import Witness

MESSAGE_LIMIT_MIB = 50.0


def run(folder: Path, seed: int, *, long: bool = False, planted: str = "") -> list[Score]:
    """Peak memory of the engine may grow by twice the message limit at most, in every case."""
    score = Score("memory under attack", "sqlite")
    with Witness(seed=seed) as witness, installation(folder / "in", witness.port, None) as service:
        admit_loopback(service)
        idle = service.memory()["engine"]
        score.note = f"engine idle {idle:.0f} MiB"
        for name, attack in ATTACKS.items():
            attack(service.smtp)
            _within(name, service, idle, score)
    port = free_port()
    with _Endless(port), installation(folder / "out", port, None) as service:
        admit_loopback(service)
        idle = service.memory()["engine"]
        _exchange(service.smtp, [*_ENVELOPE, b"Subject: x\r\n\r\nx\r\n.\r\n"])
        time.sleep(5)
        _within("endless replies of the upstream", service, idle, score)
    return [score]


def _within(name: str, service: Service, idle: float, score: Score) -> None:
    score.cases += 1
    peak = service.memory()["engine"]
    score.note += f"; after {name} {peak:.0f}"
    if peak > idle + 2 * MESSAGE_LIMIT_MIB:
        score.faults.append(f"{name}: {peak:.0f} MiB, idle {idle:.0f}")


_ENVELOPE = [
    b"EHLO x\r\n",
    b"MAIL FROM:<load@example.test>\r\n",
    b"RCPT TO:<b@sink.example>\r\n",
    b"DATA\r\n",
]


def _exchange(port: int, commands: list[bytes]) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        answer = connection.recv(4096)
        for command in commands:
            connection.sendall(command)
            answer = connection.recv(65536)
    return answer


def three_byte_lines(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.recv(4096)
        for command in _ENVELOPE:
            connection.sendall(command)
            connection.recv(4096)
        connection.sendall(b"Subject: lines\r\n\r\n")
        for _ in range(300):
            connection.sendall(b"a\r\n" * 33_333)
        connection.sendall(b".\r\n")
        connection.recv(4096)


def many_recipients(port: int) -> None:
    """Until the server hangs up or all were refused or taken."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.recv(4096)
        for command in _ENVELOPE[:2]:
            connection.sendall(command)
            connection.recv(4096)

        def read() -> None:
            try:
                while connection.recv(65536):
                    pass
            except OSError:
                pass

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            for block in range(100):
                connection.sendall(
                    b"".join(b"RCPT TO:<r%d-%d@sink.example>\r\n" % (block, n) for n in range(1000))
                )
            connection.sendall(b"QUIT\r\n")
        except OSError:
            pass
        reader.join(30)


def slow_clients(port: int) -> None:
    clients = []
    try:
        for _ in range(500):
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            clients.append(client)
            try:
                client.sendall(b"EHLO slow\r\nMAIL FROM:<load@example.test>\r\nRCPT TO:<b@si")
            except OSError:
                pass  # refused: as good
        time.sleep(2)
    finally:
        for client in clients:
            client.close()


ATTACKS = {
    "three-byte lines": three_byte_lines,
    "100,000 RCPT": many_recipients,
    "500 slow clients": slow_clients,
}


class _Endless:
    """An upstream whose greeting never ends."""

    def __init__(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._stop = threading.Event()

    def __enter__(self) -> None:
        self._listener.settimeout(0.2)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            with client:
                try:
                    while not self._stop.is_set():
                        client.sendall(b"220-endless\r\n" * 1000)
                except OSError:
                    pass
