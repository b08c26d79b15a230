"""Which recipients may be offered to this server, and how MAIL and RCPT are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from smarthost.smtp._capabilities import Capabilities
from smarthost.smtp._command import to_orcpt, to_xtext
from smarthost.smtp._types import LocalError, Recipient, Reply, Stage, Transaction, Verdict, Warn

if TYPE_CHECKING:
    from smarthost.smtp._pipeline import Open

# What may stand between our angle brackets: dot-atoms, quoted strings, literals; never a way out of them.
_ADDRESS = re.compile(
    r'(?:[^<>"\\\x00-\x20\x7f-\x9f\ud800-\udfff]++|"(?:[^"\\\x00-\x1f\x7f-\x9f\ud800-\udfff]++|\\[\x20-\x7e])*+")*+'
)
_NOTIFY = re.compile(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")
_ORCPT = re.compile(r"[A-Za-z0-9-]{1,40};[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,320}")

_TOO_LARGE = "The message is larger than the {} bytes that the server takes"
_NO_SMTPUTF8 = "The server does not take addresses or headers in UTF-8 (SMTPUTF8)"
_OVER_LIMIT = "More recipients than the server takes at once"


def sort_out(one: Open, capabilities: Capabilities) -> None:
    """Fill `offered`; give their verdicts to recipients that this server cannot be offered.

    Too large (RFC 1870 6.1), UTF-8 without SMTPUTF8 (RFC 6531 3.5): refused here as the server would have to.
    Over RCPTMAX or RCPTDOMAINMAX (RFC 9422): UNSENT, for another transaction.
    """
    transaction = one.transaction
    _check(transaction)
    if transaction.eight_bit and not capabilities.eight_bit_mime:
        one.warnings = (Warn.EIGHT_BIT,)
    if capabilities.size and transaction.size > capabilities.size:
        text = _TOO_LARGE.format(capabilities.size)
        one.settle_rest(Verdict.PERMANENT, Reply(552, "5.3.4", text, local=True), Stage.MAIL)
        return
    no_utf8 = Reply(553, "5.6.7", _NO_SMTPUTF8, local=True)
    if not capabilities.smtputf8 and (transaction.smtputf8 or not transaction.sender.isascii()):
        one.settle_rest(Verdict.PERMANENT, no_utf8, Stage.MAIL)
        return
    domains: set[str] = set()
    for index, recipient in enumerate(transaction.recipients):
        address = recipient.address
        if not capabilities.smtputf8 and not address.isascii():
            one.settle(index, Verdict.PERMANENT, no_utf8, Stage.RCPT)
            continue
        full = 0 < capabilities.rcpt_max <= len(one.offered)
        if capabilities.rcpt_domain_max and not full:
            domain = address.rpartition("@")[2].lower()
            full = domain not in domains and len(domains) >= capabilities.rcpt_domain_max
            if not full:
                domains.add(domain)
        if full:
            one.settle(index, Verdict.UNSENT, Reply(452, "4.5.3", _OVER_LIMIT, local=True), Stage.RCPT)
        else:
            one.offered.append(index)


def _check(transaction: Transaction) -> None:
    if not transaction.recipients:
        raise LocalError("a transaction needs a recipient")
    if not _ADDRESS.fullmatch(transaction.sender):
        raise LocalError("the sender is not an address")
    if transaction.ret not in ("", "FULL", "HDRS"):
        raise LocalError("RET is FULL or HDRS")
    for recipient in transaction.recipients:
        if not recipient.address or not _ADDRESS.fullmatch(recipient.address):
            raise LocalError("a recipient is not an address")
        if recipient.notify and not _NOTIFY.fullmatch(recipient.notify):
            raise LocalError("NOTIFY is NEVER or a list of SUCCESS, FAILURE, DELAY")
        if recipient.orcpt and not _ORCPT.fullmatch(recipient.orcpt):
            raise LocalError("ORCPT is a type, a semicolon and an address")


def mail_command(transaction: Transaction, offered: list[int], capabilities: Capabilities) -> bytes:
    """MAIL with the parameters that this server knows (RFC 1870, 3461, 6152, 6531)."""
    params = ""
    if capabilities.size is not None and transaction.size:
        params = f" SIZE={transaction.size}"
    if transaction.eight_bit and capabilities.eight_bit_mime:
        params += " BODY=8BITMIME"
    if capabilities.smtputf8 and (
        transaction.smtputf8
        or not transaction.sender.isascii()
        or any(not transaction.recipients[index].address.isascii() for index in offered)
    ):
        params += " SMTPUTF8"
    if capabilities.dsn:
        if transaction.ret:
            params += f" RET={transaction.ret}"
        envid = to_xtext(transaction.envid) if transaction.envid.isascii() else ""
        if 0 < len(envid) <= 100:
            params += f" ENVID={envid}"
    return f"MAIL FROM:<{transaction.sender}>{params}\r\n".encode()


def rcpt_command(recipient: Recipient, capabilities: Capabilities) -> bytes:
    """RCPT with NOTIFY and ORCPT where the server offers DSN (RFC 3461)."""
    params = ""
    if capabilities.dsn:
        if recipient.notify:
            params = f" NOTIFY={recipient.notify}"
        if recipient.orcpt:
            orcpt = to_orcpt(recipient.orcpt)
            if len(orcpt) <= 500:
                params += f" ORCPT={orcpt}"
    return f"RCPT TO:<{recipient.address}>{params}\r\n".encode()
