"""How an agency signs in, as its administrator sets it on the console; the API is scripted here."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Page, Route, expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]
AGENCY = "0198a900-0000-7000-8000-000000000001"


class Agency:
    """What the routes of signing in answer, and what they were told."""

    def __init__(self) -> None:
        self.roles = ["admin"]
        self.provider: dict[str, Any] | None = None
        self.told: list[tuple[str, str, Any]] = []
        self.refusal: tuple[int, dict[str, str]] | None = None

    async def open(self, page: Page) -> None:
        """Answer for the routes that the scripted API does not know."""
        for path in ("sign-in-policy", "sign-in-provider", "me", "me/second-factors", "me/sessions"):
            await page.route(f"**/v1/{path}", self.answer)

    async def answer(self, route: Route) -> None:
        """One request."""
        method, path = route.request.method, route.request.url.partition("/v1/")[2]
        body = json.loads(route.request.post_data or "null")
        if method != "GET":
            self.told.append((method, path, body))
        if self.refusal is not None and method == "PUT":
            status, problem = self.refusal
            self.refusal = None
            await route.fulfill(status=status, json=problem)
            return
        if path == "sign-in-policy":
            self.roles = body["second_factor_roles"] if body else self.roles
            await route.fulfill(json={"second_factor_roles": self.roles})
        elif path == "sign-in-provider":
            await self.answer_provider(route, method, body)
        elif path == "me":
            await route.fulfill(json={"id": AGENCY, "agency_id": AGENCY, "username": "admin-1", "role": "admin"})
        elif path == "me/sessions":
            await route.fulfill(json={"items": []})
        else:
            factors = {"totp": False, "passkeys": [], "recovery_codes": 0, "required": False, "password": True}
            await route.fulfill(json=factors | {"passkey_host": None})

    async def answer_provider(self, route: Route, method: str, body: Any) -> None:
        """The agency's own sign-in."""
        if method == "PUT":
            has_secret = "client_secret" in body or bool(self.provider and self.provider["has_secret"])
            address = f"https://qorgan.kz/v1/auth/oidc/{AGENCY}/callback"
            self.provider = body | {"has_secret": has_secret, "redirect_uri": address}
        elif method == "DELETE":
            self.provider = None
            await route.fulfill(status=204)
            return
        if self.provider is None:
            await route.fulfill(status=404, json={"code": "not_found"})
        else:
            await route.fulfill(json={name: self.provider[name] for name in self.provider if name != "client_secret"})


@pytest_asyncio.fixture(loop_scope="session")
async def agency(console: Any) -> Agency:
    """The agency's sign-in, with its administrator at the console."""
    made = Agency()
    console.desk.role = "admin"
    await made.open(console.page)
    return made


async def open_agency(console: Any) -> Any:
    """Go to how the agency signs in."""
    await console.live()
    await console.page.locator("#help").click()
    await console.dialog.get_by_role("button", name="Sign-in and security").click()
    await console.dialog.get_by_role("button", name="How your agency signs in").click()
    await expect(console.dialog.get_by_role("heading", name="Who needs a second factor")).to_be_visible()
    return console.dialog


async def test_the_roles_that_need_a_second_factor_are_set(console: Any, agency: Agency) -> None:
    dialog = await open_agency(console)
    await expect(dialog.get_by_label("Administrator")).to_be_checked()
    await dialog.get_by_label("Dispatcher").check()
    await dialog.get_by_role("button", name="Save").press("Enter")
    await expect(console.page.locator("#toasts")).to_contain_text("Saved")
    assert agency.told == [("PUT", "sign-in-policy", {"second_factor_roles": ["admin", "dispatcher"]})]


async def test_a_provider_is_set_up_changed_without_its_secret_and_removed(console: Any, agency: Agency) -> None:
    dialog = await open_agency(console)
    await dialog.get_by_role("button", name="Set up").click()
    await expect(dialog).to_contain_text(f"/v1/auth/oidc/{AGENCY}/callback")
    await dialog.get_by_label("Words on the button").fill("Police of Almaty")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert")).to_have_text("Fill in: Address of the provider (issuer)")
    await dialog.get_by_label("Address of the provider").fill("https://id.police.kz")
    await dialog.get_by_label("Client ID").fill("qorgan")
    await dialog.get_by_label("Client secret").fill("s3cret")
    await dialog.get_by_label("Value of the claim = role").fill("CN=desk,OU=police = dispatcher\nboss = chief")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert")).to_have_text("This line cannot be read: boss = chief")
    await dialog.get_by_label("Value of the claim = role").fill("CN=desk,OU=police = dispatcher")
    agency.refusal = (503, {"code": "provider_unavailable"})
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog.get_by_role("alert")).to_contain_text("does not speak OpenID Connect")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_contain_text("https://id.police.kz · on")
    _, _, first = agency.told[-1]
    assert first["role_map"] == {"CN=desk,OU=police": "dispatcher"}
    assert (first["client_secret"], first["enabled"], first["provision"]) == ("s3cret", True, False)
    await dialog.get_by_role("button", name="Change").click()
    await expect(dialog.get_by_label("Client secret")).to_have_value("")
    await dialog.get_by_label("Offer it on the sign-in page").uncheck()
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_contain_text("https://id.police.kz · off")
    assert "client_secret" not in agency.told[-1][2]
    await dialog.get_by_role("button", name="Remove").click()
    await expect(dialog).to_contain_text("Sessions that go on are not ended.")
    await dialog.get_by_role("button", name="Remove").click()
    await expect(dialog).to_contain_text("Not set up")
    assert agency.told[-1][0] == "DELETE"


async def test_nobody_but_an_administrator_is_led_there(console: Any, agency: Agency) -> None:
    console.desk.role = "supervisor"
    await console.live()
    await console.page.locator("#who").click()
    await expect(console.dialog.get_by_role("heading", name="Second factor")).to_be_visible()
    await expect(console.dialog.get_by_role("button", name="How your agency signs in")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_it_fits_a_phone_and_its_words_stand_out(
    console: Any, agency: Agency, scheme: Any, low_contrast: str
) -> None:
    await console.page.emulate_media(color_scheme=scheme)
    await console.page.set_viewport_size({"width": 390, "height": 844})
    dialog = await open_agency(console)
    assert await console.page.evaluate(low_contrast) == []
    await dialog.get_by_role("button", name="Set up").click()
    await expect(dialog.get_by_label("Client ID")).to_be_visible()
    assert await console.page.evaluate(low_contrast) == []
    width = await dialog.evaluate("element => element.scrollWidth - element.clientWidth")
    assert width <= 0
