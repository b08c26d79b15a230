"""Durable relay of 4 KiB messages: source → relay → sink, until the last one is in the sink."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable
from pathlib import Path

from bench.installation import postgresql, smarthost
from bench.table import Row
from peers import postfix
from peers.sink import Sink, source

SESSIONS = (1, 20, 100)
SIZE = 4096


def through(port: int, sink: Sink, messages: int, sessions: int) -> float:
    """Messages a second, end to end, after a short warm-up."""
    before = sink.count
    source(port, 200, min(sessions, 20), SIZE)
    sink.wait(before + 200, 60)
    begun = time.monotonic()
    source(port, messages, sessions, SIZE)
    return messages / (sink.wait(before + 200 + messages, 300) - begun)


def rates(name: str, port: int, sink: Sink, messages: int) -> dict[int, float]:
    """The best of two runs for each session count."""
    found = {}
    for sessions in SESSIONS:
        count = messages if sessions > 1 else messages // 3
        found[sessions] = max(through(port, sink, max(300, count), sessions) for _ in range(2))
    return found


def run(folder: Path, scale: float) -> list[Row]:
    measured: dict[str, dict[int, float]] = {}
    if postfix.missing() is None:
        with (
            Sink() as sink,
            postfix.Postfix(folder / "postfix", relayhost=f"[127.0.0.1]:{sink.port}") as peer,
        ):
            measured["postfix"] = rates("postfix", peer.port, sink, int(5_000 * scale))
    with Sink() as sink, smarthost(folder / "sqlite", sink.port) as service:
        measured["smarthost, SQLite"] = rates("sqlite", service.smtp, sink, int(30_000 * scale))
    with (
        postgresql() as url,
        Sink() as sink,
        smarthost(folder / "postgresql", sink.port, database_url=url) as service,
    ):
        measured["smarthost, PostgreSQL"] = rates("postgresql", service.smtp, sink, int(30_000 * scale))
    best = max(measured["postfix"].values()) if "postfix" in measured else None
    rows = [
        Row(
            f"relay, {sessions} sessions",
            subject,
            figures[sessions],
            "messages/s",
            figures[sessions] / best if best and subject != "postfix" else None,
            "against Postfix at its best session count" if subject != "postfix" else "",
        )
        for sessions in SESSIONS
        for subject, figures in measured.items()
    ]
    with Sink() as sink:
        rows.append(
            Row(
                "source to sink",
                "smtp-source alone",
                through(sink.port, sink, int(30_000 * scale), 20),
                "messages/s",
            )
        )
        for subject, send in CLIENTS.items():
            messages = max(50, int(1_000 * scale))
            begun = time.monotonic()
            send(sink.port, messages)
            rows.append(
                Row(
                    "client to sink",
                    subject,
                    messages / (time.monotonic() - begun),
                    "messages/s",
                    None,
                    "not durable",
                )
            )
    return rows


BODY = "Subject: bench\r\n\r\n" + ("x" * 78 + "\r\n") * (SIZE // 80)


def send_smtplib(port: int, messages: int) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        for _ in range(messages):
            client.sendmail("bench@example.test", ["sink@example.net"], BODY)


def send_aiosmtplib(port: int, messages: int) -> None:
    import asyncio

    import aiosmtplib

    async def send() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
            for _ in range(messages):
                await client.sendmail("bench@example.test", ["sink@example.net"], BODY)

    asyncio.run(send())


CLIENTS: dict[str, Callable[[int, int], None]] = {
    "smtplib, kept session": send_smtplib,
    "aiosmtplib, kept session": send_aiosmtplib,
}
