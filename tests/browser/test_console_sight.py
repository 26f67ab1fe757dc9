"""Where only the district may be seen: no pin, a shape, and a way to the exact place for a reason."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
CELL = {"south": 43.23452, "north": 43.25251, "west": 76.93713, "east": 76.96181}


def coarse(desk: Any, **values: Any) -> dict[str, Any]:
    """A silence: his bracelet is seen exactly, she in a cell."""
    made: dict[str, Any] = desk.make(
        1, type="silence", family="silence", severity="medium", distance_m=1_200.0, p_within=None, closing_mps=None,
        place={"precision": "coarse", "cell": CELL, "at": "2026-01-05T10:00:00.000Z"}, **values,
    )  # fmt: skip
    return made


async def test_a_district_is_said_and_a_look_wants_a_reason(console: Any) -> None:
    incident = console.desk.add(coarse(console.desk))
    await console.live()
    await console.open_first()
    await expect(console.panel).to_contain_text("District only")
    await expect(console.rows.first).to_contain_text("District only")
    await expect(console.panel).not_to_contain_text("43.2")
    await console.panel.get_by_role("button", name="Look for a reason").click()
    dialog = console.page.locator("#dialog")
    await dialog.get_by_role("button", name="Look", exact=True).click()
    await expect(dialog).to_contain_text("Say why")
    assert console.desk.asked == []
    await dialog.get_by_label("Somebody is worried about her").check()
    await dialog.locator("textarea").fill("Her sister cannot reach her.")
    console.desk.incidents[incident["id"]] = incident | {
        "place": {
            "precision": "exact",
            "lat": 43.23895,
            "lon": 76.9456,
            "accuracy_m": 12.0,
            "at": incident["opened_at"],
        }
    }
    await dialog.get_by_role("button", name="Look", exact=True).click()
    await expect(console.panel).to_contain_text("43.23895")
    await expect(console.panel.get_by_role("button", name="Look for a reason")).to_have_count(0)
    assert console.desk.asked == [("look", {"reason_code": "welfare_check", "reason": "Her sister cannot reach her."})]


async def test_a_cell_is_a_shape_on_the_map_and_no_pin(map_console: Any) -> None:
    map_console.desk.add(coarse(map_console.desk))
    await map_console.live()
    await expect(map_console.page.locator("#map")).to_have_attribute("data-ready", "true")
    await expect(map_console.page.locator(".map-incident")).to_have_count(0)
    await map_console.open_first()
    await expect(map_console.page.locator(".map-party.aggressor")).to_have_count(1)
    await expect(map_console.page.locator(".map-party.victim")).to_have_count(0)
    await expect(map_console.page.locator(".map-distance")).to_have_count(0)


async def test_what_was_exact_goes_from_the_map_when_it_is_over(map_console: Any) -> None:
    incident = map_console.desk.add(map_console.desk.make(1))
    await map_console.live()
    await map_console.open_first()
    await expect(map_console.page.locator(".map-party.victim")).to_have_count(1)
    over = incident | {"state": "resolved", "version": 2, "outcome": "custody", "detail": {}}
    over["place"] = {"precision": "coarse", "cell": CELL, "at": incident["opened_at"]}
    await map_console.desk.emit("incident.resolved", over)
    await expect(map_console.page.locator(".map-party.victim")).to_have_count(0)
