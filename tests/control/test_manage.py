"""Servers and applications: what can be set, what is refused, what is never shown."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest

from .asking import mail

CANARY = "C4nary-p@ss-7f3e"
SERVER = {"host": "mx.example.net", "port": 2587, "username": "hub", "password": CANARY}


def test_a_server_is_set_and_shown(people: SimpleNamespace) -> None:
    answer = people.admin.put(
        "/upstreams/main", SERVER | {"host": "MX.Example.NET.", "from_address": "a@Example.COM"}
    )
    assert answer.status_code == 200, answer.content
    shown = people.admin.get("/upstreams/main").json()
    assert (shown["host"], shown["port"], shown["from_address"]) == ("mx.example.net", 2587, "a@example.com")
    assert shown["default"] and shown["has_password"] and "password" not in shown
    assert people.admin.delete("/upstreams/main").status_code == 204
    assert people.admin.get("/upstreams/main").status_code == 404


def test_the_canary_password_appears_nowhere(
    people: SimpleNamespace, capfd: pytest.CaptureFixture[str]
) -> None:
    """CRED-04"""
    assert people.admin.put("/upstreams/main", SERVER).status_code == 200
    bad = people.admin.put("/upstreams/main", SERVER | {"port": "no", "password": CANARY})
    moved = people.admin.put("/upstreams/main", {"host": "evil.test"})
    odd = people.admin.put("/upstreams/main", {"passwort": CANARY})
    plain = [CANARY, CANARY[::-1], quote(CANARY), base64.b64encode(f"\0hub\0{CANARY}".encode()).decode()]
    plain.append(base64.b64encode(CANARY.encode()).decode().rstrip("="))
    said = "".join(answer.content.decode() for answer in (bad, moved, odd))
    for path in (
        "/upstreams",
        "/upstreams/main",
        "/events",
        "/counts",
        "/messages",
        "/applications",
        "/openapi.json",
    ):
        said += people.admin.get(path).content.decode()
    for path in ("/metrics", "/readyz", "/", "/api/docs"):
        said += people.admin.client.get(path).content.decode()
    out = capfd.readouterr()
    said += out.out + out.err
    assert not [form for form in plain if form in said]
    assert "hub" in said


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.test"},
        {"port": 2588},
        {"encryption": "tls"},
        {"verify": False},
        {"username": "x"},
        {"mechanism": "plain"},
    ],
)
def test_a_stored_password_stays_with_its_destination(
    people: SimpleNamespace, change: dict[str, Any]
) -> None:
    people.admin.put("/upstreams/main", SERVER)
    answer = people.admin.put("/upstreams/main", change)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["password"]
    assert people.admin.put("/upstreams/main", change | {"password": "new"}).status_code == 200


def test_what_does_not_move_it_keeps_it(people: SimpleNamespace) -> None:
    from smarthost.control.directory.reading import current
    from smarthost.control.upstreams.services import find, open_secret

    people.admin.put("/upstreams/main", SERVER)
    assert people.admin.put("/upstreams/main", {"from_name": "Hub", "connections": 3}).status_code == 200
    assert open_secret(find("main"), "password") == CANARY
    (row,) = current().directory.upstreams.values()
    assert (row.from_name, row.version) == ("Hub", 2)
    assert row.password and CANARY not in row.password


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"username": "u"}, "password"),
        ({"password": "p"}, "username"),
        ({"mechanism": "plain"}, "auth"),
        ({"mechanism": "none", "username": "u", "password": "p"}, "mechanism"),
        ({"mechanism": "gssapi"}, "mechanism"),
        ({"port": 0}, "port"),
        ({"port": 70000}, "port"),
        ({"connections": 0}, "connections"),
        ({"host": ""}, "host"),
        ({"host": "a b"}, "host"),
        ({"host": "https://mx.example.net/"}, "host"),
        ({"helo": "hub.test\r\nMAIL FROM:<x@evil.test>"}, "helo"),  # HDR-13
        ({"username": "user\x00evil\r\nMAIL FROM:<x>", "password": "p"}, "username"),  # HDR-16
        ({"username": "u", "password": "p\r\nQUIT"}, "password"),
        ({"username": "u", "password": "x" * 10_000}, "password"),
        ({"from_address": "a@b\r\nBcc: c@d"}, "from_address"),
        ({"from_name": "x\r\nBcc: c@d"}, "from_name"),
        ({"ca_pem": "not a certificate"}, "ca_pem"),
        ({"client_key": "not a key"}, "client_key"),
        ({"pin": "abc"}, "pin"),
    ],
)
def test_what_cannot_be_used_is_refused_by_field(
    people: SimpleNamespace, values: dict[str, Any], field: str
) -> None:
    answer = people.admin.put("/upstreams/main", {"host": "mx.example.net"} | values)
    assert answer.status_code in (400, 422), answer.content
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert people.admin.get("/upstreams").json()["rows"] == []


def test_unknown_fields_are_refused(people: SimpleNamespace) -> None:
    """SUB-07"""
    answer = people.admin.put(
        "/upstreams/main", {"host": "h.example", "owner": "user:1", "kind": "personal", "id": "x"}
    )
    assert answer.status_code == 422
    assert sorted(error["field"] for error in answer.json()["errors"]) == ["id", "kind", "owner"]
    assert people.admin.post("/applications", {"name": "x", "hash": "0"}).status_code == 422


def test_the_first_server_ends_capture_and_only_an_administrator_enters_it_again(
    people: SimpleNamespace,
) -> None:
    from smarthost.control.upstreams import services

    assert people.admin.get("/upstreams").json()["mode"] == "capture"
    people.admin.put("/upstreams/main", {"host": "mx.example.net"})
    assert people.admin.get("/upstreams").json()["mode"] == "live"
    assert people.one.post("/messages", mail()).json()["recipients"][0]["state"] == "queued"
    services.set_mode("capture", actor="test")
    people.admin.put("/upstreams/main", {"port": 25})
    assert people.admin.get("/upstreams").json()["mode"] == "capture"
    assert people.one.post("/messages", mail()).json()["recipients"][0]["state"] == "captured"


def test_without_a_server_mail_is_refused_with_what_to_do(people: SimpleNamespace) -> None:
    people.admin.put("/upstreams/main", {"host": "mx.example.net"})
    people.admin.delete("/upstreams/main")
    answer = people.one.post("/messages", mail())
    assert answer.status_code == 422 and answer.json()["slug"]


def test_every_change_is_an_event_with_who_and_what(people: SimpleNamespace) -> None:
    people.admin.put("/upstreams/main", SERVER)
    people.admin.put("/upstreams/main", {"connections": 3})
    rows = people.admin.get("/events?kind=config.changed&limit=500").json()["rows"]
    row = next(row for row in reversed(rows) if "main was changed" in row["text"])
    assert row["actor"] == people.owner.id
    assert row["data"]["changes"] == {"connections": {"from": 8, "to": 3}}
    made = next(row for row in rows if "main was added" in row["text"])
    assert made["data"]["changes"]["password"] == {"from": "", "to": "changed"}


def test_a_change_that_fails_leaves_nothing(people: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from smarthost import faults
    from smarthost.control.directory.reading import current

    before = current().directory.version
    monkeypatch.setattr(faults, "point", lambda name: 1 / 0 if name == "during-config" else None)
    assert people.admin.put("/upstreams/main", SERVER).status_code == 500
    monkeypatch.undo()
    assert current().directory.version == before
    assert people.admin.get("/upstreams").json()["rows"] == []


def test_an_application_shows_its_secrets_once(people: SimpleNamespace) -> None:
    made = people.admin.post("/applications", {"name": "Wiki", "token": True, "owner": "owner@example.com"})
    assert made.status_code == 201
    body = made.json()
    assert body["username"] and body["password"] and body["token"].startswith("sh_")
    shown = (
        people.admin.get("/applications/Wiki").content.decode()
        + people.admin.get("/applications").content.decode()
    )
    assert body["password"] not in shown and body["token"] not in shown
    assert people.admin.post("/applications", {"name": "Wiki"}).status_code == 409
    assert people.admin.delete("/applications/Wiki").status_code == 204


def test_what_the_engine_needs_of_an_application_is_in_its_principal(people: SimpleNamespace) -> None:
    from smarthost.control.applications import services
    from smarthost.control.spooling import spool
    from smarthost.routing import decode_directory, decode_principal, hash_secret

    made = services.add(
        "Old printer", actor="test", clear_networks=["192.0.2.0/28"], owner=people.owner, uids=[]
    )
    body = spool().principal_by_login(made.username or "")
    assert body is not None
    principal = decode_principal(body)
    assert principal.secrets == (hash_secret(made.password or ""),)
    assert principal.owner_address == "owner@example.com"
    services.add("cron", actor="test", uids=[33])
    directory = decode_directory(spool().directory() or b"")
    assert directory.clear_networks == ("192.0.2.0/28",)
    assert list(directory.uids) == [33]
    turned = services.rotate("Old printer", actor="test")
    body = spool().principal_by_login(made.username or "")
    assert body and decode_principal(body).secrets == (hash_secret(turned.password or ""),)
    services.remove("Old printer", actor="test")
    assert spool().principal_by_login(made.username or "") is None


def test_a_lost_key_is_told_and_not_made_anew(people: SimpleNamespace) -> None:
    from django.conf import settings

    assert people.admin.put("/upstreams/main", SERVER).status_code == 200
    key = settings.PROCESS.secret_key_file
    kept = key.rename(key.with_name("kept.key"))
    try:
        answer = people.admin.put("/upstreams/main", {"host": "other.example.net", "password": "new"})
        assert answer.status_code == 500
        assert "Put back its copy" in answer.json()["detail"]
        assert not key.exists()
    finally:
        kept.rename(key)
    assert people.admin.put("/upstreams/main", SERVER).status_code == 200
