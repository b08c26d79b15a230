"""The one address parser: what it takes, what it refuses and why, and that its answer is canonical."""

import email.utils
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.errors import AddressError
from smarthost.mail import Address, complete, parse_address, parse_path

VECTORS = [
    json.loads(line) for line in (Path(__file__).parent / "vectors/addresses.jsonl").read_text().splitlines()
]
PIECES = st.sampled_from(
    list('abZ09.@"\\ ,<>()[]:;%!=?-_+\r\n\t\0')
    + ["=?utf-8?q?a?=", "xn--", "ü", "u\u0308", "\uff20", "\u202e", "[1.2.3.4]"]
)


@pytest.mark.parametrize("case", VECTORS, ids=[case["id"] for case in VECTORS])
def test_it_reads_or_refuses(case):
    if "canonical" in case:
        assert str(parse_address(case["text"])) == case["canonical"]
        return
    with pytest.raises(AddressError) as caught:
        parse_address(case["text"])
    assert case["refused"] in caught.value.public
    assert caught.value.code == 553
    assert caught.value.public.isascii() and caught.value.public.isprintable()
    assert len(caught.value.public) < 500


@settings(max_examples=1000, deadline=None)
@given(st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=30))
def test_it_is_canonical_or_refused(text):
    try:
        address = parse_address(text)
    except AddressError:
        return
    written = str(address)
    assert parse_address(written) == address
    assert written.count("@") == 1
    assert not set(written) & set("\r\n\0\t<>,()\\;")
    assert address.key == parse_address(address.key).key


@settings(max_examples=1000, deadline=None)
@given(
    st.from_regex(
        r'([a-z0-9+_=/-]{1,10}(\.[a-z]{1,5})?|"[a-z. ]{1,8}")@[a-z0-9-]{1,9}\.[a-z]{2,5}', fullmatch=True
    )
)
def test_adr_47_every_other_reader_takes_it_for_the_same_mailbox(text):
    try:
        address = parse_address(text)
    except AddressError:
        return
    assert email.utils.parseaddr(f"<{address}>")[1].replace('"', "") == str(address).replace('"', "")
    assert email.utils.parseaddr(f"Name <{address}>")[0] == "Name"


def test_it_compares_without_ascii_case_and_keeps_the_local_part():
    address = parse_address("MiKe.\u0130@EXAMPLE.org")
    assert (address.local, address.domain) == ("MiKe.\u0130", "example.org")
    assert address.key == "mike.\u0130@example.org"
    assert parse_address("m\u0131ke@example.org").key != parse_address("mike@example.org").key


def test_it_knows_who_needs_smtputf8():
    assert parse_address("jos\u00e9@example.org").smtputf8
    assert not parse_address("jose@b\u00fccher.test").smtputf8


def test_the_empty_path_is_the_null_sender():
    assert parse_path("") is None
    assert parse_path("a@b.test") == Address("a", "b.test")


ALIASES = {"root": "admin@example.org", "www-data": "Web@example.org"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("root", "admin@example.org"),
        ("Root", "admin@example.org"),
        ("www-data@localhost", "Web@example.org"),
        ("www-data@LOCALHOST.localdomain", "Web@example.org"),
        ("nobody", "nobody@hub.test"),
        ("nobody@localhost", "nobody@hub.test"),
        ("root@elsewhere.test", "root@elsewhere.test"),
    ],
)
def test_it_completes_local_names(text, expected):
    assert str(complete(text, "hub.test", ALIASES)) == expected


@pytest.mark.parametrize(
    "text", ["", "a,b", "<root>", "a b", "root@evil.test@localhost", "a%b", "|id", "-f@"]
)
def test_it_completes_nothing_that_is_no_name(text):
    if text == "|id":
        assert str(complete(text, "hub.test", {})) == "|id@hub.test"
        return
    with pytest.raises(AddressError):
        complete(text, "hub.test", ALIASES)


def test_it_says_that_no_domain_completes_it():
    with pytest.raises(AddressError, match="no domain is set"):
        complete("nobody", "", {})
