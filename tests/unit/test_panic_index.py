"""What waits is looked up by device and name; wishes to cancel are bounded, and take their turns."""

from __future__ import annotations

import uuid
from typing import Any

from api.panic_index import CANCELS_MAX, EQUAL_CANCELS_MAX, PanicIndex, Record, in_turn, wish_for
from core.domain.panic import CancelIn, PanicIn

HERS, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)


def press(device_id: uuid.UUID | None = HERS, **values: Any) -> PanicIn:
    return PanicIn(**{
        "id": uuid.uuid4(), "client_id": None, "received_ms": 1, "token_digest": None, "source": "s",
        "device_id": device_id, **values,
    })  # fmt: skip


def wish(panic_id: str = "p", pin: str = "", device_id: uuid.UUID = HERS) -> CancelIn:
    return CancelIn(id=uuid.uuid4(), panic_id=panic_id, device_id=device_id, received_ms=1, pin=pin)


def test_a_panic_is_known_by_either_name_of_its_own_device_until_nothing_of_it_waits() -> None:
    index, panic = PanicIndex(), press(client_id="Button-7")
    index.note(8, panic)
    index.note("1-0", panic)
    index.note(16, press(None, client_id="Button-7"))
    assert index.panic("BUTTON-7", HERS) == index.panic(str(panic.id).upper(), HERS) == panic
    assert index.panic("button-7", OTHER) is None
    assert index.is_here("button-7", HERS)
    index.drop(8)
    index.drop(8)
    assert index.panic("button-7", HERS) == panic
    assert not index.is_here("button-7", HERS), "in Redis alone"
    index.drop("1-0")
    assert index.panic("button-7", HERS) is None


def test_a_wish_is_known_by_its_panic_and_its_device() -> None:
    index, panic, asked = PanicIndex(), press(client_id="Button-7"), wish("button-7")
    index.note(8, asked)
    assert wish_for(index.wishes(HERS), (str(panic.id), panic.client_id)) is asked
    assert wish_for(index.wishes(HERS), (str(panic.id), None)) is None
    assert index.cancelling() == {HERS}
    assert index.is_cancelling(panic)
    assert not index.is_cancelling(press(OTHER))
    index.drop(8)
    assert index.cancelling() == frozenset()


def test_of_one_devices_wishes_the_newest_stay_and_another_devices_are_left_alone() -> None:
    index = PanicIndex()
    for place in range(CANCELS_MAX + 4):
        index.note(place, wish(pin=str(place)))
        index.note(f"{place}-0", wish(pin=str(place), device_id=OTHER))
    assert sorted(index.surplus(HERS, int)) == [0, 1, 2, 3]
    assert index.surplus(HERS, str) == []


def test_however_often_one_pin_is_sent_it_pushes_out_no_other() -> None:
    index = PanicIndex()
    index.note(0, wish(pin="duress"))
    for place in range(1, 100):
        index.note(place, wish(pin="right"))
    gone = index.surplus(HERS, int)
    assert len(gone) == 99 - EQUAL_CANCELS_MAX
    assert 0 not in gone
    assert 99 not in gone


def test_devices_take_turns_presses_before_wishes_and_one_devices_own_as_they_came() -> None:
    hers, again, others, told = press(), press(), press(OTHER), press(None)
    flood = [wish(pin=str(number)) for number in range(3)]
    of_other = wish(device_id=OTHER)
    came: list[Record] = [hers, *flood, again, others, of_other, told]
    turns = [record for _, record in in_turn(list(enumerate(came)), lambda panic: panic is told)]
    assert turns[:3] == [told, hers, others]
    assert turns[3:5] == [flood[0], of_other]
    assert turns[5:] == [flood[1], flood[2], again]
