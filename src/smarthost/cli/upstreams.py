"""`smarthost upstream`: the servers that carry mail."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from smarthost.cli._context import actor, control
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output, fields, table
from smarthost.cli._secrets import add_password_options, read_password
from smarthost.errors import ConfigError, NotFound

_MECHANISMS = ("auto", "none", "plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer")


def register(commands: Any) -> None:
    upstream = commands.add_parser("upstream", help="servers that carry mail").add_subparsers(
        metavar="ACTION", required=True
    )
    _register_set(
        upstream.add_parser(
            "set",
            help="describe a new server, or change one; what is left out stays as it is",
            description="Describe a new server, or change one. What is left out stays as it is, so changing"
            " one thing takes one option; the password has to be given again where it would otherwise go to"
            " another destination. What changed is printed.",
        )
    )
    listing = upstream.add_parser("list", help="list servers")
    listing.set_defaults(call=_list)
    show = upstream.add_parser("show", help="show a server, never its secrets")
    show.add_argument("name", metavar="NAME", nargs="?", help="default: the default server")
    show.set_defaults(call=_show)
    for name, call, text in (
        ("remove", _remove, "remove a server; mail that waits for it waits until it is rerouted"),
        ("default", _default, "let this server carry what no other rule claims"),
    ):
        action = upstream.add_parser(name, help=text)
        action.add_argument("name", metavar="NAME")
        action.set_defaults(call=call)


def _register_set(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", metavar="H", help="name or address; needed for a new server")
    add("--port", type=int, metavar="N", help="default 587; 465 with --encryption tls, 25 with none")
    add("--encryption", choices=("none", "starttls", "tls"), help="starttls means required")
    verify = parser.add_mutually_exclusive_group()
    verify.add_argument(
        "--no-verify", dest="verify", action="store_false", default=None, help="trust any certificate"
    )
    verify.add_argument("--verify", dest="verify", action="store_true", default=None)
    add("--ca-file", metavar="F", type=Path, help="private certification authority, PEM")
    add("--pin", metavar="SHA256", help="SHA-256 of the server's certificate")
    add("--client-cert", metavar="F", type=Path, help="client certificate, PEM")
    add("--client-key", metavar="F", type=Path, help="its key, PEM, unencrypted")
    add("--auth", metavar="MECH", choices=_MECHANISMS, help=", ".join(_MECHANISMS))
    add("--username", metavar="U", help="its password is asked for; '' removes both")
    add_password_options(parser)
    add("--helo", metavar="D", help="name given in EHLO (default: this machine's)")
    add("--from", dest="from_address", metavar="A", help="From address where a mail has none")
    add("--from-name", metavar="N")
    add("--connections", type=int, metavar="N", help="at the same time, at most")
    add("--rate", type=int, metavar="N", help="messages a minute, at most; 0 is no limit")
    add("--quota", type=int, metavar="N", help="messages a day, at most; 0 is no limit")
    add("--max-size", type=int, metavar="BYTES")
    add("--max-recipients", type=int, metavar="N", help="in one transaction")
    add("--unknown", choices=("retry", "hold"), help="after a final dot without an answer")
    enabled = parser.add_mutually_exclusive_group()
    enabled.add_argument("--enable", dest="enabled", action="store_true", default=None)
    enabled.add_argument("--disable", dest="enabled", action="store_false", default=None)
    add("--name", metavar="NAME", help="which server (default: the default one)")
    add("--default", action="store_true", default=None, help="make it the default server")
    add("--no-check", action="store_true", help="save without trying it")
    parser.set_defaults(call=_set)


_PLAIN = (
    "host", "port", "encryption", "verify", "pin", "username", "helo", "from_address", "from_name", "enabled",
    "connections", "rate", "quota", "max_size", "max_recipients", "unknown",
)  # fmt: skip
_PORTS = {"tls": 465, "none": 25}


def _set(args: argparse.Namespace, out: Output) -> int:
    values: dict[str, object] = {
        name: getattr(args, name) for name in _PLAIN if getattr(args, name) is not None
    }
    if args.auth:
        values["mechanism"] = args.auth
    if args.ca_file:
        values["ca_pem"] = _file(args.ca_file)
    if args.client_cert:
        values["client_cert_pem"] = _file(args.client_cert)
    client_key = _file(args.client_key) if args.client_key else None
    if args.host and args.port is None and args.encryption in _PORTS:
        values["port"] = _PORTS[args.encryption]
    password: str | None = None
    if args.username == "":
        password = ""
    elif args.username or args.password_stdin or args.password_file:
        password = read_password(args, f"Password of {args.username or 'the server'}")
    control()
    from smarthost.control.upstreams import services

    try:
        before = services.show(services.find(args.name))
    except NotFound:
        before = {}
    row = services.set_upstream(
        args.name, values, actor=actor(), password=password, client_key=client_key, default=args.default
    )
    given = {"password": password is not None, "client_key": client_key is not None}
    changed = _changed(before, row) + [name for name in given if before and given[name]]
    lines = [f"Server {row['name']} ({row['host']}:{row['port']}) is saved, not tested."]
    if before:
        lines += [_said(name, before, row) for name in changed] or ["  nothing is changed"]
    lines.append("What becomes of mail is seen with: smarthost queue list")
    out.result(row | {"tested": False, "created": not before, "changed": changed}, "\n".join(lines))
    _warn(row, out)
    return Exit.OK


_NOT_SAID = ("id", "version", "locked", "has_password", "has_client_key")


def _changed(before: dict[str, object], row: dict[str, object]) -> list[str]:
    return [name for name in row if name not in _NOT_SAID and before.get(name) != row[name]] if before else []


def _said(name: str, before: dict[str, object], row: dict[str, object]) -> str:
    """One line of what changed; a secret shows nothing but that it did."""
    if name not in row or name.endswith("_pem"):
        return f"  {name} is changed"
    return f"  {name}: {_word(before[name])} is now {_word(row[name])}"


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value) or "(empty)"


def _warn(row: dict[str, Any], out: Output) -> None:
    if row["encryption"] == "none":
        what = "the password and all mail" if row["has_password"] else "all mail"
        out.note(f"Warning: without encryption, {what} can be read on the way.")
    elif not row["verify"] and not row["pin"]:
        out.note("Warning: without verification, anybody on the way can pretend to be the server.")


def _file(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _list(_args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.upstreams import services

    rows = [row | {"route": _route(row)} for row in services.list_upstreams()]
    shown = [
        (
            row["name"],
            f"{row['host']}:{row['port']}",
            row["encryption"]
            if row["encryption"] == "none" or row["verify"]
            else f"{row['encryption']}, not verified",
            row["username"],
            "default" if row["default"] else "",
            _state(row),
        )
        for row in rows
    ]
    text = table(
        ("NAME", "SERVER", "ENCRYPTION", "USER", "", "STATE"),
        [tuple(cell or " " for cell in line) for line in shown],
        "No servers: mail is captured. Set one with: smarthost upstream set --host …",
    )
    out.result(rows, text)
    return Exit.OK


def _show(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.upstreams import services

    row = services.show(services.find(args.name))
    row["route"] = _route(row)
    shown = {name: value for name, value in row.items() if value not in (0, "", None)}
    out.result(row, fields((name, _brief(name, value)) for name, value in shown.items()))
    return Exit.OK


def _route(row: dict[str, object]) -> dict[str, Any] | None:
    """What is known of the route's health, as the API says it; None for a healthy one. Needs Django."""
    from smarthost.control.api.views import route
    from smarthost.control.spooling import spool

    found = spool().routes().get(str(row["id"]))
    return route(found) if found and found.paused_until is not None else None


def _state(row: dict[str, Any]) -> str:
    if not row["enabled"]:
        return "off"
    return f"paused: {row['route']['reason']}" if row["route"] else "on"


def _brief(name: str, value: Any) -> object:
    if name == "route":
        return f"paused, {value['text']} (tried again at {value['paused_until']})"
    return "(set)" if name.endswith("_pem") else value


def _remove(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.upstreams import services

    services.remove(args.name, actor=actor())
    out.result({"name": args.name, "removed": True}, f"Server {args.name} was removed.")
    return Exit.OK


def _default(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.upstreams import services

    services.set_default(args.name, actor=actor())
    out.result({"name": args.name, "default": True}, f"{args.name} is the default server.")
    return Exit.OK
