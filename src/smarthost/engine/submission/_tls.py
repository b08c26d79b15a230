"""The certificate that the listeners show, reloaded when its files change.

A renewed certificate must not need a restart, and a broken renewal must not take the listeners down. So the
files' identity (inode, size, time) is compared every few seconds; a change is loaded into a new context,
and only one that loads replaces the old. Sessions that run keep theirs. TLS 1.2 at least (RFC 8996, 8314).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from smarthost.engine.log import Log
from smarthost.errors import ConfigError

Stamp = tuple[tuple[int, int, int], ...]


class Certificate:
    """`context` is what the next handshake uses. Raises ConfigError where the files cannot be used."""

    def __init__(self, cert: Path, key: Path, log: Log) -> None:
        self._cert = cert
        self._key = key
        self._log = log
        try:
            self._stamp = self._look()
            self.context = self._load()
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"The certificate {cert} cannot be used with the key {key}: {error}",
                origin="SMARTHOST_TLS_CERT",
            ) from error

    def refresh(self) -> bool:
        """Look at the files; whether a new certificate is in use now."""
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self.context = self._load()
        except (OSError, ssl.SSLError) as error:
            self._log.error("certificate-unusable", file=self._cert, error=error)
            return False
        self._log.info("certificate-reloaded", file=self._cert)
        return True

    def _look(self) -> Stamp:
        return tuple(
            (status.st_ino, status.st_size, status.st_mtime_ns)
            for status in (self._cert.stat(), self._key.stat())
        )

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        context.load_cert_chain(self._cert, self._key)
        return context
