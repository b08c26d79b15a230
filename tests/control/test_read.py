"""Reading messages back, acting on them, events: each principal sees its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .asking import mail
from .test_send import live

ACTIONS = ("retry", "cancel", "hold", "release")


def send(people: SimpleNamespace, **fields: object) -> str:
    answer = people.one.post("/messages", mail(**fields))
    assert answer.status_code == 202, answer.content
    return str(answer.json()["id"])


def test_it_lists_newest_first_and_pages_by_key(people: SimpleNamespace) -> None:
    ids = [send(people, subject=str(n)) for n in range(5)]
    first = people.one.get("/messages?limit=2").json()
    second = people.one.get(f"/messages?limit=2&after={first['next']}").json()
    rest = people.one.get(f"/messages?limit=2&after={second['next']}").json()
    seen = [row["id"] for page in (first, second, rest) for row in page["rows"]]
    assert seen == ids[::-1]
    assert rest["next"] is None


def test_it_filters(people: SimpleNamespace) -> None:
    send(people, to=["a@example.org", "B@example.org"])
    assert len(people.one.get("/messages?recipient=b@example.org").json()["rows"]) == 1
    assert people.one.get("/messages?state=sent").json()["rows"] == []
    assert len(people.one.get("/messages?state=captured,sent").json()["rows"]) == 2
    assert people.one.get("/messages?state=nonsense").status_code == 400


def test_nobody_sees_or_touches_what_is_not_theirs(people: SimpleNamespace) -> None:
    """SUB-05: 404 for all, never 403; lists are filtered where they are read."""
    live()
    id = send(people)
    for path in (f"/messages/{id}", f"/messages/{id}/content"):
        assert people.two.get(path).status_code == 404
        assert people.stranger.get(path).status_code == 401
    for action in ACTIONS:
        assert people.two.post(f"/messages/{id}/{action}").status_code == 404
    resolve = people.two.post(f"/messages/{id}/resolve", {"verdict": "sent"})
    assert resolve.status_code == 404
    assert people.two.get("/messages").json()["rows"] == []
    assert people.two.get(f"/messages?principal={people.apps.one.application.id}").json()["rows"] == []
    assert (
        people.two.get("/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV").json()
        == people.two.get(f"/messages/{id}").json()
    )
    assert people.one.get(f"/messages/{id}").json()["recipients"][0]["state"] == "queued"


@pytest.mark.parametrize("id", ["1", "x" * 26, "..%2f..", "%00", "01ARZ3NDEKTSV4RRFFQ69G5FAV'--"])
def test_impossible_ids_are_not_found(people: SimpleNamespace, id: str) -> None:
    assert people.one.get(f"/messages/{id}").status_code == 404


def test_hold_release_cancel_retry(people: SimpleNamespace) -> None:
    live()
    id = send(people)
    for action, state in (
        ("hold", "held"),
        ("release", "queued"),
        ("cancel", "cancelled"),
        ("retry", "queued"),
    ):
        answer = people.one.post(f"/messages/{id}/{action}")
        assert answer.status_code == 200, answer.content
        assert answer.json()["recipients"][0]["state"] == state
    assert people.one.post(f"/messages/{id}/release").status_code == 409
    assert people.one.post(f"/messages/{id}/resolve", {"verdict": "sent"}).status_code == 409
    assert people.one.post(f"/messages/{id}/resolve", {"verdict": "deleted"}).status_code == 422


def test_rerouting_is_for_administrators(people: SimpleNamespace) -> None:
    from smarthost.control.upstreams import services

    live()
    other = services.set_upstream("other", {"host": "mx2.example.net"}, actor="test")
    id = send(people)
    assert people.one.post(f"/messages/{id}/reroute", {"upstream": "other"}).status_code == 403
    answer = people.admin.post(f"/messages/{id}/reroute", {"upstream": "other"})
    assert answer.json()["recipients"][0]["upstream"] == other["id"]
    assert people.admin.post(f"/messages/{id}/reroute", {"upstream": "nowhere"}).status_code == 404


def test_an_administrator_opens_foreign_content_and_it_is_recorded(people: SimpleNamespace) -> None:
    id = send(people)
    assert people.admin.get(f"/messages/{id}/content").status_code == 200
    rows = people.admin.get(f"/events?kind=content.revealed&subject=message:{id}").json()["rows"]
    assert [row["actor"] for row in rows] == [people.owner.id]


def test_an_auditor_reads_the_log_and_no_body(people: SimpleNamespace) -> None:
    from smarthost.control.accounts import services as accounts

    from .asking import Api

    auditor = accounts.add_user("auditor@example.com", actor="test", role="auditor")
    _, secret = accounts.create_token(auditor.id, "t", actor="test", scopes=["messages:read"])
    reader = Api(secret)
    id = send(people)
    assert reader.get(f"/messages/{id}").status_code == 200
    assert reader.get(f"/messages/{id}/content").status_code == 403
    assert reader.post(f"/messages/{id}/cancel").status_code == 403
    assert reader.get("/counts").json()["counts"]["captured"] == 1


def test_mail_with_a_one_time_link_opens_for_nobody(people: SimpleNamespace) -> None:
    import dataclasses

    from smarthost.control.api.schemas import MessageIn
    from smarthost.control.directory.reading import current
    from smarthost.control.sending import compose
    from smarthost.control.spooling import spool
    from smarthost.spool import Flag

    live()
    principal = current().principal(people.owner.id)
    assert principal is not None
    made = compose(MessageIn.model_validate(mail(subject="secret-link")), current().directory, principal)
    spool().accept(dataclasses.replace(made, flags=made.flags | Flag.ONE_TIME_LINK))
    assert people.admin.get(f"/messages/{made.id}/content").status_code == 403
    assert "secret-link" not in people.admin.get(f"/messages/{made.id}").content.decode()


def test_events_follow_a_cursor_and_are_ones_own(people: SimpleNamespace) -> None:
    live()
    everything = people.admin.get("/events").json()
    assert any(row["kind"] == "config.changed" for row in everything["rows"])
    assert people.admin.get(f"/events?after={everything['next']}").json()["rows"] == []
    mine = people.two.get("/events").json()["rows"]
    assert mine and {row["subject"] for row in mine} == {people.apps.two.application.id}
    foreign = people.two.get(f"/events?subject={people.apps.one.application.id}").json()["rows"]
    assert {row["subject"] for row in foreign} == {people.apps.two.application.id}


def test_counts_of_everybody_are_not_an_applications(people: SimpleNamespace) -> None:
    assert people.one.get("/counts").status_code == 403
