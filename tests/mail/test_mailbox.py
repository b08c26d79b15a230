"""Names with addresses, alone and in lists."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smarthost.errors import AddressError
from smarthost.mail import Address, Mailbox, parse_mailbox, parse_mailbox_list


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("a@b.test", "", "a@b.test"),
        (" Alice <a@b.test> ", "Alice", "a@b.test"),
        ('"Doe, J. \\"x\\"" <a@b.test>', 'Doe, J. "x"', "a@b.test"),
        ('"a@evil.test" <b@good.test>', "a@evil.test", "b@good.test"),
        ("Jenkins (CI) <a@b.test>", "Jenkins (CI)", "a@b.test"),
        ("José Núñez <a@b.test>", "José Núñez", "a@b.test"),
        ("<a@b.test>", "", "a@b.test"),
        ("=?utf-8?q?a=40evil=2Etest=2C?= <b@good.test>", "=?utf-8?q?a=40evil=2Etest=2C?=", "b@good.test"),
    ],
)
def test_it_reads_a_mailbox(text, name, address):
    mailbox = parse_mailbox(text)
    assert (mailbox.name, str(mailbox.address)) == (name, address)
    assert parse_mailbox(str(mailbox)) == mailbox


@pytest.mark.parametrize(
    "text",
    [
        "a@evil.test <b@good.test>",
        "a <b@c.test> d",
        "a <b@c.test> <d@e.test>",
        "Acme: Sales <a@b.test>",
        "group: a@b.test;",
        "a@b.test (Name)",
        "a\r\n <b@c.test>",
        "a\0 <b@c.test>",
        "a\x85 <b@c.test>",
        "Name <a@b.test",
        "Name a@b.test>",
        '"open <a@b.test>',
        "a, b@c.test",
        "a@evil.test,<b@good.test>",
        "<>",
        "",
    ],
)
def test_it_refuses_what_two_readers_could_read_in_two_ways(text):
    with pytest.raises(AddressError):
        parse_mailbox(text)


def test_it_reads_a_list():
    found = parse_mailbox_list('a@b.test, "Doe, J." <c@d.test>,E <f@g.test>')
    assert [str(each.address) for each in found] == ["a@b.test", "c@d.test", "f@g.test"]
    assert found[1].name == "Doe, J."


def test_addr_49_the_bad_one_is_named_and_no_good_one_is_used():
    with pytest.raises(AddressError, match=r"alice@good\.test\)bob@evil\.test"):
        parse_mailbox_list("a@good.test, b@good.test, alice@good.test)bob@evil.test")


@pytest.mark.parametrize("text", ["", "a@b.test,", "a@b.test,,c@d.test"])
def test_a_list_has_no_empty_places(text):
    with pytest.raises(AddressError):
        parse_mailbox_list(text)


@settings(max_examples=1000, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=40))
def test_a_name_comes_back(name):
    mailbox = Mailbox(" ".join(name.split()), Address("a", "b.test"))
    assert parse_mailbox(str(mailbox)) == mailbox


@pytest.mark.timeout(20)  # quadratic would take minutes
@pytest.mark.parametrize("bomb", ['"', '"\\', "(", "(a", ",", '"a" ', "<", "\\", "((((", '\\"', " ,"])
def test_a_bomb_is_refused_in_linear_time(bomb):
    with pytest.raises(AddressError):
        parse_mailbox_list(bomb * (400_000 // len(bomb)))
