"""`smarthost send` and `smarthost admit`: send a mail, or ask what would happen to one."""

from __future__ import annotations

import argparse
import mimetypes
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smarthost.cli._context import spool
from smarthost.cli._exit import Exit
from smarthost.cli._output import Output, table
from smarthost.errors import ConfigError

if TYPE_CHECKING:
    from smarthost.control.api.schemas import MessageIn
    from smarthost.routing import Directory

_PRIORITIES = ("urgent", "normal", "bulk")


def register(commands: Any) -> None:
    send = commands.add_parser("send", help="send a mail; its text comes from standard input unless given")
    add = send.add_argument
    add("--to", action="append", default=[], metavar="ADDRESS", help="may be repeated, as --cc and --bcc may")
    add("--cc", action="append", default=[], metavar="ADDRESS")
    add("--bcc", action="append", default=[], metavar="ADDRESS")
    add("--from", dest="sender", metavar="ADDRESS", help="default: the server's From address")
    add("--reply-to", action="append", default=[], metavar="ADDRESS")
    add("--subject", default="", metavar="TEXT")
    add("--text", metavar="TEXT")
    add("--html-file", type=Path, metavar="F")
    add("--attach", action="append", default=[], type=Path, metavar="F", help="may be repeated")
    add("--header", action="append", default=[], metavar="NAME:VALUE", help="may be repeated")
    add("--raw", action="store_true", help="standard input is the whole mail, header included")
    add("--priority", choices=_PRIORITIES, help="default: normal")
    add("--send-at", metavar="TIME", type=_time, help="not before; ISO 8601, such as 2026-12-24T18:00+01:00")
    add("--idempotency-key", default="", metavar="KEY", help="the same key and mail again send nothing again")
    add("--as", dest="principal", metavar="USER|APP", help="who sends (default: the only owner)")
    send.set_defaults(call=_send)
    admit = commands.add_parser("admit", help="say what would happen to a mail; sends nothing")
    admit.add_argument("--from", dest="sender", metavar="ADDRESS", help="default: none")
    admit.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="may be repeated")
    admit.add_argument(
        "--as", dest="principal", metavar="USER|APP", help="who sends (default: the only owner)"
    )
    admit.add_argument("--size", type=int, metavar="BYTES")
    admit.set_defaults(call=_admit)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a time like 2026-12-24T18:00+01:00") from None
    return at.astimezone()


def _admit(args: argparse.Namespace, out: Output) -> int:
    from smarthost.cli._caller import caller, read
    from smarthost.mail import complete
    from smarthost.routing import Admitted, Submission, admit
    from smarthost.spool import now_us

    id_ = caller(args.principal)
    with spool() as store:
        directory, principal = read(store, id_)
    sender = complete(args.sender, directory.domain, {}) if args.sender else None
    submission = Submission(
        principal=principal,
        door="cli",
        sender=sender,
        recipients=tuple(complete(to, directory.domain, directory.aliases) for to in args.to),
        header_from=sender,
        size=args.size,
        smtputf8=True,
    )
    names = {entry.id: entry.name for entry in directory.upstreams.values()}
    decision = admit(directory, {}, now_us(), submission)
    results = []
    for asked, entry in zip(submission.recipients, decision.recipients, strict=False):
        if isinstance(entry, Admitted):
            results.append(
                {
                    "recipient": str(entry.recipient),
                    "admitted": True,
                    "captured": entry.captured,
                    "upstream": names.get(entry.upstream),
                    "why": entry.why,
                }
            )
        else:
            results.append(
                {
                    "recipient": str(asked),
                    "admitted": False,
                    "code": entry.code,
                    "enhanced": entry.enhanced,
                    "slug": entry.slug,
                    "why": entry.text,
                }
            )
    rows = [
        (
            result["recipient"],
            _outcome(result),
            result["upstream"] if result["admitted"] else "",
            result["why"],
        )
        for result in results
    ]
    data = {"as": principal.name, "mode": directory.mode.value, "recipients": results}
    out.result(data, table(("RECIPIENT", "OUTCOME", "SERVER", "WHY"), rows))
    return Exit.OK if not decision.refusals else Exit.REFUSED


def _outcome(result: dict[str, Any]) -> str:
    if not result["admitted"]:
        return f"refused ({result['code']} {result['enhanced']})"
    return "captured" if result["captured"] else "sent"


def _send(args: argparse.Namespace, out: Output) -> int:
    from smarthost.cli._caller import caller, read

    content = _standard_input() if args.raw or args.text is None else args.text.encode()
    id_ = caller(args.principal)
    # Only now: these need Django to be ready.
    from smarthost.control.api.views import accepted
    from smarthost.control.sending import compose
    from smarthost.spool import Door

    with spool() as store:
        directory, principal = read(store, id_)
        asked = _message(args, directory, content)
        message = compose(asked, directory, principal, key=args.idempotency_key, door=Door.CLI)
        data = accepted(message, store.accept(message))
        store.wake("mail")
    words = ", ".join(f"{entry['address']}: {entry['state']}" for entry in data["recipients"])
    out.result(data, f"{data['id']}  {words}" + (f"  ({data['captured']})" if "captured" in data else ""))
    return Exit.OK


def _standard_input() -> bytes:
    if sys.stdin.isatty():
        print("Write the mail; end with Ctrl-D.", file=sys.stderr)
    return sys.stdin.buffer.read()


def _message(args: argparse.Namespace, directory: Directory, content: bytes) -> MessageIn:
    """The same request that HTTP would bring; local names are completed. Raises ConfigError, AddressError."""
    from smarthost.control.api.schemas import MessageIn

    def boxes(texts: list[str]) -> list[str]:
        return [_mailbox(text, directory) for text in texts]

    fields: dict[str, Any] = {
        "from": _mailbox(args.sender, directory) if args.sender else None,
        "to": boxes(args.to),
        "cc": boxes(args.cc),
        "bcc": boxes(args.bcc),
        "send_at": args.send_at,
    }
    if args.priority:
        fields["priority"] = args.priority
    if args.raw:
        return MessageIn.model_validate({**fields, "raw": content})
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ConfigError("The text is not UTF-8; --raw takes a whole mail in any encoding") from None
    return MessageIn.model_validate(
        {
            **fields,
            "reply_to": boxes(args.reply_to),
            "subject": args.subject,
            "text": text,
            "html": _read(args.html_file).decode() if args.html_file else None,
            "attachments": [_attachment(path) for path in args.attach],
            "headers": dict(_header(entry) for entry in args.header),
        }
    )


def _mailbox(text: str, directory: Directory) -> str:
    """A mailbox of an option; a bare local name is completed. Raises AddressError."""
    from smarthost.mail import complete

    return text if "<" in text else str(complete(text, directory.domain, directory.aliases))


def _attachment(path: Path) -> dict[str, Any]:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {"filename": path.name, "content": _read(path), "content_type": kind}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon:
        raise ConfigError(f"--header {text!r} has no colon: give NAME:VALUE")
    return name.strip(), value.strip()
