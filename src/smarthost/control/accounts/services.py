"""What commands, API and pages do with people. Every function that changes something names its actor.

Who a secret belongs to is found by its SHA-256 alone, so the time it takes tells nothing about names.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from smarthost.control.accounts.models import EmailAddress, Role, SignInLink, Token, User
from smarthost.control.directory.services import Change, changing
from smarthost.control.ids import fresh
from smarthost.errors import ConfigError, Conflict, NotFound
from smarthost.mail import parse_address
from smarthost.routing import hash_secret
from smarthost.vault import random_secret

SCOPES = {
    "messages:send": "send mail",
    "messages:read": "read its own messages and events",
    "messages:act": "retry, cancel, hold and release its own messages",
    "metrics:read": "read /metrics",
    "admin": "everything that its user may do; for users who administer only",
}
LINK_LIFETIME_S = 3600
_WEAK = {
    "password_too_short": f"shorter than {settings.PASSWORD_LENGTH} characters",
    "password_too_common": "among those that are tried first",
    "password_entirely_numeric": "digits only",
    "password_too_similar": "too much like the user name or the address",
}


def add_user(
    email: str | None,
    *,
    actor: str,
    role: str = Role.MEMBER,
    username: str = "",
    password: str | None = None,
    verified: bool = True,
) -> User:
    """Create a user. Without a password they can only come in by a sign-in link.

    email       None for none: such a user has a name, and writes as nobody until an address is verified.
    `verified`: an administrator vouches for the address, so it is an identity at once.
    Raises AddressError, ConfigError (role, user name, weak password), Conflict where it exists.
    """
    address = parse_address(email) if email is not None else None
    _check_role(role)
    name = username or str(address or "")
    if not 0 < len(name) <= 254 or not name.isprintable() or name != name.strip():
        raise ConfigError("A user name is 1 to 254 printable characters", field="username")
    user = User(id=fresh("user"), username=name, role=role, is_active=True)
    if address is not None:
        user.email, user.email_key = str(address), address.key
    _set_password(user, password)
    try:
        with changing(actor) as change:
            user.save(force_insert=True)
            if address is not None:
                EmailAddress.objects.create(
                    user=user, address=str(address), key=address.key, verified=verified
                )
            change.touch(user.id)
            change.record(user.id, f"User {name} was added as {role}", {"role": ("", role)})
    except IntegrityError:
        taken = f"a user {name}" if address is None else f"a user {name} or the address {address}"
        raise Conflict(f"There is {taken} already", field="email") from None
    return user


def find_user(text: str) -> User:
    """The user of this id, user name or primary address. Raises NotFound."""
    found = (
        User.objects.filter(id=text).first()
        or User.objects.filter(username=text).first()
        or User.objects.filter(email_key=text.lower()).first()
    )
    if found is None:
        raise NotFound(f"There is no user {text}")
    return found


def list_users() -> list[User]:
    """All users, by name."""
    return list(User.objects.order_by("username").prefetch_related("addresses"))


def set_role(user: User, role: str, *, actor: str) -> None:
    """Give another role. Raises Conflict for the last owner, who cannot stop being one."""
    _check_role(role)
    with changing(actor) as change:
        if user.role == Role.OWNER and role != Role.OWNER and not _other_owner(user):
            raise Conflict("The last owner stays an owner: make somebody else one first", field="role")
        change.record(user.id, f"{user} became {role}", {"role": (user.role, role)})
        user.role = role
        user.save(update_fields=["role"])
        change.touch(user.id)


def set_active(user: User, active: bool, *, actor: str) -> None:
    """Switch an account on or off; off, none of its credentials works."""
    with changing(actor) as change:
        if not active and user.role == Role.OWNER and not _other_owner(user):
            raise Conflict("The last owner cannot be switched off")
        change.record(
            user.id, f"{user} was switched {'on' if active else 'off'}", {"active": (user.is_active, active)}
        )
        user.is_active = active
        user.save(update_fields=["is_active"])
        change.touch(user.id)


def set_password(user: User, password: str, *, actor: str) -> None:
    """Set the password, which also ends every session of the user. Raises ConfigError for a weak one."""
    _set_password(user, password)
    with changing(actor) as change:
        user.save(update_fields=["password"])
        change.record(user.id, f"The password of {user} was set", {"password": ("", "changed")})


def verify_address(user: User, address: str, *, actor: str) -> None:
    """Vouch for an address: from now on the user may write as it. Adds it where it is new.

    It becomes the primary one of a user who has none.
    Raises AddressError; Conflict where another user has proven it.
    """
    parsed = parse_address(address)
    try:
        with changing(actor) as change:
            EmailAddress.objects.update_or_create(
                user=user,
                key=parsed.key,
                defaults={"verified": True},
                create_defaults={"verified": True, "address": str(parsed)},
            )
            if not user.email:
                user.email, user.email_key = str(parsed), parsed.key
                user.save(update_fields=["email", "email_key"])
            change.touch(user.id)
            change.record(user.id, f"{parsed} was verified for {user}", {"verified": ("", str(parsed))})
    except IntegrityError:
        raise Conflict(f"{parsed} belongs to another user", field="address") from None


def create_token(
    principal: str,
    name: str,
    *,
    actor: str,
    scopes: Iterable[str] = ("messages:send", "messages:read"),
    expires_at: dt.datetime | None = None,
) -> tuple[Token, str]:
    """Make a token for a principal id; returns it with its secret, which is shown this once."""
    with changing(actor) as change:
        return new_token(change, principal, name, scopes, expires_at)


def new_token(
    change: Change, principal: str, name: str, scopes: Iterable[str], expires_at: dt.datetime | None = None
) -> tuple[Token, str]:
    """`create_token` within a change that is under way."""
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in SCOPES]:
        raise ConfigError(f"There is no scope {unknown[0]}; there are {', '.join(SCOPES)}", field="scopes")
    if not wanted:
        raise ConfigError("A token needs at least one scope", field="scopes")
    if (
        "admin" in wanted
        and not User.objects.filter(id=principal, role__in=(Role.OWNER, Role.ADMIN)).exists()
    ):
        raise ConfigError("Only a token of a user who administers can have the scope admin", field="scopes")
    secret = f"sh_{random_secret(43)}"
    token = Token.objects.create(
        id=fresh("tok"),
        principal=principal,
        name=name,
        hash=hash_secret(secret),
        scopes=wanted,
        expires_at=expires_at,
    )
    change.touch(principal)
    change.record(principal, f"Token {name!r} was made", {"token": ("", "changed"), "scopes": ("", wanted)})
    return token, secret


def list_tokens(principal: str | None = None) -> list[Token]:
    """Tokens, without their secrets: nobody has those any more."""
    rows = Token.objects.order_by("principal", "name")
    return list(rows if principal is None else rows.filter(principal=principal))


def revoke_token(id: str, *, actor: str) -> None:
    """Make a token worthless at once. Raises NotFound."""
    with changing(actor) as change:
        token = Token.objects.filter(id=id).first()
        if token is None:
            raise NotFound(f"There is no token {id}")
        change.touch(token.principal)
        change.record(token.principal, f"Token {token.name!r} was revoked", {"token": (token.name, "")})
        token.delete()


def make_link(user: User, *, actor: str, lifetime_s: int = LINK_LIFETIME_S) -> str:
    """A link that signs the user in once, under the configured public address and no other."""
    secret = random_secret(43)
    with changing(actor, compiles=False) as change:
        SignInLink.objects.filter(expires_at__lt=timezone.now()).delete()
        SignInLink.objects.create(
            user=user, hash=hash_secret(secret), expires_at=timezone.now() + dt.timedelta(seconds=lifetime_s)
        )
        change.record(user.id, f"A sign-in link for {user} was made", {"link": ("", "changed")})
    return f"{settings.PROCESS.public_url}/sign-in/{secret}"


def link_user(secret: str) -> User | None:
    """Whose link this is while it is good, without using it up."""
    row = SignInLink.objects.filter(hash=hash_secret(secret)).select_related("user").first()
    good = row and row.used_at is None and row.expires_at > timezone.now() and row.user.is_active
    return row.user if row and good else None


def consume_link(secret: str) -> User | None:
    """Use the link up and give its user; None where it is not good (any more). Of two callers one wins."""
    with transaction.atomic():
        user = link_user(secret)
        used = SignInLink.objects.filter(hash=hash_secret(secret), used_at=None).update(
            used_at=timezone.now()
        )
    return user if used else None


def _check_role(role: str) -> None:
    if role not in Role.values:
        raise ConfigError(f"There is no role {role}; there are {', '.join(Role.values)}", field="role")


def _other_owner(user: User) -> bool:
    return User.objects.filter(role=Role.OWNER, is_active=True).exclude(id=user.id).exists()


def _set_password(user: User, password: str | None) -> None:
    if password is None:
        user.set_unusable_password()
        return
    try:
        validate_password(password, user)
    except ValidationError as error:
        why = ", ".join(
            _WEAK.get(found.code or "", "refused by the rules of this site") for found in error.error_list
        )
        raise ConfigError(f"Choose another password: this one is {why}", field="password") from None
    user.set_password(password)
