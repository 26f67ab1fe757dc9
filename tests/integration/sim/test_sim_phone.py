"""The panic button: one press, one id, as many tries as it takes."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from device_sim.device import ActorCredentials
from device_sim.errors import PanicRefused, SimulatorError
from device_sim.geodesy import Point
from device_sim.phone import PanicButton

CREDENTIALS = ActorCredentials("0197c000-0000-7000-8000-000000000001", "dev_secret")


async def test_a_press_is_answered_under_the_id_the_phone_made(service: Any) -> None:
    answer = await PanicButton(CREDENTIALS, service.base_url).press(Point(43.238, 76.945), accuracy_m=8.0, note="door")
    (body,) = service.panics
    assert answer.panic_id == body["id"]
    assert uuid.UUID(body["id"]).version == 7
    assert (body["lat"], body["mode"], body["trigger"], body["note"]) == (43.238, "silent", "button", "door")
    assert answer.tries == 1


async def test_an_unanswered_press_is_repeated_under_the_same_id(service: Any) -> None:
    service.http_statuses = [503, 500]
    answer = await PanicButton(CREDENTIALS, service.base_url).press()
    assert answer.tries == 3
    assert len({body["id"] for body in service.panics}) == 1


async def test_a_repeat_that_the_service_had_already_is_an_answer(service: Any) -> None:
    service.http_statuses = [200]
    assert (await PanicButton(CREDENTIALS, service.base_url).press()).tries == 1


async def test_a_device_without_a_panic_button_is_told_so(service: Any) -> None:
    service.http_statuses = [403]
    with pytest.raises(PanicRefused):
        await PanicButton(CREDENTIALS, service.base_url).press()


async def test_a_press_nobody_answers_ends_with_a_clear_error(unused_tcp_port: int) -> None:
    button = PanicButton(CREDENTIALS, f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(SimulatorError, match="was not answered"):
        await button.press(give_up_s=0.01)
