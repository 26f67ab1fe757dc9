"""What belongs together: episodes, outages with their pairs, the past, notices, and why an alarm was false."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import expect

from core.clock import rfc3339, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
EPISODE = "0198d000-0000-7000-8000-000000000001"
VICTIM, AGGRESSOR, ORDER = (f"0198a000-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))


def at(seconds_ago: float = 0) -> str:
    """RFC 3339 of a moment ago."""
    return rfc3339(utc_now() - timedelta(seconds=seconds_ago))


def line(kind: str, **data: Any) -> dict[str, Any]:
    """A line of a timeline."""
    return {"id": kind, "at": at(), "kind": kind, "actor_id": None, "data": data}


async def test_an_incident_leads_to_the_others_of_its_episode_also_to_those_that_are_over(console: Any) -> None:
    over = console.desk.make(3, type="approach", severity="high", state="resolved", episode_id=EPISODE, age_s=900)
    parts = [{name: over[name] for name in ("id", "type", "severity", "state", "opened_at")}]
    first = console.desk.add(console.desk.make(1, episode_id=EPISODE))
    console.desk.episodes[first["id"]] = parts
    console.desk.add(console.desk.make(2, type="tamper", family="tamper", severity="high", episode_id=EPISODE))
    console.desk.add(over)
    await console.live()
    await expect(console.rows.first).to_contain_text("+1 in this episode")
    await console.open_first()
    links = console.panel.get_by_role("navigation", name="Also in this episode").get_by_role("button")
    await expect(links).to_have_count(2)
    await expect(links.first).to_contain_text("Approaching")
    await links.last.click()
    await expect(console.panel.locator("h2")).to_have_text("Bracelet tampering")
    await console.panel.get_by_role("navigation").get_by_role("button", name="Too close").click()
    await expect(console.panel.locator("h2")).to_have_text("Too close")
    await console.panel.get_by_role("navigation").get_by_role("button", name="Approaching").press("Enter")
    await expect(console.panel).to_contain_text("Resolved")


async def test_an_outage_shows_its_pairs_in_the_order_of_danger(console: Any) -> None:
    pair = {"order_id": ORDER, "case_id": ORDER, "victim_id": VICTIM, "aggressor_id": AGGRESSOR}
    console.desk.add(
        console.desk.make(
            1, type="outage", family="outage", severity="high", victim_id=None, aggressor_id=None, order_id=None,
            distance_m=None, place=None, fix_age_s=None, p_within=None, closing_mps=None,
            detail={
                "silent": 31, "taken": 40, "live": 60, "pairs_unlisted": 2,
                "pairs": [
                    pair | {"silent": "aggressor", "state": "warning", "distance_m": 900, "time_to_reach_s": 26.7},
                    pair | {"silent": "both", "state": "clear", "distance_m": 5000, "time_to_reach_s": 300.0},
                    pair | {"silent": "victim", "state": "clear", "distance_m": None, "time_to_reach_s": None},
                ],
            },
        ),
        line("outage", what="opened", severity="high"),
    )  # fmt: skip
    await console.live()
    await console.open_first()
    await expect(console.panel.locator("h2")).to_have_text("Mass loss of contact")
    await expect(console.panel.locator(".facts")).to_contain_text("31 of 40, 60 were live")
    rows = console.panel.locator("ol.pairs li")
    await expect(rows).to_have_count(3)
    await expect(rows.nth(0)).to_contain_text("near the limit")
    await expect(rows.nth(0)).to_contain_text("he could reach her in 26 s")
    await expect(rows.nth(1)).to_contain_text("he could reach her in 5 min")
    await expect(rows.nth(2)).to_contain_text("never seen")
    await expect(console.panel).to_contain_text("2 more pairs are not listed")
    await expect(console.panel.locator(".timeline")).to_contain_text("Many devices fell silent together")


async def test_the_past_tampering_and_prompts_say_what_they_are(console: Any) -> None:
    console.desk.add(
        console.desk.make(
            1, type="tamper", family="tamper", retrospective=True, detail={"signals_on": [], "until": at(30)}
        ),
        line("strap", what="stays_open", to="closed"),
        line("prompt", role="victim", pushes=1),
        line("approach", what="entered", to="none"),
        line("proximity", what="past", to="breach", until=at(30)),
        line("assurance", what="opened", to="unknown", silent="aggressor"),
    )
    await console.live()
    await console.open_first()
    for words in (
        "tampering never clears by itself",
        "Happened",
        "The incident stays open",
        "The wearer was asked to see to it",
        "Came inside, as predicted",
        "Late data: was within the forbidden distance",
        "Not heard: the aggressor",
    ):
        await expect(console.panel).to_contain_text(words)


async def test_a_false_alarm_asks_why(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Resolve").click()
    await expect(console.dialog.get_by_label("Why it was false")).to_be_hidden()
    await console.dialog.get_by_label("False alarm").check()
    await console.dialog.get_by_role("button", name="Resolve").click()
    await expect(console.dialog).to_contain_text("Choose why it was false.")
    await console.dialog.get_by_label("Why it was false").select_option("charging")
    await console.dialog.get_by_role("button", name="Resolve").click()
    await expect(console.dialog).to_be_hidden()
    ((_, body),) = console.desk.asked
    assert (body["outcome"], body["false_alarm_cause"]) == ("false_alarm", "charging")


async def test_a_welfare_check_is_said_and_stays_on_the_incident(console: Any) -> None:
    incident = console.desk.add(console.desk.make(1, inside=True, inside_since=at(1900)))
    await console.live()
    await console.open_first()
    incident = incident | {"detail": {**incident["detail"], "welfare_check_at": at()}}
    await console.desk.emit("incident.updated", incident)
    await console.desk.emit("notice.welfare_check", {"incident_id": incident["id"], "order_id": ORDER})
    words = "Both at rest inside for half an hour: check on the victim."
    await expect(console.page.locator("#toasts")).to_contain_text(words)
    await expect(console.page.locator("#announcer")).to_have_text(words)
    await expect(console.panel.locator(".flags")).to_contain_text(words)
    await expect(console.panel.locator(".facts")).to_contain_text("Inside for")


async def test_an_approach_in_hand_that_becomes_a_breach_rings(console: Any) -> None:
    incident = console.desk.add(console.desk.make(1, type="approach", severity="high", state="acknowledged"))
    await console.live()
    sound = console.page.locator("#sound")
    await expect(sound).to_have_attribute("data-rings", "0")
    risen = incident | {"type": "proximity", "severity": "critical", "version": 2, "inside": True}
    await console.desk.emit("incident.updated", risen)
    await expect(sound).to_have_attribute("data-rings", "1")
    await expect(console.page.locator("#announcer")).to_contain_text("Too close")
    await console.desk.emit("incident.updated", risen | {"distance_m": 100.0})
    await expect(console.rows.first).to_contain_text("100 m")
    await expect(sound).to_have_attribute("data-rings", "1")
