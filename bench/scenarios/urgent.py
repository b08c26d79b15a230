"""Urgent mail with an empty queue, and while 100,000 bulk messages wait behind a slow upstream."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path

from bench.installation import smarthost, token
from bench.table import Row
from peers.service import Service
from peers.witness import Manner, Witness

PAUSE = 0.02  # seconds the upstream takes for each message: the backlog then outlives the measurement
SAMPLES = 200


def run(folder: Path, scale: float) -> list[Row]:
    backlog = int(100_000 * scale)
    samples = max(40, int(SAMPLES * scale))
    with Witness(Manner(pause=PAUSE)) as sink, smarthost(folder, sink.port) as service:
        key = token(service)
        _urgent(service, sink, key, 20, "warm")
        idle = _urgent(service, sink, key, samples, "idle")
        _fill(service, key, backlog)
        busy = _urgent(service, sink, key, samples, "busy")
        left = service.counts().get("queued", 0)
    rows = []
    for note, delays, base in (
        ("queue empty", idle, None),
        (f"{left:,} bulk still waiting at the end", busy, idle),
    ):
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            value = _quantile(delays, share)
            ratio = value / _quantile(base, share) if base else None
            rows.append(Row("urgent mail", name, value * 1000, "ms", ratio, note + "; upstream takes 20 ms"))
    return rows


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _post(connection: http.client.HTTPConnection, key: str, path: str, body: object) -> None:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", path, json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status not in (200, 202):
        raise RuntimeError(f"{path}: {answer.status} {text[:300]!r}")


def _message(recipient: str, priority: str) -> dict[str, object]:
    return {
        "from": "bench@example.test",
        "to": [recipient],
        "subject": "bench",
        "text": "x" * 1000,
        "priority": priority,
    }


def _fill(service: Service, key: str, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.http, timeout=120)
    for _ in range(count // 1000):
        _post(
            connection,
            key,
            "/api/v1/messages/batch",
            [_message("bulk@example.net", "bulk")] * 1000,
        )
    connection.close()


def _urgent(service: Service, sink: Witness, key: str, samples: int, name: str) -> list[float]:
    """Seconds from asking to the upstream's acceptance, one message after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", service.http, timeout=60)
    asked = {}
    for number in range(samples):
        recipient = f"{name}-{number}@example.net"
        asked[recipient] = time.monotonic()
        _post(connection, key, "/api/v1/messages", _message(recipient, "urgent"))
        time.sleep(0.05)
    connection.close()
    deadline = time.monotonic() + 60
    while True:
        arrived = {note.recipient: note.at for note in sink.notes() if note.recipient in asked}
        if len(arrived) == len(asked):
            return [arrived[recipient] - at for recipient, at in asked.items()]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(arrived)} of {len(asked)} urgent messages arrived")
        time.sleep(0.2)
