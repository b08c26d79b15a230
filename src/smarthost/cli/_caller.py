"""On whose behalf `send` and `admit` speak, and the directory that decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smarthost.cli._context import control
from smarthost.errors import ConfigError, NotFound
from smarthost.routing import Directory, Principal, decode_directory, decode_principal

if TYPE_CHECKING:
    from smarthost.spool import Spool


def principal_id(text: str) -> str:
    """The id of a user or an application by what people call it. Needs Django. Raises NotFound."""
    from smarthost.control.accounts import services as accounts
    from smarthost.control.applications import services as applications

    try:
        return str(accounts.find_user(text).id)
    except NotFound:
        pass
    try:
        return str(applications.find(text).id)
    except NotFound:
        raise NotFound(
            f"There is no user and no application {text}: see smarthost user list, smarthost app list"
        ) from None


def caller(named: str | None) -> str:
    """The id of who sends: the one named, or the installation's only owner. Raises ConfigError, NotFound."""
    control()
    if named:
        return principal_id(named)
    from smarthost.control.accounts.models import Role, User

    owners = User.objects.filter(role=Role.OWNER, is_active=True)[:2]
    if len(owners) == 1:
        return str(owners[0].id)
    raise ConfigError("Who sends? Name a user or an application: --as NAME")


def read(store: Spool, id_: str) -> tuple[Directory, Principal]:
    """The directory and one principal of it. Raises NotFound for one that may send nothing."""
    body, row = store.directory(), store.principal(id_)
    if body is None or row is None:
        raise NotFound(f"{id_} is not in the directory: it is switched off or was removed")
    return decode_directory(body), decode_principal(row)
