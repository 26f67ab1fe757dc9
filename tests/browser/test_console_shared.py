"""Other agencies' incidents: on the queue as theirs, opened, acknowledged; where she is only as far as it is told."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from core.clock import rfc3339, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
TOLD = ("id", "agency_id", "type", "severity", "state", "opened_at", "exercise", "do_not_call")


def make_shared(number: int, **values: Any) -> dict[str, Any]:
    """Another agency's incident as it is told when it is opened."""
    now = rfc3339(utc_now())
    return {
        "id": f"0198b900-0000-7000-8000-{number:012d}", "agency_id": "0198a900-0000-7000-8000-000000000009",
        "agency_name": "Talgar District Police", "reason": "jurisdiction", "since": now, "acknowledged_at": None,
        "type": "panic", "severity": "critical", "state": "open", "opened_at": now, "exercise": False,
        "do_not_call": False, "hazards": {}, "language": "kk",
        "place": {"lat": 43.30311, "lon": 77.24052, "accuracy_m": 15.0, "at": now},
    } | values  # fmt: skip


async def emit(console: Any, incident: dict[str, Any]) -> None:
    """Tell of a change as the feed does."""
    await console.desk.emit("shared.incident", {name: incident[name] for name in TOLD})


async def test_another_agency_s_panic_rings_is_opened_and_acknowledged_by_key(console: Any) -> None:
    console.desk.add(console.desk.make(1, severity="high", type="approach"))
    await console.live()
    incident = make_shared(1, do_not_call=True, hazards={"weapons": True})
    console.desk.shared[incident["id"]] = incident
    await emit(console, incident)
    row = console.rows.first
    for words in ("Panic", "Another agency", "Do not call", "Talgar District Police", "On your ground"):
        await expect(row).to_contain_text(words)
    await expect(row).not_to_contain_text("43.3")
    await expect(console.page.locator("#sound")).to_have_attribute("data-rings", "1")
    assert console.desk.asked == []
    await row.get_by_role("button").click()
    for words in ("43.30311", "Do not call the victim", "Weapons", "Kazakh", "Tell their desk by telephone"):
        await expect(console.panel).to_contain_text(words)
    await expect(console.panel.locator(".actions button")).to_have_count(1)
    await console.page.keyboard.press("a")
    await expect(row).to_have_attribute("data-state", "acknowledged")
    await expect(console.panel).to_contain_text("by your agency")
    await expect(console.panel.locator(".actions button")).to_have_count(0)
    assert [name for name, _ in console.desk.asked] == ["read_shared", "acknowledge_shared"]


async def test_it_follows_what_its_agency_does_and_her_place_goes_with_its_end(console: Any) -> None:
    incident = make_shared(1, type="proximity", state="acknowledged", reason="neighbour")
    console.desk.shared[incident["id"]] = incident
    console.desk.add(console.desk.make(1))
    await console.live()
    await expect(console.rows).to_have_count(2)
    row = console.rows.filter(has_text="Another agency")
    await expect(row).to_contain_text("Your help is asked")
    await row.get_by_role("button").click()
    await expect(console.panel).to_contain_text("43.30311")
    moved = incident | {"state": "dispatched", "place": incident["place"] | {"lat": 43.31999}}
    console.desk.shared[incident["id"]] = moved
    await emit(console, moved)
    await expect(console.panel).to_contain_text("43.31999")
    del console.desk.shared[incident["id"]]
    await emit(console, moved | {"state": "resolved"})
    await expect(row).to_have_count(0)
    await expect(console.panel).to_contain_text("It is over.")
    await expect(console.panel).not_to_contain_text("43.3")
    await expect(console.panel.locator("h2")).to_have_text("Too close")


async def test_its_own_agency_is_told_who_took_notice(console: Any) -> None:
    taken = {"id": "0198a900-0000-7000-8000-000000000009", "name": "Talgar District Police"}
    line = {"id": "a", "at": rfc3339(utc_now()), "kind": "acknowledge", "actor_id": None}
    made = console.desk.make(1, state="acknowledged", detail={"acknowledged_by_agency": taken})
    console.desk.add(made, line | {"data": {"agency": taken["name"]}})
    await console.live()
    await console.open_first()
    await expect(console.panel.locator(".flags")).to_contain_text("by another agency: Talgar District Police")
    await expect(console.panel.locator(".timeline li")).to_contain_text("Talgar District Police")


async def test_what_was_missed_while_the_connection_was_lost_is_read_again(console: Any) -> None:
    incident = make_shared(1)
    console.desk.shared[incident["id"]] = incident
    await console.live()
    await console.rows.first.get_by_role("button").click()
    await expect(console.panel).to_contain_text("43.30311")
    console.desk.shared[incident["id"]] = incident | {"type": "silence", "severity": "medium", "place": None}
    await console.desk.send({"kind": "reset", "at": rfc3339(utc_now()), "data": {}})
    await expect(console.panel.locator("h2")).to_have_text("Device silent")
    await expect(console.panel).to_contain_text("Not shown to you")
    await expect(console.panel).not_to_contain_text("43.3")
    del console.desk.shared[incident["id"]]
    await console.desk.send({"kind": "reset", "at": rfc3339(utc_now()), "data": {}})
    await expect(console.rows).to_have_count(0)


async def test_a_place_that_is_not_told_is_said_to_be_so(map_console: Any) -> None:
    incident = make_shared(1, type="silence", severity="medium", place=None)
    map_console.desk.shared[incident["id"]] = incident
    await map_console.live()
    await map_console.rows.first.get_by_role("button").click()
    await expect(map_console.panel).to_contain_text("Not shown to you: ask their desk")
    await expect(map_console.page.locator(".map-party")).to_have_count(0)


async def test_where_she_is_stands_on_the_map_only_while_it_is_open(map_console: Any) -> None:
    incident = make_shared(1)
    map_console.desk.shared[incident["id"]] = incident
    await map_console.live()
    await expect(map_console.page.locator("#map")).to_have_attribute("data-ready", "true")
    await map_console.rows.first.get_by_role("button").click()
    await expect(map_console.page.locator(".map-party.victim")).to_have_count(1)
    await map_console.page.keyboard.press("Escape")
    await expect(map_console.page.locator(".map-party, .map-incident")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_it_fits_a_phone_in_each_language_and_its_words_stand_out(
    console: Any, scheme: Any, low_contrast: str
) -> None:
    await console.page.emulate_media(color_scheme=scheme)
    await console.page.set_viewport_size({"width": 390, "height": 844})
    incident = make_shared(1, do_not_call=True, exercise=True, hazards={"weapons": True})
    console.desk.shared[incident["id"]] = incident
    await console.live()
    for language in ("kk", "ru", "en"):
        await console.page.evaluate("code => document.querySelector(`[data-language='${code}']`).click()", language)
        await expect(console.page.locator("html")).to_have_attribute("lang", language)
        assert await console.page.evaluate(low_contrast) == []
        assert await console.page.evaluate("document.documentElement.scrollWidth") <= 390
    await console.rows.first.get_by_role("button").click()
    await expect(console.panel).to_contain_text("43.30311")
    assert await console.page.evaluate(low_contrast) == []
    assert await console.page.evaluate("document.documentElement.scrollWidth") <= 390
