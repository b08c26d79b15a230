"""Peak memory of each process: idle, under load, 30 MB of three-byte lines, 500 slow clients."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from bench.installation import smarthost
from bench.table import Row
from peers.service import Service
from peers.sink import Sink, source


def run(folder: Path, scale: float) -> list[Row]:
    rows: list[Row] = []
    with Sink() as sink:
        with smarthost(folder / "idle", sink.port) as service:
            time.sleep(2)
            rows += _rows("idle", service)
        with smarthost(folder / "load", sink.port) as service:
            source(service.smtp, int(20_000 * scale), 20)
            rows += _rows("after 4 KiB messages over 20 sessions", service)
        with smarthost(folder / "lines", sink.port) as service:
            _three_byte_lines(service.smtp)
            rows += _rows("30 MB of three-byte lines", service)
        with smarthost(folder / "slow", sink.port) as service:
            _slow_clients(service.smtp, 500)
            rows += _rows("500 slow clients", service)
    return rows


def _rows(note: str, service: Service) -> list[Row]:
    return [Row("peak memory", role, size, "MiB", None, note) for role, size in service.memory().items()]


def _dialogue(connection: socket.socket, *commands: bytes) -> None:
    for command in commands:
        connection.sendall(command)
        time.sleep(0.02)
        connection.recv(4096)


_ENVELOPE = (b"EHLO x\r\n", b"MAIL FROM:<a@example.test>\r\n", b"RCPT TO:<b@example.net>\r\n", b"DATA\r\n")


def _three_byte_lines(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.recv(4096)
        _dialogue(connection, *_ENVELOPE)
        connection.sendall(b"Subject: lines\r\n\r\n")
        for _ in range(300):
            connection.sendall(b"a\r\n" * 33_333)
        connection.sendall(b".\r\n")
        answer = connection.recv(4096)
        if not answer.startswith(b"250"):
            raise RuntimeError(f"30 MB of lines: {answer!r}")


def _slow_clients(port: int, count: int) -> None:
    clients = []
    try:
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), timeout=30)
            clients.append(client)
            client.sendall(b"EHLO slow\r\nMAIL FROM:<a@example.test>\r\nRCPT TO:<b@exam")
        time.sleep(2)
    finally:
        for client in clients:
            client.close()
