"""What the pages say of a server whose route is paused: why, since when, what to do. Mail that waits without
a word looks lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from shlex import quote
from typing import Any

from smarthost.routing import Directory
from smarthost.spool import Route, now_us

_SHOW = "smarthost upstream show {name}"
_REROUTE = "smarthost queue reroute --upstream {name} --to OTHER"


@dataclass(frozen=True, slots=True)
class Advice:
    """why completes the server's name; todo says what helps; command does it, or shows what to look at."""

    why: str
    todo: str
    command: str


_ADVICE = {
    "credentials": Advice(
        "refuses the user name or the password",
        "Give the right ones. A change is tried at once; until then Smarthost tries seldom, because every"
        " wrong login may lock the account.",
        "smarthost upstream set --name {name} --username USER --password-stdin",
    ),
    "tls": Advice(
        "offers no encryption that can be trusted",
        "Compare host, port, encryption and CA with what its operator says, or ask about the certificate.",
        _SHOW,
    ),
    "dns": Advice("has a host name that is not found", "Check the name, and this machine's DNS.", _SHOW),
    "connect": Advice(
        "cannot be reached",
        "Check that it runs, its host and port, and the firewalls on the way.",
        _SHOW,
    ),
    "session": Advice(
        "answers, but not so that mail can be handed over",
        "Its words say why. Often it does not welcome this machine's address or name, or the port is wrong.",
        _SHOW,
    ),
    "quota": Advice(
        "has a quota, and it is used up",
        "It goes on by itself when the server allows it. What cannot wait goes by another server:",
        _REROUTE,
    ),
    "throttle": Advice(
        "asks for less mail at a time",
        "It goes on by itself. To be slower from now on, set how many messages a minute it gets:",
        "smarthost upstream set --name {name} --rate 60",
    ),
    "refusal": Advice(
        "refuses every message with the same words",
        "Its words say why: often its policy, or a sender address that it does not allow. Ask its operator,"
        " or let the mail go by another server:",
        _REROUTE,
    ),
    "config": Advice(
        "is set up so that it cannot be used from here",
        "Correct its settings; a change is tried at once.",
        _SHOW,
    ),
}
_OTHER = Advice("does not take mail at present", "Its words say why; it is tried again by itself.", _SHOW)


def paused(
    directory: Directory, routes: Mapping[str, Route], when: Callable[[int], dict[str, str]]
) -> list[dict[str, Any]]:
    """The servers in use whose route is paused, by name, as the template shows them."""
    found = []
    for row in sorted(directory.upstreams.values(), key=lambda row: row.name):
        route = routes.get(row.id)
        if route is None or route.paused_until is None or not row.enabled:
            continue
        advice = _ADVICE.get(route.reason, _OTHER)
        found.append(
            {
                "name": row.name,
                "why": advice.why,
                "words": route.text,
                "todo": advice.todo,
                "command": advice.command.format(name=quote(row.name)),
                "since": when(route.since) if route.since else None,
                "next": when(route.paused_until) if route.paused_until > now_us() else None,
            }
        )
    return found
