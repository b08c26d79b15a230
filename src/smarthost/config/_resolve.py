"""Laying layers over each other. Pure.

The highest layer that says something wins, but for a locked value: against that, what administrators set
counts for nothing. A lock is a lock on the *name*: a variable may still override a locked line of a file,
for who sets variables of the service is who could edit the file. The `log` driver locks every server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from smarthost.config._kinds import ADDRESS
from smarthost.config._table import BY_NAME, SAFE_RETRY_AFTER, SETTINGS, UPSTREAM
from smarthost.config._toml import nearest
from smarthost.config._values import Layer, Settings, UpstreamSource, Value, is_locked
from smarthost.errors import ConfigError


def merge(layers: Iterable[Layer]) -> tuple[Layer, tuple[ConfigError, ...]]:
    """The layers of several files as one: later scalars win, lists of servers are appended.

    [upstream] of several files is one server, field by field; [[upstream]] of one name twice is a problem.
    """
    values: dict[str, Value] = {}
    upstreams: dict[str, UpstreamSource] = {}
    problems = []
    for layer in layers:
        for name, value in layer.values.items():
            values[name] = _over(values.get(name), value)
        for row in layer.upstreams:
            other = upstreams.get(row.name)
            if other is None:
                upstreams[row.name] = row
            elif other.default and row.default:
                upstreams[row.name] = _merged(other, row)
            else:
                text = f"the server {row.name} was described before: {other.origin}"
                problems.append(ConfigError(text, origin=row.origin, field="upstream.name"))
    return Layer(values=values, upstreams=tuple(upstreams.values())), tuple(problems)


def resolve(layers: Sequence[Layer], lock: Sequence[str] = ()) -> Settings:
    """The effective settings. `layers` from the lowest to the highest, `lock` globs such as "limits.*".

    Every scalar of the table is there, with its origin. Servers are those of files and variables; what
    administrators made of them is the control plane's.
    """
    values = {setting.name: Value(setting.default) for setting in SETTINGS}
    lock = tuple(lock)
    upstreams: tuple[UpstreamSource, ...] = ()
    for layer in layers:
        for name, value in layer.values.items():
            lower = values.get(name)
            if not (layer.stored and (is_locked(name, lock) or (lower is not None and lower.locked))):
                values[name] = _over(lower, value)
        upstreams = _servers(upstreams, layer.upstreams)
    if values["delivery.driver"].value == "log":
        lock += ("upstream.*",)
    return Settings(
        values={name: _lock(value, is_locked(name, lock)) for name, value in values.items()},
        upstreams=tuple(_lock_server(row, lock) for row in one_default(upstreams)),
        lock=lock,
    )


def stored_layer(rows: Iterable[tuple[str, Any, str, str]]) -> tuple[Layer, tuple[ConfigError, ...]]:
    """What administrators set: (name, value, by whom, when as text to read).

    A stored value that this version does not understand is left out and told; the layer below shows.
    """
    values: dict[str, Value] = {}
    problems = []
    for name, raw, by, at in rows:
        origin = f"set by {by} at {at}"
        try:
            values[name] = Value(check_value(name, raw), origin)
        except ConfigError as error:
            problems.append(ConfigError(error.public, origin=origin, field=name))
    return Layer(values=values, stored=True), tuple(problems)


def check_value(name: str, raw: object) -> Any:
    """The canonical value of a scalar or alias from what a page, a command or the store gives.

    Raises ConfigError that names the setting and what it must be, or the nearest setting there is.
    """
    if name.startswith("aliases.") and len(name) > len("aliases."):
        kind = ADDRESS
    elif name in BY_NAME:
        kind = BY_NAME[name].kind
    else:
        near = nearest(name, BY_NAME)
        raise ConfigError(f"unknown setting {name}" + (f"; did you mean {near}?" if near else ""), field=name)
    try:
        return kind.read(raw)
    except ValueError as error:
        raise ConfigError(f"{name} {error}", field=name) from None


def server_problems(fields: Mapping[str, Any]) -> tuple[ConfigError, ...]:
    """What is wrong with a server as a whole. `fields` as from `UpstreamSource.full()`."""
    problems = []
    if not fields.get("host"):
        problems.append(ConfigError("a server needs a host", field="host"))
    user, password = bool(fields.get("username")), bool(fields.get("password"))
    if user != password:
        missing = "password" if user else "username"
        text = f"{missing} is missing: user name and password are set both or neither"
        problems.append(ConfigError(text, field=missing))
    mechanism = fields.get("mechanism", "auto")
    if mechanism not in ("auto", "none") and not user:
        problems.append(ConfigError(f"auth {mechanism} needs a user name and a password", field="auth"))
    if mechanism == "none" and user:
        problems.append(ConfigError("auth none takes neither user name nor password", field="auth"))
    if bool(fields.get("client_cert_pem")) != bool(fields.get("client_key")):
        missing = "client_key" if fields.get("client_cert_pem") else "client_cert"
        text = f"{missing} is missing: client certificate and key are set both or neither"
        problems.append(ConfigError(text, field=missing))
    return tuple(problems)


def check_servers(settings: Settings) -> tuple[ConfigError, ...]:
    """Problems of the servers of files and variables once every layer had its say."""
    return tuple(
        ConfigError(
            f"server {row.name}: {problem.public}", origin=row.origin, field=f"upstream.{problem.field}"
        )
        for row in settings.upstreams
        for problem in server_problems(row.full())
    )


def warnings(settings: Settings) -> tuple[str, ...]:
    """What works but should be known: sentences for the log, the pages and `doctor`."""
    found = []
    after = settings.values["delivery.unknown_retry_after"]
    if after.value < SAFE_RETRY_AFTER:
        found.append(
            f"delivery.unknown_retry_after is {after.value} s ({after.origin}): below {SAFE_RETRY_AFTER} s a"
            " server that is still busy with a message may get it twice."
        )
    for row in settings.upstreams:
        full = row.full()
        text = server_warning(row.name, full["encryption"], full["username"], full["verify"], full["pin"])
        if text:
            found.append(f"{text} ({row.origin}).")
    return tuple(found)


def server_warning(name: str, encryption: str, username: str, verify: bool, pin: str) -> str:
    """What should be known of a server that works: a sentence without its full stop, or ""."""
    if encryption == "none":
        what = "user name, password and mail go" if username else "mail goes"
        return f"The server {name} is set up without encryption: {what} in clear"
    if not verify and not pin:
        return f"The server {name} is not verified: anyone on the way can pose as it"
    return ""


def one_default(upstreams: tuple[UpstreamSource, ...]) -> tuple[UpstreamSource, ...]:
    """Exactly one default server where there is any: the last one that says so, else the first."""
    if not upstreams:
        return ()
    chosen = next((row.name for row in reversed(upstreams) if row.default), upstreams[0].name)
    return tuple(msgspec.structs.replace(row, default=row.name == chosen) for row in upstreams)


def _servers(
    lower: tuple[UpstreamSource, ...], upper: tuple[UpstreamSource, ...]
) -> tuple[UpstreamSource, ...]:
    """Servers of a layer over those below, by name; a default one without a name over the default one."""
    rows = {row.name: row for row in one_default(lower)}
    for row in upper:
        target = row.name
        if row.default and "name" not in row.fields:
            target = next((other.name for other in rows.values() if other.default), row.name)
        below = rows.get(target)
        rows[target] = row if below is None else _merged(below, row)
    return tuple(rows.values())


def _merged(lower: UpstreamSource, upper: UpstreamSource) -> UpstreamSource:
    fields = dict(lower.fields)
    for key, value in upper.fields.items():
        fields[key] = _over(fields.get(key), value)
    return msgspec.structs.replace(lower, fields=fields, default=lower.default or upper.default)


def _over(lower: Value | None, upper: Value) -> Value:
    """A lock stays whoever gives the value."""
    return _lock(upper, lower is not None and lower.locked)


def _lock(value: Value, locked: bool) -> Value:
    return msgspec.structs.replace(value, locked=True) if locked and not value.locked else value


def _lock_server(row: UpstreamSource, lock: Sequence[str]) -> UpstreamSource:
    """Lock what the globs name; a field that nobody gave is locked with its default."""
    fields = dict(row.fields)
    for field in UPSTREAM:
        if field.key != "default" and is_locked(f"upstream.{row.name}.{field.key}", lock):
            fields[field.field] = _lock(fields.get(field.field, Value(field.default)), True)
    return msgspec.structs.replace(row, fields=fields)
