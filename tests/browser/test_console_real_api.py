"""The console against the real API on real stores: an incident appears, is acknowledged and resolved."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

from api.app import create_app
from api.deps import ApiContext
from api.ingest.registry import Registry
from api.live.tail import FeedTail
from core.actions import broadcast
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import now_ms, utc_now
from core.domain.transition import Position, Transition, transition_id
from core.ids import new_id
from core.postgres.database import Database
from core.postgres.logins import GROUPS, url_as
from core.postgres.shares import share
from core.redis.client import connect
from core.settings import Settings
from core.vault import load_vault
from infra.seed import seed_demo
from infra.server import HttpServer, bind

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


class RealDesk:
    """The demo's agency on the test's stores, and the API that serves it."""

    def __init__(self, database: Database, world: dict[str, Any], url: str) -> None:
        self.database = database
        self.world = world
        self.url = url

    async def breach(self) -> None:
        """Have the pair come too close, as the recorder writes it."""
        pair = self.world["pairs"][0]
        order_id = uuid.UUID(pair["order_id"])
        moment_ms = now_ms()
        async with act(self.database, utc_now()) as unit:
            row = await unit.connection.fetchrow(
                "SELECT o.case_id, o.agency_id, o.victim_id, o.aggressor_id, c.shard FROM protection_order o"
                " JOIN protection_case c ON c.id = o.case_id WHERE o.id = $1",
                order_id,
            )
            entry = f"{moment_ms}-0"
            transition = Transition(
                id=transition_id(row["shard"], entry, 0, order_id, "proximity"),
                shard=row["shard"],
                entry=entry,
                kind="proximity",
                from_state="clear",
                to_state="breach",
                at_ms=moment_ms,
                evaluated_ms=moment_ms,
                agency_id=row["agency_id"],
                case_id=row["case_id"],
                order_id=order_id,
                victim_id=row["victim_id"],
                aggressor_id=row["aggressor_id"],
                distance_m=321.0,
                p_within=0.98,
                victim_position=Position(43.23895, 76.9456, 9.0, moment_ms),
                aggressor_position=Position(43.2407, 76.9488, 15.0, moment_ms),
            )
            await apply_transitions(unit, [transition])

    async def lose_positions(self) -> None:
        """Have the service be without positions, as every agency is told of it."""
        async with act(self.database, utc_now()) as unit:
            assert await broadcast.begin(unit, "positions", utc_now())

    async def find_positions(self) -> None:
        """Have positions arrive again."""
        async with act(self.database, utc_now()) as unit:
            assert await broadcast.end(unit, "positions")

    async def share(self) -> None:
        """Have another agency know of the breach; its dispatcher `neighbour` signs in as the demo's does."""
        agency_id = new_id()
        async with self.database.transaction() as connection:
            await connection.execute(
                "INSERT INTO agency (id, name, created_at) VALUES ($1, 'Talgar District Police', $2)",
                agency_id,
                utc_now(),
            )
            await connection.execute(
                "INSERT INTO app_user (id, agency_id, username, password_hash, role, created_at)"
                " SELECT $1, $2, 'neighbour', password_hash, role, created_at FROM app_user WHERE username = $3",
                new_id(),
                agency_id,
                self.world["users"]["dispatcher"]["username"],
            )
            incident = await connection.fetchrow("SELECT id, agency_id FROM incident")
            await share(connection, incident["id"], incident["agency_id"], agency_id, "jurisdiction", utc_now())
        self.world["users"]["neighbour"] = self.world["users"]["dispatcher"] | {"username": "neighbour"}

    async def seal(self) -> None:
        """Seal the pair's order; its caseworker is named."""
        async with self.database.transaction() as connection:
            case_id = await connection.fetchval(
                "UPDATE protection_order SET sealed = true WHERE id = $1 RETURNING case_id",
                uuid.UUID(self.world["pairs"][0]["order_id"]),
            )
            await connection.execute(
                "INSERT INTO case_named_user (case_id, user_id, agency_id, named_at)"
                " SELECT $1, id, agency_id, $2 FROM app_user WHERE role = 'caseworker'",
                case_id,
                utc_now(),
            )


@pytest_asyncio.fixture(loop_scope="session")
async def real(settings: Settings, logins: dict[str, str]) -> AsyncIterator[RealDesk]:
    """The demo's agency behind a real API on a free port, which sees by row-level security as it would at work."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with contextlib.AsyncExitStack() as stack:
        database = Database(settings.database_url.get_secret_value(), size=8, vault=load_vault(settings))
        await database.open()
        stack.push_async_callback(database.close)
        redis_client = connect(settings.redis_url.get_secret_value())
        stack.push_async_callback(redis_client.aclose)
        world = await seed_demo(database, settings, utc_now())
        posts = {}
        for kind in ("api", "device"):
            login = urlsplit(logins[kind])
            url = url_as(settings.database_url.get_secret_value(), str(login.username), str(login.password))
            posts[kind] = Database(url, size=4, role=GROUPS[kind], vault=load_vault(settings))
            await posts[kind].open()
            stack.push_async_callback(posts[kind].close)
        registry, tail = Registry(posts["device"], utc_now), FeedTail(settings, posts["device"], redis_client, utc_now)
        context = ApiContext(
            settings, posts["api"], redis_client, utc_now, device_database=posts["device"], registry=registry, tail=tail
        )
        server = HttpServer(create_app(context), bind("127.0.0.1", 0), 200)
        for service in (registry, tail, server):
            await service.start()
            stack.push_async_callback(service.stop)
        yield RealDesk(database, world, f"http://127.0.0.1:{server.port}")


async def sign_in(page: Page, real: RealDesk, role: str = "dispatcher") -> None:
    """Sign in as a user of the demo's agency."""
    user = real.world["users"][role]
    await page.goto(f"{real.url}/console")
    await page.get_by_label("User name").fill(user["username"])
    await page.get_by_label("Password").fill(user["password"])
    await page.get_by_role("button", name="Sign in").click()


async def test_a_breach_appears_is_acknowledged_and_resolved(map_page: Page, real: RealDesk) -> None:
    await sign_in(map_page, real)
    await expect(map_page.locator("#link")).to_have_attribute("data-status", "live")
    await expect(map_page.get_by_text("No open incidents")).to_be_visible()
    await real.breach()
    row = map_page.locator("li.row")
    for words in ("Too close", "Critical", "Әсем Үлгібай", "320 m", "43.23895, 76.94560"):
        await expect(row).to_contain_text(words)
    await expect(map_page.locator("#sound")).to_have_attribute("data-rings", "1")
    await row.get_by_role("button").click()
    await expect(map_page.locator("#incident")).to_contain_text("Came within the forbidden distance")
    await expect(map_page.locator(".map-party.victim")).to_be_visible()
    await expect(map_page.locator(".map-party.aggressor")).to_be_visible()
    await map_page.keyboard.press("a")
    await expect(row).to_have_attribute("data-state", "acknowledged")
    await expect(map_page.locator(".timeline")).to_contain_text("Acknowledged · you")
    await map_page.get_by_role("button", name="Resolve").click()
    dialog = map_page.locator("#dialog")
    await expect(dialog).to_contain_text("He is still inside.")
    await dialog.get_by_label("In custody").check()
    await dialog.get_by_role("button", name="Resolve").click()
    await expect(row).to_have_count(0)
    await expect(map_page.locator("#incident")).to_contain_text("In custody")


async def test_two_dispatchers_see_each_other_s_work_and_the_slower_is_told(page: Page, real: RealDesk) -> None:
    await real.breach()
    await sign_in(page, real)
    await page.locator("li.row").get_by_role("button").click()
    await expect(page.locator(".timeline li")).not_to_have_count(0)

    async def another_is_faster(route: Route) -> None:
        supervisor = real.world["users"]["supervisor"]
        async with httpx.AsyncClient(base_url=real.url) as client:
            form = {"username": supervisor["username"], "password": supervisor["password"]}
            token = (await client.post("/v1/auth/token", data=form)).json()["access_token"]
            path = route.request.url.removeprefix(real.url)
            answer = await client.post(path, json={"version": 1}, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code == 200
        await route.continue_()

    await page.route("**/acknowledge", another_is_faster)
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.locator("#toasts")).to_contain_text("Somebody else changed this incident.")
    await expect(page.locator("li.row")).to_have_attribute("data-state", "acknowledged")


async def test_a_sealed_case_rings_without_names_until_its_glass_is_broken(page: Page, real: RealDesk) -> None:
    await real.seal()
    await sign_in(page, real)
    await expect(page.locator("#link")).to_have_attribute("data-status", "live")
    await real.breach()
    row, panel, dialog = page.locator("li.row"), page.locator("#incident"), page.locator("#dialog")
    await expect(row).to_contain_text("Sealed")
    await expect(page.locator("#sound")).to_have_attribute("data-rings", "1")
    await row.get_by_role("button").click()
    await expect(panel).not_to_contain_text("Әсем Үлгібай")
    await panel.get_by_role("button", name="Break the glass").click()
    await dialog.get_by_label("Emergency").check()
    await dialog.get_by_role("textbox").fill("Nobody of the named is on duty.")
    await dialog.get_by_role("button", name="Break the glass").click()
    await expect(panel).to_contain_text("Әсем Үлгібай")
    await expect(row).to_contain_text("320 m")
    await panel.get_by_role("button", name="Acknowledge").click()
    await expect(row).to_have_attribute("data-state", "acknowledged")


async def test_an_outage_is_told_acknowledged_and_over(page: Page, real: RealDesk) -> None:
    await sign_in(page, real)
    await expect(page.locator("#link")).to_have_attribute("data-status", "live")
    await real.lose_positions()
    banner = page.locator("#outages")
    await expect(banner).to_contain_text("Outage: positions do not arrive")
    await page.keyboard.press("u")
    await expect(banner).to_contain_text("Acknowledged by you")
    await expect(banner).not_to_contain_text("Also acknowledged")
    await real.find_positions()
    await expect(banner).to_be_hidden()


async def test_another_agency_opens_what_is_shared_with_it_and_takes_notice(page: Page, real: RealDesk) -> None:
    await real.breach()
    await real.share()
    await sign_in(page, real, "neighbour")
    row, panel = page.locator("li.row"), page.locator("#incident")
    for words in ("Too close", "Another agency", "On your ground"):
        await expect(row).to_contain_text(words)
    await row.get_by_role("button").click()
    await expect(panel).to_contain_text("43.23895, 76.94560")
    await expect(panel).not_to_contain_text("Әсем Үлгібай")
    await page.keyboard.press("a")
    await expect(row).to_have_attribute("data-state", "acknowledged")
    await expect(panel).to_contain_text("by your agency")


async def test_what_proves_her_devices_and_contacts_is_read_when_asked_for(page: Page, real: RealDesk) -> None:
    await real.breach()
    await sign_in(page, real)
    await page.locator("li.row").get_by_role("button").click()
    await page.locator("#incident").get_by_role("button", name="Her devices and contacts").click()
    await expect(page.locator("section.proofs-of")).to_contain_text("never proved to work")


async def test_an_auditor_is_told_that_the_console_is_not_for_her(page: Page, real: RealDesk) -> None:
    await sign_in(page, real, "auditor")
    await expect(page.get_by_text("The console is not for your role")).to_be_visible()


async def test_a_dispatch_names_the_unit_sent(page: Page, real: RealDesk) -> None:
    await real.breach()
    await sign_in(page, real)
    await page.locator("li.row").get_by_role("button").click()
    await page.locator("#incident").get_by_role("button", name="Dispatch").click()
    dialog = page.locator("#dialog")
    await dialog.get_by_role("checkbox").first.check()
    await dialog.get_by_role("button", name="Dispatch").click()
    await expect(page.locator("li.row")).to_have_attribute("data-state", "dispatched")
    await expect(page.locator("#incident .facts")).to_contain_text("Units")
