"""One session over a link with 50 ms round-trip time: round trips and messages a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from bench.installation import smarthost
from bench.scenarios.relay import CLIENTS
from bench.table import Row
from peers import postfix
from peers.link import Link
from peers.sink import Sink, source
from peers.witness import Witness

RTT = 0.05


def _rows(subject: str, messages: int, seconds: float) -> list[Row]:
    return [
        Row("link, 50 ms", subject, messages / seconds, "messages/s", None, "one session"),
        Row(
            "link, 50 ms",
            subject,
            seconds / RTT / messages,
            "round trips/message",
            None,
            "elapsed ÷ RTT ÷ messages",
        ),
    ]


def run(folder: Path, scale: float) -> list[Row]:
    messages = max(60, int(400 * scale))
    rows: list[Row] = []
    with Sink() as sink, Link(sink.port, RTT) as link:
        for subject, send in CLIENTS.items():
            few = max(20, messages // 10)
            begun = time.monotonic()
            send(link.port, few)
            rows += _rows(subject, few, time.monotonic() - begun)
    with Sink() as sink, Link(sink.port, RTT) as link:
        rows += _relayed("smarthost, PIPELINING", folder / "a", link, sink.wait, messages)
    with Witness() as chunking, Link(chunking.port, RTT) as link:
        rows += _relayed("smarthost, PIPELINING and CHUNKING", folder / "b", link, chunking.wait, messages)
    if postfix.missing() is None:
        with (
            Sink() as sink,
            Link(sink.port, RTT) as link,
            postfix.Postfix(
                folder / "postfix",
                relayhost=f"[127.0.0.1]:{link.port}",
                main={
                    "relay_destination_concurrency_limit": "1",
                    "smtp_connection_cache_destinations": f"[127.0.0.1]:{link.port}",
                    "smtp_connection_reuse_time_limit": "300s",
                },
            ) as peer,
        ):
            few = max(20, messages // 10)
            source(peer.port, 10, 1)
            sink.wait(10, 60)
            begun = time.monotonic()
            source(peer.port, few, 1)
            rows += _rows("postfix, one kept session", few, sink.wait(10 + few, 120) - begun)
    return rows


def _relayed(
    subject: str, folder: Path, link: Link, wait: Callable[[int, float], float], messages: int
) -> list[Row]:
    with smarthost(folder, link.port, connections=1) as service:
        source(service.smtp, 10, 1)
        wait(10, 60)
        begun = time.monotonic()
        source(service.smtp, messages, 4)
        return _rows(subject, messages, wait(10 + messages, 300) - begun)
