"""Settings: the process's own, and those of policy with their origins and locks.

loaded = load(process)                              files and environment, with every problem at once
stored, problems = stored_layer(rows)               what administrators set
settings = resolve((loaded.files, loaded.environment, stored), process.lock)
settings["limits.max_size"], settings.values["limits.max_size"].origin, .locked
directory = compile_directory(settings, version=…, mode=…, machine=…, upstreams=…, …)
"""

from smarthost.config._compile import choose_default, compile_directory
from smarthost.config._environment import PROCESS, known_variables, parse_environment
from smarthost.config._process import Listen, ProcessSettings, process_settings
from smarthost.config._read import Loaded, load
from smarthost.config._resolve import (
    check_servers,
    check_value,
    merge,
    resolve,
    server_problems,
    server_warning,
    stored_layer,
    warnings,
)
from smarthost.config._table import SETTINGS, UPSTREAM, Setting, UpstreamField
from smarthost.config._toml import nearest, parse_toml
from smarthost.config._values import (
    Layer,
    Settings,
    UpstreamSource,
    Value,
    decode_layer,
    encode_layer,
    is_locked,
)

__all__ = [
    "PROCESS",
    "SETTINGS",
    "UPSTREAM",
    "Layer",
    "Listen",
    "Loaded",
    "ProcessSettings",
    "Setting",
    "Settings",
    "UpstreamField",
    "UpstreamSource",
    "Value",
    "check_servers",
    "check_value",
    "choose_default",
    "compile_directory",
    "decode_layer",
    "encode_layer",
    "is_locked",
    "known_variables",
    "load",
    "merge",
    "nearest",
    "parse_environment",
    "parse_toml",
    "process_settings",
    "resolve",
    "server_problems",
    "server_warning",
    "stored_layer",
    "warnings",
]
