"""A part of the service is missing: a banner until somebody acts by the plan, a line until it is over."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import expect

from core.clock import rfc3339, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def make_outage(number: int, what: str, minutes: float = 5, **values: Any) -> dict[str, Any]:
    """An outage as the API lists it."""
    return {
        "id": f"0198f000-0000-7000-8000-{number:012d}", "what": what,
        "started_at": rfc3339(utc_now() - timedelta(minutes=minutes)), "ended_at": None, "incident_id": None,
        "acknowledged_by": None, "acknowledged_by_name": None, "acknowledged_at": None, "told": 0, "not_told": 0,
        "heard": [],
    } | values  # fmt: skip


async def emit(console: Any, kind: str, outage: dict[str, Any]) -> None:
    """Say it on the feed as the service does."""
    await console.desk.emit(kind, {"outage_id": outage["id"], "what": outage["what"]})


async def test_an_outage_is_heard_seen_and_acknowledged_by_one_key(console: Any) -> None:
    await console.live()
    banner = console.page.locator("#outages")
    await expect(banner).to_be_hidden()
    outage = make_outage(1, "positions")
    console.desk.outages = [outage]
    await emit(console, "outage.started", outage)
    await expect(banner).to_contain_text("Outage: positions do not arrive")
    await expect(banner).to_contain_text("Panic buttons work.")
    await expect(console.page.locator("#sound")).to_have_attribute("data-rings", "1")
    await expect(console.page.locator("#announcer")).to_contain_text("Outage: positions do not arrive")
    await console.page.keyboard.press("u")
    await expect(banner).to_contain_text("Acknowledged by")
    await expect(banner.get_by_role("button")).to_have_count(0)
    assert console.desk.asked == [("acknowledge_outage", {"id": outage["id"]})]
    await console.page.keyboard.press("u")
    console.desk.outages = [outage | {"ended_at": rfc3339(utc_now())}]
    await emit(console, "outage.ended", outage)
    await expect(banner).to_be_hidden()
    await expect(console.page.locator("#toasts")).to_contain_text("Positions arrive again.")
    assert len(console.desk.asked) == 1


async def test_who_acknowledged_is_named_and_other_agencies_too(console: Any) -> None:
    heard_at = rfc3339(utc_now())
    console.desk.role = "dispatcher"
    console.desk.outages = [
        make_outage(
            1, "detection", acknowledged_by="0198c000-0000-7000-8000-000000000009", acknowledged_by_name="nurlan",
            acknowledged_at=heard_at,
            heard=[{"agency": "Ours", "at": heard_at}, {"agency": "Police of Talgar", "at": rfc3339(utc_now())}],
        ),
        make_outage(2, "database", minutes=1),
    ]  # fmt: skip
    await console.live()
    rows = console.page.locator("#outages .outage")
    await expect(rows).to_have_count(2)
    await expect(rows.nth(0)).to_contain_text("Acknowledged by nurlan")
    await expect(rows.nth(0)).to_contain_text("Also acknowledged: Police of Talgar")
    await rows.nth(1).get_by_role("button", name="We act by the plan").press("Enter")
    await expect(rows.nth(1)).to_contain_text("Acknowledged by you")
    await expect(console.page.locator("#outages")).to_be_focused()


async def test_an_outage_of_devices_is_an_incident_and_no_banner(console: Any) -> None:
    console.desk.outages = [make_outage(1, "devices", incident_id="0198b000-0000-7000-8000-000000000001")]
    console.desk.add(console.desk.make(1, type="outage", family="outage", severity="high"))
    await console.live()
    await expect(console.rows).to_have_count(1)
    await expect(console.page.locator("#outages")).to_be_hidden()


async def test_an_officer_sees_an_outage_and_a_caseworker_has_no_queue_for_it(console: Any) -> None:
    console.desk.role = "officer"
    console.desk.outages = [make_outage(1, "positions")]
    await console.live()
    banner = console.page.locator("#outages")
    await expect(banner).to_contain_text("positions do not arrive")
    await expect(banner.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_its_words_stand_out_and_fit_a_phone(console: Any, scheme: Any, low_contrast: str) -> None:
    await console.page.emulate_media(color_scheme=scheme)
    await console.page.set_viewport_size({"width": 390, "height": 844})
    heard_at = rfc3339(utc_now())
    console.desk.outages = [
        make_outage(1, "positions"),
        make_outage(
            2, "detection", acknowledged_by_name="nurlan", acknowledged_by="0198c000-0000-7000-8000-000000000009",
            acknowledged_at=heard_at, heard=[{"agency": "Ours", "at": heard_at}],
        ),
    ]  # fmt: skip
    await console.live()
    for language in ("Қазақша", "Русский", "English"):
        await console.page.evaluate(
            "code => document.querySelector(`[data-language='${code}']`).click()",
            {"Қазақша": "kk", "Русский": "ru", "English": "en"}[language],
        )
        await expect(console.page.locator("#outages .outage")).to_have_count(2)
        assert await console.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert await console.page.evaluate(low_contrast) == []
