"""One native TOML file as a layer, with every problem of it at once. Pure: `read` opens what it names."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from smarthost.config._kinds import ADDRESS, Kind
from smarthost.config._lines import key_lines
from smarthost.config._table import BY_NAME, FILE_KEYS, SECTIONS, UPSTREAM, UPSTREAM_BY_KEY
from smarthost.config._values import Layer, UpstreamSource, Value
from smarthost.errors import ConfigError

Read = Callable[[Path], str]
Locks = frozenset[str] | None  # None: everything of the section
NO_LOCKS: Locks = frozenset()
TOP_KEYS = (*SECTIONS, "aliases", "upstream", "lock")


def parse_toml(name: str, text: str, read: Read) -> tuple[Layer, tuple[ConfigError, ...]]:
    """Read the text of the file `name`. `read` returns the text of a file that it names, or raises OSError.

    The layer holds what was understood; use it only where there are no problems.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        origin = f"file {name}, line {found[1]}" if found else f"file {name}"
        return Layer(), (ConfigError(f"this is not TOML: {error}", origin=origin),)
    reader = _Reader(name, key_lines(text), read)
    return reader.layer(tree), tuple(reader.problems)


class _Reader:
    """Walks one parsed file and collects values and problems."""

    def __init__(self, name: str, lines: Mapping[tuple[str | int, ...], int], read: Read) -> None:
        self.name = name
        self.lines = lines
        self.read = read
        self.problems: list[ConfigError] = []

    def layer(self, tree: dict[str, Any]) -> Layer:
        everything = self.locks((), tree, TOP_KEYS)
        values: dict[str, Value] = {}
        upstreams: list[UpstreamSource] = []
        for section, body in tree.items():
            if section == "lock":
                continue
            if section == "upstream":
                upstreams += self.upstreams(body, everything)
            elif section not in TOP_KEYS:
                self.unknown((section,), section, TOP_KEYS, hint=_home(section))
            elif not isinstance(body, dict):
                self.problem((section,), f"{section} must be a section: [{section}]")
            elif section == "aliases":
                values |= self.aliases(body, everything)
            else:
                values |= self.section(section, body, everything)
        return Layer(values=values, upstreams=tuple(upstreams))

    def section(self, section: str, body: dict[str, Any], outer: Locks) -> dict[str, Value]:
        known = [setting.key for setting in BY_NAME.values() if setting.section == section]
        locks = _widen(outer, section, self.locks((section,), body, known))
        values = {}
        for key, raw in body.items():
            if key == "lock":
                continue
            setting = BY_NAME.get(f"{section}.{key}")
            if setting is None:
                self.unknown((section, key), key, known, hint=_home(key))
            else:
                found = self.value((section, key), setting.kind, raw, locks)
                if found is not None:
                    values[setting.name] = found
        return values

    def aliases(self, body: dict[str, Any], outer: Locks) -> dict[str, Value]:
        locks = _widen(outer, "aliases", self.locks(("aliases",), body, body))
        values = {}
        for key, raw in body.items():
            # An alias called "lock" is text; the lock itself is a truth value or a list.
            if key == "lock" and not isinstance(raw, str):
                continue
            found = self.value(("aliases", key), ADDRESS, raw, locks)
            if found is not None:
                values[f"aliases.{key.lower()}"] = found
        return values

    def upstreams(self, body: object, outer: Locks) -> list[UpstreamSource]:
        if isinstance(body, dict):
            return [self.upstream(("upstream",), body, outer)]
        if isinstance(body, list) and all(isinstance(item, dict) for item in body):
            return [self.upstream(("upstream", index), item, outer) for index, item in enumerate(body)]
        self.problem(
            ("upstream",), "upstream must be a section: [upstream] for one, [[upstream]] for several"
        )
        return []

    def upstream(self, path: tuple[str | int, ...], body: dict[str, Any], outer: Locks) -> UpstreamSource:
        known = [*UPSTREAM_BY_KEY, *FILE_KEYS]
        locks = _widen(outer, "upstream", self.locks(path, body, known))
        fields: dict[str, Value] = {}
        for key, raw in body.items():
            if key == "lock":
                continue
            row = UPSTREAM_BY_KEY.get(key) or FILE_KEYS.get(key)
            if row is None:
                self.unknown((*path, key), key, known, hint=_home(key))
                continue
            if key in FILE_KEYS and row.key in body:
                self.problem((*path, key), f"{key} and {row.key} are both set; set one of them")
                continue
            kind = UPSTREAM_BY_KEY["ca_file"].kind if key in FILE_KEYS else row.kind
            found = self.value((*path, key), kind, raw, locks, alias=row.key)
            if found is not None and (row.file or key in FILE_KEYS) and found.value:
                found = self.content((*path, key), found)
            if found is not None:
                fields[row.field] = Value(found.value, found.origin, found.locked, row.secret)
        default = fields.pop("default", None)
        name = fields.get("name")
        if len(path) > 1 and (name is None or not name.value):
            self.problem(path, "each [[upstream]] needs a name")
        return UpstreamSource(
            name=str(name.value) if name is not None and name.value else str(UPSTREAM_BY_KEY["name"].default),
            origin=self.origin(path),
            default=len(path) == 1 or bool(default is not None and default.value),
            fields=fields,
        )

    def content(self, path: tuple[str | int, ...], named: Value) -> Value | None:
        """The content of the file that the value names; a last line end is no part of a secret."""
        try:
            text = self.read(Path(named.value))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            self.problem(path, f"{path[-1]}: {named.value} cannot be read: {reason}")
            return None
        return Value(text.rstrip("\r\n"), named.origin, named.locked)

    def value(
        self, path: tuple[str | int, ...], kind: Kind, raw: object, locks: Locks, alias: str = ""
    ) -> Value | None:
        try:
            value = kind.read(raw)
        except ValueError as error:
            self.problem(path, f"{path[-1]} {error}")
            return None
        locked = locks is None or path[-1] in locks or alias in locks
        return Value(value, self.origin(path), locked)

    def locks(self, path: tuple[str | int, ...], body: Mapping[str, Any], known: Iterable[str]) -> Locks:
        """What `lock` of a section says: true for all of it, or a list of its keys."""
        raw = body.get("lock", False)
        if path == ("aliases",) and isinstance(raw, str):
            return NO_LOCKS
        if isinstance(raw, bool):
            return None if raw else NO_LOCKS
        if not isinstance(raw, list) or not all(isinstance(key, str) for key in raw):
            self.problem((*path, "lock"), "lock must be true, or a list of keys of this section")
            return NO_LOCKS
        for key in raw:
            if key not in known:
                self.unknown((*path, "lock"), key, known)
        return frozenset(raw)

    def unknown(self, path: tuple[str | int, ...], key: str, known: Iterable[str], hint: str = "") -> None:
        near = nearest(key, known)
        text = f"unknown key {key}; "
        if hint:
            text += hint
        elif near:
            text += f"did you mean {near}?"
        else:
            text += f"known here: {', '.join(known)}"
        self.problem(path, text)

    def problem(self, path: tuple[str | int, ...], text: str) -> None:
        field = ".".join(str(part) for part in path if not isinstance(part, int))
        self.problems.append(ConfigError(text, origin=self.origin(path), field=field))

    def origin(self, path: tuple[str | int, ...]) -> str:
        while path and path not in self.lines:
            path = path[:-1]
        return f"file {self.name}, line {self.lines[path]}" if path else f"file {self.name}"


def nearest(key: str, known: Iterable[str]) -> str | None:
    """The known key that was probably meant, or None where none is near."""
    found = difflib.get_close_matches(key.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def _home(key: str) -> str:
    """Where a key that is unknown here is at home."""
    homes = [f"[{setting.section}]" for setting in BY_NAME.values() if setting.key == key]
    if any(row.key == key for row in UPSTREAM):
        homes.append("[upstream]")
    return f"it belongs in {' or '.join(homes)}" if homes else ""


def _widen(outer: Locks, section: str, own: Locks) -> Locks:
    """A lock around a section locks all of it."""
    return None if outer is None or section in outer else own
