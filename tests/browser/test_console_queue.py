"""The live queue: order, news as they come, provisional alerts, alarms."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_the_most_urgent_comes_first_then_the_state_then_who_waits_longest(console: Any) -> None:
    make = console.desk.make
    console.desk.add(make(1, severity="low", type="battery", age_s=900))
    console.desk.add(make(2, severity="critical", state="acknowledged", age_s=800))
    console.desk.add(make(3, severity="critical", age_s=10))
    console.desk.add(make(4, severity="critical", age_s=500))
    console.desk.add(make(5, severity="high", type="tamper", age_s=300))
    await console.live()
    await expect(console.rows).to_have_count(5)
    ids = await console.rows.evaluate_all("rows => rows.map((row) => Number(row.dataset.id.slice(-4)))")
    assert ids == [4, 3, 2, 5, 1]


async def test_a_row_says_type_severity_parties_distance_place_age_and_messages(console: Any) -> None:
    incident = console.desk.make(1, age_s=125)
    sent = {"delivery_id": "d1", "state": "sent", "channel": "email", "audience": "dispatcher"}
    line = {"id": "l1", "at": incident["opened_at"], "kind": "delivery", "actor_id": None}
    console.desk.add(incident, line | {"data": sent})
    await console.live()
    row = console.rows.first
    for words in (
        "Too close",
        "Critical",
        "Open",
        "Айгерім Сәрсенова",
        "Марат Қуатов",
        "320 m",
        "43.23895, 76.94560",
        "2 min",
    ):
        await expect(row).to_contain_text(words)
    await expect(row).to_contain_text("1 message sent")
    await expect(row.locator(".row-mark svg")).to_be_visible()


async def test_a_new_critical_incident_appears_on_top_sounds_and_is_announced(console: Any) -> None:
    console.desk.add(console.desk.make(1, severity="high", type="tamper"))
    await console.live()
    await expect(console.page.locator("#sound")).to_have_attribute("data-state", "on")
    await console.desk.emit("incident.opened", console.desk.make(2, type="panic", family="panic", age_s=0))
    await expect(console.rows).to_have_count(2)
    await expect(console.rows.first).to_contain_text("Panic")
    await expect(console.page.locator("#sound")).to_have_attribute("data-rings", "1")
    await expect(console.page.locator("#announcer")).to_contain_text("Critical, Panic")
    await expect(console.page).to_have_title("(1) Qorgan")


async def test_muting_is_seen_and_outlives_a_reload(console: Any) -> None:
    await console.live()
    await console.page.locator("#sound").click()
    await expect(console.page.locator("#sound")).to_contain_text("Muted")
    await console.page.reload()
    await expect(console.page.locator("#sound")).to_have_attribute("data-state", "muted")


async def test_an_event_that_is_held_already_changes_nothing(console: Any) -> None:
    await console.live()
    frame = await console.desk.emit("incident.opened", console.desk.make(1, severity="high", type="tamper"))
    await console.desk.emit("incident.updated", console.desk.make(1, severity="critical", type="tamper", version=2))
    await expect(console.rows.first).to_have_attribute("data-severity", "critical")
    await console.desk.send(frame)
    await console.desk.emit("incident.opened", console.desk.make(2, severity="low", type="battery"))
    await expect(console.rows).to_have_count(2)
    await expect(console.rows.first).to_have_attribute("data-severity", "critical")


async def test_an_incident_resolved_by_another_leaves_the_queue(console: Any) -> None:
    incident = console.desk.add(console.desk.make(1))
    await console.live()
    await expect(console.rows).to_have_count(1)
    await console.desk.emit("incident.resolved", incident | {"state": "resolved", "version": 2})
    await expect(console.page.get_by_text("No open incidents")).to_be_visible()


async def test_a_provisional_alert_is_told_apart_and_gives_way_to_its_incident(console: Any) -> None:
    await console.live()
    early = console.desk.make(7, type="panic", family="panic", version=0, provisional=True)
    await console.desk.send({"kind": "health", "at": early["opened_at"], "data": {"postgres": "away", "redis": "up"}})
    await console.desk.send({"kind": "provisional", "at": early["opened_at"], "data": early})
    await expect(console.rows.first).to_contain_text("Provisional")
    await expect(console.page.locator("#health")).to_contain_text("Database: away")
    await console.rows.first.get_by_role("button").click()
    await expect(console.panel).to_contain_text("not yet recorded")
    await expect(console.panel.get_by_role("button", name="Acknowledge")).to_have_count(0)
    await console.desk.send({"kind": "health", "at": early["opened_at"], "data": {"postgres": "up", "redis": "up"}})
    console.desk.add(early | {"provisional": False, "version": 1})
    await console.desk.emit("incident.opened", early | {"provisional": False, "version": 1})
    await expect(console.rows).to_have_count(1)
    await expect(console.rows.first).not_to_contain_text("Provisional")
    await expect(console.panel.get_by_role("button", name="Acknowledge")).to_be_visible()
    await expect(console.page.locator("#health")).to_be_empty()


async def test_who_may_not_be_named_is_shown_by_the_end_of_the_id(console: Any) -> None:
    console.desk.people.clear()
    console.desk.add(console.desk.make(1))
    await console.live()
    await expect(console.rows.first).to_contain_text("…000001")


async def test_words_from_outside_never_become_markup(console: Any) -> None:
    for person in console.desk.people.values():
        person["identity"]["name"] = "<img src=x onerror=document.title='broken'>"
    console.desk.add(console.desk.make(1))
    await console.live()
    await expect(console.rows.first).to_contain_text("<img src=x")
    assert await console.page.locator("li.row img").count() == 0


async def test_duress_comes_before_all_that_is_critical_and_then_who_pressed_most(console: Any) -> None:
    make = console.desk.make
    console.desk.add(make(1, severity="critical", type="panic", age_s=900))
    console.desk.add(make(2, severity="critical", type="panic", age_s=100, detail={"presses": 2}))
    console.desk.add(make(3, severity="critical", type="panic", state="dispatched", age_s=10, detail={"duress": True}))
    await console.live()
    await expect(console.rows).to_have_count(3)
    ids = await console.rows.evaluate_all("rows => rows.map((row) => Number(row.dataset.id.slice(-4)))")
    assert ids == [3, 2, 1]
