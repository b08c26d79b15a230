"""`smarthost queue`: what waits, what became of it, and the five things a person can do about it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from smarthost.cli._context import actor, spool
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output, fields, iso, relative, safe, shorten, table
from smarthost.errors import ConfigError, Conflict, NotFound

if TYPE_CHECKING:
    from smarthost.spool import AttemptView, DeliveryRow, DeliveryView, MessageView, Selection, Spool

_WORDS = (
    "queued", "sending", "sent", "captured", "deferred", "unknown", "failed", "expired", "cancelled", "held",
)  # fmt: skip
_ACTIONS = {
    "retry": (
        "try again now: deferred, and by id or --state also unknown, failed, expired, cancelled",
        "to be tried",
    ),
    "cancel": ("never send: queued, deferred, unknown, held", "cancelled"),
    "hold": ("wait for a person: queued, deferred, unknown", "held"),
    "release": ("send what is held", "released"),
    "reroute": ("send by another server: queued, deferred, unknown, held", "rerouted"),
    "resolve": ("say what became of an unknown end", "resolved"),
}


def register(commands: Any) -> None:
    queue = commands.add_parser("queue", help="mail that waits, and what became of mail").add_subparsers(
        metavar="ACTION", required=True
    )
    listing = queue.add_parser("list", help="recipients, newest first, and how many are in which state")
    listing.add_argument("--state", action="append", choices=_WORDS, default=[], help="may be repeated")
    listing.add_argument("--recipient", metavar="ADDRESS")
    listing.add_argument("--sender", metavar="ADDRESS")
    listing.add_argument("--upstream", metavar="NAME")
    listing.add_argument("--text", metavar="TEXT", help="part of subject, sender or recipient")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="rows at most (default 50)")
    listing.add_argument("--after", type=int, metavar="N", help="rows after this one (JSON: next)")
    listing.set_defaults(call=_list)
    show = queue.add_parser("show", help="one message with every attempt")
    show.add_argument("id", metavar="ID")
    show.add_argument(
        "--content", action="store_true", help="print the content as accepted, and nothing else"
    )
    show.set_defaults(call=_show)
    for name, (text, _) in _ACTIONS.items():
        action = queue.add_parser(name, help=text)
        action.add_argument("ids", metavar="ID", nargs="*", help="message ids")
        action.add_argument("--recipient", metavar="ADDRESS", help="only this recipient of the messages")
        action.add_argument("--state", action="append", choices=_WORDS, default=[], help="may be repeated")
        action.add_argument("--upstream", metavar="NAME", help="what goes by this server")
        action.add_argument("--all", action="store_true", help="everything that the action can be done to")
        if name == "reroute":
            action.add_argument(
                "--to", metavar="NAME", required=True, help="the server that sends it instead"
            )
        if name == "resolve":
            action.add_argument("--as", dest="verdict", choices=("sent", "failed", "queued"), required=True)
        action.set_defaults(call=_act, action=name)


def _states(words: list[str]) -> tuple[Any, ...]:
    from smarthost.spool import State

    return tuple(State[word.upper()] for word in words)


def _list(args: argparse.Namespace, out: Output) -> int:
    from smarthost.spool import Filter, now_us

    with spool() as store:
        names = _names(store)
        wanted = Filter(
            states=_states(args.state),
            upstream=_upstream(names, args.upstream) if args.upstream else None,
            recipient=args.recipient,
            sender=args.sender,
            text=args.text,
        )
        found = store.find(wanted, after=args.after, limit=max(1, min(args.limit, 10_000)))
        counts = store.counts()
    now = now_us()
    rows = [_row(row, names) for row in found]
    shown = [
        (
            row.message_id,
            row.state.word,
            relative(row.created_at, now),
            shorten(_sender(row), 32),
            shorten(row.recipient, 32),
            shorten(row.subject, 32),
            _what(row, now),
        )
        for row in found
    ]
    numbers = [f"{count} {word}" for word, count in counts.items() if count]
    lines = table(("ID", "STATE", "ACCEPTED", "FROM", "TO", "SUBJECT", "LAST"), shown, "No such mail.")
    data = {"counts": counts, "rows": rows, "next": found[-1].id if len(found) == args.limit else None}
    out.result(data, f"{', '.join(numbers) or 'No mail yet'}.\n\n{lines}")
    return Exit.OK


def _sender(mail: DeliveryRow | MessageView) -> str:
    """Who sends. Only where SMTP is spoken an empty one is the null sender; elsewhere none was given."""
    from smarthost.routing import NULL_SENDER_DOORS

    if mail.sender:
        return mail.sender
    return "<>" if mail.door.value in NULL_SENDER_DOORS else mail.header_from or "(server's From)"


def _what(row: DeliveryRow, now: int) -> str:
    parts = []
    if row.reply or row.code:
        parts.append(shorten(f"{row.code or ''} {row.reply}".strip(), 60))
    if row.due_at is not None and not row.state.final:
        parts.append(f"next {relative(row.due_at, now)}")
    return ", ".join(parts)


def _row(row: DeliveryRow, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row.message_id,
        "delivery": row.id,
        "state": row.state.word,
        "recipient": row.recipient,
        "sender": row.sender,
        "from": row.header_from,
        "subject": row.subject,
        "principal": row.principal_name,
        "door": row.door.value,
        "upstream": names.get(row.upstream, row.upstream) or None,
        "priority": row.priority.name.lower(),
        "size": row.size,
        "attempts": row.attempts,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "due_at": iso(row.due_at),
        "code": row.code or None,
        "reply": row.reply or None,
    }


def _show(args: argparse.Namespace, out: Output) -> int:
    from smarthost.spool import now_us

    with spool() as store:
        message = store.message(args.id)
        if message is None:
            raise NotFound(f"There is no message {args.id}: see smarthost queue list")
        if args.content:
            sys.stdout.flush()
            for piece in store.content(args.id):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return Exit.OK
        names = _names(store)
    out.result(_message(message, names), _message_text(message, names, now_us()))
    return Exit.OK


def _message(message: MessageView, names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": message.id,
        "created_at": iso(message.created_at),
        "principal": message.principal_name,
        "door": message.door.value,
        "sender": message.sender,
        "from": message.header_from,
        "subject": message.subject,
        "message_id": message.message_id,
        "size": message.size,
        "priority": message.priority.name.lower(),
        "send_at": iso(message.send_at),
        "expires_at": iso(message.expires_at),
        "has_content": message.has_content,
        "recipients": [_delivery(delivery, names) for delivery in message.deliveries],
    }


def _delivery(delivery: DeliveryView, names: dict[str, str]) -> dict[str, Any]:
    return {
        "delivery": delivery.id,
        "recipient": delivery.recipient,
        "state": delivery.state.word,
        "upstream": names.get(delivery.upstream, delivery.upstream) or None,
        "due_at": iso(delivery.due_at),
        "expires_at": iso(delivery.expires_at),
        "attempts": delivery.attempts,
        "unknown_ends": delivery.unknown_ends,
        "tries": [_try(attempt) for attempt in delivery.tries],
    }


def _try(attempt: AttemptView) -> dict[str, Any]:
    return {
        "at": iso(attempt.at),
        "state": attempt.state.word,
        "stage": attempt.stage,
        "code": attempt.code or None,
        "enhanced": attempt.enhanced or None,
        "reply": attempt.reply,
        "local": attempt.local,
        "counts": attempt.counts,
    }


def _message_text(message: MessageView, names: dict[str, str], now: int) -> str:
    head = fields(
        (
            ("Message", message.id),
            (
                "Accepted",
                f"{relative(message.created_at, now)} from {message.principal_name} by {message.door.value}",
            ),
            ("Sender", _sender(message)),
            ("From", message.header_from),
            ("Subject", message.subject),
            ("Size", f"{message.size} bytes" + ("" if message.has_content else " (content no longer kept)")),
            ("Send at", relative(message.send_at, now) if message.send_at else ""),
        )
    )
    blocks = [head]
    for delivery in message.deliveries:
        server = names.get(delivery.upstream, delivery.upstream)
        due = (
            f", next try {relative(delivery.due_at, now)}"
            if delivery.due_at and not delivery.state.final
            else ""
        )
        lines = [f"{delivery.recipient}: {delivery.state.word}" + (f" by {server}" if server else "") + due]
        lines += [f"  {relative(item.at, now)}: {_attempt_text(item)}" for item in delivery.tries]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _attempt_text(attempt: AttemptView) -> str:
    words = " ".join(str(part) for part in (attempt.code or "", attempt.enhanced, attempt.reply) if part)
    stage = f" at {attempt.stage}" if attempt.stage else ""
    return safe(f"{attempt.state.word}{stage}" + (f": {words}" if words else "")).replace("\n", " ")


def _names(store: Spool) -> dict[str, str]:
    """Upstream id → name, as the compiled directory has them; needs no Django."""
    from smarthost.routing import decode_directory

    body = store.directory()
    return (
        {} if body is None else {entry.id: entry.name for entry in decode_directory(body).upstreams.values()}
    )


def _upstream(names: dict[str, str], text: str) -> str:
    for id_, name in names.items():
        if text in (id_, name):
            return id_
    raise NotFound(f"There is no server {text}: see smarthost upstream list")


def _act(args: argparse.Namespace, out: Output) -> int:
    if not (args.ids or args.state or args.upstream or args.all):
        raise ConfigError(
            f"Which mail? Give message ids, --state, --upstream or --all to queue {args.action}"
        )
    if args.recipient and not args.ids:
        raise ConfigError("--recipient needs the message ids that it belongs to")
    with spool() as store:
        for id_ in args.ids:
            if store.message(id_) is None:
                raise NotFound(f"There is no message {id_}: see smarthost queue list")
        names = _names(store)
        changed = _call(args, store, names)(_selection(args, store, names))
    _, done = _ACTIONS[args.action]
    text = f"{changed} {'recipient' if changed == 1 else 'recipients'} {done}."
    if changed == 0 and args.ids:
        raise Conflict(f"Nothing changed: no recipient of it is in a state that queue {args.action} is for")
    out.result({"changed": changed}, text)
    return Exit.OK


def _selection(args: argparse.Namespace, store: Spool, names: dict[str, str]) -> Selection:
    from smarthost.spool import Selection

    upstream = _upstream(names, args.upstream) if args.upstream else None
    if args.recipient:
        wanted = args.recipient.lower()
        found = [
            delivery.id
            for id_ in args.ids
            if (message := store.message(id_)) is not None
            for delivery in message.deliveries
            if delivery.recipient.lower() == wanted
        ]
        if not found:
            raise NotFound(f"{args.recipient} is no recipient of it")
        return Selection(deliveries=tuple(found), states=_states(args.state), upstream=upstream)
    return Selection(
        messages=tuple(args.ids), states=_states(args.state), upstream=upstream, everything=args.all
    )


def _call(args: argparse.Namespace, store: Spool, names: dict[str, str]) -> Callable[[Selection], int]:
    who = actor()
    if args.action == "reroute":
        target = _upstream(names, args.to)
        return lambda selection: store.reroute(selection, target, who)
    if args.action == "resolve":
        (verdict,) = _states([args.verdict])
        return lambda selection: store.resolve(selection, verdict, who)
    actions = {"retry": store.retry, "cancel": store.cancel, "hold": store.hold, "release": store.release}
    return lambda selection: actions[args.action](selection, who)
