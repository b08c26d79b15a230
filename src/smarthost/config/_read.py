"""The edge: the one module here that opens files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from smarthost.config._environment import parse_environment
from smarthost.config._process import ProcessSettings
from smarthost.config._resolve import check_servers, merge, resolve
from smarthost.config._toml import parse_toml
from smarthost.config._values import Layer
from smarthost.errors import ConfigError

MOST_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class Loaded:
    """What files and environment say. With any problem, keep what was good before and tell the problems."""

    files: Layer
    environment: Layer
    problems: tuple[ConfigError, ...]


def load(process: ProcessSettings, environ: Mapping[str, str] | None = None) -> Loaded:
    """Read the configuration file or folder and the environment, and check them together.

    Raises nothing for what stands in them: every problem of every file is in `problems`.
    """
    paths, problems = _paths(process.config)
    layers = []
    for path in paths:
        try:
            text = _text(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            problems.append(ConfigError(f"this file cannot be read: {reason}", origin=f"file {path.name}"))
            continue
        layer, found = parse_toml(path.name, text, _beside(path.parent))
        layers.append(layer)
        problems += found
    files, found = merge(layers)
    problems += found
    environment, found = parse_environment(os.environ if environ is None else environ, _beside(Path.cwd()))
    problems += found
    if not problems:
        problems += check_servers(resolve((files, environment)))
    return Loaded(files, environment, tuple(problems))


def _paths(config: Path | None) -> tuple[list[Path], list[ConfigError]]:
    """The files to read: the one, or those of the folder in the order of their names."""
    if config is None:
        return [], []
    if config.is_dir():
        return sorted(path for path in config.glob("*.toml") if not path.name.startswith(".")), []
    if config.exists():
        return [config], []
    text = f"SMARTHOST_CONFIG names {config}, which does not exist"
    return [], [ConfigError(text, origin="variable SMARTHOST_CONFIG")]


def _beside(folder: Path) -> Callable[[Path], str]:
    """Relative names are relative to the folder of the file that names them."""
    return lambda path: _text(folder / path)


def _text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(27, "it is larger than 4 MiB")
    return data.decode("utf-8-sig")
