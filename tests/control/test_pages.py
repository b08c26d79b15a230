"""Signing in by a link and seeing what became of the mail."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from .asking import mail
from .test_send import live


@pytest.fixture
def browser(people: SimpleNamespace) -> SimpleNamespace:
    """A browser that checks forms as a real one would have to, and a link for the owner."""
    from django.test import Client

    from smarthost.control.accounts import services

    link = services.make_link(people.owner, actor="test")
    return SimpleNamespace(
        client=Client(enforce_csrf_checks=True), link=link, path=link.partition("8025")[2], people=people
    )


def press(browser: SimpleNamespace, path: str) -> object:
    """Load the page and press its button."""
    page = browser.client.get(path).content.decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert token, page
    return browser.client.post(path, {"csrfmiddlewaretoken": token[1]})


def test_a_link_comes_from_the_public_address_and_works_once(browser: SimpleNamespace) -> None:
    assert browser.link.startswith("http://127.0.0.1:8025/sign-in/")
    for _ in range(3):
        assert browser.client.get(browser.path).status_code == 200
        assert browser.client.head(browser.path).status_code == 200
    assert press(browser, browser.path).headers["Location"] == "/"  # type: ignore[attr-defined]
    assert browser.client.get("/").status_code == 200
    from django.test import Client

    second = Client()
    assert second.get(browser.path).status_code == 410
    assert second.post(browser.path).status_code == 410
    assert second.get("/").headers["Location"] == "/sign-in"


def test_a_link_needs_its_own_page(browser: SimpleNamespace) -> None:
    assert browser.client.post(browser.path).status_code == 403
    assert browser.client.get(browser.path).status_code == 200


def test_only_the_hash_of_a_link_is_stored_and_old_ones_end(browser: SimpleNamespace) -> None:
    from smarthost.control.accounts import services
    from smarthost.control.accounts.models import SignInLink

    secret = browser.path.rpartition("/")[2]
    assert secret not in repr(list(SignInLink.objects.values_list()))
    old = services.make_link(browser.people.owner, actor="test", lifetime_s=-1)
    assert browser.client.get(old.partition("8025")[2]).status_code == 410
    services.set_active(browser.people.member, False, actor="test")
    off = services.make_link(browser.people.member, actor="test")
    assert browser.client.get(off.partition("8025")[2]).status_code == 410


def test_the_empty_page_teaches(browser: SimpleNamespace) -> None:
    press(browser, browser.path)
    page = browser.client.get("/").content.decode()
    assert "No mail yet" in page and "curl http://127.0.0.1:8025/api/v1/messages" in page
    assert "127.0.0.1   port 2525" in page and "Captured, not sent" in page


def test_pages_run_no_script_and_load_nothing_from_elsewhere(browser: SimpleNamespace) -> None:
    press(browser, browser.path)
    for path in ("/", "/sign-in", "/api/docs", "/nowhere", browser.path):
        answer = browser.client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src" not in policy
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        page = answer.content.decode()
        assert "<script" not in page
        for style in re.findall(r"<style[^>]*>", page):
            assert re.search(r"'nonce-([^']+)'", policy)[1] in style  # type: ignore[index]
        assert not re.search(r'(src|href)="(https?:)?//', page)


def test_what_became_of_the_mail_is_seen(browser: SimpleNamespace) -> None:
    live()
    id = browser.people.one.post("/messages", mail(subject="<b>Invoice</b>")).json()["id"]
    press(browser, browser.path)
    page = browser.client.get("/").content.decode()
    assert "&lt;b&gt;Invoice&lt;/b&gt;" in page and "<b>Invoice" not in page
    assert "queued" in page and "ada@example.org" in page and f"/messages/{id}" in page
    shown = browser.client.get(f"/messages/{id}").content.decode()
    assert "ada@example.org" in shown and "Not tried yet" in shown and "<b>Invoice" not in shown
    assert browser.client.get("/?state=sent").status_code == 200
    assert browser.client.get("/?after=zz&state=zz").status_code == 200


def test_a_paused_route_is_said_with_why_since_when_and_what_to_do(browser: SimpleNamespace) -> None:
    from django.test import Client

    from smarthost.control.accounts import services
    from smarthost.control.spooling import spool
    from smarthost.spool import Route, now_us

    upstream, minute, now = live(), 60_000_000, now_us()
    words = "auth: 535 5.7.8 <b>no</b>"
    spool().set_route(
        Route(upstream, now + 180 * minute + minute, "credentials", words, since=now - 12 * minute)
    )
    press(browser, browser.path)
    page = browser.client.get("/").content.decode()
    assert "main is paused." in page and "12 min ago" in page and "in 3 h" in page
    assert "refuses the user name or the password" in page and "&lt;b&gt;no" in page
    assert "smarthost upstream set --name main --username USER --password-stdin" in page
    member = Client()
    link = services.make_link(browser.people.member, actor="test").partition("8025")[2]
    press(SimpleNamespace(client=member), link)
    page = member.get("/").content.decode()
    assert "main is paused." in page and "535" not in page, "the server's words are for who runs it"
    live(enabled=False)
    assert "is paused" not in browser.client.get("/").content.decode()
    live(enabled=True)
    spool().set_route(Route(upstream))
    assert "is paused" not in browser.client.get("/").content.decode()


def test_each_cause_of_a_pause_has_its_advice() -> None:
    from smarthost.control.pages.routes import _ADVICE
    from smarthost.engine.delivery._classify import Fault

    assert set(_ADVICE) == set(Fault) - {Fault.MESSAGE}


def test_the_servers_own_words_are_seen(browser: SimpleNamespace) -> None:
    from smarthost.control.spooling import spool
    from smarthost.spool import Outcome, State, now_us

    upstream = live()
    id = browser.people.one.post("/messages", mail()).json()["id"]
    spool().register()
    (lease,) = spool().lease(upstream, 1)
    words = "mailbox <script>alert(1)</script> unavailable"
    (row,) = lease.deliveries
    spool().complete(
        [
            Outcome(
                row.id,
                lease.token,
                State.FAILED,
                now_us(),
                code=550,
                enhanced="5.1.1",
                reply=words,
                stage="rcpt",
            )
        ]
    )
    spool().retire()
    press(browser, browser.path)
    shown = browser.client.get(f"/messages/{id}").content.decode()
    assert (
        "550 5.1.1 mailbox &lt;script&gt;alert(1)&lt;/script&gt; unavailable" in shown and "at rcpt" in shown
    )
    tries = browser.people.one.get(f"/messages/{id}").json()["recipients"][0]["tries"]
    assert [(each["code"], each["reply"], each["stage"]) for each in tries] == [(550, words, "rcpt")]


def test_a_member_sees_their_own_mail_only(browser: SimpleNamespace) -> None:
    from smarthost.control.accounts import services

    id = browser.people.one.post("/messages", mail(subject="not-yours")).json()["id"]
    press(browser, services.make_link(browser.people.member, actor="test").partition("8025")[2])
    assert "not-yours" not in browser.client.get("/").content.decode()
    assert browser.client.get(f"/messages/{id}").status_code == 404


def test_signing_out_needs_the_pages_own_form(browser: SimpleNamespace) -> None:
    press(browser, browser.path)
    assert browser.client.post("/sign-out").status_code == 403
    assert browser.client.get("/sign-out").status_code == 405
    assert browser.client.get("/").status_code == 200


def test_unknown_addresses_of_the_api_are_problems(people: SimpleNamespace) -> None:
    for path in ("/nothing", "/messages/"):
        answer = people.one.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_method_that_an_address_does_not_take_is_a_problem(people: SimpleNamespace) -> None:
    answer = people.one.delete("/messages")
    assert (answer.status_code, answer.json()["slug"]) == (405, "method-not-allowed")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "POST" in answer.headers["Allow"] and "POST" in answer.json()["detail"]
    assert "Allow" not in people.one.get("/messages").headers


def test_the_type_of_a_problem_leads_to_its_line_on_the_page(people: SimpleNamespace) -> None:
    page, _, anchor = people.one.get("/nothing").json()["type"].partition("#")
    assert f'id="{anchor}"' in people.one.client.get(page).content.decode()


def test_the_icon_is_found_where_browsers_look_and_kept(people: SimpleNamespace) -> None:
    from django.test import Client

    answer = Client().get("/favicon.ico")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/svg+xml")
    assert answer.headers["Cache-Control"] == "public, max-age=604800"
    assert answer.content.startswith(b"<svg ")
    page = Client().get("/sign-in")
    assert b'href="/favicon.ico"' in page.content
    assert "img-src 'self';" in page.headers["Content-Security-Policy"]


def test_metrics_are_for_allowed_networks_and_tokens(people: SimpleNamespace) -> None:
    client = people.one.client
    assert client.get("/metrics").status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1").status_code == 403
    # a proxy on this machine that nobody named does not make everybody local
    assert client.get("/metrics", HTTP_X_FORWARDED_FOR="127.0.0.1").status_code == 403
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1", headers=people.admin.headers).status_code == 200
    assert client.get("/metrics", REMOTE_ADDR="192.0.2.1", headers=people.one.headers).status_code == 403


def test_ready_needs_an_engine(people: SimpleNamespace) -> None:
    from smarthost.control.spooling import spool

    answer = people.one.client.get("/readyz")
    assert (answer.status_code, answer.json()["store"]) == (503, "ok")
    spool().register()
    assert people.one.client.get("/readyz").status_code == 200
    metrics = people.one.client.get("/metrics").content.decode()
    assert "smarthost_engines 1" in metrics
    spool().retire()


def test_metrics_tell_queue_routes_and_latency(people: SimpleNamespace) -> None:
    from smarthost.control.spooling import spool
    from smarthost.spool import Outcome, Route, State, now_us

    upstream = live()
    people.one.post("/messages", mail(to=["a@example.org"]))
    people.one.post("/messages", mail(to=["b@example.org"]))
    spool().register()
    (lease, *_) = spool().lease(upstream, 1)
    spool().complete(
        [Outcome(lease.deliveries[0].id, lease.token, State.SENT, now_us(), code=250, stage="dot")]
    )
    spool().set_route(
        Route(upstream, paused_until=now_us() + 10**9, reason="auth", text="535", since=now_us())
    )
    text = people.one.client.get("/metrics").content.decode()
    assert 'smarthost_deliveries{state="sent"} 1' in text
    assert 'smarthost_deliveries{state="queued"} 1' in text
    assert 'smarthost_route_paused{upstream="main",reason="auth"} 1' in text
    assert 'smarthost_delivery_latency_seconds{quantile="0.99"}' in text
    spool().retire()
