"""The web process's own log: one logfmt line an event on standard error, like the engine's.

Refused requests are answers, not events, and are not logged here; what broke on our side is.
"""

from __future__ import annotations

import logging
import time
import traceback

from smarthost.engine.log import quote


class OneLine(logging.Formatter):
    """time=… level=… event=web text=… error=… at=file:line<file:line"""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = [
            f"time={stamp}.{int(record.msecs):03d}Z",
            f"level={record.levelname.lower()}",
            "event=web",
            f"text={quote(record.getMessage())}",
        ]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)[-4:]
            where = "<".join(
                f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in reversed(frames)
            )
            fields += [f"error={quote(f'{type(error).__name__}: {error}')}", f"at={quote(where)}"]
        return " ".join(fields)


def configure() -> None:
    """Send what Django and we report to standard error, from errors on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    for name in ("django", "smarthost"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.ERROR)
