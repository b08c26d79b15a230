"""The one table of settings. Files, variables, pages, commands and the docs are read off it."""

from __future__ import annotations

from dataclasses import dataclass

from smarthost.config._kinds import (
    ADDRESS,
    BOOLEAN,
    DOMAIN,
    HELO,
    HOST_NAME,
    LIMIT,
    PATH,
    PIN,
    SECRET,
    SERVER_NAME,
    SIZE,
    TEXT,
    Kind,
    choice,
    integer,
)

SAFE_RETRY_AFTER = 900


@dataclass(frozen=True, slots=True)
class Setting:
    """A scalar. `name` is "section.key"; `help` is one sentence; a default of "" means what `help` says."""

    name: str
    kind: Kind
    default: object
    help: str

    @property
    def section(self) -> str:
        return self.name.partition(".")[0]

    @property
    def key(self) -> str:
        return self.name.partition(".")[2]

    @property
    def variable(self) -> str:
        return "SMARTHOST_" + self.name.replace(".", "_").upper()


@dataclass(frozen=True, slots=True)
class UpstreamField:
    """A field of a server. `field` is its name in `routing.Upstream`.

    secret  may also come from a file: `KEY_file` in the file, `…_FILE` as variable; never shown.
    file    the value names a file, and what is used is its content.
    """

    key: str
    field: str
    kind: Kind
    default: object
    help: str
    secret: bool = False
    file: bool = False

    @property
    def variable(self) -> str:
        return "SMARTHOST_UPSTREAM_" + self.key.upper()


SETTINGS: tuple[Setting, ...] = (
    Setting("server.hostname", DOMAIN, "", "Name in banners, HELO and Received; empty: the machine's own."),
    Setting("server.domain", DOMAIN, "", "Completes addresses without a domain; empty: the hostname."),
    Setting("server.contact", ADDRESS, "", "The administrator's address, named in refusals."),
    Setting("limits.max_size", LIMIT, 50 * 2**20, "Largest message that is accepted, in bytes."),
    Setting("limits.max_recipients", integer(1, 100_000), 1000, "Most recipients of one message."),
    Setting("limits.max_header", LIMIT, 200 * 2**10, "Largest header section of a message, in bytes."),
    Setting(
        "limits.max_hops", integer(1, 1000), 50, "Received fields from which a message counts as looping."
    ),
    Setting(
        "delivery.driver",
        choice("smtp", "log"),
        "smtp",
        "smtp sends; log captures everything, over every server.",
    ),
    Setting("delivery.require_tls", BOOLEAN, False, "Refuse to send through servers without encryption."),
    Setting(
        "delivery.unknown_retry_after",
        integer(1, 7 * 86400),
        SAFE_RETRY_AFTER,
        "Seconds until a message is tried again whose end is unknown; below 900 it may arrive twice.",
    ),
    Setting(
        "retention.content_days", integer(0, 36_500), 30, "Days that a finished message's content is kept."
    ),
    Setting("retention.rows_days", integer(1, 36_500), 90, "Days that a finished message is listed."),
)
BY_NAME = {setting.name: setting for setting in SETTINGS}
SECTIONS = tuple(dict.fromkeys(setting.section for setting in SETTINGS))

UPSTREAM: tuple[UpstreamField, ...] = (
    UpstreamField(
        "name", "name", SERVER_NAME, "default", "What people call the server; each [[upstream]] needs one."
    ),
    UpstreamField(
        "default", "default", BOOLEAN, False, "Of several servers, the one that mail goes through."
    ),
    UpstreamField("host", "host", HOST_NAME, "", "Name or address of the SMTP server."),
    UpstreamField("port", "port", integer(1, 65535), 587, "Its port."),
    UpstreamField(
        "encryption",
        "encryption",
        choice("none", "starttls", "tls"),
        "starttls",
        "none: in clear; starttls: required, never skipped; tls: from the start.",
    ),
    UpstreamField("verify", "verify", BOOLEAN, True, "Check the server's certificate."),
    UpstreamField("ca_file", "ca_pem", PATH, "", "PEM file of a private certificate authority.", file=True),
    UpstreamField("pin", "pin", PIN, "", "SHA-256 of the server's certificate (DER)."),
    UpstreamField("client_cert", "client_cert_pem", PATH, "", "PEM file of a client certificate.", file=True),
    UpstreamField(
        "client_key",
        "client_key",
        PATH,
        "",
        "PEM file of the client certificate's key.",
        secret=True,
        file=True,
    ),
    UpstreamField("helo", "helo", HELO, "", "Name given in HELO; empty: the server.hostname."),
    UpstreamField(
        "auth",
        "mechanism",
        choice("auto", "none", "plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer"),
        "auto",
        "How to sign in; a named mechanism and no other.",
    ),
    UpstreamField(
        "username", "username", TEXT, "", "User name; set together with the password or not at all."
    ),
    UpstreamField("password", "password", SECRET, "", "Password of that user.", secret=True),
    UpstreamField("from", "from_address", ADDRESS, "", "From address of mail that has none."),
    UpstreamField("from_name", "from_name", TEXT, "", "Name beside that From address."),
    UpstreamField("connections", "connections", integer(1, 200), 8, "Most connections at once."),
    UpstreamField("rate", "rate", integer(0, 10**6), 0, "Messages a minute; 0: no limit."),
    UpstreamField("quota", "quota", integer(0, 10**8), 0, "Messages a day; 0: no limit."),
    UpstreamField(
        "max_size", "max_size", SIZE, 0, "Largest message through it, in bytes; 0: what the server says."
    ),
    UpstreamField(
        "max_recipients", "max_recipients", integer(1, 10_000), 100, "Most recipients in one transaction."
    ),
    UpstreamField(
        "unknown",
        "unknown",
        choice("retry", "hold"),
        "retry",
        "After an unknown end: try again later, or wait for a person.",
    ),
    UpstreamField(
        "enabled", "enabled", BOOLEAN, True, "Switched off, it refuses new mail and keeps what waits."
    ),
)
UPSTREAM_BY_KEY = {field.key: field for field in UPSTREAM}
FILE_KEYS = {f"{field.key}_file": field for field in UPSTREAM if field.secret and not field.file}
