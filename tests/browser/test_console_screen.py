"""What is on the screen whatever the incident: the map, languages, colours, a phone, contrast."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
LOCALES = Path(__file__).parents[2] / "api" / "console" / "locales"

PICTURES_MAX = 40
RING_PIXELS_MIN = 300
LOW_CONTRAST = (Path(__file__).parent / "low_contrast.js").read_text()


async def test_every_language_has_every_word() -> None:
    tables = {path.stem: json.loads(path.read_text()) for path in LOCALES.glob("*.json")}
    assert set(tables) == {"kk", "ru", "en"}
    plural = (".one", ".few", ".many", ".other")
    plain = {name: {key for key in table if not key.endswith(plural)} for name, table in tables.items()}
    assert plain["kk"] == plain["en"]
    assert plain["ru"] == plain["en"]
    assert all(words.strip() for table in tables.values() for words in table.values())


async def test_the_map_shows_both_parties_apart_and_follows_their_positions(map_console: Any) -> None:
    incident = map_console.desk.add(map_console.desk.make(1))
    await map_console.live()
    await expect(map_console.page.locator("#map")).to_have_attribute("data-ready", "true")
    await map_console.open_first()
    victim, aggressor = (map_console.page.locator(f".map-party.{role}") for role in ("victim", "aggressor"))
    await expect(victim).to_have_attribute("aria-label", "Victim: Айгерім Сәрсенова")
    await expect(aggressor).to_have_attribute("aria-label", "Aggressor: Марат Қуатов")
    await expect(map_console.page.locator("#map-legend")).to_contain_text("Alert 500 m")
    await expect(map_console.page.locator("#map-legend")).to_contain_text("Warning 800 m")
    before = await aggressor.bounding_box()
    moved = {
        "person_id": incident["aggressor_id"],
        "device_id": "b",
        "lat": 43.2365,
        "lon": 76.9456,
        "accuracy_m": 10.0,
    }
    await map_console.desk.send({"kind": "position", "at": "2099-01-01T00:00:00.000Z", "data": [moved]})
    await map_console.page.wait_for_function(
        "top => document.querySelector('.map-party.aggressor').getBoundingClientRect().top > top + 20", arg=before["y"]
    )


async def test_the_rings_are_drawn_on_the_map(map_console: Any) -> None:
    map_console.desk.add(map_console.desk.make(1))
    await map_console.live()
    await expect(map_console.page.locator("#map")).to_have_attribute("data-ready", "true")
    await map_console.open_first()
    count = (Path(__file__).parent / "ring_pixels.js").read_text()
    for _ in range(PICTURES_MAX):
        picture = base64.b64encode(await map_console.page.locator("#map").screenshot()).decode()
        if await map_console.page.evaluate(count, picture) > RING_PIXELS_MIN:
            return
    pytest.fail("no ring in the alert's colour was drawn")


async def test_the_language_can_be_switched_and_is_remembered(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.page.get_by_role("button", name="Қазақша").first.click()
    await expect(console.rows.first).to_contain_text("Тым жақын келді")
    await expect(console.page.locator("html")).to_have_attribute("lang", "kk")
    await console.page.reload()
    await expect(console.rows.first).to_contain_text("Шұғыл")
    await console.page.get_by_role("button", name="Русский").first.click()
    await expect(console.rows.first).to_contain_text("Опасное сближение")


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_every_word_stands_out_from_what_is_behind_it(map_console: Any, scheme: Any) -> None:
    make, add = map_console.desk.make, map_console.desk.add
    for number, severity in enumerate(("critical", "high", "medium", "low")):
        add(make(number, severity=severity, inside=True, do_not_call=True, hazards={"weapons": True}))
    add(make(8, severity="critical", state="acknowledged"))
    add(make(9, severity="high", state="dispatched"))
    await map_console.page.emulate_media(color_scheme=scheme)
    await map_console.live()
    await map_console.open_first()
    assert await map_console.page.evaluate(LOW_CONTRAST) == []
    await map_console.panel.get_by_role("button", name="Resolve").click()
    assert await map_console.page.evaluate(LOW_CONTRAST) == []


async def test_the_colours_can_be_turned_over_and_stay_so(console: Any) -> None:
    await console.live()
    await console.page.locator("#theme").click()
    await expect(console.page.locator("html")).to_have_attribute("data-theme", "light")
    await console.page.reload()
    await expect(console.page.locator("html")).to_have_attribute("data-theme", "light")


async def test_on_a_phone_queue_and_incident_take_turns_and_nothing_is_cut_off(map_console: Any) -> None:
    await map_console.page.set_viewport_size({"width": 390, "height": 844})
    map_console.desk.add(map_console.desk.make(1))
    await map_console.live()
    await expect(map_console.panel).to_be_hidden()
    await map_console.open_first()
    await expect(map_console.rows.first).to_be_hidden()
    await expect(map_console.page.locator("#map")).to_be_visible()
    await expect(map_console.panel.get_by_role("button", name="Acknowledge")).to_be_in_viewport()
    assert await map_console.page.evaluate("document.documentElement.scrollWidth") <= 390
    await map_console.panel.get_by_role("button", name="Back to the queue").click()
    await expect(map_console.rows.first).to_be_visible()
    assert await map_console.page.evaluate("document.documentElement.scrollWidth") <= 390


async def test_without_a_map_library_everything_else_works(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await expect(console.page.get_by_text("The map is not available")).to_be_visible()
    await console.open_first()
    await expect(console.panel).to_contain_text("320 m")
