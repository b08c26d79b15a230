"""From settings and the control plane's rows to the directory that `admit` reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from smarthost.config._values import Settings
from smarthost.errors import ConfigError
from smarthost.routing import (
    Directory,
    Limits,
    Mode,
    Retention,
    Upstream,
    UpstreamKind,
    check_directory,
)


def compile_directory(
    settings: Settings,
    *,
    version: int,
    mode: Mode,
    machine: str,
    upstreams: Iterable[Upstream] = (),
    default_upstream: str = "",
    networks: Iterable[tuple[str, str]] = (),
    uids: Mapping[int, str] | None = None,
) -> Directory:
    """The directory of this moment.

    mode              the stored mode, CAPTURE or LIVE; the `log` driver overrides both.
    machine           the machine's own name, used where server.hostname is empty.
    upstreams         every server, personal ones included, secrets sealed.
    default_upstream  id of the shared server that is the default one, "" where none is chosen.
    networks, uids    (CIDR, principal id) and Unix user → principal id, of enabled applications.

    Raises ConfigError with every reason why this directory must not be published.
    """
    servers = {row.id: row for row in upstreams}
    hostname = settings["server.hostname"] or machine
    directory = Directory(
        version=version,
        mode=Mode.LOG if settings["delivery.driver"] == "log" else mode,
        hostname=hostname,
        domain=settings["server.domain"] or hostname,
        upstreams=servers,
        default_upstream=choose_default(servers.values(), default_upstream),
        networks=tuple(networks),
        uids=dict(uids or {}),
        aliases=settings.aliases,
        limits=Limits(
            max_size=settings["limits.max_size"],
            max_recipients=settings["limits.max_recipients"],
            max_header=settings["limits.max_header"],
            max_hops=settings["limits.max_hops"],
        ),
        contact=settings["server.contact"],
        require_tls=settings["delivery.require_tls"],
        unknown_retry_after=settings["delivery.unknown_retry_after"],
        retention=Retention(
            content_days=settings["retention.content_days"],
            rows_days=settings["retention.rows_days"],
        ),
    )
    problems = check_directory(directory)
    if problems:
        raise ConfigError("; ".join(problems))
    return directory


def choose_default(upstreams: Iterable[Upstream], chosen: str) -> str:
    """The id of the server for mail that no rule sends elsewhere, "" where there is none.

    The chosen one; else the only shared one; else, only where no shared server is configured (a disabled one
    counts as configured), a managed one.
    """
    rows = list(upstreams)
    shared = [row.id for row in rows if row.kind is UpstreamKind.SHARED]
    if chosen:
        return chosen
    if shared:
        return shared[0] if len(shared) == 1 else ""
    return next((row.id for row in rows if row.kind is UpstreamKind.MANAGED), "")
