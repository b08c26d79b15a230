"""Servers and applications, for administrators; events and counts."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from ninja import Router

from smarthost.control.accounts import services as accounts
from smarthost.control.api import views
from smarthost.control.api.auth import need, need_admin
from smarthost.control.api.bodies import json_body, parse
from smarthost.control.api.schemas import ApplicationIn, UpstreamIn
from smarthost.control.api.views import reply
from smarthost.control.applications import services as applications
from smarthost.control.directory.reading import current
from smarthost.control.spooling import spool
from smarthost.control.upstreams import services as upstreams
from smarthost.spool import EventRow

router = Router(tags=["administration"])


@router.get("/upstreams", response=views.ANSWERS)
def list_upstreams(request: HttpRequest) -> HttpResponse:
    """Servers with the health of their routes; never a secret."""
    need_admin(request)
    routes = spool().routes()
    rows = upstreams.list_upstreams()
    for row in rows:
        found = routes.get(str(row["id"]))
        row["route"] = views.route(found) if found else None
    return reply({"rows": rows, "mode": current().directory.mode.value})


@router.get("/upstreams/{name}", response=views.ANSWERS)
def show_upstream(request: HttpRequest, name: str) -> HttpResponse:
    """One server, by name or id; never a secret."""
    need_admin(request)
    return reply(upstreams.show(upstreams.find(name)))


@router.put("/upstreams/{name}", openapi_extra=views.takes("UpstreamIn"), response=views.ANSWERS)
def set_upstream(request: HttpRequest, name: str) -> HttpResponse:
    """Create a server or change what is given of it."""
    caller = need_admin(request)
    asked = parse(UpstreamIn, json_body(request)).model_dump(exclude_none=True)
    password, client_key = asked.pop("password", None), asked.pop("client_key", None)
    default = asked.pop("default", None)
    return reply(
        upstreams.set_upstream(
            name, asked, actor=caller.actor, password=password, client_key=client_key, default=default
        )
    )


@router.delete("/upstreams/{name}", response=views.ANSWERS)
def remove_upstream(request: HttpRequest, name: str) -> HttpResponse:
    """Remove a server; what waits for it waits until it is rerouted."""
    upstreams.remove(name, actor=need_admin(request).actor)
    return HttpResponse(status=204)


@router.get("/applications", response=views.ANSWERS)
def list_applications(request: HttpRequest) -> HttpResponse:
    """Applications, without their secrets."""
    need_admin(request)
    return reply({"rows": [applications.show(row) for row in applications.list_applications()]})


@router.post("/applications", openapi_extra=views.takes("ApplicationIn"), response=views.ANSWERS)
def add_application(request: HttpRequest) -> HttpResponse:
    """Add an application. Its password and token are shown in this answer and never again."""
    caller = need_admin(request)
    asked = parse(ApplicationIn, json_body(request))
    made = applications.add(
        asked.name,
        actor=caller.actor,
        networks=asked.networks,
        uids=asked.uids,
        clear_networks=asked.clear_networks,
        token=asked.token,
        owner=accounts.find_user(asked.owner) if asked.owner else None,
    )
    secrets = {"username": made.username, "password": made.password, "token": made.token}
    return reply(applications.show(made.application) | secrets, status=201)


@router.get("/applications/{name}", response=views.ANSWERS)
def show_application(request: HttpRequest, name: str) -> HttpResponse:
    """One application, by name or id."""
    need_admin(request)
    return reply(applications.show(applications.find(name)))


@router.delete("/applications/{name}", response=views.ANSWERS)
def remove_application(request: HttpRequest, name: str) -> HttpResponse:
    """Remove an application and its credentials; its messages stay."""
    applications.remove(name, actor=need_admin(request).actor)
    return HttpResponse(status=204)


@router.get("/events", response=views.ANSWERS)
def events(
    request: HttpRequest, after: str = "", kind: str = "", subject: str = "", limit: int = 100
) -> HttpResponse:
    """Events after a cursor, oldest first, none ever missed. Without the scope admin, one's own alone."""
    caller = need(request, "messages:read")
    limit = min(max(limit, 1), 500)
    rows: list[EventRow]
    if caller.sees_all:
        rows = spool().events(after, kind=kind, subject=subject, limit=limit)
    else:
        rows = spool().events(after, kind=kind, subject=caller.principal.id, limit=limit)
    following = rows[-1].cursor if rows else after
    return reply({"rows": [views.event(row) for row in rows], "next": following})


@router.get("/counts", response=views.ANSWERS)
def counts(request: HttpRequest) -> HttpResponse:
    """Deliveries by state, of everybody; for who may see everybody's."""
    caller = need(request, "messages:read")
    if not caller.sees_all:
        need_admin(request)
    return reply({"counts": spool().counts(), "queue_age_s": spool().queue_age()})
