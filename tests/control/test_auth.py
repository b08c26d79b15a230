"""Who may ask: tokens, scopes, trusted networks, guessing."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import pytest

from .asking import Api, mail


def token(principal: str, *scopes: str, **more: object) -> tuple[str, Api]:
    from smarthost.control.accounts import services

    row, secret = services.create_token(principal, "t", actor="test", scopes=scopes, **more)  # type: ignore[arg-type]
    return row.id, Api(secret)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer x", "Basic dTpw", "Bearer sh_" + "a" * 43, "sh_x"]
)
def test_a_missing_or_wrong_credential_gets_one_answer(people: SimpleNamespace, header: str) -> None:
    caller = Api(None)
    caller.headers = {"Authorization": header} if header else {}
    answer = caller.post("/messages", mail())
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["slug"] == "credentials-invalid"
    assert answer.json() == people.stranger.post("/messages", mail()).json()


def test_only_the_hash_of_a_token_is_stored(people: SimpleNamespace, django: SimpleNamespace) -> None:
    from django.db import connection

    secret = people.apps.one.token
    password = people.apps.one.password
    with connection.cursor() as cursor:
        for table in ("account_token", "principal", "principal_secret", "directory", "application", "event"):
            cursor.execute(f"SELECT * FROM {table}")
            text = repr(cursor.fetchall())
            assert secret not in text and password not in text


def test_an_expired_token_is_worthless(people: SimpleNamespace) -> None:
    now = dt.datetime.now(dt.UTC)
    _, good = token(people.owner.id, "messages:read", expires_at=now + dt.timedelta(hours=1))
    _, gone = token(people.owner.id, "messages:read", expires_at=now - dt.timedelta(seconds=1))
    assert good.get("/messages").status_code == 200
    assert gone.get("/messages").status_code == 401


def test_a_revoked_token_is_worthless_at_once(people: SimpleNamespace) -> None:
    from smarthost.control.accounts import services

    id, caller = token(people.owner.id, "messages:read")
    assert caller.get("/messages").status_code == 200
    services.revoke_token(id, actor="test")
    assert caller.get("/messages").status_code == 401


def test_tokens_of_a_removed_or_disabled_principal_are_worthless(people: SimpleNamespace) -> None:
    from smarthost.control.accounts import services as accounts
    from smarthost.control.applications import services as applications

    assert people.one.get("/messages").status_code == 200
    applications.set_enabled("One", False, actor="test")
    assert people.one.get("/messages").status_code == 401
    applications.remove("Two", actor="test")
    assert people.two.get("/messages").status_code == 401
    _, caller = token(people.member.id, "messages:read")
    accounts.set_active(people.member, False, actor="test")
    assert caller.get("/messages").status_code == 401


def test_scopes_are_enforced(people: SimpleNamespace) -> None:
    _, sender = token(people.owner.id, "messages:send")
    _, reader = token(people.owner.id, "messages:read")
    id = sender.post("/messages", mail()).json()["id"]
    assert sender.get("/messages").status_code == 403
    assert reader.post("/messages", mail()).status_code == 403
    assert reader.get(f"/messages/{id}").status_code == 200
    assert reader.post(f"/messages/{id}/cancel").status_code == 403


def test_an_owners_token_without_admin_administers_nothing(people: SimpleNamespace) -> None:
    _, plain = token(people.owner.id, "messages:send", "messages:read", "messages:act")
    id = people.one.post("/messages", mail()).json()["id"]
    assert plain.get(f"/messages/{id}").status_code == 404
    for method, path in (
        ("GET", "/upstreams"),
        ("PUT", "/upstreams/x"),
        ("DELETE", "/upstreams/x"),
        ("GET", "/applications"),
        ("POST", "/applications"),
        ("DELETE", "/applications/One"),
        ("GET", "/counts"),
    ):
        assert plain.request(method, path, {}).status_code == 403, path
        assert people.one.request(method, path, {}).status_code == 403, path
        assert people.stranger.request(method, path, {}).status_code == 401, path


def test_admin_ends_with_the_role(people: SimpleNamespace) -> None:
    from smarthost.control.accounts import services
    from smarthost.errors import Conflict

    other = services.add_user("other@example.com", actor="test", role="admin")
    _, caller = token(other.id, "admin")
    assert caller.get("/upstreams").status_code == 200
    services.set_role(other, "member", actor="test")
    assert caller.get("/upstreams").status_code == 403
    with pytest.raises(Conflict):
        services.set_role(people.owner, "member", actor="test")


def test_the_scope_admin_is_for_users_who_administer(people: SimpleNamespace) -> None:
    from smarthost.errors import ConfigError

    for principal in (people.member.id, people.apps.one.application.id):
        with pytest.raises(ConfigError):
            token(principal, "admin")
    with pytest.raises(ConfigError):
        token(people.owner.id, "everything")


# --- networks -------------------------------------------------------------------------------------------------


@pytest.fixture
def printer(people: SimpleNamespace) -> str:
    from smarthost.control.applications import services

    made = services.add("Printer", actor="test", networks=["203.0.113.0/24"])
    assert (made.username, made.password, made.token) == (None, None, None)
    return made.application.id


def test_a_trusted_network_stands_for_its_application(people: SimpleNamespace, printer: str) -> None:
    answer = people.stranger.post("/messages", mail(), REMOTE_ADDR="203.0.113.7")
    assert answer.status_code == 202
    rows = people.stranger.get("/messages", REMOTE_ADDR="::ffff:203.0.113.8").json()["rows"]
    assert [row["principal"] for row in rows] == [printer]
    assert people.stranger.post("/messages", mail(), REMOTE_ADDR="203.0.114.7").status_code == 401


@pytest.mark.parametrize(
    ("peer", "forwarded", "status"),
    [
        ("198.51.100.9", "203.0.113.7", 202),  # a proxy that we trust says so
        ("198.51.100.9", "203.0.113.7, 192.0.2.1", 401),  # its own word is the last one
        ("198.51.100.9", "192.0.2.1, 203.0.113.7", 202),
        ("192.0.2.1", "203.0.113.7", 401),  # anybody can write this header
        ("203.0.113.7", "192.0.2.1", 401),  # forwarded by a proxy in that network that nobody named
        ("198.51.100.9", "203.0.113.7, nonsense", 401),
        ("198.51.100.9", "", 401),
    ],
)
def test_forwarded_addresses_count_from_trusted_proxies_only(
    people: SimpleNamespace, printer: str, peer: str, forwarded: str, status: int
) -> None:
    """SUB-02"""
    extra = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    assert people.stranger.post("/messages", mail(), REMOTE_ADDR=peer, **extra).status_code == status


def test_a_page_in_a_browser_gets_nothing_from_its_network(people: SimpleNamespace, printer: str) -> None:
    """ACC-17: a form of another site, sent from a machine in a trusted network."""
    answer = people.stranger.client.post(
        "/api/v1/messages",
        {"to": "a@example.org", "text": "x"},
        headers={"Origin": "https://evil.test"},
        REMOTE_ADDR="203.0.113.7",
    )
    assert answer.status_code == 401


def test_two_applications_cannot_have_one_network(people: SimpleNamespace, printer: str) -> None:
    from smarthost.control.applications import services
    from smarthost.errors import ConfigError

    with pytest.raises(ConfigError, match="Printer"):
        services.add("Scanner", actor="test", networks=["203.0.113.0/24"])
    assert [row.name for row in services.list_applications()] == ["One", "Printer", "Two"]


def test_guessing_is_slowed_for_the_guesser_alone(people: SimpleNamespace) -> None:
    """SUB-03 over HTTP"""
    guesser = Api("sh_" + "x" * 43)
    answers = [guesser.get("/messages", REMOTE_ADDR="192.0.2.66").status_code for _ in range(40)]
    assert answers[:30] == [401] * 30 and set(answers[30:]) == {429}
    assert people.one.get("/messages", REMOTE_ADDR="192.0.2.67").status_code == 200


def test_a_weak_password_is_refused(people: SimpleNamespace) -> None:
    from smarthost.control.accounts import services
    from smarthost.errors import ConfigError

    for weak, why in (
        ("short-1+q", "shorter than 10 characters"),
        ("basketball", "among those that are tried first"),
        ("9305618427", "digits only"),
        ("new.person1", "too much like the user name or the address"),
        ("123", "shorter than 10 characters, among those that are tried first, digits only"),
    ):
        with pytest.raises(ConfigError) as error:
            services.add_user("new.person@example.com", actor="test", password=weak)
        assert error.value.field == "password"
        assert error.value.public == f"Choose another password: this one is {why}"
    user = services.add_user("new.person@example.com", actor="test", password="correct horse battery")
    assert user.check_password("correct horse battery")
    assert "correct horse" not in user.password
