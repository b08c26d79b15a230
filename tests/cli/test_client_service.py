"""The Python client and Django's backend against a real service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "clients" / "python" / "src"))

from django.core.mail import EmailMessage
from smarthost_client import (
    Client,
    ConflictError,
    Message,
    NotFoundError,
    RefusedError,
    SmarthostError,
    UnauthorizedError,
)
from smarthost_client.django import EmailBackend

from peers.service import Service

pytestmark = pytest.mark.usefixtures("django_alone")


@pytest.fixture(scope="module")
def token(service: Service) -> str:
    made: str = service.json("app", "add", "client", "--token")["token"]
    return made


@pytest.fixture
def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.http}"


def test_it_sends_reads_back_and_sends_once(url: str, token: str) -> None:
    with Client(url, token) as client:
        first = client.send(
            to=["a@example.com", "b@example.com"], sender="me@example.org", text="hi", idempotency_key="k"
        )
        again = client.send(
            to=["a@example.com", "b@example.com"], sender="me@example.org", text="hi", idempotency_key="k"
        )
        assert (again.id, again.repeated) == (first.id, True)
        with pytest.raises(ConflictError):
            client.send(to="a@example.com", text="other", idempotency_key="k")
        read = client.get(first.id)
    assert [(entry.address, entry.state) for entry in read.recipients] == [
        ("a@example.com", "captured"),
        ("b@example.com", "captured"),
    ]


def test_a_batch_is_accepted_one_by_one(url: str, token: str) -> None:
    with Client(url, token) as client:
        good, bad = client.batch(
            [Message("a@example.com", text="1", sender="me@example.org"), Message("a@b@c", text="2")]
        )
    assert getattr(good, "recipients")[0].state == "captured"  # noqa: B009
    assert isinstance(bad, RefusedError)
    assert "to.0" in bad.fields


def test_errors_say_which_field_and_which_credential(url: str, token: str) -> None:
    with Client(url, token) as client:
        with pytest.raises(RefusedError) as caught:
            client.send(to=["good@example.com", "bad@@example.com"], text="hi")
        assert list(caught.value.fields) == ["to.1"]
        with pytest.raises(NotFoundError):
            client.get("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    with Client(url, "sh_wrong") as stranger, pytest.raises(UnauthorizedError):
        stranger.send(to="a@example.com", text="hi")


def test_a_forwarded_mail_goes_along_as_an_attachment(service: Service, url: str, token: str) -> None:
    inner = EmailMessage("inner", "forwarded text", "x@example.org", ["y@example.com"])
    outer = EmailMessage("outer", "see below", "me@example.org", ["fwd@example.com"])
    outer.attach("mail.eml", inner, "message/rfc822")  # type: ignore[arg-type]
    assert EmailBackend(url=url, token=token).send_messages([outer]) == 1
    made: SmarthostError | object = outer.smarthost  # type: ignore[attr-defined]
    content = service.command("queue", "show", getattr(made, "id"), "--content").stdout  # noqa: B009
    assert "message/rfc822" in content
