"""Both hashes are computed at every try, whether there are any or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from core.domain.pins import Hashes, Match
from core.errors import TooMany
from core.passwords import PasswordDesk
from core.pin_hashes import WAITING_MAX, PinHasher

PIN, DURESS_PIN = "2580", "911911"


@pytest.fixture
def hasher() -> Iterator[PinHasher]:
    """A hasher of its own."""
    made = PinHasher()
    yield made
    made.close()


async def test_each_pin_equals_its_own_hash_alone(hasher: PinHasher) -> None:
    hashes = await hasher.hash(PIN, DURESS_PIN)
    assert hashes.pin.startswith("$argon2id$")
    assert await hasher.compare(PIN, hashes) == Match(True, False)
    assert await hasher.compare(DURESS_PIN, hashes) == Match(False, True)
    assert await hasher.compare("", hashes) == Match(False, False)
    assert await hasher.compare(PIN, None) == Match(False, False)


@pytest.mark.parametrize("pin", [PIN, DURESS_PIN, "7777", ""])
@pytest.mark.parametrize("is_set", [True, False])
async def test_two_hashes_are_computed_whatever_is_tried(
    hasher: PinHasher, monkeypatch: pytest.MonkeyPatch, pin: str, is_set: bool
) -> None:
    hashes = await hasher.hash(PIN, DURESS_PIN) if is_set else None
    await hasher.compare("0000", None)  # what an unset one is compared with is made once
    computed: list[str] = []
    verify = PasswordDesk._verify

    def counted(self: PasswordDesk, password: str, stored: str | None) -> Any:
        computed.append(password)
        return verify(self, password, stored)

    monkeypatch.setattr(PasswordDesk, "_verify", counted)
    await hasher.compare(pin, hashes)
    assert computed == [pin, pin]


async def test_a_full_queue_says_so_at_once(hasher: PinHasher) -> None:
    hasher._desk._waiting[True] = WAITING_MAX
    with pytest.raises(TooMany):
        await hasher.compare(PIN, Hashes("a", "b"))
