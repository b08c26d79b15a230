"""The bugs that the reliability campaign plants here really are bugs: each is seen at once.

`smarthost.smtp` imports nothing of ours, so the campaign sets these private switches from outside.
"""

from __future__ import annotations

import pytest

from smarthost.smtp import (
    Client,
    ClientOptions,
    Done,
    Recipient,
    Security,
    Transaction,
    Verdict,
    _data,
    _pipeline,
)


def ready() -> Client:
    client = Client(ClientOptions("c.test", Security.NONE))
    client.receive(b"220 s\r\n")
    client.data_to_send()
    client.receive(b"250-s\r\n250 PIPELINING\r\n")
    people = (Recipient("x@y.test"), Recipient("no@y.test"))
    client.send(Transaction(1, "a@b.test", people, content=b".\r\nHi\r\n"))
    client.data_to_send()
    return client


def outcome() -> tuple[bytes, list[Verdict]]:
    client = ready()
    client.receive(b"250 Ok\r\n250 Ok\r\n550 No\r\n354 Go\r\n")
    content = client.data_to_send()
    (done,) = client.receive(b"250 Ok\r\n")
    assert isinstance(done, Done)
    return content, [result.verdict for result in done.results]


def test_without_them_all_is_well() -> None:
    assert outcome() == (b"..\r\nHi\r\n.\r\n", [Verdict.ACCEPTED, Verdict.PERMANENT])


def test_no_dot_stuffing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_data, "_plant_no_dot_stuffing", True)
    assert outcome()[0] == b".\r\nHi\r\n.\r\n"


def test_reply_desync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "_plant_reply_desync", True)
    assert outcome()[1] == [Verdict.PERMANENT, Verdict.ACCEPTED]
