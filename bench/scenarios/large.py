"""Small mail while 25 MB mails go through: what the large ones cost the small ones."""

from __future__ import annotations

import smtplib
import statistics
import threading
import time
from pathlib import Path

from bench.installation import smarthost
from bench.table import Row
from peers.sink import Sink

LARGE = 25 * 1024 * 1024


def run(folder: Path, scale: float) -> list[Row]:
    samples = max(50, int(500 * scale))
    with Sink() as sink, smarthost(folder, sink.port) as service:
        alone = _small(service.smtp, samples)
        stop = threading.Event()
        sent: list[int] = []
        thread = threading.Thread(target=_large, args=(service.smtp, stop, sent))
        begun = time.monotonic()
        thread.start()
        beside = _small(service.smtp, samples)
        while not sent:
            time.sleep(0.05)
        stop.set()
        thread.join()
        seconds = time.monotonic() - begun
        peak = service.memory().get("engine", 0.0)
    note = f"{len(sent)} mails of 25 MB meanwhile, {len(sent) * 25 / seconds:.0f} MB/s"
    return [
        Row("small beside large", "p50 of acceptance, alone", statistics.median(alone) * 1000, "ms"),
        Row(
            "small beside large",
            "p50 of acceptance, beside 25 MB mails",
            statistics.median(beside) * 1000,
            "ms",
            statistics.median(beside) / statistics.median(alone),
            note,
        ),
        Row(
            "small beside large",
            "p99 of acceptance, beside 25 MB mails",
            sorted(beside)[-max(1, len(beside) // 100)] * 1000,
            "ms",
        ),
        Row("small beside large", "peak memory of the engine", peak, "MiB"),
    ]


def _small(port: int, samples: int) -> list[float]:
    delays = []
    body = "Subject: small\r\n\r\n" + ("x" * 78 + "\r\n") * 40
    with smtplib.SMTP("127.0.0.1", port) as client:
        for _ in range(samples):
            begun = time.monotonic()
            client.sendmail("bench@example.test", ["small@example.net"], body)
            delays.append(time.monotonic() - begun)
    return delays


def _large(port: int, stop: threading.Event, sent: list[int]) -> None:
    body = b"Subject: large\r\n\r\n" + (b"y" * 76 + b"\r\n") * (LARGE // 78)
    while not stop.is_set():
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("bench@example.test", ["large@example.net"], body)
        sent.append(1)
