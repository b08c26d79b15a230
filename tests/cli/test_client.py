"""The Python client: what it sends, what it repeats, and how it says what went wrong."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "clients" / "python" / "src"))

import smarthost_client._client as client_module
from smarthost_client import (
    Attachment,
    Client,
    ConflictError,
    Message,
    NotFoundError,
    RefusedError,
    SmarthostError,
    UnauthorizedError,
    UnavailableError,
)


@dataclass
class Server:
    """Answers as told: (status, body, headers) in turn; the last one again and again. "drop" hangs up."""

    answers: list[Any]
    url: str = ""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server(
        [(202, {"id": "01A", "recipients": [{"recipient": "a@example.com", "state": "queued"}]}, {})]
    )

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            told.requests.append((self.path, dict(self.headers), json.loads(raw) if raw else None))
            answer = told.answers.pop(0) if len(told.answers) > 1 else told.answers[0]
            if answer == "drop":
                self.close_connection = True
                return
            status, body, headers = answer
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = False
        block_on_close = False

    with Quiet(("127.0.0.1", 0), Handler) as http:
        told.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between tries are noted, not waited for."""
    noted: list[float] = []
    monkeypatch.setattr(client_module.time, "sleep", noted.append)
    return noted


def test_it_sends_every_field_and_leaves_out_what_is_empty(server: Server) -> None:
    with Client(server.url, "sh_secret") as client:
        sent = client.send(
            sender="Ann <ann@example.org>",
            to="a@example.com",
            cc=["c@example.com"],
            bcc=["b@example.com"],
            reply_to=["r@example.org"],
            subject="Grüße",
            text="hi",
            html="<p>hi</p>",
            headers={"X-A": "1"},
            attachments=[
                Attachment("a.txt", b"\0\xff", "text/plain"),
                Attachment("i.png", b"x", content_id="i"),
            ],
            priority="urgent",
        )
    assert (sent.id, sent.recipients[0].state) == ("01A", "queued")
    path, headers, body = server.requests[0]
    assert path == "/api/v1/messages"
    assert headers["Authorization"] == "Bearer sh_secret"
    assert len(headers["Idempotency-Key"]) >= 32
    assert body == {
        "from": "Ann <ann@example.org>",
        "to": ["a@example.com"],
        "cc": ["c@example.com"],
        "bcc": ["b@example.com"],
        "reply_to": ["r@example.org"],
        "subject": "Grüße",
        "text": "hi",
        "html": "<p>hi</p>",
        "headers": {"X-A": "1"},
        "attachments": [
            {"filename": "a.txt", "content_type": "text/plain", "content": "AP8="},
            {"filename": "i.png", "content_type": "image/png", "content": "eA==", "content_id": "i"},
        ],
        "priority": "urgent",
    }


@pytest.mark.parametrize(
    "trouble", ["drop", (503, {"detail": "full"}, {}), (429, {}, {"Retry-After": "2"}), (502, b"<html>", {})]
)
def test_it_repeats_what_has_no_outcome_with_the_same_key(
    server: Server, pauses: list[float], trouble: Any
) -> None:
    server.answers[:0] = [trouble, trouble]
    with Client(server.url, "t") as client:
        assert client.send(to="a@example.com", text="hi").id == "01A"
    keys = {headers["Idempotency-Key"] for _, headers, _ in server.requests}
    assert (len(server.requests), len(keys)) == (3, 1)
    assert len(pauses) == 2
    assert all(pause > 0 for pause in pauses)
    if trouble[0] == 429:
        assert min(pauses) >= 2


def test_it_gives_up_in_the_end_and_says_so(server: Server, pauses: list[float]) -> None:
    server.answers[:] = [(503, {"detail": "The disk is full", "slug": "store-full"}, {})]
    with (
        Client(server.url, "t", retries=2) as client,
        pytest.raises(UnavailableError, match="disk is full") as caught,
    ):
        client.send(to="a@example.com", text="hi")
    assert (caught.value.status, caught.value.slug) == (503, "store-full")
    assert len(server.requests) == 3


def test_it_does_not_wait_for_a_time_that_is_far_away(server: Server, pauses: list[float]) -> None:
    server.answers[:] = [(429, {"detail": "Daily cap"}, {"Retry-After": "40000"})]
    with Client(server.url, "t") as client, pytest.raises(UnavailableError, match="Daily cap"):
        client.send(to="a@example.com", text="hi")
    assert pauses == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, UnauthorizedError),
        (403, UnauthorizedError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, RefusedError),
    ],
)
def test_it_repeats_nothing_that_was_decided(server: Server, status: int, kind: type[SmarthostError]) -> None:
    problem = {
        "title": "No",
        "detail": "It cannot be",
        "slug": "some-slug",
        "errors": [{"field": "to.0", "message": "not an address"}],
    }
    server.answers[:] = [(status, problem, {})]
    with Client(server.url, "t") as client, pytest.raises(kind) as caught:
        client.send(to="a", text="hi")
    assert caught.value.fields == {"to.0": "not an address"}
    assert caught.value.slug == "some-slug"
    assert "It cannot be" in str(caught.value)
    assert len(server.requests) == 1


def test_it_follows_no_redirect_that_would_carry_the_token_away(server: Server) -> None:
    server.answers[:] = [(307, b"", {"Location": "http://evil.example/"})]
    with Client(server.url, "t") as client, pytest.raises(SmarthostError, match="redirect"):
        client.send(to="a@example.com", text="hi")


def test_a_batch_gives_one_result_for_each(server: Server) -> None:
    results = [{"id": "01A"}, {"status": 422, "detail": "No such domain", "slug": "refused"}]
    server.answers[:] = [(200, {"results": results}, {})]
    with Client(server.url, "t") as client:
        first, second = client.batch([Message("a@example.com", text="1"), Message("b@example.com", text="2")])
    assert first.id == "01A"  # type: ignore[union-attr]
    assert isinstance(second, RefusedError)
    assert [message["text"] for message in server.requests[0][2]] == ["1", "2"]


def test_it_reads_a_message_back_and_keeps_its_connection(server: Server) -> None:
    with Client(server.url + "/mail/", "t") as client:
        assert client.get("01A/../x").recipients[0].address == "a@example.com"
        assert client.get("01A").id == "01A"
    assert [path for path, _, _ in server.requests] == [
        "/mail/api/v1/messages/01A%2F..%2Fx",
        "/mail/api/v1/messages/01A",
    ]


@pytest.mark.parametrize(
    ("url", "token"), [("mail.example.com", "t"), ("ftp://x", "t"), ("http://x", ""), ("http://x", "a\nb")]
)
def test_it_refuses_settings_that_cannot_be(url: str, token: str) -> None:
    with pytest.raises(ValueError, match=r"address|token"):
        Client(url, token)


def test_neither_repr_nor_errors_show_the_token(server: Server) -> None:
    server.answers[:] = ["drop"]
    with Client(server.url, "sh_very_secret", retries=0) as client:
        with pytest.raises(UnavailableError) as caught:
            client.send(to="a@example.com", text="hi")
        assert "sh_very_secret" not in f"{client!r} {caught.value!r} {caught.value}"
