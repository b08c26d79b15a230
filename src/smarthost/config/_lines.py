"""The line on which each key of a TOML text stands, which the standard parser does not tell.

Works on text that the standard parser accepted: so it only finds where statements begin, and steps over
values with their strings, brackets and comments.
"""

from __future__ import annotations

import re
import tomllib

Path = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_STATEMENT = re.compile(
    rf"[ \t]*(?:\[\[[ \t]*(?P<array>{_KEY})[ \t]*\]\]"
    rf"|\[[ \t]*(?P<table>{_KEY})[ \t]*\]|(?P<key>{_KEY})[ \t]*=)"
)
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|\#[^\n]*|[\[\]{}\n]|[^\[\]{}\n"\'\#]+',
    re.DOTALL,
)


def key_lines(text: str) -> dict[Path, int]:
    """Path of every key and section → line, counted from 1. Items of [[name]] are (name, index, key)."""
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    section: Path = ()
    at, line = 0, 1
    while at < len(text):
        found = _STATEMENT.match(text, at)
        if found is None:
            end = _skip(text, at)
        elif found["key"]:
            path = section + _parts(found["key"])
            for length in range(len(section) + 1, len(path) + 1):
                lines.setdefault(path[:length], line)
            end = _skip(text, found.end())
        else:
            section = _parts(found["array"] or found["table"])
            if found["array"]:
                counts[section] = counts.get(section, -1) + 1
                section = (*section, counts[section])
            lines.setdefault(section, line)
            end = _skip(text, found.end())
        line += text.count("\n", at, end)
        at = end
    return lines


def _skip(text: str, at: int) -> int:
    """The position after the value that stands here and after its line end."""
    depth = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return len(text)
        at = token.end()
        mark = token[0]
        if mark in ("[", "{"):
            depth += 1
        elif mark in ("]", "}"):
            depth -= 1
        elif mark == "\n" and depth <= 0:
            return at
    return at


def _parts(key: str) -> Path:
    """The parts of a dotted key, unquoted by the standard parser itself."""
    node: object = tomllib.loads(f"{key} = 0")
    parts: list[str] = []
    while isinstance(node, dict):
        part, node = next(iter(node.items()))
        parts.append(part)
    return tuple(parts)
