"""The states of both sides and how they follow one another.

A client's session is a ladder: banner, EHLO, perhaps STARTTLS and a new EHLO, perhaps AUTH, then READY.
Each rung waits for exactly one reply; `CLIENT_STEPS` says which rung a reply of which class leads to, and
whatever the table does not know ends the session. What depends on configuration and capabilities (whether
STARTTLS or AUTH comes after EHLO) is the one decision that is not in the table. In READY, replies belong
to transactions; their order is the order of what was written, kept in a queue.

A server's session is a set of states, and `SERVER_ORDER` says in which of them a verb may come, with the
reply where it may not (RFC 5321 4.1.4, 4.3.2; RFC 3030 3; RFC 3207 4; RFC 4954 4). A verb without a line
there may come at any time after the greeting.
"""

from __future__ import annotations

from enum import StrEnum

from smarthost.smtp._types import Reply, Stage


class ClientState(StrEnum):
    """A client's session. Transactions live inside READY and LEAVING (QUIT was asked for)."""

    BANNER = "banner"
    EHLO = "ehlo"
    HELO = "helo"
    STARTTLS = "starttls"
    TLS = "tls"
    AUTH = "auth"
    READY = "ready"
    LEAVING = "leaving"
    CLOSED = "closed"


class Move(StrEnum):
    """What a client does next while it sets up its session."""

    SAY_EHLO = "say-ehlo"
    SAY_HELO = "say-helo"  # only where neither STARTTLS nor AUTH is needed
    ADVANCE = "advance"  # EHLO is answered: STARTTLS, AUTH or READY
    HANDSHAKE = "handshake"
    CHALLENGED = "challenged"
    SUCCEEDED = "succeeded"
    NEXT_MECHANISM = "next-mechanism"  # 504, 534: not this one; 235 or a challenge may still follow


# (state, reply code or its first digit) → move
CLIENT_STEPS: dict[tuple[ClientState, int], Move] = {
    (ClientState.BANNER, 220): Move.SAY_EHLO,
    (ClientState.EHLO, 250): Move.ADVANCE,
    (ClientState.EHLO, 500): Move.SAY_HELO,
    (ClientState.EHLO, 502): Move.SAY_HELO,
    (ClientState.EHLO, 504): Move.SAY_HELO,
    (ClientState.HELO, 250): Move.ADVANCE,
    (ClientState.STARTTLS, 220): Move.HANDSHAKE,
    (ClientState.AUTH, 334): Move.CHALLENGED,
    (ClientState.AUTH, 235): Move.SUCCEEDED,
    (ClientState.AUTH, 504): Move.NEXT_MECHANISM,
    (ClientState.AUTH, 534): Move.NEXT_MECHANISM,
}

# What a state without transactions waits for.
CLIENT_STAGES: dict[ClientState, Stage] = {
    ClientState.BANNER: Stage.BANNER,
    ClientState.EHLO: Stage.EHLO,
    ClientState.HELO: Stage.EHLO,
    ClientState.STARTTLS: Stage.STARTTLS,
    ClientState.TLS: Stage.TLS,
    ClientState.AUTH: Stage.AUTH,
    ClientState.READY: Stage.IDLE,
    ClientState.LEAVING: Stage.QUIT,
    ClientState.CLOSED: Stage.CLOSED,
}


class ServerState(StrEnum):
    """A server's session. START: nobody said EHLO since the greeting or the handshake."""

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


_START, _READY, _MAIL, _RCPT = ServerState.START, ServerState.READY, ServerState.MAIL, ServerState.RCPT
_HELLO_FIRST = Reply(503, "5.5.1", "Say EHLO first")
_NESTED = Reply(503, "5.5.1", "A transaction is under way")
_MAIL_FIRST = Reply(503, "5.5.1", "MAIL comes first")
_NO_RCPT = Reply(554, "5.5.1", "No valid recipients")
_CHUNKS = Reply(503, "5.5.1", "BDAT goes on until LAST")

# verb → state → what to answer where it may not come there
SERVER_ORDER: dict[bytes, dict[ServerState, Reply]] = {
    b"MAIL": {
        _START: _HELLO_FIRST,
        _MAIL: _NESTED,
        _RCPT: _NESTED,
        ServerState.CHUNKS: _CHUNKS,
    },
    b"RCPT": {_START: _HELLO_FIRST, _READY: _MAIL_FIRST, ServerState.CHUNKS: _CHUNKS},
    b"DATA": {
        _START: _HELLO_FIRST,
        _READY: _MAIL_FIRST,
        _MAIL: _NO_RCPT,
        ServerState.CHUNKS: _CHUNKS,
    },
    b"BDAT": {_START: _HELLO_FIRST, _READY: _MAIL_FIRST, _MAIL: _NO_RCPT},
    b"STARTTLS": {_START: _HELLO_FIRST},
    b"AUTH": {
        _START: _HELLO_FIRST,
        _MAIL: _NESTED,
        _RCPT: _NESTED,
        ServerState.CHUNKS: _NESTED,
    },
}
