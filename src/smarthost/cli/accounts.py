"""`smarthost user` and `smarthost token`."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from smarthost.cli._context import actor, control
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output, table
from smarthost.cli._secrets import add_password_options, read_password
from smarthost.errors import ConfigError

if TYPE_CHECKING:
    from smarthost.control.accounts.models import Token, User

_ROLES = ("owner", "admin", "member", "auditor")


def register(commands: Any) -> None:
    user = commands.add_parser("user", help="people who sign in").add_subparsers(
        metavar="ACTION", required=True
    )
    add = user.add_parser("add", help="add a user, with a password or a sign-in link")
    add.add_argument("email", metavar="EMAIL")
    add.add_argument("--role", choices=_ROLES, default="member")
    add.add_argument("--username", metavar="U", default="", help="sign-in name (default: the address)")
    add.add_argument("--link", action="store_true", help="no password: print a link that signs in once")
    add_password_options(add)
    add.set_defaults(call=_add)
    role = user.add_parser("role", help="give a user another role")
    role.add_argument("user", metavar="USER")
    role.add_argument("role", choices=_ROLES)
    role.set_defaults(call=_role)
    verify = user.add_parser("verify", help="vouch for an address: the user may write as it")
    verify.add_argument("user", metavar="USER")
    verify.add_argument("address", metavar="ADDRESS", nargs="?", help="default: the user's own")
    verify.set_defaults(call=_verify)
    link = user.add_parser("link", help="print a link that signs the user in once")
    link.add_argument("user", metavar="USER")
    link.set_defaults(call=_link)
    users = user.add_parser("list", help="list users")
    users.set_defaults(call=_list)

    token = commands.add_parser("token", help="API tokens").add_subparsers(metavar="ACTION", required=True)
    make = token.add_parser("add", help="make a token for a user or an application; it is shown once")
    make.add_argument("owner", metavar="USER|APP")
    make.add_argument("--name", default="command line", help="what it is for")
    make.add_argument("--scope", action="append", metavar="SCOPE", help="may be repeated")
    make.add_argument("--days", type=int, metavar="N", help="expires after N days (default: never)")
    make.set_defaults(call=_token_add)
    tokens = token.add_parser("list", help="list tokens, never their secrets")
    tokens.set_defaults(call=_token_list)
    revoke = token.add_parser("revoke", help="make a token worthless at once")
    revoke.add_argument("id", metavar="ID")
    revoke.set_defaults(call=_token_revoke)


def _user(row: User) -> dict[str, object]:
    return {
        "id": row.id,
        "username": row.username,
        "email": row.email,
        "role": row.role,
        "active": row.is_active,
        "addresses": [{"address": item.address, "verified": item.verified} for item in row.addresses.all()],
    }


def _add(args: argparse.Namespace, out: Output) -> int:
    password = None if args.link else read_password(args, "Password", confirm=True)
    control()
    from smarthost.control.accounts import services

    row = services.add_user(
        args.email, actor=actor(), role=args.role, username=args.username, password=password
    )
    data = _user(row)
    text = f"User {row.username} was added as {row.role}."
    if args.link:
        data["link"] = services.make_link(row, actor=actor())
        text += f"\nSign in once, within an hour: {data['link']}"
    out.result(data, text)
    return Exit.OK


def _role(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts import services

    row = services.find_user(args.user)
    services.set_role(row, args.role, actor=actor())
    out.result(_user(row), f"User {row.username} is {row.role} now.")
    return Exit.OK


def _verify(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts import services

    row = services.find_user(args.user)
    address = args.address or row.email
    if not address:
        raise ConfigError(f"User {row.username} has no address yet: name the one to verify", field="address")
    services.verify_address(row, address, actor=actor())
    out.result(_user(services.find_user(row.id)), f"User {row.username} may write as {address}.")
    return Exit.OK


def _link(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts import services

    row = services.find_user(args.user)
    link = services.make_link(row, actor=actor())
    out.result({"username": row.username, "link": link}, link)
    out.note("It signs in once, within an hour.")
    return Exit.OK


def _list(_args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts import services

    users = [_user(row) for row in services.list_users()]
    rows = [
        (user["username"], user["role"], "on" if user["active"] else "off", _addresses(user))
        for user in users
    ]
    out.result(users, table(("USER", "ROLE", "STATE", "ADDRESSES"), rows, "No users."))
    return Exit.OK


def _addresses(user: dict[str, Any]) -> list[str]:
    return [
        entry["address"] + ("" if entry["verified"] else " (not verified)") for entry in user["addresses"]
    ]


def _token(row: Token) -> dict[str, object]:
    return {
        "id": row.id,
        "principal": row.principal,
        "name": row.name,
        "scopes": row.scopes,
        "expires_at": row.expires_at.isoformat() if row.expires_at else None,
        "last_used_at": row.last_used_at.isoformat() if row.last_used_at else None,
    }


def _token_add(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.cli._caller import principal_id
    from smarthost.control.accounts import services

    expires = datetime.now(UTC) + timedelta(days=args.days) if args.days else None
    scopes = {"scopes": args.scope} if args.scope else {}
    row, secret = services.create_token(
        principal_id(args.owner), args.name, actor=actor(), expires_at=expires, **scopes
    )
    out.result({**_token(row), "token": secret}, secret)
    out.note(f"It may: {', '.join(row.scopes)}. It is shown this once.")
    return Exit.OK


def _token_list(_args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts import services

    tokens = [_token(row) for row in services.list_tokens()]
    rows = [
        (entry["id"], entry["principal"], entry["name"], entry["scopes"], entry["expires_at"] or "never")
        for entry in tokens
    ]
    out.result(tokens, table(("ID", "OF", "NAME", "MAY", "EXPIRES"), rows, "No tokens."))
    return Exit.OK


def _token_revoke(args: argparse.Namespace, out: Output) -> int:
    control()
    from smarthost.control.accounts import services

    services.revoke_token(args.id, actor=actor())
    out.result({"id": args.id, "revoked": True}, f"Token {args.id} is worthless now.")
    return Exit.OK
