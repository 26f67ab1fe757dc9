"""What saves her beside the desk: live links of her contacts, and whether devices and contacts are proved to work."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import expect

from core.clock import rfc3339, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
SISTER, FRIEND = (f"0198a700-0000-7000-8000-00000000000{n}" for n in (1, 2))


def ago(**how: float) -> str:
    """RFC 3339 of a moment that long ago; negative ones are to come."""
    return rfc3339(utc_now() - timedelta(**how))


def make_link(number: int, contact_id: str, **values: Any) -> dict[str, Any]:
    """A live link as the API lists it."""
    return {
        "id": f"0198a800-0000-7000-8000-{number:012d}", "incident_id": "", "contact_id": contact_id, "channel": "sms",
        "created_at": ago(minutes=5), "expires_at": ago(hours=-11), "revoked_at": None, "revoked_because": None,
        "opened_at": None, "openings": 0,
    } | values  # fmt: skip


def make_contact(contact_id: str, name: str, **values: Any) -> dict[str, Any]:
    """A contact as the API gives it."""
    return {
        "id": contact_id, "name": name, "relation": None, "state": "active", "linked_to_aggressor": False,
        "last_proved_at": None,
    } | values  # fmt: skip


def make_device(number: int, kind: str, **values: Any) -> dict[str, Any]:
    """A device as the API gives it."""
    return {
        "id": f"0198a600-0000-7000-8000-{number:012d}", "kind": kind, "status": "active", "battery_pct": None,
        "last_seen_at": None, "last_proved_at": None,
    } | values  # fmt: skip


def add_panic(desk: Any) -> dict[str, Any]:
    """An open panic of hers, with two contacts who were sent a link."""
    made = desk.make(1, type="panic", family="panic", aggressor_id=None, distance_m=None, p_within=None)
    incident: dict[str, Any] = desk.add(made)
    desk.contacts = [make_contact(SISTER, "Динара Омарова", relation="сестра"), make_contact(FRIEND, "Сауле")]
    desk.links[incident["id"]] = [
        make_link(1, SISTER, opened_at=ago(minutes=2), openings=3),
        make_link(2, FRIEND, channel="email"),
    ]
    return incident


async def test_who_has_a_live_link_is_shown_and_all_are_ended_after_a_question(console: Any) -> None:
    incident = add_panic(console.desk)
    await console.live()
    await console.open_first()
    section = console.panel.locator("section.links")
    rows = section.locator("li")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("Динара Омарова, сестра · SMS")
    await expect(rows.nth(0)).to_contain_text("3 times")
    await expect(rows.nth(1)).to_contain_text("not opened yet")
    await section.get_by_role("button", name="End all links").press("Enter")
    await expect(console.dialog).to_contain_text("It cannot be undone.")
    assert console.desk.asked == []
    await console.dialog.get_by_role("button", name="End all links").click()
    await expect(rows.nth(1)).to_contain_text("taken back by a dispatcher")
    await expect(section.get_by_role("button")).to_have_count(0)
    assert console.desk.asked == [("end_links", {"id": incident["id"]})]


async def test_a_link_that_is_opened_shows_as_soon_as_the_timeline_says_so(console: Any) -> None:
    incident = add_panic(console.desk)
    await console.live()
    await console.open_first()
    row = console.panel.locator("section.links li").nth(1)
    await expect(row).to_contain_text("not opened yet")
    console.desk.links[incident["id"]][1] |= {"opened_at": ago(), "openings": 1}
    opened = {"id": "x", "at": ago(), "kind": "live_link", "actor_id": None, "data": {"what": "opened"}}
    console.desk.timelines[incident["id"]].append(opened)
    await console.desk.emit("incident.updated", incident | {"version": 2})
    await expect(row).to_contain_text("opened ")
    await expect(console.panel.locator(".timeline")).to_contain_text("A contact opened the live link")


async def test_after_a_pin_the_links_are_said_to_show_nothing(console: Any) -> None:
    incident = add_panic(console.desk)
    console.desk.incidents[incident["id"]] = incident | {"detail": {"cancel_asked_at": ago(), "cancel_pin": "right"}}
    await console.live()
    await console.open_first()
    section = console.panel.locator("section.links")
    await expect(section).to_contain_text("the links show nothing; a new press shows her again")
    await expect(section.locator("li.over")).to_have_count(2)
    await expect(section.get_by_role("button", name="End all links")).to_be_visible()


async def test_nobody_is_said_to_see_her_where_there_are_no_links(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    await expect(console.panel.locator("section.links")).to_be_hidden()


async def test_what_is_proved_to_work_is_read_when_it_is_asked_for(console: Any) -> None:
    incident = add_panic(console.desk)
    console.desk.contacts[1] |= {"state": "invited", "linked_to_aggressor": True}
    console.desk.contacts[0] |= {"last_proved_at": ago(days=3)}
    console.desk.devices = [
        make_device(1, "phone", last_proved_at=ago(days=40), last_seen_at=ago(minutes=1), battery_pct=64.0),
        make_device(2, "bracelet", status="returned"),
    ]
    await console.live()
    await console.open_first()
    button = console.panel.get_by_role("button", name="Her devices and contacts")
    assert console.desk.asked == []
    await button.press("Enter")
    rows = console.panel.locator("section.proofs-of li")
    await expect(rows).to_have_count(3)
    await expect(rows.nth(0)).to_contain_text("proved to work 40 d ago")
    await expect(rows.nth(0)).to_have_class("doubt")
    await expect(rows.nth(1)).to_contain_text("Динара Омарова")
    await expect(rows.nth(1)).to_have_class("good")
    for words in ("never proved to work", "Linked to the aggressor", "is told nothing"):
        await expect(rows.nth(2)).to_contain_text(words)
    assert console.desk.asked == [("contacts", {"person_id": incident["victim_id"]})]


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_they_fit_a_phone_and_their_words_stand_out(console: Any, scheme: Any, low_contrast: str) -> None:
    add_panic(console.desk)
    console.desk.contacts[1] |= {"state": "invited", "linked_to_aggressor": True}
    console.desk.devices = [make_device(1, "victim_unit", last_proved_at=ago(days=1), battery_pct=9.0, status="lost")]
    await console.page.emulate_media(color_scheme=scheme)
    await console.page.set_viewport_size({"width": 390, "height": 844})
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Her devices and contacts").click()
    await expect(console.panel.locator("section.proofs-of li")).to_have_count(3)
    for language in ("kk", "ru", "en"):
        await console.page.evaluate("code => document.querySelector(`[data-language='${code}']`).click()", language)
        await expect(console.page.locator("html")).to_have_attribute("lang", language)
        assert await console.page.evaluate(low_contrast) == []
        assert await console.page.evaluate("document.documentElement.scrollWidth") <= 390
