"""What MAIL, RCPT and the content of one message come to: replies and, at the end, a message. No I/O.

Each recipient is asked for when it is named, and all of them again with the content, because only then are
size and From known and the directory may have changed. A recipient that was admitted and is refused at the
end refuses the whole message: SMTP has one answer there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from smarthost.errors import SmarthostError
from smarthost.mail import Address, HeaderFacts, complete
from smarthost.routing import Directory, Principal, Refusal, Submission, admit
from smarthost.smtp import Mail, MailParams, Rcpt, RcptParams, Reply
from smarthost.spool import Door, Flag, NewMessage
from smarthost.spool.intake import fingerprint, prepare

SENDER_OK = Reply(250, "2.1.0", "OK")
RECIPIENT_OK = Reply(250, "2.1.5", "OK")


@dataclass(slots=True)
class Envelope:
    """One transaction between MAIL and the end of its content."""

    principal: Principal
    door: Door
    sender: Address | None
    params: MailParams
    recipients: list[Address] = field(default_factory=list)
    notify: dict[str, str] = field(default_factory=dict)

    def add(self, directory: Directory, event: Rcpt, now: int) -> Reply:
        """Admit one recipient, or say why not. Raises AddressError."""
        recipient = complete(event.path, directory.domain, directory.aliases)
        submission = Submission(
            principal=self.principal,
            door=self.door.value,
            sender=self.sender,
            recipients=(recipient,),
            header_known=False,
            size=self.params.size,
            smtputf8=self.params.smtputf8,
        )
        entry = admit(directory, {}, now, submission).recipients[0]
        if isinstance(entry, Refusal):
            return Reply(entry.code, entry.enhanced, entry.text)
        self.recipients.append(recipient)
        if event.params != NO_PARAMS:
            self.notify[str(recipient)] = _dsn(event.params)
        return RECIPIENT_OK

    def message(
        self,
        directory: Directory,
        facts: HeaderFacts,
        *,
        id: str,
        now: int,
        trace: bytes,
        content: bytes | None,
        size: int,
        chunks: int = 1,
        digest: bytes | None = None,
        eight_bit: bool = False,
    ) -> NewMessage:
        """The message as the spool takes it. Raises SmarthostError where policy refuses."""
        submission = Submission(
            principal=self.principal,
            door=self.door.value,
            sender=self.sender,
            recipients=tuple(self.recipients),
            header_from=facts.header_from,
            size=size,
            smtputf8=self.params.smtputf8,
        )
        key = facts.idempotency_key or ""
        return prepare(
            admit(directory, {}, now, submission),
            submission,
            facts,
            id=id,
            now=now,
            door=self.door,
            trace=trace,
            content=content,
            size=size,
            chunks=chunks,
            key=key,
            fingerprint=self._fingerprint(content, digest) if key else b"",
            notify=self.notify,
            dsn_ret=self.params.ret or None,
            dsn_envid=self.params.envid or None,
            flags=Flag.EIGHT_BIT if eight_bit else Flag.NONE,
        )

    def _fingerprint(self, content: bytes | None, digest: bytes | None) -> bytes:
        return fingerprint(
            str(self.sender or ""), [str(one) for one in self.recipients], content or b"", digest=digest
        )


NO_PARAMS = RcptParams()


def begin(directory: Directory, principal: Principal, door: Door, event: Mail) -> Envelope:
    """Open a transaction. A sender without a domain is completed, by no alias. Raises AddressError."""
    sender = complete(event.path, directory.domain, {}) if event.path else None
    return Envelope(principal, door, sender, event.params)


def reader(directory: Directory) -> partial[Address]:
    """How a From that a local program wrote without a domain is read."""
    return partial(complete, domain=directory.domain, aliases={})


def said(error: SmarthostError) -> Reply:
    """The error as an SMTP client hears it."""
    return Reply(error.code, error.enhanced, error.public)


def _dsn(params: RcptParams) -> str:
    parts = []
    if params.notify:
        parts.append(f"NOTIFY={params.notify}")
    if params.orcpt:
        parts.append(f"ORCPT={params.orcpt}")
    return ";".join(parts)
