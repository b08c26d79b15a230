"""The environment as a layer. Empty variables count as not set, as composing tools write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from smarthost.config._kinds import ADDRESS, Kind
from smarthost.config._table import SETTINGS, UPSTREAM, UPSTREAM_BY_KEY, UpstreamField
from smarthost.config._toml import Read, nearest
from smarthost.config._values import Layer, UpstreamSource, Value
from smarthost.errors import ConfigError

ALIASES = "SMARTHOST_ALIASES"
PROCESS: tuple[tuple[str, str, str], ...] = (
    ("SMARTHOST_DATA", "data", "Folder of the embedded database, the key file and the sockets."),
    ("SMARTHOST_DATABASE_URL", "in the data folder", "sqlite:///… or postgresql://…"),
    ("SMARTHOST_HTTP", "127.0.0.1:8025", "Where pages and API listen; off: nowhere."),
    (
        "SMARTHOST_SMTP",
        "127.0.0.1:2525",
        "Where submission listens, with STARTTLS once there is a certificate; off: nowhere.",
    ),
    ("SMARTHOST_SMTPS", "off", "Where submission with TLS from the start listens."),
    ("SMARTHOST_TLS_CERT", "", "Certificate chain, PEM; read again when it changes."),
    ("SMARTHOST_TLS_KEY", "", "Its key, PEM."),
    (
        "SMARTHOST_PUBLIC_URL",
        "http://, then SMARTHOST_HTTP",
        "Address of the pages as people reach it; links use no other.",
    ),
    ("SMARTHOST_TRUSTED_PROXIES", "", "Networks of proxies whose forwarding headers are believed."),
    (
        "SMARTHOST_METRICS_NETWORKS",
        "127.0.0.0/8 ::1",
        "Networks that may read /metrics without a token; off: none.",
    ),
    ("SMARTHOST_SECRET_KEY_FILE", "secret.key in the data folder", "The key file; made at the first start."),
    ("SMARTHOST_CONFIG", "", "A TOML file, or a folder whose *.toml are read in the order of their names."),
    (
        "SMARTHOST_LOCK",
        "",
        "Globs of settings that only files and variables may change, such as limits.* or upstream.*",
    ),
    (
        "SMARTHOST_OWNER",
        "",
        "Address of the first owner, whom the first start makes; empty: a name, and no address yet.",
    ),
    (
        "SMARTHOST_ALLOW_UNSAFE_STORE",
        "",
        "1: run although the store does not keep mail safe, for tests and nothing else.",
    ),
)


def parse_environment(environ: Mapping[str, str], read: Read) -> tuple[Layer, tuple[ConfigError, ...]]:
    """Read every `SMARTHOST_…` variable that stands for a setting. `read` as for `parse_toml`.

    The servers of the layer have at most one member: variables describe the one default server.
    """
    reader = _Reader(environ, read)
    values = reader.scalars() | reader.aliases()
    fields = reader.upstream()
    reader.check_names()
    upstreams: tuple[UpstreamSource, ...] = ()
    if fields:
        name = fields.get("name", Value(UPSTREAM_BY_KEY["name"].default))
        first = next(iter(fields.values())).origin
        upstreams = (UpstreamSource(name=str(name.value), origin=first, default=True, fields=fields),)
    return Layer(values=values, upstreams=upstreams), tuple(reader.problems)


class _Reader:
    """Walks the tables, looks each variable up, and collects problems."""

    def __init__(self, environ: Mapping[str, str], read: Read) -> None:
        self.environ = environ
        self.read = read
        self.problems: list[ConfigError] = []

    def scalars(self) -> dict[str, Value]:
        found = {row.name: self.value(row.variable, row.kind) for row in SETTINGS}
        return {name: value for name, value in found.items() if value is not None}

    def upstream(self) -> dict[str, Value]:
        found = {row.field: self.field(row) for row in UPSTREAM if row.key != "default"}
        return {field: value for field, value in found.items() if value is not None}

    def aliases(self) -> dict[str, Value]:
        """`SMARTHOST_ALIASES="root=ops@example.com www-data=ops@example.com"`."""
        values = {}
        for word in self.environ.get(ALIASES, "").replace(",", " ").split():
            name, equals, target = word.partition("=")
            try:
                if not name or not equals:
                    raise ValueError("must be NAME=ADDRESS")
                values[f"aliases.{name.lower()}"] = Value(ADDRESS.read(target), f"variable {ALIASES}")
            except ValueError as error:
                self.problem(ALIASES, f"{word} {error}")
        return values

    def field(self, row: UpstreamField) -> Value | None:
        """A field of the server: the variable, the file that it names, or the file that `…_FILE` names."""
        if row.file:
            return self.content(row.variable, row.secret)
        named = f"{row.variable}_FILE"
        if not row.secret or not self.environ.get(named):
            return self.value(row.variable, row.kind, secret=row.secret)
        if self.environ.get(row.variable):
            self.problem(named, f"{row.variable} and {named} are both set; set one of them")
            return None
        return self.content(named, row.secret)

    def value(self, variable: str, kind: Kind, secret: bool = False) -> Value | None:
        text = self.environ.get(variable, "")
        if not text:
            return None
        try:
            return Value(kind.read(text), f"variable {variable}", secret=secret)
        except ValueError as error:
            self.problem(variable, f"{variable} {error}")
            return None

    def content(self, variable: str, secret: bool) -> Value | None:
        """The content of the file that the variable names; a last line end is no part of a secret."""
        path = self.environ.get(variable, "")
        if not path:
            return None
        try:
            return Value(self.read(Path(path)).rstrip("\r\n"), f"variable {variable}", secret=secret)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self.problem(variable, f"{path} cannot be read: {reason}")
            return None

    def problem(self, variable: str, text: str) -> None:
        self.problems.append(ConfigError(text, origin=f"variable {variable}", field=variable))

    def check_names(self) -> None:
        """A misspelt variable of a section of ours is an error; of other SMARTHOST_… names nothing is said.

        An orchestrator sets names such as SMARTHOST_PORT and SMARTHOST_SERVICE_HOST for a service so called.
        """
        known = known_variables()
        sections = "|".join(sorted({row.section.upper() for row in SETTINGS} | {"UPSTREAM"}))
        for name in sorted(self.environ):
            if name in known or not re.fullmatch(rf"SMARTHOST_({sections})_[A-Z0-9_]+", name):
                continue
            near = nearest(name, [other.lower() for other in known])
            if near:
                self.problem(name, f"unknown variable {name}; did you mean {near.upper()}?")


def known_variables() -> tuple[str, ...]:
    """Every variable that Smarthost reads as a setting."""
    rows = [setting.variable for setting in SETTINGS] + [
        row.variable for row in UPSTREAM if row.key != "default"
    ]
    files = [f"{row.variable}_FILE" for row in UPSTREAM if row.secret and not row.file]
    return (*rows, *files, ALIASES, *(name for name, _, _ in PROCESS))
