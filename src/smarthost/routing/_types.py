"""What `admit` reads and what it answers.

A `Directory` is an immutable, versioned snapshot: the control plane compiles it in the transaction of a
change, everybody else only reads it. Principals are kept apart, one each, because there may be 100,000.
All of it is msgspec structs, so that a snapshot is one JSON text in the store, the same for every process.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from smarthost.mail import Address


class Encryption(StrEnum):
    """NONE: in clear. STARTTLS: required, never skipped. TLS: from the first byte (RFC 8314)."""

    NONE = "none"
    STARTTLS = "starttls"
    TLS = "tls"


class UpstreamKind(StrEnum):
    SHARED = "shared"
    PERSONAL = "personal"
    MANAGED = "managed"


class UnknownPolicy(StrEnum):
    """What follows a final dot without an answer: try again after a pause, or wait for a person."""

    RETRY = "retry"
    HOLD = "hold"


class Upstream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An SMTP server that carries mail.

    password and client_key are sealed (see `smarthost.vault`): useless without the key file and bound to
    (host, port, encryption, verify, username, mechanism). helo "" is this machine's own name.
    mechanism is "auto", "none" or one SASL name in lower case ("plain", "scram-sha-256", …).
    rate is messages a minute (0: none), quota messages a day (0: none), max_size bytes (0: the server's own).
    """

    id: str
    name: str
    host: str
    kind: UpstreamKind = UpstreamKind.SHARED
    port: int = 587
    encryption: Encryption = Encryption.STARTTLS
    verify: bool = True
    enabled: bool = True
    ca_pem: str = ""
    pin: str = ""  # SHA-256 of the server's certificate (DER), hex
    client_cert_pem: str = ""
    client_key: str = ""
    helo: str = ""
    mechanism: str = "auto"
    username: str = ""
    password: str = ""
    from_address: str = ""
    from_name: str = ""
    connections: int = 8
    rate: int = 0
    quota: int = 0
    max_size: int = 0
    max_recipients: int = 100
    unknown: UnknownPolicy = UnknownPolicy.RETRY
    owner: str = ""
    version: int = 1


class Principal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who sends. id is "user:…" or "app:…"; secrets are hex SHA-256 of generated credentials.

    identities  canonical addresses it may write as (its own; verified).
    owner_address  where failure notices go when the writer's address is no identity of it.
    networks   CIDRs from which no credential is needed; clear_networks those where AUTH in clear is allowed.
    uids       Unix users that are this application at the sendmail socket.
    """

    id: str
    name: str
    login: str
    enabled: bool = True
    secrets: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()
    owner_address: str = ""
    networks: tuple[str, ...] = ()
    clear_networks: tuple[str, ...] = ()
    uids: tuple[int, ...] = ()
    personal_upstream: str = ""
    version: int = 1


class Mode(StrEnum):
    """Whether mail leaves. CAPTURE: until the first upstream is set. LOG: forced by the `log` driver."""

    LIVE = "live"
    CAPTURE = "capture"
    LOG = "log"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """max_size in bytes, recipients a message, header section in bytes, hops counted in Received fields."""

    max_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_header: int = 200 * 1024
    max_hops: int = 50


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Days that a finished message's content and its rows are kept; content goes first."""

    content_days: int = 30
    rows_days: int = 90


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides, but for the principals themselves.

    networks  (CIDR, principal id); the longest prefix wins, two equal ones are an error when compiled.
    uids      Unix user id → principal id.
    clear_networks  those of all applications: where AUTH is offered in clear at all.
    aliases   local name → canonical address ("root" → "admin@example.com").
    domain    completes addresses that have none; hostname is this machine's name in banners and Received.
    contact   the administrator's address, named in refusals; "" where none is known.
    """

    version: int
    mode: Mode
    hostname: str
    domain: str
    upstreams: dict[str, Upstream]
    default_upstream: str = ""
    networks: tuple[tuple[str, str], ...] = ()
    uids: dict[int, str] = {}
    aliases: dict[str, str] = {}
    limits: Limits = Limits()
    clear_networks: tuple[str, ...] = ()
    contact: str = ""
    require_tls: bool = False
    unknown_retry_after: int = 900  # seconds; at least 900 outside tests
    retention: Retention = Retention()


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """What a door asks for. header_from is None where the content has no From. size is None while unknown.

    smtputf8  whether the door takes internationalised addresses for this message (RFC 6531: MAIL said so).
    """

    principal: Principal
    door: str
    sender: Address | None
    recipients: tuple[Address, ...]
    header_from: Address | None = None
    header_known: bool = True  # False at RCPT time: the content has not been seen yet
    size: int | None = None
    smtputf8: bool = True


class Edits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Declared changes between what was accepted and what is sent; empty fields change nothing."""

    header_from: str = ""  # a whole From value to write instead
    header_from_if_missing: str = ""
    reply_to: str = ""
    sender: str = ""  # envelope sender to write instead


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """This recipient goes, through `upstream` ("" when captured). `why` names the rule, for people."""

    recipient: Address
    upstream: str
    captured: bool = False
    edits: Edits | None = None
    why: str = ""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """This recipient does not go, and precisely why. recipient None refuses the whole message."""

    recipient: Address | None
    code: int
    enhanced: str
    slug: str
    text: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One entry a recipient, in the order asked."""

    recipients: tuple[Admitted | Refusal, ...]

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        return tuple(entry for entry in self.recipients if isinstance(entry, Refusal))
