"""Sealed values open where they stand and nowhere else; what is searched for is made equal first."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain import sealing
from core.domain.sealing import Spot, agency, normal_iin, normal_name, normal_phone, owner_of, searchable_values
from core.vault import Dek, Unsealable

HER = sealing.person(uuid.uuid4())
ROW = uuid.uuid4()
SPOT = Spot("person", "identity", ROW)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@given(JSON)
def test_what_was_sealed_is_opened_again(value: Any) -> None:
    dek = Dek(HER, bytes(range(32)))
    sealed = dek.seal(SPOT, value)
    assert owner_of(sealed) == HER
    assert dek.open(SPOT, sealed) == value


def test_the_same_value_is_sealed_otherwise_each_time() -> None:
    dek = Dek(HER, bytes(32))
    assert dek.seal(SPOT, "Айгүл") != dek.seal(SPOT, "Айгүл")


@pytest.mark.parametrize(
    "spot",
    [Spot("contact", "identity", ROW), Spot("person", "safe_word", ROW), Spot("person", "identity", uuid.uuid4())],
)
def test_a_value_that_was_moved_does_not_open(spot: Spot) -> None:
    dek = Dek(HER, bytes(32))
    with pytest.raises(Unsealable):
        dek.open(spot, dek.seal(SPOT, "Айгүл"))


def test_a_value_with_one_bit_turned_does_not_open() -> None:
    dek = Dek(HER, bytes(32))
    sealed = dek.seal(SPOT, "Айгүл")
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unsealable):
            dek.open(SPOT, bytes(changed))


def test_another_owners_key_opens_nothing() -> None:
    sealed = Dek(HER, bytes(32)).seal(SPOT, "Айгүл")
    with pytest.raises(Unsealable):
        Dek(HER, bytes([1] * 32)).open(SPOT, sealed)


@pytest.mark.parametrize("nothing", [b"", b"\x01" * 20, b"\x09" + bytes(60)])
def test_what_is_no_sealed_value_is_told(nothing: bytes) -> None:
    with pytest.raises(ValueError, match="no sealed value"):
        owner_of(nothing)


@pytest.mark.parametrize(
    "written", ["+7 700 123 45 67", "8 (700) 123-45-67", "7001234567", "007 700 1234567", "+77001234567", "77001234567"]
)
def test_a_telephone_number_is_one_however_it_is_written(written: str) -> None:
    assert normal_phone(written) == "+77001234567"


def test_a_foreign_number_keeps_its_country() -> None:
    assert normal_phone("+996 700 123 456") == "+996700123456"
    assert normal_phone("112") is None


def test_a_name_is_one_in_any_case_and_spacing() -> None:
    assert normal_name("  АЙГҮЛ  Серікқызы") == normal_name("айгүл серікҚЫЗЫ") == "айгүл серікқызы"
    assert normal_name(" ") is None


def test_an_iin_is_twelve_digits() -> None:
    assert normal_iin("900101 300123") == "900101300123"
    assert normal_iin("90010130012") is None


def test_everything_searchable_of_an_identity_is_found_lists_too() -> None:
    identity = {"name": "Үлгі", "phone": ["87001234567", "+996700123456", "?"], "iin": 900101300123, "address": "…"}
    assert list(searchable_values(identity)) == [
        ("name", "үлгі"),
        ("phone", "+77001234567"),
        ("phone", "+996700123456"),
        ("iin", "900101300123"),
    ]


def test_a_digest_depends_on_key_and_field_and_is_not_the_sealing_key_s() -> None:
    here, there = Dek(agency(ROW), bytes(32)), Dek(agency(ROW), bytes([1] * 32))
    assert here.digest("name", "a") == here.digest("name", "a")
    assert len({here.digest("name", "a"), here.digest("phone", "a"), there.digest("name", "a")}) == 3
