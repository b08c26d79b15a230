"""POST /api/v1/messages: what becomes of what an application asks for."""

from __future__ import annotations

import base64
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from .asking import key, mail


def content(people: SimpleNamespace, answer: Any) -> bytes:
    read = people.one.get(f"/messages/{answer.json()['id']}/content")
    assert read.status_code == 200, read.content
    return b"".join(read.streaming_content)


def fields_of(answer: Any) -> list[str]:
    return [error["field"] for error in answer.json()["errors"]]


def live(**values: Any) -> str:
    """Set a server, so that mail is queued and policy has something to say."""
    from smarthost.control.upstreams import services

    row = services.set_upstream("main", {"host": "mx.example.net"} | values, actor="test")
    return str(row["id"])


def test_it_answers_202_with_an_id_and_each_recipient_state(people: SimpleNamespace) -> None:
    live()
    answer = people.one.post("/messages", mail(cc=["Bob <bob@Example.ORG>"], bcc="carol@example.org"))
    assert answer.status_code == 202
    body = answer.json()
    assert len(body["id"]) == 26 and "captured" not in body
    assert body["recipients"] == [
        {"address": "ada@example.org", "state": "queued"},
        {"address": "bob@example.org", "state": "queued"},
        {"address": "carol@example.org", "state": "queued"},
    ]
    raw = content(people, answer)
    assert b"To: ada@example.org\r\n" in raw and b"carol" not in raw


def test_it_says_that_captured_mail_is_not_sent(people: SimpleNamespace) -> None:
    body = people.one.post("/messages", mail()).json()
    assert body["captured"] == "captured, not sent"
    assert body["recipients"][0]["state"] == "captured"


def test_it_takes_attachments_inline_images_and_headers(people: SimpleNamespace) -> None:
    picture = base64.b64encode(b"\x89PNG....").decode()
    answer = people.one.post(
        "/messages",
        mail(
            html='<p>Grüße <img src="cid:logo"></p>',
            attachments=[
                {"filename": "Bericht ä.txt", "content_type": "text/plain", "content": "aGk="},
                {
                    "filename": "l.png",
                    "content_type": "image/png",
                    "content": picture,
                    "inline": True,
                    "content_id": "logo",
                },
            ],
            headers={"X-Ticket": "42"},
            reply_to=["help@example.com"],
            priority="urgent",
        ),
    )
    assert answer.status_code == 202
    raw = content(people, answer)
    for part in (b"multipart/related", b"Content-ID: <logo>", b"X-Ticket: 42", b"Reply-To: help@example.com"):
        assert part in raw


def test_it_takes_a_form_with_files(people: SimpleNamespace) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    answer = people.one.client.post(
        "/api/v1/messages",
        {
            "from": "app@example.com",
            "to": ["ada@example.org", "bob@example.org"],
            "subject": "Form",
            "text": "Hi.",
            "headers[X-A]": "1",
            "file": SimpleUploadedFile("a.bin", b"\x00\x01", content_type="application/octet-stream"),
        },
        headers=people.one.headers,
    )
    assert answer.status_code == 202, answer.content
    assert len(answer.json()["recipients"]) == 2
    raw = content(people, answer)
    assert b'filename="a.bin"' in raw and base64.b64encode(b"\x00\x01") in raw and b"X-A: 1" in raw


def test_it_takes_a_whole_mime_message_as_it_is(people: SimpleNamespace) -> None:
    raw = b"From: app@example.com\r\nTo: ada@example.org\r\nSubject: raw\r\n\r\nBody \xc3\xa4\r\n"
    answer = people.one.post("/messages", {"raw": base64.b64encode(raw).decode()})
    assert answer.status_code == 202, answer.content
    assert answer.json()["recipients"] == [{"address": "ada@example.org", "state": "captured"}]
    assert content(people, answer) == raw


def test_a_whole_message_says_its_priority_time_and_key_unless_the_request_does(
    people: SimpleNamespace,
) -> None:
    def post(fields: bytes, **more: str) -> Any:
        raw = fields + b"\r\nFrom: app@example.com\r\nTo: ada@example.org\r\n\r\nBody\r\n"
        return people.one.post("/messages", {"raw": base64.b64encode(raw).decode()} | more)

    wish = b"X-Smarthost-Priority: urgent\r\nX-Smarthost-Send-At: 2000-01-01T00:00:00Z"
    for more, word in (({}, "urgent"), ({"priority": "normal"}, "normal")):
        found = people.one.get(f"/messages/{post(wish, **more).json()['id']}").json()
        assert (found["priority"], found["send_at"]) == (word, None)
    answer = post(b"X-Smarthost-Priority: fast")
    assert (answer.status_code, fields_of(answer)) == (422, ["X-Smarthost-Priority"])
    keyed = [post(b"X-Smarthost-Idempotency-Key: of-raw").json()["id"] for _ in range(2)]
    assert keyed[0] == keyed[1]
    assert post(b"X-Smarthost-Idempotency-Key: of-raw", priority="bulk").status_code == 409


def test_raw_with_parts_beside_it_is_refused(people: SimpleNamespace) -> None:
    answer = people.one.post("/messages", {"raw": "eA==", "subject": "x", "text": "y"})
    assert answer.status_code == 422
    assert fields_of(answer) == ["subject", "text"]


def test_it_is_all_or_nothing_and_names_every_bad_address(people: SimpleNamespace) -> None:
    answer = people.one.post("/messages", mail(to=["ok@example.org", "no@@x", "a b@c"], cc=["@"]))
    assert answer.status_code == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert fields_of(answer) == ["to.1", "to.2", "cc.0"]
    assert people.one.get("/messages").json()["rows"] == []


def test_policy_refusals_name_the_recipient_and_the_reason(people: SimpleNamespace) -> None:
    live(enabled=False)
    answer = people.one.post("/messages", mail(to=["a@example.org", "b@example.org"]))
    assert answer.status_code == 422
    assert answer.json()["detail"].count("switched off") == 1, "once, and not for each recipient"
    assert fields_of(answer) == ["to.0", "to.1"]
    assert people.one.get("/messages").json()["rows"] == []


def test_a_refusal_has_the_status_of_its_reason(people: SimpleNamespace) -> None:
    live(max_size=2000)
    answer = people.one.post("/messages", mail(to=["a@example.org", "b@example.org"], text="x" * 3000))
    assert (answer.status_code, answer.json()["slug"]) == (413, "message-too-large")
    assert answer.json()["status"] == 413
    assert fields_of(answer) == ["to.0", "to.1"]
    batch = people.one.post("/messages/batch", [mail(text="x" * 3000), mail()]).json()["results"]
    assert [entry["status"] for entry in batch] == [413, 202]


def test_without_any_from_it_says_so(people: SimpleNamespace) -> None:
    live()
    answer = people.one.post("/messages", mail(**{"from": None}))
    assert answer.status_code == 422
    assert "From address" in answer.json()["detail"]
    live(from_address="server@example.com")
    assert people.one.post("/messages", mail(**{"from": None})).status_code == 202


def test_a_missing_body_or_recipient_is_named(people: SimpleNamespace) -> None:
    assert fields_of(people.one.post("/messages", mail(text=None))) == ["text"]
    assert fields_of(people.one.post("/messages", mail(to=None))) == ["to"]


def test_unknown_fields_are_refused_by_name(people: SimpleNamespace) -> None:
    """SUB-07"""
    answer = people.one.post("/messages", mail(principal="user:1", is_admin=True, upstream="x"))
    assert answer.status_code == 422
    assert sorted(fields_of(answer)) == ["is_admin", "principal", "upstream"]
    # HDR-14: nothing that could become a parameter of MAIL is taken either
    assert people.one.post("/messages", mail(size="100\r\nRCPT TO:<x@evil.test>")).status_code == 422


def test_send_at_needs_a_zone_and_waits(people: SimpleNamespace) -> None:
    live()
    assert fields_of(people.one.post("/messages", mail(send_at="2027-01-31T08:00:00"))) == ["send_at"]
    assert fields_of(people.one.post("/messages", mail(send_at="2999-01-31T08:00:00Z"))) == ["send_at"]
    answer = people.one.post("/messages", mail(send_at="2027-01-31T08:00:00Z"))
    assert answer.status_code == 202
    shown = people.one.get(f"/messages/{answer.json()['id']}").json()
    assert shown["send_at"].startswith("2027-01-31T08:00:00")


# --- headers: HDR-* -----------------------------------------------------------------------------------------

EVIL = {
    "HDR-01": "hi\r\nBcc: x@evil.test",
    "HDR-02": "hi\nBcc: x@evil.test",
    "HDR-03": "hi\rBcc: x@evil.test",
    "HDR-05": "hi\u2028Bcc: x@evil.test\u0085X: y",
    "HDR-06": "hi\u760d\u760aBcc: x@evil.test",
    "HDR-09": "hi\x00Bcc: x@evil.test",
    "HDR-10": "hi\n Bcc: x@evil.test",
    "HDR-12": "=?UTF-8?Q?=0A?=Bcc: x@evil.test",
}


@pytest.mark.parametrize("case", EVIL)
@pytest.mark.parametrize("field", ["subject", "from", "reply_to", "header", "filename"])
def test_no_value_becomes_a_header_line(people: SimpleNamespace, case: str, field: str) -> None:
    evil = EVIL[case]
    body = {
        "subject": mail(subject=evil),
        "from": mail(**{"from": f"{evil} <app@example.com>"}),
        "reply_to": mail(reply_to=[f"{evil} <app@example.com>"]),
        "header": mail(headers={"X-A": evil}),
        "filename": mail(attachments=[{"filename": evil, "content": "aGk="}]),
    }[field]
    answer = people.one.post("/messages", body)
    if answer.status_code == 202:
        head = content(people, answer).partition(b"\r\n\r\n")[0]
        assert not any(line.lower().startswith((b"bcc:", b"x:")) for line in head.splitlines())
    else:
        assert answer.status_code in (400, 422)
        assert fields_of(answer)
    if case in ("HDR-01", "HDR-02", "HDR-03", "HDR-09"):
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "name",
    ["X-A: b\r\nBcc: x@evil.test\r\nX-C", "Bcc: x@evil.test, Y", "Bcc", "Content-Type", "X-Smarthost-Id", ""],
)
def test_header_names_are_checked(people: SimpleNamespace, name: str) -> None:
    """HDR-07, HDR-08"""
    assert people.one.post("/messages", mail(headers={name: "v"})).status_code in (400, 422)


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (mail(subject="a\nb"), "subject"),
        (mail(headers={"Received": "x"}), "headers.Received"),
        (
            mail(attachments=[{"filename": "a", "content": ""}, {"filename": "a\nb", "content": ""}]),
            "attachments.1.filename",
        ),
    ],
)
def test_what_cannot_be_written_is_named_by_its_place_in_the_request(
    people: SimpleNamespace, body: dict[str, Any], place: str
) -> None:
    assert fields_of(people.one.post("/messages", body)) == [place]


# --- bodies: DOS-* ------------------------------------------------------------------------------------------

BOMBS = {
    "surrogate": b'{"subject":"\\ud800","to":["a@good.test"]}',
    "duplicate": b'{"to":["a@good.test"],"to":["b@evil.test"],"text":"x"}',
    "nan": b'{"to":["a@good.test"],"text":"x","headers":NaN}',
    "deep": b'{"to":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "digits": b'{"to":' + b"9" * 1_000_000 + b"}",
    "latin-1": b'{"subject":"\xe4"}',
    "cut": b'{"to":["a@good.test"]',
    "two": b"{}{}",
}


@pytest.mark.parametrize("case", BOMBS)
def test_json_bombs_are_refused(people: SimpleNamespace, case: str) -> None:
    """DOS-09"""
    answer = people.one.post("/messages", raw=BOMBS[case])
    assert answer.status_code == 400
    assert answer.json()["slug"] == "json-invalid"


def test_a_body_over_the_limit_is_refused_before_it_is_read(people: SimpleNamespace) -> None:
    answer = people.one.post("/messages", raw=b"{}", CONTENT_LENGTH="100000000")
    assert answer.status_code == 413
    assert people.one.post("/messages", raw=b"{}", CONTENT_LENGTH="").status_code == 411
    assert people.one.post("/messages", raw=b"{}", content_type="text/plain").status_code == 415


def test_a_message_over_the_limit_is_refused(people: SimpleNamespace) -> None:
    from smarthost.control.directory.services import set_setting

    set_setting("limits.max_size", 4096, actor="test")
    answer = people.one.post("/messages", mail(text="x" * 5000))
    assert answer.status_code == 413
    assert answer.json()["slug"] == "message-too-large"


def test_a_hundred_thousand_recipients_are_refused(people: SimpleNamespace) -> None:
    """DOS-02"""
    from smarthost.control.directory.services import set_setting

    set_setting("limits.max_recipients", 1000, actor="test")
    answer = people.one.post("/messages", mail(to=[f"u{n}@example.org" for n in range(100_000)]))
    assert answer.status_code in (413, 422)
    assert (
        people.one.post("/messages", mail(to=[f"u{n}@example.org" for n in range(1000)])).status_code == 202
    )


# --- idempotency: SUB-08 --------------------------------------------------------------------------------------


def test_the_same_key_and_request_give_the_same_id(people: SimpleNamespace) -> None:
    once = key()
    first = people.one.post("/messages", mail(), idempotency_key=once)
    again = people.one.post("/messages", mail(), idempotency_key=once)
    assert first.status_code == again.status_code == 202
    assert first.json()["id"] == again.json()["id"] and again.json()["repeated"]
    other = people.one.post("/messages", mail(subject="Another"), idempotency_key=once)
    assert (other.status_code, other.json()["slug"]) == (409, "idempotency-conflict")
    foreign = people.two.post("/messages", mail(), idempotency_key=once)
    assert foreign.status_code == 202 and foreign.json()["id"] != first.json()["id"]


def test_twenty_at_once_make_one_message(people: SimpleNamespace) -> None:
    from django.db import connections

    once, answers = key(), []

    def ask() -> None:
        answers.append(people.one.post("/messages", mail(), idempotency_key=once))
        connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(people.one.get("/messages").json()["rows"]) == 1


def test_an_impossible_key_is_refused(people: SimpleNamespace) -> None:
    assert people.one.post("/messages", mail(), idempotency_key="x" * 256).status_code == 422


# --- batch ----------------------------------------------------------------------------------------------------


def test_a_batch_succeeds_or_fails_item_by_item(people: SimpleNamespace) -> None:
    answer = people.one.post(
        "/messages/batch", [mail(), mail(to=["no@@x"]), mail(nothing=1), mail(subject="b")]
    )
    results = answer.json()["results"]
    assert [result["status"] for result in results] == [202, 422, 422, 202]
    assert results[1]["errors"][0]["field"] == "to.0"
    assert results[2]["errors"][0]["field"] == "nothing"
    assert len(people.one.get("/messages").json()["rows"]) == 2


def test_a_batch_with_a_key_can_be_repeated(people: SimpleNamespace) -> None:
    once = key()
    first = people.one.post("/messages/batch", [mail(), mail(subject="b")], idempotency_key=once).json()
    again = people.one.post("/messages/batch", [mail(), mail(subject="b")], idempotency_key=once).json()
    assert [row["id"] for row in first["results"]] == [row["id"] for row in again["results"]]


@pytest.mark.parametrize("body", [[], {}, "x", [1] * 1001])
def test_a_batch_is_an_array_of_up_to_a_thousand(people: SimpleNamespace, body: Any) -> None:
    assert people.one.post("/messages/batch", raw=json.dumps(body).encode()).status_code == 422
