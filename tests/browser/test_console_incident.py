"""One incident: what is shown of it, the commands, and what happens when they are refused."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def line(kind: str, **data: Any) -> dict[str, Any]:
    """A line of a timeline."""
    return {"id": kind, "at": "2026-01-05T10:00:00.000Z", "kind": kind, "actor_id": None, "data": data}


async def test_the_detail_shows_facts_messages_and_timeline(console: Any) -> None:
    console.desk.add(
        console.desk.make(1, inside=True, do_not_call=True, hazards={"weapons": True}),
        line("proximity", what="opened", to="breach", distance_m=342.0),
        line("delivery", delivery_id="d1", state="dead", channel="fcm", audience="victim", reason="gone"),
    )
    await console.live()
    await console.open_first()
    for words in (
        "Do not call the victim",
        "He is inside the forbidden area now.",
        "Weapons",
        "320 m",
        "limit 500 m",
        "2026/114-З",
        "Coming closer",
        "Victim · phone push",
        "failed",
        "gone",
        "Came within the forbidden distance",
    ):
        await expect(console.panel).to_contain_text(words)


async def test_acknowledging_sends_the_version_seen_and_shows_the_new_state(console: Any) -> None:
    console.desk.add(console.desk.make(1, version=4))
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Acknowledge").click()
    await expect(console.rows.first).to_have_attribute("data-state", "acknowledged")
    await expect(console.panel.get_by_role("button", name="Acknowledge")).to_have_count(0)
    await expect(console.panel.locator(".timeline")).to_contain_text("Acknowledged")
    ((command, body),) = console.desk.asked
    assert command == "acknowledge"
    assert body["version"] == 4


async def test_a_stale_version_loads_the_incident_again_and_tells(console: Any) -> None:
    incident = console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    console.desk.problems["acknowledge"] = (409, {"code": "version_stale", "detail": "stale", "version": 2})
    console.desk.incidents[incident["id"]] = incident | {"state": "dispatched", "version": 3}
    await console.panel.get_by_role("button", name="Acknowledge").click()
    await expect(console.page.locator("#toasts")).to_contain_text("Somebody else changed this incident.")
    await expect(console.rows.first).to_have_attribute("data-state", "dispatched")


async def test_resolving_asks_how_it_ended(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Resolve").click()
    await console.dialog.get_by_role("button", name="Resolve").click()
    await expect(console.dialog).to_contain_text("Choose how it ended.")
    await console.dialog.get_by_label("Warned").check()
    await console.dialog.get_by_label("Note (optional)").fill("He left when told to.")
    await console.dialog.get_by_role("button", name="Resolve").click()
    await expect(console.dialog).to_be_hidden()
    await expect(console.rows).to_have_count(0)
    await expect(console.panel).to_contain_text("Resolved")
    ((_, body),) = console.desk.asked
    assert (body["outcome"], body["note"]) == ("warned", "He left when told to.")


async def test_while_he_is_inside_only_custody_or_suspension_can_be_chosen(console: Any) -> None:
    console.desk.add(console.desk.make(1, inside=True))
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Resolve").click()
    await expect(console.dialog).to_contain_text("He is still inside.")
    await expect(console.dialog.get_by_label("Warned")).to_be_disabled()
    await expect(console.dialog.get_by_label("In custody")).to_be_enabled()


async def test_a_refusal_because_he_is_still_inside_is_explained_and_keeps_what_was_written(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    console.desk.problems["resolve"] = (409, {"code": "still_inside", "detail": "inside"})
    await console.panel.get_by_role("button", name="Resolve").click()
    await console.dialog.get_by_label("Warned").check()
    await console.dialog.get_by_label("Note (optional)").fill("kept")
    await console.dialog.get_by_role("button", name="Resolve").click()
    await expect(console.dialog.get_by_role("alert")).to_contain_text("He is still inside")
    await expect(console.dialog.get_by_label("Note (optional)")).to_have_value("kept")


async def test_dispatching_sends_the_units_chosen(console: Any) -> None:
    console.desk.units = [{"id": "u-12", "callsign": "Alatau-12", "status": "available", "distance_m": 640.0}]
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Dispatch").click()
    await expect(console.dialog.get_by_label("Alatau-12")).to_be_checked()
    await console.dialog.get_by_role("button", name="Dispatch").click()
    await expect(console.rows.first).to_have_attribute("data-state", "dispatched")
    ((_, body),) = console.desk.asked
    assert body["unit_ids"] == ["u-12"]


async def test_a_note_needs_words(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    await console.panel.get_by_role("button", name="Note").click()
    await console.dialog.get_by_role("button", name="Note").click()
    await expect(console.dialog.get_by_role("alert")).to_have_text("Write something first.")
    await console.dialog.get_by_label("Note").fill("She is at her mother's.")
    await console.dialog.get_by_role("button", name="Note").click()
    await expect(console.panel.locator(".timeline")).to_contain_text("She is at her mother's.")


async def test_keys_move_open_acknowledge_and_close_in_any_keyboard_layout(console: Any) -> None:
    console.desk.add(console.desk.make(1, age_s=100))
    console.desk.add(console.desk.make(2, age_s=50))
    await console.live()
    await expect(console.rows).to_have_count(2)
    await console.page.keyboard.press("j")
    await console.page.keyboard.press("j")
    await expect(console.rows.nth(1).get_by_role("button")).to_be_focused()
    await console.page.keyboard.press("k")
    await expect(console.rows.nth(0).get_by_role("button")).to_be_focused()
    await console.page.keyboard.press("Enter")
    await expect(console.panel.locator(".timeline")).to_be_attached()
    # "ф" is what the A key types in a Russian or Kazakh layout.
    await console.page.evaluate("dispatchEvent(new KeyboardEvent('keydown', {key: 'ф', code: 'KeyA', bubbles: true}))")
    await expect(console.panel.locator(".tag.state")).to_have_text("Acknowledged")
    await console.page.keyboard.press("?")
    await expect(console.dialog).to_contain_text("Move in the queue")
    await console.page.keyboard.press("Escape")
    await expect(console.dialog).to_be_hidden()
    await console.page.keyboard.press("Escape")
    await expect(console.panel).to_contain_text("No incident chosen")
    assert [command for command, _ in console.desk.asked] == ["acknowledge"]


async def test_messages_that_wait_for_keys_are_told_of_and_so_is_a_line_that_does_not_open(console: Any) -> None:
    console.desk.add(
        console.desk.make(1, detail={"untold": ["routes", "her"]}),
        line("note", unreadable=True),
        line("note", note="He left."),
    )
    await console.live()
    await console.open_first()
    for words in ("the key service does not answer", "does not open", "He left."):
        await expect(console.panel).to_contain_text(words)


async def test_duress_a_cancelling_and_presses_are_told_in_words(console: Any) -> None:
    make = console.desk.make
    duress = {"duress": True, "cancel_asked_at": "2026-01-05T10:00:00.000Z"}
    console.desk.add(
        make(1, type="panic", do_not_call=True, detail=duress), line("cancel_asked", pin="duress"), line("duress")
    )
    await console.live()
    await console.open_first()
    for words in (
        "Under duress: she was forced to cancel",
        "Do not call the victim",
        "duress PIN",
        "Forced to call it off",
    ):
        await expect(console.panel).to_contain_text(words)
    for tag in ("Duress", "Do not call"):
        await expect(console.rows.first).to_contain_text(tag)


async def test_a_right_pin_asks_to_make_sure_and_a_further_press_is_counted(console: Any) -> None:
    detail = {
        "cancel_pin": "right", "cancel_asked_at": "2026-01-05T10:00:00.000Z", "presses": 3,
        "pressed_at": "2026-01-05T09:59:00.000Z", "place_doubts": ["wide"],
    }  # fmt: skip
    console.desk.add(console.desk.make(1, type="panic", detail=detail))
    await console.live()
    await console.open_first()
    for words in ("call back and ask for the safe word", "Pressed 3 times", "is rough"):
        await expect(console.panel).to_contain_text(words)
    for tag in ("×3", "Asks to call off"):
        await expect(console.rows.first).to_contain_text(tag)
