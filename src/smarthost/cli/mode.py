"""`smarthost mode`: whether mail leaves this machine."""

from __future__ import annotations

import argparse
from typing import Any

from smarthost.cli._context import actor, control, spool
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output
from smarthost.errors import ConfigError

_TEXTS = {
    "live": "Mail is sent.",
    "capture": "Mail is captured: kept and shown, never sent.",
    "log": "Mail is captured: the log driver forces it.",
}


def register(commands: Any) -> None:
    mode = commands.add_parser("mode", help="show or set whether mail is sent or captured")
    mode.add_argument("mode", choices=("capture", "live"), nargs="?")
    mode.set_defaults(call=_mode)


def _mode(args: argparse.Namespace, out: Output) -> int:
    if args.mode:
        control()
        from smarthost.control.upstreams import services

        services.set_mode(args.mode, actor=actor())
    with spool() as store:
        body = store.directory()
    if body is None:
        raise ConfigError("This installation was never started: smarthost run")
    from smarthost.routing import decode_directory

    word = decode_directory(body).mode.value
    out.result({"mode": word}, _TEXTS[word])
    return Exit.OK
