"""What a start does before anything is served: schema, key, and the way in for the very first person.

That way is a user "owner" without a password, and a link that signs in once. An address it has only where
SMARTHOST_OWNER gives one: an invented one would be somebody's identity.
"""

from __future__ import annotations

import json
import os
import traceback

from smarthost.errors import SmarthostError

LIFETIME_S = 24 * 3600


def prepare(tell: int) -> bool:
    """Bring the installation up to date and tell the supervisor, in JSON on a pipe: mode and link, or error.

    Afterwards nothing is open any more, neither connection nor thread: the process may fork. Whether it
    went well; errors that are bugs leave their traceback.
    """
    try:
        from smarthost.control.boot import setup

        setup()
        from django.db import connections

        from smarthost.control import spooling
        from smarthost.control.directory import policy

        found = {"link": first_link(), "mode": policy.mode().value}
        spooling.close()
        connections.close_all()
    except SmarthostError as error:
        found = {"error": error.public}
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}, see the lines above"}
    os.write(tell, json.dumps(found).encode())
    os.close(tell)
    return "error" not in found


def first_link() -> str:
    """A sign-in link for the owner as long as no owner could come in yet, "" afterwards.

    Every start makes a new one: whoever lost the first start's output only has to restart. Needs Django.
    """
    from django.conf import settings

    from smarthost.control.accounts.models import Role, User
    from smarthost.control.accounts.services import add_user, make_link

    owners = list(User.objects.filter(role=Role.OWNER, is_active=True))
    if any(owner.last_login or owner.has_usable_password() for owner in owners):
        return ""
    owner = (
        owners[0]
        if owners
        else add_user(settings.PROCESS.owner or None, actor="system", role=Role.OWNER, username="owner")
    )
    return make_link(owner, actor="system", lifetime_s=LIFETIME_S)
