"""Who asks: a bearer token, or an application by its trusted network. Over HTTP always one of the two.

Wrong tokens cost a place little and a guesser much: after thirty within a minute an address is answered 429
until the minute is over, whatever it presents then being not even looked at. Other addresses notice nothing.
"""

from __future__ import annotations

import re
import threading
import time

from django.http import HttpRequest

from smarthost.control.directory.reading import Caller, current
from smarthost.control.security import peer_address, trusted_address
from smarthost.engine.log import Log
from smarthost.errors import CredentialError, Forbidden, OverCap
from smarthost.routing import hash_secret, network_principal

WRONG = "The credential is missing or wrong: give a token as Authorization: Bearer sh_…"
_TOKEN = re.compile(r"[Bb]earer +([!-~]{8,200})")
_NETWORK_SCOPES = frozenset({"messages:send", "messages:read"})
_MOST_WRONG, _WINDOW_S, _MOST_ADDRESSES = 30, 60.0, 10_000
_lock = threading.Lock()
_wrong: dict[str, tuple[float, int]] = {}
_log = Log()


def authenticate(request: HttpRequest) -> Caller:
    """Who this is. Raises CredentialError, or OverCap for an address that guesses."""
    peer = peer_address(request)
    _refuse_guesser(peer)
    snapshot = current()
    header = request.META.get("HTTP_AUTHORIZATION", "")
    caller: Caller | None = None
    if header:
        match = _TOKEN.fullmatch(header)
        caller = snapshot.caller(hash_secret(match[1])) if match else None
    elif (address := trusted_address(request)) and not _from_a_page(request):
        id = network_principal(snapshot.directory, address)
        principal = snapshot.principal(id) if id else None
        caller = Caller(principal, _NETWORK_SCOPES) if principal else None
    if caller is None:
        if header:
            _note_wrong(peer)
            _log.warning("login-refused", ip=peer, door="http")
        raise CredentialError(WRONG)
    return caller


def need(request: HttpRequest, scope: str) -> Caller:
    """The caller, who must have this scope. Raises Forbidden."""
    caller: Caller = request.auth  # type: ignore[attr-defined]
    if scope not in caller.scopes and not caller.administers:
        raise Forbidden(f"This credential lacks the scope {scope}")
    return caller


def need_admin(request: HttpRequest) -> Caller:
    """The caller, who must administer. Raises Forbidden."""
    caller: Caller = request.auth  # type: ignore[attr-defined]
    if not caller.administers:
        raise Forbidden("This needs a token with the scope admin, of a user who administers")
    return caller


def _from_a_page(request: HttpRequest) -> bool:
    """Whether a browser sent it for some page: then the network says nothing about who meant it."""
    return "HTTP_ORIGIN" in request.META or request.META.get("HTTP_SEC_FETCH_SITE", "none") != "none"


def _refuse_guesser(peer: str) -> None:
    since, count = _wrong.get(peer, (0.0, 0))
    if count >= _MOST_WRONG and time.monotonic() - since < _WINDOW_S:
        raise OverCap(
            "Too many wrong credentials from this address; try again in a minute", slug="too-many-guesses"
        )


def _note_wrong(peer: str) -> None:
    now = time.monotonic()
    with _lock:
        since, count = _wrong.get(peer, (now, 0))
        if now - since >= _WINDOW_S:
            since, count = now, 0
        if len(_wrong) >= _MOST_ADDRESSES:
            for address in [key for key, (begun, _) in _wrong.items() if now - begun >= _WINDOW_S]:
                del _wrong[address]
            if len(_wrong) >= _MOST_ADDRESSES:
                _wrong.clear()
        _wrong[peer] = since, count + 1
