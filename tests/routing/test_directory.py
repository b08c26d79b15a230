"""The directory as text, networks, and what may not be published."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from smarthost.errors import ConfigError
from smarthost.routing import (
    Directory,
    Edits,
    Encryption,
    Limits,
    Mode,
    Principal,
    Retention,
    Upstream,
    UpstreamKind,
    check_directory,
    decode_directory,
    decode_edits,
    decode_principal,
    destination,
    encode_directory,
    encode_edits,
    encode_principal,
    hash_secret,
    network_principal,
)

UPSTREAM = Upstream(id="u1", name="Main", host="h", encryption=Encryption.TLS, port=465, username="u")
DIRECTORY = Directory(
    version=7,
    mode=Mode.LIVE,
    hostname="mail.example.org",
    domain="example.org",
    upstreams={"u1": UPSTREAM},
    default_upstream="u1",
    networks=(("10.0.0.0/8", "app:wide"), ("10.1.0.0/16", "app:narrow"), ("fd00::/8", "app:six")),
    uids={33: "app:wide"},
    aliases={"root": "ops@example.org"},
    limits=Limits(max_size=1),
    contact="ops@example.org",
    require_tls=True,
    unknown_retry_after=1000,
    retention=Retention(content_days=1, rows_days=2),
)


def with_networks(*networks: tuple[str, str]) -> Directory:
    return replace(DIRECTORY, networks=networks)


def test_a_directory_and_a_principal_survive_the_store() -> None:
    assert decode_directory(encode_directory(DIRECTORY)) == DIRECTORY
    principal = Principal(id="app:1", name="Ü", login="l", secrets=("ab",), uids=(33,), networks=("::/0",))
    assert decode_principal(encode_principal(principal)) == principal
    assert decode_principal(encode_principal(principal).decode()) == principal


def test_a_directory_of_an_older_version_is_read_with_defaults() -> None:
    old = b'{"version":1,"mode":"capture","hostname":"h","domain":"d","upstreams":{}}'
    assert decode_directory(old).retention == Retention()


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b'{"version":"x"}', b"\xff"])
def test_a_text_that_is_none_is_refused(text: bytes) -> None:
    for decode in (decode_directory, decode_principal):
        with pytest.raises(ConfigError):
            decode(text)


def test_edits_survive_and_none_is_nothing() -> None:
    edits = Edits(sender="a@b.test", header_from_if_missing='"Ü" <a@b.test>')
    assert decode_edits(encode_edits(edits)) == edits
    assert encode_edits(None) is None
    assert encode_edits(Edits()) is None
    assert decode_edits(None) == Edits()
    with pytest.raises(ConfigError):
        decode_edits("{")


@pytest.mark.parametrize(
    ("ip", "principal"),
    [
        ("10.1.2.3", "app:narrow"),
        ("10.2.2.3", "app:wide"),
        ("::ffff:10.1.2.3", "app:narrow"),
        ("fd00::1", "app:six"),
        ("fd00::1%eth0", "app:six"),
        ("127.0.0.1", None),
        ("::1", None),
        ("::a01:203", None),
        ("", None),
        ("/run/smarthost.sock", None),
        ("10.1.2", None),
    ],
)
def test_the_longest_prefix_says_who_a_peer_is(ip: str, principal: str | None) -> None:
    assert network_principal(DIRECTORY, ip) == principal


networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(
        lambda pair: str(ipaddress.IPv4Network(pair, strict=False))
    ),
    st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(
        lambda pair: str(ipaddress.IPv6Network(pair, strict=False))
    ),
)


@given(st.lists(networks, unique=True, max_size=8), st.data())
def test_networks_agree_with_a_plain_search(cidrs: list[str], data: st.DataObject) -> None:
    directory = with_networks(*((cidr, f"app:{n}") for n, cidr in enumerate(cidrs)))
    inside = [ipaddress.ip_network(cidr).broadcast_address for cidr in cidrs]
    ip = data.draw(st.sampled_from(inside) if inside else st.ip_addresses())
    holding = [(ipaddress.ip_network(c), n) for n, c in enumerate(cidrs) if ip in ipaddress.ip_network(c)]
    mapped = getattr(ip, "ipv4_mapped", None)
    if mapped is None:
        best = max(holding, key=lambda pair: pair[0].prefixlen, default=None)
        assert network_principal(directory, str(ip)) == (f"app:{best[1]}" if best else None)


def test_equal_networks_of_two_applications_are_refused() -> None:
    (problem,) = check_directory(with_networks(("10.0.0.0/8", "app:a"), ("10.0.0.0/8", "app:b")))
    assert "app:a" in problem
    assert "app:b" in problem
    assert check_directory(with_networks(("10.0.0.0/8", "app:a"), ("10.0.0.0/9", "app:b"))) == ()
    assert check_directory(with_networks(("10.0.0.0/8", "app:a"), ("10.0.0.0/8", "app:a"))) == ()
    assert check_directory(with_networks(("FD00::/8", "app:a"), ("fd00:0::/8", "app:b"))) != ()


@pytest.mark.parametrize("cidr", ["10.0.0.1/8", "10.0.0.0/33", "here", ""])
def test_what_is_no_network_is_refused(cidr: str) -> None:
    assert check_directory(with_networks((cidr, "app:a")))


def test_a_default_that_cannot_be_one_is_refused() -> None:
    assert check_directory(DIRECTORY) == ()
    assert check_directory(replace(DIRECTORY, default_upstream="gone"))
    personal = replace(UPSTREAM, kind=UpstreamKind.PERSONAL)
    assert check_directory(replace(DIRECTORY, upstreams={"u1": personal}))
    assert check_directory(replace(DIRECTORY, upstreams={"u1": UPSTREAM, "u9": UPSTREAM}))


def test_a_credential_is_kept_as_its_hash() -> None:
    assert hash_secret("x") == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


def test_a_destination_is_what_the_server_is_configured_as() -> None:
    found = destination(UPSTREAM)
    assert (found.host, found.port, found.encryption, found.verify) == ("h", 465, "tls", True)
    assert (found.username, found.mechanism) == ("u", "auto")
