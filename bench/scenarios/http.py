"""HTTP acceptance over kept connections: one message a request, and batches of 100."""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from typing import Any

from bench.installation import smarthost, token
from bench.table import Row
from peers.sink import Sink

THREADS = 8
MESSAGE = {"from": "bench@example.test", "to": ["sink@example.net"], "subject": "bench", "text": "x" * 4000}


def run(folder: Path, scale: float) -> list[Row]:
    with Sink() as sink, smarthost(folder, sink.port) as service:
        key = token(service)
        single = _rate(service.http, key, "/api/v1/messages", MESSAGE, int(4_000 * scale), 1)
        batch = _rate(service.http, key, "/api/v1/messages/batch", [MESSAGE] * 100, int(200 * scale), 100)
    return [
        Row(
            "HTTP accept",
            "one message a request",
            single,
            "messages/s",
            None,
            f"{THREADS} kept connections, 4 KiB",
        ),
        Row("HTTP accept", "batches of 100", batch, "messages/s", None, f"{THREADS} kept connections, 4 KiB"),
    ]


def _rate(port: int, key: str, path: str, body: Any, requests: int, each: int) -> float:
    share = max(1, requests // THREADS)
    payload = json.dumps(body).encode()
    failures: list[str] = []

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        for _ in range(share):
            connection.request("POST", path, payload, headers)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status not in (200, 202):
                failures.append(f"{answer.status} {text[:300]!r}")
                return
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{path}: {failures[0]}")
    return share * THREADS * each / (time.monotonic() - begun)
