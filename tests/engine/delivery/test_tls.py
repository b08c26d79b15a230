"""TLS towards upstreams: what is trusted, what is refused, and that nothing leaks before (TLS-05 to TLS-11)."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ssl
from typing import Any

import pytest
import trustme
from world import World, run, upstream

from peers.hostile import Hostile, Plan
from smarthost.engine.delivery import Fault
from smarthost.routing import Encryption

AUTHORITY = trustme.CA()
OTHER = trustme.CA()
CA_PEM = AUTHORITY.cert_pem.bytes().decode()
USERS = {"u": "s3cret-word"}


def context(*names: str, authority: trustme.CA = AUTHORITY, **options: Any) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1",)), **options).configure_cert(made)
    return made


def pin_of(made: trustme.LeafCert) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(made.cert_chain_pems[0].bytes().decode())).hexdigest()


def deliver(tmp_path: Any, plan: Plan, **settings: Any) -> tuple[World, Hostile]:
    """One message towards a server as planned; both sides as they stand once it was sent or the route failed."""

    async def main() -> tuple[World, Hostile]:
        plan.users, plan.mechanisms = USERS, plan.mechanisms or ("PLAIN", "LOGIN")
        async with Hostile(plan) as server:
            world = World(tmp_path)
            settings.setdefault("ca_pem", CA_PEM)
            world.change(
                upstream(server.port, key=world.key, password="s3cret-word", username="u", **settings)
            )
            async with world:
                world.add("r@example.net")
                await world.until(
                    lambda: "sent" in world.states() or bool(world.log.events("session-failed"))
                )
                await asyncio.sleep(0.02)
            return world, server

    return run(main())


def refused(world: World, server: Hostile, text: str) -> None:
    """The route is paused for TLS, in words; no login, no mail; the message lost nothing."""
    failure = world.log.events("session-failed")[0]
    assert failure["fault"] == Fault.TLS.value, failure
    assert text in str(failure["text"]), failure
    assert not server.logins and not server.taken
    assert not any(line.startswith(("MAIL", "AUTH")) for line in server.commands)
    assert world.states() == ["queued"] and world.spool.rows[0].attempts == 0
    assert world.log.events("alert"), "somebody is told"


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_a_certificate_of_the_private_ca_for_the_right_name_is_trusted(mode: str, tmp_path: Any) -> None:
    world, server = deliver(tmp_path, Plan(tls=mode, context=context()), encryption=Encryption(mode))
    assert world.states() == ["sent"] and server.logins == [("u", "s3cret-word")]


@pytest.mark.parametrize("mode", ["starttls", "tls"])
@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"names": ("other.example",)}, "mismatch"),
        ({"authority": OTHER}, "unable to get local issuer"),
        ({"not_after": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC)}, "expired"),
        ({"not_before": datetime.datetime(2090, 1, 2, tzinfo=datetime.UTC),
          "not_after": datetime.datetime(2091, 1, 2, tzinfo=datetime.UTC)}, "not yet valid"),
    ],
    ids=["wrong-name", "unknown-ca", "expired", "not-yet"],
)  # fmt: skip
def test_another_certificate_is_refused_by_its_own_name(
    mode: str, wrong: dict[str, Any], says: str, tmp_path: Any
) -> None:
    options = dict(wrong)
    made = context(*options.pop("names", ()), **options)
    refused(*deliver(tmp_path, Plan(tls=mode, context=made), encryption=Encryption(mode)), says)


def test_without_verification_everything_is_accepted_and_said_so(tmp_path: Any) -> None:
    plan = Plan(tls="starttls", context=context("other.example", authority=OTHER))
    world, _ = deliver(tmp_path, plan, encryption=Encryption.STARTTLS, verify=False)
    assert world.states() == ["sent"]
    assert world.log.events("upstream-unverified")


@pytest.mark.parametrize("mode", ["starttls", "tls"])
def test_a_pin_is_the_certificate_itself(mode: str, tmp_path: Any) -> None:
    leaf = OTHER.issue_cert("whatever.example")
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(made)
    world, _ = deliver(tmp_path, Plan(tls=mode, context=made), encryption=Encryption(mode), pin=pin_of(leaf))
    assert world.states() == ["sent"]


@pytest.mark.parametrize("mode", ["starttls", "tls"])
@pytest.mark.parametrize("verify", [True, False])
def test_another_certificate_than_the_pinned_is_refused_before_the_login(
    mode: str, verify: bool, tmp_path: Any
) -> None:
    plan = Plan(tls=mode, context=context())
    refused(*deliver(tmp_path, plan, encryption=Encryption(mode), pin="ab" * 32, verify=verify), "pinned")


def test_a_client_certificate_is_shown(tmp_path: Any) -> None:
    made = context()
    made.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(made)
    leaf = AUTHORITY.issue_cert("client@example.org")
    from smarthost.routing import destination
    from smarthost.vault import load_or_create_key, seal

    key = load_or_create_key(tmp_path / "key")

    async def main() -> list[str]:
        async with Hostile(Plan(tls="tls", context=made)) as server:
            settings: dict[str, Any] = {"encryption": Encryption.TLS, "ca_pem": CA_PEM}
            sealed = seal(
                key, leaf.private_key_pem.bytes().decode(), destination(upstream(server.port, **settings))
            )
            chain = "".join(one.bytes().decode() for one in leaf.cert_chain_pems)
            up = upstream(server.port, client_cert_pem=chain, client_key=sealed, **settings)
            async with World(tmp_path, up) as world:
                world.add("r@example.net")
                await world.settled()
                return world.states()

    assert run(main()) == ["sent"]


def test_starttls_that_is_not_offered_stops_everything(tmp_path: Any) -> None:
    refused(*deliver(tmp_path, Plan(tls="none"), encryption=Encryption.STARTTLS), "STARTTLS")


def test_starttls_that_is_refused_stops_everything(tmp_path: Any) -> None:
    plan = Plan(
        tls="starttls",
        context=context(),
        reply=lambda state, _: "454 4.7.0 TLS not available" if state == "starttls" else None,
    )
    refused(*deliver(tmp_path, plan, encryption=Encryption.STARTTLS), "454")


def test_clear_text_behind_the_220_is_tampering(tmp_path: Any) -> None:
    plan = Plan(tls="starttls", context=context(), inject=b"250-INJECTED\r\n250 AUTH PLAIN XINJ\r\n")
    world, server = deliver(tmp_path, plan, encryption=Encryption.STARTTLS)
    assert not server.logins and not server.taken
    assert world.log.events("session-failed")[0]["fault"] == Fault.TLS.value


def test_a_server_in_clear_where_tls_is_spoken_is_named(tmp_path: Any) -> None:
    refused(*deliver(tmp_path, Plan(tls="none"), encryption=Encryption.TLS), "TLS")


def test_old_tls_is_refused(tmp_path: Any) -> None:
    made = context()
    with pytest.warns(DeprecationWarning):
        made.minimum_version = ssl.TLSVersion.TLSv1
        made.maximum_version = ssl.TLSVersion.TLSv1_1
    made.set_ciphers("ALL:@SECLEVEL=0")
    refused(*deliver(tmp_path, Plan(tls="tls", context=made), encryption=Encryption.TLS), "TLS")


@pytest.mark.parametrize("mechanism", ["plain", "login", "cram-md5", "scram-sha-256"])
@pytest.mark.parametrize("named", [True, False])
def test_each_mechanism_signs_in(mechanism: str, named: bool, tmp_path: Any) -> None:
    plan = Plan(tls="starttls", context=context(), mechanisms=(mechanism.upper(),))
    settings = {"mechanism": mechanism} if named else {}
    world, _ = deliver(tmp_path, plan, encryption=Encryption.STARTTLS, **settings)
    assert world.states() == ["sent"], world.log.lines
    assert "s3cret-word" not in repr(world.log.lines) + repr(world.spool.events)


def test_a_named_mechanism_that_is_not_offered_is_not_replaced(tmp_path: Any) -> None:
    plan = Plan(tls="starttls", context=context(), mechanisms=("PLAIN", "LOGIN"))
    world, server = deliver(tmp_path, plan, encryption=Encryption.STARTTLS, mechanism="cram-md5")
    assert not server.logins
    assert world.log.events("session-failed")[0]["fault"] == Fault.CREDENTIALS.value
