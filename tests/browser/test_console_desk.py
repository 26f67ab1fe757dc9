"""What is done besides the live queue: sealed cases and their glass, reviews, tasks, a caseworker's own view."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from core.clock import rfc3339, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
ORDER = "0198a000-0000-7000-8000-000000000003"
TOLD = ("id", "type", "severity", "state", "opened_at")


def in_hours(hours: float) -> str:
    return rfc3339(utc_now() + timedelta(hours=hours))


def make_task(number: int, kind: str, due_in_h: float, **detail: Any) -> dict[str, Any]:
    return {
        "id": f"0198d000-0000-7000-8000-{number:012d}", "kind": kind, "case_id": None, "order_id": ORDER,
        "opened_at": in_hours(-30), "due_at": in_hours(due_in_h), "detail": detail, "done_at": None, "done_by": None,
        "outcome": None,
    }  # fmt: skip


def make_use(number: int, user_id: str, reason: str, **values: Any) -> dict[str, Any]:
    return {
        "id": f"0198e000-0000-7000-8000-{number:012d}", "user_id": user_id, "reason_code": "emergency",
        "reason": reason, "from_at": in_hours(-0.5), "until_at": in_hours(0.5), "reviewed_at": None,
    } | values  # fmt: skip


class Office:
    """Tasks and reviews as the API answers them, and what it was told."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.lists: dict[str, list[dict[str, Any]]] = {"tasks": [], "break-glass": [], "looks": []}
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}

    async def open(self) -> None:
        """Answer for the routes that the scripted API does not know."""
        for name in self.lists:
            await self.page.route(f"**/v1/{name}?**", self._list)
            await self.page.route(f"**/v1/{name}/*/*", self._finish)

    async def _list(self, route: Route) -> None:
        name = route.request.url.partition("/v1/")[2].partition("?")[0]
        await route.fulfill(json={"tasks" if name == "tasks" else "items": self.lists[name]})

    async def _finish(self, route: Route) -> None:
        name, record_id, command = route.request.url.partition("/v1/")[2].split("/")
        self.told.append((command, json.loads(route.request.post_data or "{}")))
        if command in self.refusals:
            status, problem = self.refusals.pop(command)
            await route.fulfill(status=status, json=problem)
            return
        self.lists[name] = [one for one in self.lists[name] if one["id"] != record_id]
        await route.fulfill(json={"id": record_id})


@pytest.fixture
def office(console: Any) -> Office:
    return Office(console.page)


async def breaking(console: Any, incident: dict[str, Any]) -> list[dict[str, Any]]:
    """Have the API open the case of a sealed incident, and keep how it was asked."""
    asked: list[dict[str, Any]] = []

    async def answer(route: Route) -> None:
        asked.append(json.loads(route.request.post_data or "{}"))
        console.desk.sealed.clear()
        console.desk.add(incident)
        await route.fulfill(status=201, json={"id": "0198e000-0000-7000-8000-000000000001"})
        await console.desk.send({"kind": "reset", "at": incident["opened_at"]})

    await console.page.route("**/v1/break-glass", answer)
    return asked


def told_of(incident: dict[str, Any]) -> dict[str, Any]:
    return {name: incident[name] for name in TOLD}


async def test_a_sealed_incident_rings_and_says_nothing_of_whom(console: Any) -> None:
    await console.live()
    await console.desk.emit("incident.sealed", told_of(console.desk.make(1, type="panic", family="panic")))
    await expect(console.rows.first).to_contain_text("Panic")
    await expect(console.rows.first).to_contain_text("Sealed")
    await expect(console.page.locator("#sound")).to_have_attribute("data-rings", "1")
    await expect(console.page.locator("#announcer")).to_have_text("Critical, Panic, Sealed")
    assert "Айгерім" not in await console.page.content()
    await console.rows.first.get_by_role("button").click()
    await expect(console.panel).to_contain_text("sealed from you")
    await expect(console.panel.get_by_role("button", name="Acknowledge")).to_have_count(0)


async def test_a_sealed_incident_that_is_over_leaves_the_queue(console: Any) -> None:
    incident = told_of(console.desk.make(1))
    console.desk.sealed.append(incident)
    await console.live()
    await expect(console.rows).to_have_count(1)
    await console.desk.emit("incident.sealed", incident | {"state": "resolved"})
    await expect(console.page.get_by_text("No open incidents")).to_be_visible()


async def test_the_glass_is_broken_by_keyboard_alone_and_the_incident_is_shown_whole(console: Any) -> None:
    incident = console.desk.make(1)
    console.desk.sealed.append(told_of(incident))
    asked = await breaking(console, incident)
    await console.live()
    keyboard = console.page.keyboard
    await keyboard.press("j")
    await keyboard.press("Enter")
    await expect(console.panel).to_contain_text("sealed from you")
    await keyboard.press("b")
    await expect(console.dialog).to_contain_text("Your supervisors are told now")
    await expect(console.dialog).to_contain_text("Name nobody")
    await keyboard.press("Space")
    await keyboard.press("Tab")
    await keyboard.type("short")
    for _ in range(2):
        await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(console.dialog.get_by_role("alert")).to_contain_text("at least ten characters")
    await console.dialog.get_by_role("textbox").focus()
    await keyboard.type(" of hands, nobody else is on duty")
    for _ in range(2):
        await keyboard.press("Tab")
    await keyboard.press("Enter")
    await expect(console.panel).to_contain_text("Айгерім Сәрсенова")
    await expect(console.panel.get_by_role("button", name="Acknowledge")).to_be_visible()
    await expect(console.panel).to_be_focused()
    await expect(console.rows).to_have_count(1)
    assert asked == [
        {
            "incident_id": incident["id"],
            "reason_code": "emergency",
            "reason": "short of hands, nobody else is on duty",
        }
    ]


async def test_when_the_glass_shuts_again_the_card_is_shut(console: Any) -> None:
    incident = console.desk.add(console.desk.make(1))
    await console.live()
    await console.open_first()
    console.desk.incidents.clear()
    console.desk.sealed.append(told_of(incident))
    await console.desk.send({"kind": "reset", "at": incident["opened_at"]})
    await expect(console.panel).to_contain_text("sealed from you")
    await expect(console.panel).not_to_contain_text("Айгерім")
    await expect(console.rows.first).not_to_contain_text("Айгерім")


async def test_a_supervisor_reviews_what_others_opened_and_not_what_she_did(console: Any, office: Office) -> None:
    console.desk.role = "supervisor"
    await office.open()
    await console.live()
    await expect(console.page.locator("#reviews")).to_have_attribute("data-count", "0")
    glass = make_use(
        1, "0198c000-0000-7000-8000-000000000009", "nobody was on duty", asked_kind="incident", asked_id="i"
    )
    own = make_use(2, console.desk.user_id, "I took the shift over", asked_kind="case", asked_id="c")
    office.lists["break-glass"] = [glass | {"username": "night-2"}, own]
    office.lists["looks"] = [
        make_use(3, glass["user_id"], "she asked to be found", person_id="p", reason_code="missing")
    ]
    await console.desk.emit("access.break_glass", {"id": glass["id"], "user_id": glass["user_id"]})
    await expect(console.page.locator("#toasts")).to_contain_text("opened a sealed case")
    await expect(console.page.locator("#reviews")).to_have_attribute("data-count", "2")
    await console.page.get_by_role("button", name="To review: 2 wait").press("Enter")
    first = console.dialog.locator(".review", has_text="nobody was on duty")
    await expect(first).to_contain_text("night-2")
    await expect(console.dialog.locator(".review", has_text="I took the shift over")).to_contain_text("Somebody else")
    await expect(console.dialog.locator(".review", has_text="asked to be found")).to_contain_text("Missing")
    await first.get_by_role("textbox").fill("It was only me")
    await first.get_by_role("button", name="Not justified").press("Enter")
    await expect(console.dialog.locator(".review")).to_have_count(2)
    await console.dialog.get_by_role("button", name="Justified", exact=True).press("Enter")
    await expect(console.page.locator("#reviews")).to_have_attribute("data-count", "0")
    assert office.told == [
        ("review", {"verdict": "unjustified", "note": "It was only me"}),
        ("review", {"verdict": "justified"}),
    ]


async def test_a_dispatcher_has_neither_tasks_nor_reviews(console: Any) -> None:
    console.desk.role = "dispatcher"
    await console.live()
    await expect(console.page.locator("#sound")).to_be_visible()
    await expect(console.page.locator("#tasks")).to_be_hidden()
    await expect(console.page.locator("#reviews")).to_be_hidden()


async def test_a_caseworker_has_her_tasks_in_place_of_the_queue_the_due_ones_first(
    console: Any, office: Office
) -> None:
    console.desk.role = "caseworker"
    console.desk.orders[ORDER] |= {"time_zone": "Asia/Aqtau", "victim_id": next(iter(console.desk.people))}
    office.lists["tasks"] = [
        make_task(1, "order_expiring", 60, step="72h") | {"due_at": "2099-05-01T12:00:00.000Z"},
        make_task(2, "unprotected_gap", -3, limit_s=86400),
        make_task(3, "repeat_violation", -1, violations=3),
    ]
    await office.open()
    await console.sign_in()
    tasks = console.page.locator(".task")
    await expect(tasks).to_have_count(3)
    await expect(console.page.locator(".rooms")).to_be_hidden()
    kinds = ["not both devices work", "violated the order again", "ends soon"]
    for index, words in enumerate(kinds):
        await expect(tasks.nth(index)).to_contain_text(words)
    await expect(tasks.nth(0)).to_contain_text("2026/114-З")
    await expect(tasks.nth(1)).to_contain_text("3 of this order")
    await expect(tasks.nth(2)).to_contain_text("17:00")
    await expect(tasks.nth(2)).to_contain_text("GMT+5")
    await expect(tasks.nth(0)).not_to_contain_text("Айгерім")
    await tasks.nth(0).get_by_role("button", name="Show who").click()
    await expect(tasks.nth(0)).to_contain_text("Айгерім Сәрсенова")
    assert console.desk.sockets == set()


async def test_a_task_is_done_with_what_was_done_and_the_next_one_is_focused(console: Any, office: Office) -> None:
    console.desk.role = "caseworker"
    office.lists["tasks"] = [make_task(2, "unprotected_gap", -3), make_task(3, "repeat_violation", -1)]
    office.refusals["done"] = (409, {"code": "state_forbids"})
    await office.open()
    await console.sign_in()
    first = console.page.locator(".task").first
    await first.get_by_role("button", name="Done").click()
    await expect(first.get_by_role("alert")).to_contain_text("Choose what was done first")
    await first.get_by_role("combobox").select_option("devices_fitted")
    await first.get_by_role("button", name="Done").click()
    await expect(first.get_by_role("alert")).to_contain_text("done already")
    await first.get_by_role("button", name="Done").click()
    await expect(console.page.locator(".task")).to_have_count(1)
    await expect(console.page.locator(".task").get_by_role("combobox")).to_be_focused()
    assert office.told == [("done", {"outcome": "devices_fitted"})] * 2


async def test_a_supervisor_sees_how_many_are_due_and_hears_of_new_ones(console: Any, office: Office) -> None:
    console.desk.role = "supervisor"
    office.lists["tasks"] = [make_task(1, "order_expired", -1), make_task(2, "order_expiring", 50)]
    await office.open()
    await console.live()
    await expect(console.page.locator("#tasks")).to_have_attribute("data-count", "1")
    office.lists["tasks"].append(make_task(3, "maintenance", -1))
    await console.desk.emit("task.opened", {"id": office.lists["tasks"][-1]["id"], "order_id": ORDER})
    await expect(console.page.locator("#tasks")).to_have_attribute("data-count", "2")
    await console.page.locator("#tasks").press("Enter")
    await expect(console.dialog.locator(".task")).to_have_count(3)
    await expect(console.dialog.locator(".tasks-due .task")).to_have_count(2)


async def test_an_incident_says_how_its_order_stands(console: Any) -> None:
    console.desk.orders[ORDER] |= {
        "status": "in_force", "time_zone": "Asia/Almaty", "valid_until": in_hours(20.5), "protected_at": None,
        "gap": {"since": in_hours(-49.2)},
    }  # fmt: skip
    violations = {"order": 2, "aggressor": 5, "last_at": "2026-05-01T12:00:00.000Z"}
    console.desk.add(console.desk.make(1, do_not_call=True, violations=violations))
    await console.live()
    await console.open_first()
    facts = console.panel.locator(".facts")
    for words in ("in 20 h", "unprotected for 2 d 1 h", "2 of this order", "5 by him in all", "GMT+5"):
        await expect(facts).to_contain_text(words)
    await expect(console.panel.locator(".flags .notice").first).to_have_text("Do not call the victim")
    console.desk.orders[ORDER] |= {"status": "expired"}
    await console.desk.emit("order.expired", {"order_id": ORDER, "at": in_hours(0)})
    await expect(facts).to_contain_text("Expired")


async def test_a_caseworkers_tasks_fit_a_phone(console: Any, office: Office, low_contrast: str) -> None:
    await console.page.set_viewport_size({"width": 390, "height": 844})
    console.desk.role = "caseworker"
    office.lists["tasks"] = [make_task(1, "order_expired", -1), make_task(2, "order_expiring", 50)]
    await office.open()
    await console.sign_in()
    await expect(console.page.locator(".task")).to_have_count(2)
    widths = (
        "[...document.querySelectorAll('.desk, .task, .task-form')].map((one) => one.scrollWidth - one.clientWidth)"
    )
    assert set(await console.page.evaluate(widths)) == {0}
    assert await console.page.evaluate(low_contrast) == []


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_on_a_phone_every_panel_fits_and_stands_out(
    console: Any, office: Office, scheme: Any, low_contrast: str
) -> None:
    page = console.page
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.emulate_media(color_scheme=scheme)
    console.desk.role = "supervisor"
    console.desk.sealed.append(told_of(console.desk.make(1)))
    office.lists["tasks"] = [make_task(1, "order_expired", -1), make_task(2, "order_expiring", 50)]
    office.lists["looks"] = [make_use(3, "u", "she asked to be found", person_id="p")]
    await office.open()
    await console.live()

    async def fits() -> None:
        assert await page.evaluate("document.documentElement.scrollWidth") <= 390
        assert await page.evaluate(low_contrast) == []

    await page.locator("#tasks").click()
    await expect(console.dialog.locator(".task")).to_have_count(2)
    await fits()
    await page.keyboard.press("Escape")
    await page.locator("#reviews").click()
    await expect(console.dialog.locator(".review")).to_have_count(1)
    await fits()
    await page.keyboard.press("Escape")
    await console.rows.first.get_by_role("button").click()
    await fits()
    await console.panel.get_by_role("button", name="Break the glass").click()
    await expect(console.dialog).to_be_visible()
    await fits()
