"""The ways in, on the real console against the real API: a second factor, a passkey, an agency's sign-in, a code."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pyotp
import pytest
import pytest_asyncio
from playwright.async_api import Page, expect
from pwdlib.hashers.argon2 import Argon2Hasher

from api.app import create_app
from api.deps import ApiContext
from api.ingest.registry import Registry
from api.live.tail import FeedTail
from api.oidc_provider import OidcClient
from core.actions.unit_of_work import act
from core.actions.users import add_user
from core.clock import utc_now
from core.passwords import PasswordDesk
from core.postgres import agencies
from core.postgres.database import Database
from core.redis.client import connect
from core.settings import Settings
from core.vault import load_vault
from infra.server import HttpServer, bind
from tests.integration.management.provider import CLIENT_ID, CLIENT_SECRET, provider_on_loopback

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


class Door:
    """The demo's agency and the API that serves it, at an address where passkeys work."""

    def __init__(self, world: dict[str, Any], url: str, context: ApiContext) -> None:
        self.world = world
        self.url = url
        self.context = context

    async def open(self, page: Page, role: str = "dispatcher") -> None:
        """Go to the sign-in page and sign in by name and password."""
        user = self.world["users"][role]
        await page.goto(f"{self.url}/console/")
        await page.get_by_label("User name").fill(user["username"])
        await page.get_by_label("Password").fill(user["password"])
        await page.get_by_role("button", name="Sign in", exact=True).click()

    async def as_admin(self, method: str, path: str, body: Any = None) -> Any:
        """What an administrator's request answers."""
        admin = self.world["users"]["admin"]
        form = {"username": admin["username"], "password": admin["password"]}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            token = (await client.post("/v1/auth/token", data=form)).json()["access_token"]
            answer = await client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})
            assert answer.status_code < 300, answer.text
            return answer.json() if answer.content else None


async def make_users(database: Database) -> dict[str, dict[str, str]]:
    """An agency with a user of the roles at work here; names and passwords."""
    made = {}
    desk = PasswordDesk(Argon2Hasher(time_cost=1, memory_cost=8, parallelism=1))
    async with act(database, utc_now()) as unit:
        agency_id = await agencies.get_or_create(unit.connection, "Police of Almaty", utc_now())
        for role in ("admin", "dispatcher"):
            made[role] = {"username": f"{role}-1", "password": f"quiet green teapots {role}"}
            await add_user(unit, agency_id, f"{role}-1", desk.hash_now(made[role]["password"]), role)
    desk.close()
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def door(settings: Settings) -> AsyncIterator[Door]:
    """The demo's agency behind a real API on a free port of localhost."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    async with contextlib.AsyncExitStack() as stack:
        listener = bind("127.0.0.1", 0)
        stack.callback(listener.close)
        url = f"http://localhost:{listener.getsockname()[1]}"
        settings = settings.model_copy(update={"public_url": url})
        database = Database(settings.database_url.get_secret_value(), size=8, vault=load_vault(settings))
        await database.open()
        stack.push_async_callback(database.close)
        redis_client = connect(settings.redis_url.get_secret_value())
        stack.push_async_callback(redis_client.aclose)
        world = {"users": await make_users(database)}
        registry, tail = Registry(database, utc_now), FeedTail(settings, database, redis_client, utc_now)
        context = ApiContext(settings, database, redis_client, utc_now, registry=registry, tail=tail)
        context.oidc = OidcClient(plain_loopback=True)
        server = HttpServer(create_app(context), listener, 200)
        for service in (registry, tail, context.ended_sessions, server):
            await service.start()
            stack.push_async_callback(service.stop)
        yield Door(world, url, context)


async def add_authenticator(page: Page, *, verified: bool = True) -> Any:
    """Give the browser an authenticator of its own."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
        "isUserVerified": verified, "automaticPresenceSimulation": True,
    }  # fmt: skip
    await session.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    return session


async def is_in(page: Page) -> None:
    await expect(page.locator("#link")).to_have_attribute("data-status", "live")


async def panel(page: Page) -> Any:
    """The security panel, open."""
    await page.locator("#who").click()
    dialog = page.locator("#dialog")
    await expect(dialog.get_by_text("Where you are signed in")).to_be_visible()
    return dialog


async def test_a_passkey_is_added_and_signs_in_alone(page: Page, door: Door) -> None:
    await add_authenticator(page)
    await door.open(page)
    await is_in(page)
    dialog = await panel(page)
    await dialog.get_by_role("button", name="Add a passkey").click()
    await dialog.get_by_label("Name").fill("The blue key")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_text("The blue key")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_role("button", name="Use a passkey").click()
    await is_in(page)
    dialog = await panel(page)
    await expect(dialog.locator("li", has_text="The blue key")).to_contain_text("Used")
    await dialog.get_by_role("button", name="Remove: The blue key").click()
    await expect(dialog.get_by_text("You have none yet.")).to_be_visible()


async def test_a_passkey_is_the_second_step_after_the_password(page: Page, door: Door) -> None:
    await add_authenticator(page)
    await door.open(page)
    dialog = await panel(page)
    await dialog.get_by_role("button", name="Add a passkey").click()
    await dialog.get_by_role("button", name="Save").click()
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Sign out").click()
    await door.open(page)
    await expect(page.get_by_role("heading", name="One more step")).to_be_visible()
    await page.get_by_role("button", name="Use a passkey").click()
    await is_in(page)


async def test_an_app_is_added_with_its_code_and_asked_for_at_the_next_sign_in(page: Page, door: Door) -> None:
    await door.open(page)
    await is_in(page)
    dialog = await panel(page)
    await dialog.get_by_role("button", name="Add an authenticator app").click()
    secret = (await dialog.locator(".secret code").inner_text()).replace(" ", "")
    await expect(dialog.get_by_role("img", name="QR code for the authenticator app")).to_be_visible()
    await dialog.get_by_label("Code of the app").fill("000000")
    await page.keyboard.press("Enter")
    await expect(dialog.get_by_role("alert")).to_have_text("That was not right.")
    await dialog.get_by_label("Code of the app").fill(pyotp.TOTP(secret).at(utc_now()))
    await page.keyboard.press("Enter")
    await expect(dialog.locator(".codes code")).to_have_count(10)
    codes = await dialog.locator(".codes code").all_inner_texts()
    await dialog.get_by_role("button", name="I have kept them").click()
    await expect(dialog.get_by_text("10 left")).to_be_visible()
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Sign out").click()
    await door.open(page)
    await page.get_by_label("Code", exact=True).fill("wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("That was not accepted.")
    await page.get_by_label("Code", exact=True).fill(codes[3])
    await page.keyboard.press("Enter")
    await is_in(page)


async def test_a_role_that_needs_a_factor_adds_one_and_goes_on(page: Page, door: Door) -> None:
    await add_authenticator(page)
    await door.as_admin("PUT", "/v1/sign-in-policy", {"second_factor_roles": ["dispatcher"]})
    await door.open(page)
    await expect(page.get_by_role("heading", name="Add a second factor")).to_be_visible()
    await expect(page.locator("#workplace")).to_be_hidden()
    await page.get_by_role("button", name="Add a passkey").click()
    await is_in(page)


async def test_another_session_is_seen_and_ended_and_its_screen_says_so(page: Page, door: Door) -> None:
    other_context = await page.context.browser.new_context(locale="en-GB")  # type: ignore[union-attr]
    other = await other_context.new_page()
    await door.open(other)
    await is_in(other)
    await door.open(page)
    await is_in(page)
    dialog = await panel(page)
    await expect(dialog.get_by_text("this one")).to_be_visible()
    await dialog.get_by_role("button", name="End:").click()
    await expect(dialog.get_by_role("button", name="End:")).to_have_count(0)
    await expect(other.get_by_role("alert").first).to_have_text("Your session has ended. Sign in again.")
    await other_context.close()


async def test_a_change_long_after_the_sign_in_asks_who_she_is(page: Page, door: Door) -> None:
    door.context.settings = door.context.settings.model_copy(update={"confirmed_s": -1})
    await door.open(page)
    await is_in(page)
    dialog = await panel(page)
    await dialog.get_by_role("button", name="Change password").click()
    await dialog.get_by_label("New password").fill("six quiet green teapots")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("heading", name="Confirm it is you")).to_be_visible()
    door.context.settings = door.context.settings.model_copy(update={"confirmed_s": 600})
    await dialog.get_by_label("Password").fill(door.world["users"]["dispatcher"]["password"])
    await dialog.get_by_role("button", name="Confirm").click()
    await expect(dialog.get_by_role("status")).to_contain_text("Password changed.")


async def test_an_administrator_s_code_sets_a_password(page: Page, door: Door) -> None:
    users = (await door.as_admin("GET", "/v1/users"))["items"]
    user = next(one for one in users if one["role"] == "dispatcher")
    code = (await door.as_admin("POST", f"/v1/users/{user['id']}/password-code"))["code"]
    await page.goto(f"{door.url}/console/")
    await page.get_by_role("button", name="I have a code from my administrator").click()
    await page.get_by_label("User name").last.fill(user["username"])
    await page.get_by_label("Code from your administrator").fill(code)
    await page.get_by_label("New password").fill("password1234")
    await page.get_by_role("button", name="Set password").click()
    await expect(page.get_by_role("alert")).to_contain_text("at least 12 characters")
    await page.get_by_label("New password").fill("six quiet green teapots")
    await page.keyboard.press("Enter")
    await expect(page.locator("#signin-notice")).to_have_text("Your password is set. Sign in with it.")
    await page.get_by_label("Password").fill("six quiet green teapots")
    await page.keyboard.press("Enter")
    await is_in(page)


async def test_an_agency_s_own_sign_in_leads_to_the_board_and_its_refusal_is_told(page: Page, door: Door) -> None:
    async with provider_on_loopback() as provider:
        await door.as_admin(
            "PUT",
            "/v1/sign-in-provider",
            {
                "issuer": provider.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET,
                "label": "Police of Almaty", "default_role": "dispatcher", "provision": True,
            },
        )  # fmt: skip
        await page.goto(f"{door.url}/console/")
        await page.get_by_role("link", name="Continue with Police of Almaty").click()
        await is_in(page)
        assert "#" not in page.url
        await expect(page.locator("#who")).to_contain_text("aliya@police.kz")
        await page.get_by_role("button", name="Sign out").click()
        provider.changed = lambda claims: claims | {"nonce": "another"}
        await page.get_by_role("link", name="Continue with Police of Almaty").click()
        await expect(page.get_by_role("alert")).to_contain_text("could not be trusted")


async def test_an_administrator_sets_up_the_agency_s_own_sign_in_on_the_console(page: Page, door: Door) -> None:
    async with provider_on_loopback() as provider:
        await door.open(page, "admin")
        await is_in(page)
        dialog = await panel(page)
        await dialog.get_by_role("button", name="How your agency signs in").click()
        await dialog.get_by_label("Auditor").check()
        await dialog.get_by_role("button", name="Save").click()
        await expect(page.locator("#toasts")).to_contain_text("Saved")
        assert await door.as_admin("GET", "/v1/sign-in-policy") == {"second_factor_roles": ["auditor"]}
        await dialog.get_by_role("button", name="Set up").click()
        await dialog.get_by_label("Words on the button").fill("Police of Almaty")
        await dialog.get_by_label("Client ID").fill(CLIENT_ID)
        await dialog.get_by_label("Client secret").fill(CLIENT_SECRET)
        await dialog.get_by_label("Where the claim tells no role").select_option("dispatcher")
        await dialog.get_by_label("Make a user at the first sign-in").check()
        await dialog.get_by_label("Address of the provider").fill("ftp://id.police.kz")
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog.get_by_role("alert")).to_contain_text("has to begin with https://")
        await dialog.get_by_label("Address of the provider").fill(provider.issuer)
        await dialog.get_by_role("button", name="Save").click()
        await expect(dialog).to_contain_text(f"{provider.issuer} · on")
        shown = await door.as_admin("GET", "/v1/sign-in-provider")
        assert shown["redirect_uri"].startswith(door.url)
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="Continue with Police of Almaty").click()
        await is_in(page)
        await expect(page.locator("#who")).to_contain_text("aliya@police.kz")
