"""Sending, and reading back what became of it.

A principal sees its own messages and no others: whatever is somebody else's is answered as if it were not
there. Who administers, or audits, sees everybody's log; bodies of other people's mail open to administrators
alone, and an event says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from ninja import Router

from smarthost.control.api import views
from smarthost.control.api.auth import need
from smarthost.control.api.bodies import form_body, json_body, message_limit, parse, room
from smarthost.control.api.problems import FieldError, Invalid, problem
from smarthost.control.api.schemas import MessageIn, RerouteIn, ResolveIn
from smarthost.control.api.views import reply
from smarthost.control.directory.reading import Caller, current
from smarthost.control.security import peer_address
from smarthost.control.sending import compose
from smarthost.control.spooling import spool
from smarthost.control.upstreams import services as upstreams
from smarthost.errors import ConfigError, Conflict, Forbidden, NotFound, SmarthostError
from smarthost.spool import (
    Accepted,
    Event,
    Filter,
    Flag,
    MessageView,
    NewMessage,
    Selection,
    State,
    id_time,
    now_us,
)

router = Router(tags=["messages"])
MOST_IN_BATCH = 1000
MOST_LISTED = 500


@router.post("/messages", openapi_extra=views.takes("MessageIn", multipart=True), response=views.ANSWERS)
def send(request: HttpRequest) -> HttpResponse:
    """Send a message. Answers 202 once it is durable; nothing is accepted in part."""
    caller = need(request, "messages:send")
    directory = current().directory
    limit = message_limit(directory.limits.max_size)
    with room(request, limit):
        form = request.content_type == "multipart/form-data"
        asked = parse(MessageIn, form_body(request) if form else json_body(request, limit))
        key = request.META.get("HTTP_IDEMPOTENCY_KEY", "")
        message = compose(asked, directory, caller.principal, key=key, peer=peer_address(request))
        accepted = spool().accept(message)

    return reply(views.accepted(message, accepted), status=202)


@router.post("/messages/batch", openapi_extra=views.takes("MessageIn", array=True), response=views.ANSWERS)
def send_batch(request: HttpRequest) -> HttpResponse:
    """Send up to 1000 messages in one commit. Each succeeds or fails alone, in the order given."""
    caller = need(request, "messages:send")
    directory = current().directory
    limit = message_limit(directory.limits.max_size)
    peer, key = peer_address(request), request.META.get("HTTP_IDEMPOTENCY_KEY", "")
    with room(request, limit):
        items = json_body(request, limit)
        if not isinstance(items, list) or not 1 <= len(items) <= MOST_IN_BATCH:
            raise Invalid([FieldError("body", f"must be an array of 1 to {MOST_IN_BATCH} messages")])
        made: list[NewMessage | SmarthostError] = []
        for n, item in enumerate(items):
            try:
                asked = parse(MessageIn, item)
                of_item = f"{key}#{n}" if key else ""
                made.append(compose(asked, directory, caller.principal, key=of_item, peer=peer))
            except SmarthostError as error:
                made.append(error)
        results = iter(spool().accept_many([entry for entry in made if isinstance(entry, NewMessage)]))

    return reply({"results": [_result(entry, results) for entry in made]}, status=200)


def _result(entry: NewMessage | SmarthostError, results: Iterator[Accepted | SmarthostError]) -> object:
    if isinstance(entry, SmarthostError):
        return msgspec.to_builtins(problem(entry))
    result = next(results)
    if isinstance(result, SmarthostError):
        return msgspec.to_builtins(problem(result))
    return views.accepted(entry, result) | {"status": 202}


@router.get("/messages", response=views.ANSWERS)
def find(
    request: HttpRequest,
    *,
    state: str = "",
    upstream: str = "",
    principal: str = "",
    recipient: str = "",
    sender: str = "",
    text: str = "",
    after: int | None = None,
    limit: int = 50,
) -> HttpResponse:
    """Deliveries, newest first, one for each recipient. `next` is the `after` of the next page, or null."""
    caller = need(request, "messages:read")
    limit = _between(limit, MOST_LISTED)
    rows = spool().find(
        Filter(
            states=_states(state),
            upstream=upstream or None,
            principal=(principal or None) if caller.sees_all else caller.principal.id,
            recipient=recipient or None,
            sender=sender or None,
            text=text or None,
        ),
        after,
        limit,
    )
    following = rows[-1].id if len(rows) == limit else None
    return reply({"rows": [views.row(entry) for entry in rows], "next": following})


@router.get("/messages/{id}", response=views.ANSWERS)
def read(request: HttpRequest, id: str) -> HttpResponse:
    """A message with each recipient's state and every attempt."""
    return reply(views.message(_message(need(request, "messages:read"), id)))


@router.get("/messages/{id}/content", response=views.ANSWERS)
def content(request: HttpRequest, id: str) -> HttpResponse | StreamingHttpResponse:
    """The content as it was accepted. Opening somebody else's is recorded."""
    caller = need(request, "messages:read")
    found = _message(caller, id)
    if found.principal != caller.principal.id:
        if not caller.administers:
            raise Forbidden("Bodies of other people's mail open to administrators alone")
        _record_reveal(caller, found)
    if found.flags & Flag.ONE_TIME_LINK and any(row.state != State.CAPTURED for row in found.deliveries):
        raise Forbidden("This message holds a one-time link, which is nobody's to read but its recipient's")
    if not found.has_content:
        raise NotFound("The content of this message was purged", slug="content-purged")
    response = StreamingHttpResponse(spool().content(found.id), content_type="message/rfc822")
    response["Content-Length"] = str(found.size)
    response["Content-Disposition"] = f'attachment; filename="{found.id}.eml"'
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


def _act(request: HttpRequest, id: str, act: Callable[[Selection, str], int], refusal: str) -> HttpResponse:
    """Do something to every delivery of a message that allows it. Raises Conflict where none does."""
    caller = need(request, "messages:act")
    found = _message(caller, id, acts=True)
    if not act(Selection(messages=(found.id,)), caller.actor):
        raise Conflict(refusal)
    return reply(views.message(_message(caller, id)))


@router.post("/messages/{id}/retry", response=views.ANSWERS)
def retry(request: HttpRequest, id: str) -> HttpResponse:
    """Try what was deferred, failed, expired or cancelled again, now."""
    return _act(request, id, spool().retry, "No recipient of this message can be retried")


@router.post("/messages/{id}/cancel", response=views.ANSWERS)
def cancel(request: HttpRequest, id: str) -> HttpResponse:
    """Stop what was not sent yet."""
    return _act(request, id, spool().cancel, "No recipient of this message can be cancelled any more")


@router.post("/messages/{id}/hold", response=views.ANSWERS)
def hold(request: HttpRequest, id: str) -> HttpResponse:
    """Let what was not sent yet wait for a person."""
    return _act(request, id, spool().hold, "No recipient of this message can be held any more")


@router.post("/messages/{id}/release", response=views.ANSWERS)
def release(request: HttpRequest, id: str) -> HttpResponse:
    """Let what is held go."""
    return _act(request, id, spool().release, "No recipient of this message is held")


@router.post("/messages/{id}/reroute", openapi_extra=views.takes("RerouteIn"), response=views.ANSWERS)
def reroute(request: HttpRequest, id: str) -> HttpResponse:
    """Send what was not sent yet through another server. For administrators."""
    if not need(request, "messages:act").administers:
        raise Forbidden("Which server carries a message is for administrators")
    target = upstreams.find(parse(RerouteIn, json_body(request)).upstream).id
    return _act(request, id, lambda selected, actor: spool().reroute(selected, target, actor), _NOT_REROUTED)


@router.post("/messages/{id}/resolve", openapi_extra=views.takes("ResolveIn"), response=views.ANSWERS)
def resolve(request: HttpRequest, id: str) -> HttpResponse:
    """Say what became of a message whose end is unknown."""
    verdict = State[parse(ResolveIn, json_body(request)).verdict.upper()]
    return _act(request, id, lambda selected, actor: spool().resolve(selected, verdict, actor), _NOT_UNKNOWN)


_NOT_REROUTED = "No recipient of this message can be rerouted any more"
_NOT_UNKNOWN = "No recipient of this message has an unknown end"


def _message(caller: Caller, id: str, *, acts: bool = False) -> MessageView:
    """The message, if it is the caller's to see. Raises NotFound, the same for absent and foreign ones."""
    try:
        id_time(id)
        found = spool().message(id)
    except ValueError:
        found = None
    everybody = caller.administers if acts else caller.sees_all
    if found is None or (found.principal != caller.principal.id and not everybody):
        raise NotFound("There is no such message")
    return found


def _record_reveal(caller: Caller, found: MessageView) -> None:
    text = f"{caller.principal.name} opened the content of a message of {found.principal_name}"
    event = Event(now_us(), "content.revealed", f"message:{found.id}", text, "warning", caller.actor)
    spool().record([event])


def _states(text: str) -> tuple[State, ...]:
    try:
        return tuple(State[word.upper()] for word in text.split(",") if word)
    except KeyError:
        words = ", ".join(state.word for state in State)
        raise ConfigError(f"state is one or several of {words}, with commas", field="state") from None


def _between(limit: int, most: int) -> int:
    return min(max(limit, 1), most)
