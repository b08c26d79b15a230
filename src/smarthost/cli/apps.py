"""`smarthost app`: programs that send, and what they are known by."""

from __future__ import annotations

import argparse
from typing import Any

from smarthost.cli._context import actor, control
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output, fields, table


def register(commands: Any) -> None:
    app = commands.add_parser("app", help="applications").add_subparsers(metavar="ACTION", required=True)
    add = app.add_parser("add", help="add an application; its generated credential is shown once")
    add.add_argument("name", metavar="NAME")
    add.add_argument(
        "--network",
        action="append",
        default=[],
        metavar="CIDR",
        help="known by where it comes from: no password",
    )
    add.add_argument(
        "--uid",
        action="append",
        default=[],
        type=_uid,
        metavar="UID",
        help="known by its Unix user (a number or a name) at the sendmail socket: no password",
    )
    add.add_argument(
        "--clear-network",
        action="append",
        default=[],
        metavar="CIDR",
        help="from there it may give its password without TLS (old printers)",
    )
    add.add_argument("--token", action="store_true", help="give it an API token too")
    add.add_argument("--owner", metavar="USER", help="who is told of mail that could not be delivered")
    add.set_defaults(call=_add)
    listing = app.add_parser("list", help="list applications")
    listing.set_defaults(call=_list)
    for name, call, text in (
        ("show", _show, "show one application, never its secrets"),
        ("remove", _remove, "remove an application and its credentials; its messages stay"),
        ("rotate", _rotate, "give it a new password; the old one is worthless at once"),
    ):
        action = app.add_parser(name, help=text)
        action.add_argument("name", metavar="NAME")
        action.set_defaults(call=call)


def _uid(text: str) -> int:
    if text.isdigit():
        return int(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise argparse.ArgumentTypeError(f"there is no Unix user {text} on this machine") from None


def _add(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts.services import find_user
    from smarthost.control.applications import services

    made = services.add(
        args.name,
        actor=actor(),
        networks=args.network,
        uids=args.uid,
        clear_networks=args.clear_network,
        token=args.token,
        owner=find_user(args.owner) if args.owner else None,
    )
    data: dict[str, Any] = {"id": made.application.id, "name": args.name}
    if made.password is not None:
        data |= {"username": made.username, "password": made.password}
    if made.token is not None:
        data["token"] = made.token
    known_by = [
        *(f"mail from network {network} needs no password" for network in made.application.networks),
        *(f"mail of Unix user {uid} through sendmail is this application's" for uid in made.application.uids),
    ]
    pairs = [("SMTP user name", made.username), ("SMTP password", made.password), ("API token", made.token)]
    shown = fields((name, value) for name, value in pairs if value)
    out.result(data, "\n".join(filter(None, (f"Application {args.name} was added.", shown, *known_by))))
    if shown:
        out.note("The credential is shown this once.")
    return Exit.OK


def _list(_args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.applications import services

    applications = [services.show(row) for row in services.list_applications()]
    rows = [
        (
            app["name"],
            "on" if app["enabled"] else "off",
            app["username"],
            app["networks"],
            app["uids"],
            app["owner"],
        )
        for app in applications
    ]
    text = table(("NAME", "STATE", "USER NAME", "NETWORKS", "UIDS", "OWNER"), rows, "No applications.")
    out.result(applications, text)
    return Exit.OK


def _show(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.applications import services

    data = services.show(services.find(args.name))
    out.result(data, fields(data.items()))
    return Exit.OK


def _remove(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.applications import services

    services.remove(args.name, actor=actor())
    out.result({"name": args.name, "removed": True}, f"Application {args.name} was removed.")
    return Exit.OK


def _rotate(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.applications import services

    made = services.rotate(args.name, actor=actor())
    data = {"name": made.application.name, "username": made.username, "password": made.password}
    out.result(data, fields((("SMTP user name", made.username), ("SMTP password", made.password))))
    out.note("The password is shown this once; the old one is worthless now.")
    return Exit.OK
