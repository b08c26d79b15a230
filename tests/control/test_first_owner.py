"""The first owner: whom the one-time link of a first start signs in."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from smarthost.errors import AddressError, ConfigError


@pytest.fixture
def owner(fresh: SimpleNamespace) -> SimpleNamespace:
    from smarthost.cli._first import first_link
    from smarthost.control.accounts.services import find_user

    return SimpleNamespace(link=first_link(), user=find_user("owner"))


def test_the_first_owner_is_nobodys_address_and_comes_in_by_the_link(owner: SimpleNamespace) -> None:
    from django.test import Client

    from smarthost.control.directory.models import Principal
    from smarthost.routing import decode_principal

    assert (owner.user.email, owner.user.email_key, owner.user.role) == ("", None, "owner")
    principal = decode_principal(Principal.objects.get(id=owner.user.id).body.encode())
    assert (principal.identities, principal.owner_address) == ((), "")
    client = Client()
    assert client.post(owner.link.split("8025")[1]).status_code == 302
    page = client.get("/").content.decode()
    assert "owner" in page


def test_two_people_may_have_no_address_and_the_first_one_verified_is_theirs(owner: SimpleNamespace) -> None:
    from smarthost.control.accounts import services

    services.add_user(None, actor="test", username="second")
    services.verify_address(owner.user, "boss@Example.org", actor="test")
    found = services.find_user("boss@example.org")
    assert (found.username, found.email) == ("owner", "boss@example.org")
    services.verify_address(owner.user, "other@example.org", actor="test")
    assert services.find_user("owner").email == "boss@example.org"
    with pytest.raises(ConfigError):
        services.add_user(None, actor="test")
    with pytest.raises(AddressError):
        services.add_user("", actor="test", username="third")


def test_the_address_that_the_operator_names_is_the_owners(
    fresh: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.conf import settings

    from smarthost.cli._first import first_link
    from smarthost.control.accounts.services import find_user

    named = dataclasses.replace(settings.PROCESS, owner="boss@example.org")
    monkeypatch.setattr(settings, "PROCESS", named)
    assert first_link()
    found = find_user("owner")
    assert found.email == "boss@example.org"
    assert [(row.address, row.verified) for row in found.addresses.all()] == [("boss@example.org", True)]
