"""A value and where it came from, in layers.

    built-in default  <  configuration files  <  environment  <  what an administrator set

Scalars and aliases stand in one flat mapping by name ("limits.max_size", "aliases.root"). Servers stand
apart, by name, each a mapping of fields. A layer is data: it can be stored as JSON text and read again by a
process with another environment. The values of secrets are left out of that text.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from smarthost.config._table import BY_NAME, UPSTREAM_BY_KEY
from smarthost.errors import ConfigError

DEFAULT_ORIGIN = "default"


class Value(msgspec.Struct, frozen=True, omit_defaults=True):
    """value: checked, in its canonical form. origin: "default", "file x.toml, line 4", "variable X", …"""

    value: Any
    origin: str = DEFAULT_ORIGIN
    locked: bool = False
    secret: bool = False

    def __repr__(self) -> str:
        shown = "•••" if self.secret else repr(self.value)
        return f"Value({shown}, {self.origin!r}{', locked' if self.locked else ''})"


class UpstreamSource(msgspec.Struct, frozen=True, kw_only=True):
    """A server as files and variables describe it. fields: by the name they have in `routing.Upstream`.

    Only what was said: `full()` has the defaults too. default: it is the server that mail goes through.
    """

    name: str
    origin: str
    default: bool = False
    fields: dict[str, Value]

    @property
    def locked(self) -> bool:
        """Whether anything of it may not be changed by administrators."""
        return any(value.locked for value in self.fields.values())

    def full(self) -> dict[str, Any]:
        """Plain values of every field of `routing.Upstream` that a person sets. The secrets are in clear."""
        plain = {row.field: row.default for row in UPSTREAM_BY_KEY.values() if row.key != "default"}
        return plain | {field: value.value for field, value in self.fields.items()} | {"name": self.name}


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one kind of origin says.

    stored  administrators set these: locks of the layers below hold against them.
    """

    values: dict[str, Value] = {}
    upstreams: tuple[UpstreamSource, ...] = ()
    stored: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The effective settings: every scalar of the table, every alias, the servers of files and variables."""

    values: dict[str, Value]
    upstreams: tuple[UpstreamSource, ...] = ()
    lock: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Any:
        """The plain value of a scalar; its default where nobody set it. KeyError for an unknown name."""
        found = self.values.get(name)
        return BY_NAME[name].default if found is None else found.value

    @property
    def aliases(self) -> dict[str, str]:
        """Local name in lower case → canonical address."""
        prefix = "aliases."
        return {
            name.removeprefix(prefix): row.value
            for name, row in self.values.items()
            if name.startswith(prefix)
        }

    def locked(self, name: str) -> bool:
        """Whether administrators may not change it: "section.key", "aliases.NAME" or "upstream.NAME.KEY"."""
        if is_locked(name, self.lock):
            return True
        section, _, rest = name.partition(".")
        if section != "upstream":
            return name in self.values and self.values[name].locked
        server, _, key = rest.rpartition(".")
        field = UPSTREAM_BY_KEY[key].field
        return any(
            field in row.fields and row.fields[field].locked for row in self.upstreams if row.name == server
        )


def is_locked(name: str, lock: Sequence[str]) -> bool:
    """Whether a glob names this setting; "*" covers points too, so "upstream.*" is all servers."""
    return any(fnmatchcase(name, glob) for glob in lock)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Layer)


def encode_layer(layer: Layer) -> str:
    """The layer as JSON text. Of a secret it holds the origin and the lock, but not the value."""
    upstreams = tuple(
        msgspec.structs.replace(row, fields={key: _blank(value) for key, value in row.fields.items()})
        for row in layer.upstreams
    )
    return _encoder.encode(msgspec.structs.replace(layer, upstreams=upstreams)).decode()


def _blank(value: Value) -> Value:
    return msgspec.structs.replace(value, value="") if value.secret else value


def decode_layer(text: str | bytes) -> Layer:
    """The inverse of `encode_layer`. Raises ConfigError where the text is no layer."""
    try:
        return _decoder.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigError(f"the stored settings cannot be read: {error}") from error
