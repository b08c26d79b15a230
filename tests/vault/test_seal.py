"""A sealed secret opens for its destination and under its key, and otherwise not at all."""

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smarthost.errors import SecretError
from smarthost.vault import Destination, Key, KeyEntry, random_secret, seal, unseal

KEY = Key((KeyEntry("0badc0de", bytes(range(32))),))
OTHER = Key((KeyEntry("0badc0de", bytes(reversed(range(32)))),))
THERE = Destination("smtp.example.org", 587, "starttls", True, "mailer", "auto")
ELSEWHERE = {
    "host": "smtp.evil.test",
    "port": 588,
    "encryption": "none",
    "verify": False,
    "username": "mailer2",
    "mechanism": "plain",
}


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_it_opens_what_it_sealed_and_never_seals_alike(secret: str) -> None:
    first, second = seal(KEY, secret, THERE), seal(KEY, secret, THERE)
    assert first != second
    assert unseal(KEY, first, THERE) == unseal(KEY, second, THERE) == secret


@pytest.mark.parametrize("field", ELSEWHERE)
def test_it_does_not_open_for_another_destination(field: str) -> None:
    sealed = seal(KEY, "C4nary-p@ss", THERE)
    with pytest.raises(SecretError):
        unseal(KEY, sealed, replace(THERE, **{field: ELSEWHERE[field]}))


def test_fields_cannot_flow_into_each_other() -> None:
    sealed = seal(KEY, "x", replace(THERE, username='a","auto', mechanism="auto"))
    with pytest.raises(SecretError):
        unseal(KEY, sealed, replace(THERE, username="a", mechanism='auto","auto'))


def test_the_case_of_the_host_is_no_other_destination() -> None:
    assert unseal(KEY, seal(KEY, "x", THERE), replace(THERE, host="SMTP.Example.ORG")) == "x"


@given(st.data())
def test_it_does_not_open_once_a_single_byte_differs(data: st.DataObject) -> None:
    head, _, text = seal(KEY, "secret", THERE).rpartition(":")
    body = bytearray(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SecretError):
        unseal(KEY, f"{head}:{base64.urlsafe_b64encode(bytes(body)).decode().rstrip('=')}", THERE)


@given(st.integers(0, 60))
def test_it_does_not_open_when_cut(length: int) -> None:
    sealed = seal(KEY, "secret", THERE)
    with pytest.raises(SecretError):
        unseal(KEY, sealed[: min(length, len(sealed) - 1)], THERE)


@given(st.text(max_size=120))
def test_any_text_at_all_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(SecretError):
        unseal(KEY, text, THERE)


def test_every_failure_reads_the_same_and_tells_no_secret() -> None:
    sealed = seal(KEY, "C4nary-p@ss", THERE)
    attempts = [
        (KEY, sealed, replace(THERE, host="elsewhere")),
        (OTHER, sealed, THERE),
        (Key((KeyEntry("11111111", b"x" * 32),)), sealed, THERE),
        (KEY, sealed[:-4], THERE),
        (KEY, "v2:" + sealed[3:], THERE),
        (KEY, "C4nary-p@ss", THERE),
    ]
    texts = set()
    for key, text, destination in attempts:
        with pytest.raises(SecretError) as caught:
            unseal(key, text, destination)
        texts.add(caught.value.public)
        assert "C4nary" not in f"{caught.value!r} {caught.value.private}"
        assert caught.value.__cause__ is None
    assert len(texts) == 1


def test_a_rotated_key_still_opens_what_the_old_one_sealed() -> None:
    sealed = seal(KEY, "old", THERE)
    rotated = Key((KeyEntry("22222222", b"n" * 32), *KEY.entries))
    assert unseal(rotated, sealed, THERE) == "old"
    assert seal(rotated, "new", THERE).split(":")[1] == "22222222"


def test_derived_keys_differ_by_purpose_and_by_key_and_are_not_the_key() -> None:
    made = {KEY.derive("a"), KEY.derive("b"), OTHER.derive("a"), KEY.current.material}
    assert len(made) == 4
    assert KEY.derive("a") == KEY.derive("a")


def test_no_key_material_shows_in_a_representation() -> None:
    assert "material" not in repr(KEY)
    assert repr(KEY.current.material) not in repr(KEY)


def test_random_secrets_are_letters_and_digits_and_do_not_repeat() -> None:
    made = {random_secret() for _ in range(1000)}
    assert len(made) == 1000
    assert all(len(secret) == 28 and secret.isascii() and secret.isalnum() for secret in made)
