"""The states of both sides and how they follow one another."""

from __future__ import annotations

from enum import StrEnum


class ClientState(StrEnum):
    """A client's session. Transactions live inside READY and LEAVING."""

    BANNER = "banner"
    EHLO = "ehlo"
    HELO = "helo"
    STARTTLS = "starttls"
    TLS = "tls"
    AUTH = "auth"
    READY = "ready"
    LEAVING = "leaving"
    CLOSED = "closed"


class ServerState(StrEnum):
    """A server's session."""

    GREETING = "greeting"
    START = "start"
    READY = "ready"
    MAIL = "mail"
    RCPT = "rcpt"
    CHUNKS = "chunks"
    DATA = "data"
    AUTH = "auth"
    TLS = "tls"
    CLOSED = "closed"
