"""`smarthost config`: every setting with its value and where it comes from; and those that are set here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from smarthost.cli._context import actor, control, process
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output, table

if TYPE_CHECKING:
    from smarthost.config import Settings


def register(commands: Any) -> None:
    config = commands.add_parser("config", help="settings").add_subparsers(metavar="ACTION", required=True)
    show = config.add_parser("show", help="every setting with its value")
    show.add_argument("--origin", action="store_true", help="and where each value comes from")
    show.set_defaults(call=_show)
    check = config.add_parser("check", help="read files and variables, and say everything that is wrong")
    check.set_defaults(call=_check)
    put = config.add_parser("set", help="set a value above files and variables")
    put.add_argument("name", metavar="NAME", help="such as limits.max_size or aliases.root")
    put.add_argument("value", metavar="VALUE")
    put.set_defaults(call=_set)
    unset = config.add_parser("unset", help="let the value of files, variables or the default show again")
    unset.add_argument("name", metavar="NAME")
    unset.set_defaults(call=_unset)


def _show(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.directory import policy

    settings = policy.settings()
    values = _values(settings)
    header = ("SETTING", "VALUE") + (("ORIGIN",) if args.origin else ())
    rows = [
        (name, _shown(entry["value"]))
        + ((entry["origin"] + (", locked" if entry["locked"] else ""),) if args.origin else ())
        for name, entry in values.items()
    ]
    out.result(values, table(header, rows))
    return Exit.OK


def _values(settings: Settings) -> dict[str, dict[str, Any]]:
    """Scalars and aliases by name, then the fields of servers of files and variables; no secrets."""
    values: dict[str, dict[str, Any]] = {}
    for name, value in sorted(settings.values.items()):
        values[name] = {"value": value.value, "origin": value.origin, "locked": settings.locked(name)}
    for server in settings.upstreams:
        for field, value in sorted(server.fields.items()):
            secret = value.secret or field in ("password", "client_key")
            shown = "(set)" if secret or field.endswith("_pem") else value.value
            name = f"upstream.{server.name}.{field}"
            values[name] = {"value": shown, "origin": value.origin, "locked": value.locked}
    return values


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _check(_args: argparse.Namespace, out: Output) -> int:
    from smarthost.config import load, resolve, warnings

    settings = process()
    loaded = load(settings)
    problems = [
        {"text": problem.public, "origin": problem.origin, "field": problem.field}
        for problem in loaded.problems
    ]
    told = list(warnings(resolve((loaded.files, loaded.environment), settings.lock)))
    lines = [f"{problem['origin'] or 'configuration'}: {problem['text']}" for problem in problems]
    lines += [f"warning: {text}" for text in told]
    if not problems:
        lines.append("Files and variables can be used.")
    out.result({"ok": not problems, "problems": problems, "warnings": told}, "\n".join(lines))
    return Exit.FAILED if problems else Exit.OK


def _set(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.directory import policy
    from smarthost.control.directory.services import changing

    with changing(actor()) as change:
        policy.store(change, args.name, args.value)
    value = policy.settings().values[args.name].value
    out.result({"name": args.name, "value": value}, f"{args.name} is {_shown(value)}.")
    return Exit.OK


def _unset(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.directory import policy
    from smarthost.control.directory.services import changing

    with changing(actor()) as change:
        policy.restore(change, args.name)
    value = policy.settings().values.get(args.name)
    data = {"name": args.name, "value": value.value if value else None}
    out.result(data, f"{args.name} is {_shown(value.value) + f' ({value.origin})' if value else 'not set'}.")
    return Exit.OK
