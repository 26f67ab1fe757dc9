"""Other messages stand back while a push is about to be written."""

from __future__ import annotations

import asyncio

import pytest

from notifier import pushes_first
from notifier.pushes_first import PushesFirst

LONG_S = 60.0


async def stand_back(pushes: PushesFirst) -> None:
    """As a lane of letters does."""
    await pushes.stand_back("email", pushes.deadline())


async def some_turns() -> None:
    """What is ready has run by then."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody gives up waiting."""
    monkeypatch.setattr(pushes_first, "STAND_BACK_S", LONG_S)


async def test_with_no_push_due_nobody_waits(patient: None) -> None:
    await asyncio.wait_for(stand_back(PushesFirst()), LONG_S / 2)


async def test_a_letter_waits_until_every_push_has_begun(patient: None) -> None:
    pushes = PushesFirst()
    pushes.wanted("fcm")
    pushes.wanted("webpush")
    letter = asyncio.create_task(stand_back(pushes))
    pushes._written("fcm")
    await some_turns()
    assert not letter.done()
    pushes.begun("webpush")
    await asyncio.wait_for(letter, LONG_S / 2)


async def test_what_was_not_wanted_frees_nobody(patient: None) -> None:
    pushes = PushesFirst()
    pushes.wanted("fcm")
    pushes.begun("sms")
    letter = asyncio.create_task(stand_back(pushes))
    await some_turns()
    assert not letter.done()
    letter.cancel()


async def test_a_push_that_hangs_holds_up_nobody() -> None:
    pushes = PushesFirst()
    pushes.wanted("fcm")
    await asyncio.wait_for(stand_back(pushes), LONG_S)


async def test_others_find_the_loop_between_two_messages() -> None:
    pushes, heard = PushesFirst(), asyncio.Event()
    asyncio.get_running_loop().call_soon(heard.set)
    await stand_back(pushes)
    assert heard.is_set()
