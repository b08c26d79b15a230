"""Failure notices: who is told, and what, when mail could not be delivered. Pure but for memory.

The spool asks inside the transaction of a message's last outcome, so a notice exists exactly when the failure
does. Only a person or program that handed the mail in over SMTP or sendmail is told this way (API callers
read states); never the null sender, never automatic mail (RFC 3834, RFC 5321 6.1); and only at an address
that is known to be theirs: the writer's own where it is an identity of the principal, else the owner of the
application. Whoever forges a sender therefore makes us write to nobody.

The principal has to be in memory, because nothing here may wait. The delivery side loads it before it
completes a failure. Where it was not (mail that expired while its route was paused), the view is kept in
`missed`, and housekeeping makes that notice afterwards, under an idempotency key.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from hashlib import sha256

from smarthost import faults
from smarthost.engine.directory import DirectoryCache
from smarthost.errors import SmarthostError
from smarthost.mail import (
    Action,
    Address,
    Mailbox,
    Notice,
    NoticeRecipient,
    build_notice,
    date_text,
    new_message_id,
    parse_address,
    read_headers,
    received,
)
from smarthost.routing import Directory, Principal, Submission, admit
from smarthost.spool import Door, Flag, Idempotency, MessageView, NewMessage, State, new_id, now_us
from smarthost.spool.intake import prepare

NOTICE_LOOP = faults.planted("notice-loop")

SYSTEM = Principal(id="system", name="Smarthost", login="")
NAME = "Mail Delivery"
DOORS = frozenset({Door.SMTP, Door.SENDMAIL})
BAD = frozenset({State.FAILED, State.EXPIRED})
MOST_MISSED = 10_000


class Notices:
    """The spool's `NoticeBuilder`; called on the committer's thread."""

    def __init__(self, cache: DirectoryCache) -> None:
        self._cache = cache
        self.missed: deque[MessageView] = deque(maxlen=MOST_MISSED)

    def __call__(self, view: MessageView) -> NewMessage | None:
        """The notice about this message, or None where none is due."""
        if not due(view):
            return None
        principal = SYSTEM if NOTICE_LOOP else self._cache.get(view.principal)
        if principal is None:
            self.missed.append(view)
            return None
        return self.make(view, principal)

    def make(self, view: MessageView, principal: Principal) -> NewMessage | None:
        """The failure notice for this principal, or None where there is nobody to tell."""
        return write_notice(view, principal, self._cache.current, Action.FAILED, failed(view))

    async def make_missed(self) -> list[NewMessage]:
        """Notices whose principal was not in memory in time; accept them (a key makes repeating harmless)."""
        made = []
        while self.missed:
            view = self.missed.popleft()
            principal = await self._cache.principal(view.principal)
            message = self.make(view, principal) if principal is not None else None
            if message is not None:
                key = f"notice:{view.id}"
                made.append(replace(message, idempotency=Idempotency(key, sha256(key.encode()).digest())))
        return made


def due(view: MessageView) -> bool:
    """Whether somebody is to be told at all."""
    if NOTICE_LOOP:
        return True
    return view.door in DOORS and bool(view.sender) and not view.flags & Flag.AUTOMATIC and bool(failed(view))


def failed(view: MessageView) -> list[NoticeRecipient]:
    """The recipients to report: those that failed and whose submitter did not forbid it (RFC 3461 4.1)."""
    found = []
    for delivery in view.deliveries:
        notify, original = dsn_wishes(delivery.dsn)
        if delivery.state not in BAD or (notify and "FAILURE" not in notify):
            continue
        last = delivery.tries[-1] if delivery.tries else None
        found.append(
            NoticeRecipient(
                address=delivery.recipient,
                code=last.code if last else 0,
                enhanced=last.enhanced if last else "",
                reply=last.reply if last else "",
                expired=delivery.state is State.EXPIRED,
                original=original,
                last_attempt=last.at if last else 0,
            )
        )
    return found


def dsn_wishes(text: str | None) -> tuple[frozenset[str], str]:
    """NOTIFY as a set of words, and ORCPT, of a delivery's `dsn` (RFC 3461)."""
    if not text:
        return frozenset(), ""
    notify, found, original = text.partition("ORCPT=")
    words = notify.removeprefix("NOTIFY=").rstrip(";").upper()
    return frozenset(words.split(",")) - {""}, original if found else ""


def addressee(view: MessageView, principal: Principal) -> Address | None:
    """The writer's own address where it is an identity of the principal, else the owner's; else nobody."""
    if NOTICE_LOOP:
        return parse_address(view.sender or view.deliveries[0].recipient)
    own = {identity.lower() for identity in principal.identities}
    for text in (view.sender, view.header_from, None):
        wanted = principal.owner_address if text is None else text
        if wanted and (text is None or wanted.lower() in own):
            try:
                return parse_address(wanted)
            except SmarthostError:
                continue
    return None


def write_notice(
    view: MessageView,
    principal: Principal,
    directory: Directory,
    action: Action,
    recipients: list[NoticeRecipient],
) -> NewMessage | None:
    """The notice as a message of its own: null sender, door NOTICE, routed like system mail."""
    to = addressee(view, principal)
    if to is None or not recipients:
        return None
    now, id_ = now_us(), new_id()
    upstream = directory.upstreams.get(directory.default_upstream)
    written_as = (upstream.from_address if upstream else "") or f"postmaster@{directory.domain}"
    content = build_notice(
        Notice(
            action=action,
            hostname=directory.hostname,
            sender=Mailbox(NAME, parse_address(written_as)),
            to=to,
            recipients=recipients,
            headers=view.header,
            header_size=min(view.header_size, len(view.header)),
            id=view.id,
            arrived=view.created_at,
            subject=view.subject,
            message_id=view.message_id,
            envid=view.dsn_envid or "",
            contact=directory.contact,
        ),
        message_id=new_message_id(directory.hostname),
        date=date_text(now),
    )
    facts = read_headers(content, max_header=directory.limits.max_header, max_hops=directory.limits.max_hops)
    submission = Submission(
        principal=SYSTEM,
        door=Door.NOTICE.value,
        sender=None,
        recipients=(to,),
        header_from=facts.header_from,
        size=len(content),
    )
    decision = admit(directory, {}, now, submission)
    if decision.refusals:
        return None
    trace = received(hostname=directory.hostname, protocol="LOCAL", id=id_, at_us=now)
    return prepare(
        decision, submission, facts, id=id_, now=now, door=Door.NOTICE, trace=trace, content=content
    )
