"""The way in for the very first person: an owner without a password, and a link that signs in once."""

from __future__ import annotations

LIFETIME_S = 24 * 3600


def first_link() -> str:
    """A sign-in link for the owner as long as no owner could come in yet, "" afterwards.

    Every start makes a new one: whoever lost the first start's output only has to restart. Needs Django.
    """
    from smarthost.control.accounts.models import Role, User
    from smarthost.control.accounts.services import add_user, make_link

    owners = list(User.objects.filter(role=Role.OWNER, is_active=True))
    if any(owner.last_login or owner.has_usable_password() for owner in owners):
        return ""
    owner = (
        owners[0]
        if owners
        else add_user("owner@localhost", actor="system", role=Role.OWNER, username="owner", verified=False)
    )
    return make_link(owner, actor="system", lifetime_s=LIFETIME_S)
