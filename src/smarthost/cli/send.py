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
    from smarthost.mail import Composition, Mailbox
    from smarthost.routing import Directory
    from smarthost.spool import Spool

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
    add("--priority", choices=_PRIORITIES, default="normal")
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


def _time(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a time like 2026-12-24T18:00+01:00") from None
    return int(at.astimezone().timestamp() * 1_000_000)


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
    from smarthost.cli._caller import caller

    content = _standard_input() if args.raw or args.text is None else args.text.encode()
    id_ = caller(args.principal)
    with spool() as store:
        data = _accept(args, store, id_, content)
        store.wake("mail")
    words = ", ".join(f"{entry['recipient']}: {entry['state']}" for entry in data["recipients"])
    out.result(data, f"{data['id']}  {words}")
    return Exit.OK


def _standard_input() -> bytes:
    if sys.stdin.isatty():
        print("Write the mail; end with Ctrl-D.", file=sys.stderr)
    return sys.stdin.buffer.read()


def _accept(args: argparse.Namespace, store: Spool, id_: str, content: bytes) -> dict[str, Any]:
    """Compose, decide, make durable. Raises what any of these raises."""
    from smarthost.cli._caller import read
    from smarthost.mail import complete, header_recipients, received
    from smarthost.routing import Submission, admit
    from smarthost.spool import Acceptance, Door, Priority, new_id, now_us
    from smarthost.spool.intake import examine, fingerprint, prepare

    directory, principal = read(store, id_)
    now, id_ = now_us(), new_id()
    asked = content

    def completed(text: str) -> Any:
        return complete(text, directory.domain, {})

    if args.raw:
        raw = content
    else:
        raw, asked = _compose(args, directory, content, now)
    stored, facts = examine(raw, directory.limits, completed)
    boxes = [*args.to, *args.cc, *args.bcc]
    recipients = tuple(dict.fromkeys(_mailbox(text, directory).address for text in boxes))
    if args.raw and not boxes:
        recipients = tuple(
            header_recipients(stored, lambda text: complete(text, directory.domain, directory.aliases))
        )
    submission = Submission(
        principal=principal,
        door=Door.CLI.value,
        sender=completed(args.sender) if args.raw and args.sender else facts.header_from,
        recipients=recipients,
        header_from=facts.header_from,
        size=len(stored),
        smtputf8=True,
    )
    message = prepare(
        admit(directory, {}, now, submission),
        submission,
        facts,
        id=id_,
        now=now,
        door=Door.CLI,
        trace=received(
            hostname=directory.hostname, protocol="local", id=id_, at_us=now, by_login=principal.name
        ),
        content=stored,
        priority=Priority[args.priority.upper()],
        send_at=args.send_at,
        key=args.idempotency_key,
        fingerprint=fingerprint(str(submission.sender or ""), map(str, recipients), asked),
    )
    accepted = store.accept(message)
    return {
        "id": accepted.id,
        "repeated": accepted.how is Acceptance.REPEATED,
        "recipients": [
            {"recipient": entry.recipient, "state": entry.state.word} for entry in message.deliveries
        ],
    }


def _mailbox(text: str, directory: Directory) -> Mailbox:
    """A mailbox of an option; a bare local name is completed. Raises AddressError."""
    from smarthost.mail import Mailbox, complete, parse_mailbox

    if "<" in text:
        return parse_mailbox(text)
    return Mailbox("", complete(text, directory.domain, directory.aliases))


def _compose(args: argparse.Namespace, directory: Directory, text: bytes, now: int) -> tuple[bytes, bytes]:
    """The mail's bytes, and what was asked for: the bytes differ each time (date, id, boundaries)."""
    from smarthost.mail import Composition, build, date_text, new_message_id

    try:
        plain = text.decode()
    except UnicodeDecodeError:
        raise ConfigError("The text is not UTF-8; --raw takes a whole mail in any encoding") from None
    if not (args.to or args.cc or args.bcc):
        raise ConfigError("Whom to? Give --to ADDRESS, once or more")

    def boxes(texts: list[str]) -> tuple[Mailbox, ...]:
        return tuple(_mailbox(entry, directory) for entry in texts)

    composition: Composition = Composition(
        sender=_mailbox(args.sender, directory) if args.sender else None,
        to=boxes(args.to),
        cc=boxes(args.cc),
        bcc=boxes(args.bcc),
        reply_to=boxes(args.reply_to),
        subject=args.subject,
        text=plain,
        html=_read(args.html_file).decode() if args.html_file else None,
        attachments=tuple(_attachment(path) for path in args.attach),
        headers=dict(_header(entry) for entry in args.header),
    )
    made = build(composition, message_id=new_message_id(directory.hostname), date=date_text(now))
    return made, repr(composition).encode()


def _attachment(path: Path) -> Any:
    from smarthost.mail import Attachment

    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Attachment(filename=path.name, data=_read(path), content_type=kind)


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
