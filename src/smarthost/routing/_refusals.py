"""The words of every refusal: what, why, and what to do.

`slug` is the stable name that programs may compare. Reply codes are of RFC 5321 4.2.3, enhanced codes of
RFC 3463 (X.3.2 a system that is switched off, X.3.4 size, X.4.4 no route, X.5.3 recipients, X.6.7 RFC 6531).
All are permanent but the count of recipients, which another transaction cures.
"""

from __future__ import annotations

from smarthost.errors import ContentError, Forbidden, Refused, SmarthostError, TooLarge, TooManyRecipients
from smarthost.mail import Address
from smarthost.routing._types import Directory, Principal, Refusal, Upstream

HTTP = {
    TooLarge.slug: TooLarge.http,
    "principal-disabled": Forbidden.http,
    "no-from": ContentError.http,
}


def to_error(refusal: Refusal) -> SmarthostError:
    """The refusal as an exception, for doors that raise one."""
    return Refused(
        refusal.text,
        code=refusal.code,
        enhanced=refusal.enhanced,
        slug=refusal.slug,
        http=HTTP.get(refusal.slug, Refused.http),
    )


def principal_disabled(directory: Directory, principal: Principal) -> Refusal:
    text = f"{principal.name} may not send: it is switched off. {_ask(directory)} to switch it on."
    return Refusal(recipient=None, code=550, enhanced="5.7.1", slug="principal-disabled", text=text)


def no_recipients() -> Refusal:
    text = "The message has no recipient. Name at least one."
    return Refusal(recipient=None, code=554, enhanced="5.5.1", slug="no-recipients", text=text)


def too_many_recipients(directory: Directory, count: int) -> Refusal:
    text = (
        f"The message has {count} recipients, and {directory.limits.max_recipients} are allowed here."
        " Send the rest as another message."
    )
    kind = TooManyRecipients
    return Refusal(recipient=None, code=kind.code, enhanced=kind.enhanced, slug=kind.slug, text=text)


def too_large(size: int, limit: int, where: str, recipient: Address | None = None) -> Refusal:
    """`where` completes "N bytes are allowed …"."""
    text = f"The message has {size} bytes, and {limit} are allowed {where}. Send less, or a link to the file."
    kind = TooLarge
    return Refusal(recipient=recipient, code=kind.code, enhanced=kind.enhanced, slug=kind.slug, text=text)


def smtputf8_needed(address: Address, recipient: Address | None = None) -> Refusal:
    text = f"{address} is an internationalised address: give MAIL the parameter SMTPUTF8 to use it."
    return Refusal(recipient=recipient, code=553, enhanced="5.6.7", slug="smtputf8-needed", text=text)


def no_route(directory: Directory, recipient: Address) -> Refusal:
    text = (
        "No outgoing server is configured, so there is no route for this mail."
        f" {_ask(directory)} to set one (smarthost upstream set)."
    )
    return Refusal(recipient=recipient, code=550, enhanced="5.4.4", slug="no-route", text=text)


def personal_gone(recipient: Address) -> Refusal:
    text = (
        "Your own outgoing server no longer exists, so there is no route for this mail."
        " Set your server again, or restore the default."
    )
    return Refusal(recipient=recipient, code=550, enhanced="5.4.4", slug="no-route", text=text)


def sending_off(directory: Directory, upstream: Upstream, recipient: Address) -> Refusal:
    text = (
        f"Sending is switched off: the server {upstream.name} is disabled. {_ask(directory)} to switch it on."
    )
    return Refusal(recipient=recipient, code=550, enhanced="5.3.2", slug="sending-off", text=text)


def needs_tls(directory: Directory, upstream: Upstream, recipient: Address) -> Refusal:
    text = (
        f"The server {upstream.name} is set up without encryption, and this site requires it."
        f" {_ask(directory)} to set its encryption to starttls or tls."
    )
    return Refusal(recipient=recipient, code=550, enhanced="5.7.1", slug="needs-tls", text=text)


def no_from(directory: Directory, upstream: Upstream, recipient: Address) -> Refusal:
    text = (
        "No From address configured: the message has none, and neither has the server"
        f" {upstream.name}. Add a From, or ask {_who(directory)} to set the server's."
    )
    return Refusal(recipient=recipient, code=550, enhanced="5.6.0", slug="no-from", text=text)


def _who(directory: Directory) -> str:
    return f"the administrator ({directory.contact})" if directory.contact else "the administrator"


def _ask(directory: Directory) -> str:
    return f"Ask {_who(directory)}"
