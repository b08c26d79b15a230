"""The decision: through which server each recipient goes, or precisely why not.

`admit` is a pure function of the directory, the use of caps, the time and the submission, so "what would
happen to this message?" can be asked by anyone without sending. It is three short chains:

    MESSAGE   may this principal send this message at all?      the first refusal counts for every recipient
    ROUTES    which server carries this recipient?              the first route that applies is the route
    GUARDS    may it carry this message to this recipient?      the first refusal refuses this recipient

A step looks at one thing and either refuses, or passes. A route is final: guards refuse, they never send a
recipient on to the next route, so a personal server that fails falls back to nothing. Capture stands
before the routes: what is valid is captured, whatever server it would have had.

A recipient is refused for itself; where the message itself is refused, every entry says so with `recipient`
None. Either way there is one entry a recipient, in the order asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import NamedTuple

from smarthost.mail import Address, Mailbox, parse_address
from smarthost.routing import _refusals as refuse
from smarthost.routing._types import (
    Admitted,
    Decision,
    Directory,
    Edits,
    Encryption,
    Mode,
    Refusal,
    Submission,
    Upstream,
    UpstreamKind,
)


class Route(NamedTuple):
    """The server that carries a recipient, and why that one."""

    upstream: Upstream
    why: str


MessageStep = Callable[[Directory, Submission], Refusal | None]
RouteStep = Callable[[Directory, Submission, Address], Route | Refusal | None]
GuardStep = Callable[[Directory, Submission, Address, Upstream], Refusal | None]

CAPTURED = {
    Mode.CAPTURE: "captured, not sent: Smarthost is in capture mode",
    Mode.LOG: "captured, not sent: the log driver is configured",
}


def admit(directory: Directory, usage: Mapping[str, int], now: int, submission: Submission) -> Decision:
    """Decide for every recipient of `submission`.

    usage  what of each cap's window is used, by the cap's key (see spool.Charge); now  microseconds since
    the epoch. Both are given so that caps and schedules need no clock here.
    """
    recipients = submission.recipients
    if not recipients:
        return Decision(recipients=(refuse.no_recipients(),))
    refusal = check_message(directory, submission)
    if refusal is not None:
        return Decision(recipients=(refusal,) * len(recipients))
    decide = _send if directory.mode is Mode.LIVE else _capture
    return Decision(recipients=tuple([decide(directory, submission, recipient) for recipient in recipients]))


def check_message(directory: Directory, submission: Submission) -> Refusal | None:
    """What speaks against the message whoever its recipients are, for a door that knows none yet."""
    for step in MESSAGE:
        refusal = step(directory, submission)
        if refusal is not None:
            return refusal
    return None


def _capture(directory: Directory, submission: Submission, recipient: Address) -> Admitted | Refusal:
    if recipient.smtputf8 and not submission.smtputf8:
        return refuse.smtputf8_needed(recipient, recipient)
    return Admitted(recipient=recipient, upstream="", captured=True, why=CAPTURED[directory.mode])


def _send(directory: Directory, submission: Submission, recipient: Address) -> Admitted | Refusal:
    for route in ROUTES:
        found = route(directory, submission, recipient)
        if found is not None:
            break
    else:
        return refuse.no_route(directory, recipient)
    if isinstance(found, Refusal):
        return found
    upstream, why = found
    for guard in GUARDS:
        refusal = guard(directory, submission, recipient, upstream)
        if refusal is not None:
            return refusal
    return Admitted(recipient=recipient, upstream=upstream.id, edits=_edits(submission, upstream), why=why)


# --- the message ------------------------------------------------------------------------------------------


def _principal_enabled(directory: Directory, submission: Submission) -> Refusal | None:
    if submission.principal.enabled:
        return None
    return refuse.principal_disabled(directory, submission.principal)


def _recipient_count(directory: Directory, submission: Submission) -> Refusal | None:
    count = len(submission.recipients)
    return None if count <= directory.limits.max_recipients else refuse.too_many_recipients(directory, count)


def _site_size(directory: Directory, submission: Submission) -> Refusal | None:
    limit = directory.limits.max_size
    if submission.size is None or submission.size <= limit:
        return None
    return refuse.too_large(submission.size, limit, "here")


def _sender_utf8(directory: Directory, submission: Submission) -> Refusal | None:
    sender = submission.sender
    if sender is None or submission.smtputf8 or not sender.smtputf8:
        return None
    return refuse.smtputf8_needed(sender)


MESSAGE: tuple[MessageStep, ...] = (_principal_enabled, _recipient_count, _site_size, _sender_utf8)


# --- the route --------------------------------------------------------------------------------------------


def _personal(directory: Directory, submission: Submission, recipient: Address) -> Route | Refusal | None:
    """A user's own server, before everything else and never together with anything else.

    An application never uses its owner's, and system mail uses no personal server.
    """
    principal = submission.principal
    if not principal.personal_upstream or principal.id.startswith(("app:", "system")):
        return None
    upstream = directory.upstreams.get(principal.personal_upstream)
    if upstream is None or upstream.kind is not UpstreamKind.PERSONAL:
        return refuse.personal_gone(recipient)
    return Route(upstream, f"your own server {upstream.name}")


def _default(directory: Directory, submission: Submission, recipient: Address) -> Route | Refusal | None:
    upstream = directory.upstreams.get(directory.default_upstream)
    if upstream is None or upstream.kind is UpstreamKind.PERSONAL:
        return None
    return Route(upstream, f"the default server {upstream.name}")


ROUTES: tuple[RouteStep, ...] = (_personal, _default)


# --- what a server demands ----------------------------------------------------------------------------------


def _enabled(
    directory: Directory, submission: Submission, recipient: Address, upstream: Upstream
) -> Refusal | None:
    return None if upstream.enabled else refuse.sending_off(directory, upstream, recipient)


def _encrypted(
    directory: Directory, submission: Submission, recipient: Address, upstream: Upstream
) -> Refusal | None:
    if directory.require_tls and upstream.encryption is Encryption.NONE:
        return refuse.needs_tls(directory, upstream, recipient)
    return None


def _internationalised(
    directory: Directory, submission: Submission, recipient: Address, upstream: Upstream
) -> Refusal | None:
    if recipient.smtputf8 and not submission.smtputf8:
        return refuse.smtputf8_needed(recipient, recipient)
    return None


def _server_size(
    directory: Directory, submission: Submission, recipient: Address, upstream: Upstream
) -> Refusal | None:
    if submission.size is None or not upstream.max_size or submission.size <= upstream.max_size:
        return None
    return refuse.too_large(
        submission.size, upstream.max_size, f"through the server {upstream.name}", recipient
    )


def _has_from(
    directory: Directory, submission: Submission, recipient: Address, upstream: Upstream
) -> Refusal | None:
    if submission.header_from is not None or not submission.header_known or upstream.from_address:
        return None
    return refuse.no_from(directory, upstream, recipient)


GUARDS: tuple[GuardStep, ...] = (_enabled, _encrypted, _internationalised, _server_size, _has_from)


# --- what changes -------------------------------------------------------------------------------------------

# Only at these doors is an empty envelope sender a statement (the null sender, RFC 5321 4.5.5).
# Elsewhere it means that none was given.
NULL_SENDER_DOORS = frozenset({"smtp", "sendmail", "notice", "system"})


def _edits(submission: Submission, upstream: Upstream) -> Edits | None:
    """The server's From address where the message has none, in its header and in its envelope."""
    if not submission.header_known:
        return None
    header = submission.header_from
    bare = submission.sender is None and submission.door not in NULL_SENDER_DOORS
    if header is not None:
        return Edits(sender=str(header)) if bare else None
    return _from_edits(upstream.from_name, upstream.from_address, bare)


@lru_cache(maxsize=256)
def _from_edits(name: str, address: str, bare: bool) -> Edits:
    mailbox = Mailbox(name, parse_address(address))
    return Edits(header_from_if_missing=str(mailbox), sender=address if bare else "")
