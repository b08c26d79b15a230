"""Is it alive, can it take mail, and how is it doing: for probes and for Prometheus.

Nothing here counts rows: states are kept counts, the age of the queue is one index read, and latency comes
from the newest thousand attempts. So a scrape costs the same at a million rows.
"""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from smarthost.control.directory.reading import current
from smarthost.control.security import plain_ip, trusted_address
from smarthost.control.spooling import spool
from smarthost.errors import CredentialError, Forbidden, SmarthostError
from smarthost.spool import State, id_time

FRESH_S = 30.0
"""An engine whose last beat is older counts as gone (the design's lease rule)."""
_RECENT = 1000
_QUANTILES = (0.5, 0.9, 0.99)
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def alive(request: HttpRequest) -> HttpResponse:
    """GET /healthz: this process answers. It looks at nothing else, so that nothing else restarts it."""
    return HttpResponse("ok\n", content_type="text/plain")


def ready(request: HttpRequest) -> HttpResponse:
    """GET /readyz: the store takes writes and an engine runs; else 503 and which of them is missing."""
    checks = {"store": _store(), "engine": _engine()}
    good = all(text == "ok" for text in checks.values())
    return JsonResponse({"ready": good, **checks}, status=200 if good else 503)


def metrics(request: HttpRequest) -> HttpResponse:
    """GET /metrics in Prometheus' text format, for a network that is allowed or a token."""
    try:
        _allow(request)
        body = "".join(_lines())
    except SmarthostError as error:
        return HttpResponse(f"{error.public}\n", status=error.http, content_type="text/plain")
    return HttpResponse(body, content_type="text/plain; version=0.0.4; charset=utf-8")


def _store() -> str:
    try:
        store = spool()
        if store.failed:
            return "the store cannot be trusted any more: restart the service"
        if store.full:
            return "less free space than the floor"
        store.record(())
    except SmarthostError as error:
        return error.public
    return "ok"


def _engine() -> str:
    try:
        beats = [since for _, _, since in spool().engines()]
    except SmarthostError as error:
        return error.public
    return "ok" if beats and min(beats) < FRESH_S else "no engine is running"


def _allow(request: HttpRequest) -> None:
    address = trusted_address(request)
    if address and any(plain_ip(address) in network for network in settings.METRICS_NETWORKS):
        return
    from smarthost.control.api.auth import authenticate

    try:
        caller = authenticate(request)
    except CredentialError:
        raise Forbidden(
            "This needs a token with the scope metrics:read, or a network that is allowed"
        ) from None
    if "metrics:read" not in caller.scopes and not caller.administers:
        raise Forbidden("This credential lacks the scope metrics:read")


def _lines() -> list[str]:
    store, directory = spool(), current().directory
    counts = store.counts()
    lines = _metric("smarthost_deliveries", "gauge", "Recipients by state")
    lines += [_value("smarthost_deliveries", counts.get(state.word, 0), state=state.word) for state in State]
    lines += _metric("smarthost_queue_age_seconds", "gauge", "How long the oldest ready recipient has waited")
    lines.append(_value("smarthost_queue_age_seconds", round(store.queue_age(), 3)))
    engines = store.engines()
    lines += _metric("smarthost_engines", "gauge", "Engines with a fresh heartbeat")
    lines.append(_value("smarthost_engines", sum(since < FRESH_S for _, _, since in engines)))
    lines += _metric("smarthost_engine_beat_age_seconds", "gauge", "Seconds since an engine's last heartbeat")
    lines += [
        _value("smarthost_engine_beat_age_seconds", round(since, 3), engine=name)
        for _, name, since in engines
    ]
    routes = store.routes()
    lines += _metric("smarthost_route_paused", "gauge", "1 while the route through this server is paused")
    for row in sorted(directory.upstreams.values(), key=lambda row: row.name):
        found = routes.get(row.id)
        paused = bool(found and found.paused_until is not None)
        reason = found.reason if found and paused else ""
        lines.append(_value("smarthost_route_paused", int(paused), upstream=row.name, reason=reason))
    lines += _metric("smarthost_capture", "gauge", "1 while mail is captured and not sent")
    lines.append(_value("smarthost_capture", int(directory.mode.value != "live")))
    lines += _metric("smarthost_store_full", "gauge", "1 while free space is below the floor")
    lines.append(_value("smarthost_store_full", int(store.full)))
    lines += _metric("smarthost_config_version", "counter", "Version of the directory")
    lines.append(_value("smarthost_config_version", directory.version))
    return lines + _latency()


def _latency() -> list[str]:
    """From accepted to sent, over the newest attempts."""
    tries = spool().attempts(limit=_RECENT, newest=True)
    sent = sorted((each.at - id_time(each.message_id)) / 1e6 for each in tries if each.state is State.SENT)
    name = "smarthost_delivery_latency_seconds"
    lines = _metric(name, "gauge", "From accepted to sent, of the newest 1000 attempts")
    if sent:
        lines += [
            _value(name, round(sent[min(int(q * len(sent)), len(sent) - 1)], 6), quantile=str(q))
            for q in _QUANTILES
        ]
    return lines


def _metric(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}.\n# TYPE {name} {kind}\n"]


def _value(name: str, value: float, **labels: str) -> str:
    inside = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
    return f"{name}{{{inside}}} {value}\n" if inside else f"{name} {value}\n"
