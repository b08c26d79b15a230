"""The numbers of the submission side, in one place. Tests make them small."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Times in seconds, sizes in bytes.

    connections, per_host   open connections, of all peers and of one (an IPv4 address or an IPv6 /64).
                            Loopback and the Unix socket count in the first only.
    idle, stranger_idle     between two commands, once known who it is, and before (RFC 5321 4.5.3.2.7: 5
                            minutes). A byte now and then is no progress; a whole command is.
    stranger_session        whole session of a peer that never says who it is.
    handshake               TLS.
    window, min_rate        content must come with min_rate bytes a second over each window.
    stalled_writer          how long a peer may leave our replies unread.
    linger                  how long content that nobody wants is read, so that its sender sees our refusal.
    held                    bytes received while an answer is pending before reading pauses.
    in_flight               bytes of content held by all connections before new mail is asked to wait (452).
    sweep                   how often all of these are looked at.
    grace                   how long stop() waits for content that is still coming in.
    """

    connections: int = 2000
    per_host: int = 200
    idle: float = 300.0
    stranger_idle: float = 60.0
    stranger_session: float = 120.0
    handshake: float = 30.0
    window: float = 60.0
    min_rate: int = 500
    stalled_writer: float = 60.0
    linger: float = 30.0
    held: int = 64 * 1024
    in_flight: int = 64 * 1024 * 1024
    sweep: float = 1.0
    grace: float = 10.0
