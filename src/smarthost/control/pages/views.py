"""Signing in by a one-time link, the list of messages, one message.

GET of a link changes nothing: mail scanners and previews follow links. Only the button's POST uses it up.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth import login, logout
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from smarthost.control.accounts.models import User
from smarthost.control.accounts.services import consume_link, link_user
from smarthost.control.directory.reading import current
from smarthost.control.pages.routes import paused
from smarthost.control.spooling import spool
from smarthost.spool import Filter, Flag, State, id_time

PER_PAGE = 50
KINDS = {
    State.SENT: "good",
    State.CAPTURED: "off",
    State.QUEUED: "wait",
    State.SENDING: "wait",
    State.DEFERRED: "wait",
    State.UNKNOWN: "bad",
    State.FAILED: "bad",
    State.EXPIRED: "bad",
    State.CANCELLED: "off",
    State.HELD: "bad",
}
"""Green is only what was proven, red what somebody must act on, amber what waits, grey what is off."""

View = Callable[..., HttpResponse]


def signed_in(view: View) -> View:
    """Lead everybody else to the page that says how to come in."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not request.user.is_authenticated:
            return HttpResponseRedirect("/sign-in")
        return view(request, *args, **kwargs)

    return guarded


@require_GET
@signed_in
def messages(request: HttpRequest) -> HttpResponse:
    """The newest messages, one line a recipient."""
    user = _user(request)
    after = request.GET.get("after", "")
    cursor = int(after) if after.isascii() and after.isdigit() and len(after) < 19 else None
    state = request.GET.get("state", "")
    states = tuple(each for each in State if each.word == state)
    mine = Filter(states=states, principal=None if user.sees_all else user.id)
    rows = spool().find(mine, cursor, PER_PAGE)
    counts = spool().counts() if user.sees_all else {}
    directory = current().directory
    context = {
        "paused": paused(directory, spool().routes(), when),
        "explained": user.sees_all,
        "rows": [_row(row, row.state, row.created_at) for row in rows],
        "next": rows[-1].id if len(rows) == PER_PAGE else None,
        "counts": [(each, counts[each.word], KINDS[each]) for each in State if each.word in counts],
        "state": state,
        "directory": directory,
        "url": settings.PROCESS.public_url,
        "smtp": settings.PROCESS.smtp,
        "filtered": bool(states or cursor),
    }
    return render(request, "pages/messages.html", context)


@require_GET
@signed_in
def message(request: HttpRequest, id: str) -> HttpResponse:
    """One message: its recipients, every attempt, and the server's own words."""
    user = _user(request)
    try:
        id_time(id)
        found = spool().message(id)
    except ValueError:
        found = None
    if found is None or not (user.sees_all or found.principal == user.id):
        return not_found(request)
    names = {row.id: row.name for row in current().directory.upstreams.values()}
    recipients = [
        {
            **_row(entry, entry.state, entry.updated_at),
            "upstream": names.get(entry.upstream, entry.upstream),
            "due": when(entry.due_at) if entry.due_at else None,
            "tries": [_row(each, each.state, each.at) for each in reversed(entry.tries)],
        }
        for entry in found.deliveries
    ]
    hidden = found.flags & Flag.ONE_TIME_LINK
    subject = "" if hidden else found.subject
    context = {"message": found, "subject": subject, "at": when(found.created_at), "recipients": recipients}
    return render(request, "pages/message.html", context)


@require_GET
def sign_in(request: HttpRequest) -> HttpResponse:
    """How to come in."""
    if request.user.is_authenticated:
        return HttpResponseRedirect("/")
    return render(request, "pages/sign_in.html")


@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, secret: str) -> HttpResponse:
    """A one-time link: GET shows its button, POST uses it up."""
    if request.method != "POST":
        user = link_user(secret)
        return render(request, "pages/link.html", {"who": user}, status=200 if user else 410)
    user = consume_link(secret)
    if user is None:
        return render(request, "pages/link.html", {"who": None}, status=410)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponseRedirect("/")


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponseRedirect("/sign-in")


@require_safe
def icon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for an icon unasked, beside JSON too."""
    response = HttpResponse(render_to_string("pages/icon.svg"), content_type="image/svg+xml")
    response["Cache-Control"] = "public, max-age=604800"
    return response


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """Nothing here, or nothing for this person: the same page."""
    return render(request, "pages/nothing.html", {"title": "There is nothing here"}, status=404)


def failed(request: HttpRequest) -> HttpResponse:
    """Something broke here. Needs nothing that may be broken."""
    text = "Something went wrong here. The log of the web process says what.\n"
    return HttpResponse(text, status=500, content_type="text/plain")


def when(us: int) -> dict[str, str]:
    """A time as people say it, with the exact one beside it."""
    at = dt.datetime.fromtimestamp(us / 1_000_000, dt.UTC)
    seconds = int((dt.datetime.now(dt.UTC) - at).total_seconds())
    exact = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    for limit, size, word in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (7 * 86400, 86400, "d")):
        if abs(seconds) < limit:
            count = abs(seconds) // size
            return {"exact": exact, "text": f"{count} {word} ago" if seconds >= 0 else f"in {count} {word}"}
    return {"exact": exact, "text": at.strftime("%Y-%m-%d")}


def _row(entry: Any, state: State, at: int) -> dict[str, Any]:
    return {"entry": entry, "word": state.word, "kind": KINDS[state], "at": when(at)}


def _user(request: HttpRequest) -> User:
    user = request.user
    assert isinstance(user, User)
    return user
