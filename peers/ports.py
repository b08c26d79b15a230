"""Free ports on loopback, and waiting until somebody listens."""

from __future__ import annotations

import socket
import time


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_for_port(port: int, seconds: float = 15.0, host: str = "127.0.0.1") -> None:
    """Return once somebody accepts connections there.

    Raises TimeoutError after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens on {host}:{port}") from None
            time.sleep(0.02)
        else:
            return
