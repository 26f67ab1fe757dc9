"""The page of a live link on a phone: the token leaves the address, what ends is shown no more, a keyboard does it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from playwright.async_api import Browser, Page, expect

from api.link_page import mount
from core.domain.live_link import ELSEWHERE, ENDED
from tests.browser.conftest import serving
from tests.browser.desk import at

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOKEN = "a-token_of-the-link-0123456789"


@dataclass
class Link:
    """What the link answers, and what it was asked."""

    answer: dict[str, Any] = field(default_factory=dict)
    failing: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def live(self, **values: Any) -> None:
        """Show a place."""
        place = {"lat": 43.23812, "lon": 76.94561, "accuracy_m": 18.0, "at": at(20)}
        self.answer = {
            "state": "live", "language": "ru", "started_at": at(300), "seen_by_police_at": None, "position": place,
            "refresh_s": 1, **values,
        }  # fmt: skip


@pytest.fixture
def link() -> Link:
    """A live link."""
    made = Link()
    made.live()
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def url(link: Link) -> AsyncIterator[str]:
    """Where the page is."""
    app = FastAPI()
    mount(app)

    @app.middleware("http")
    async def note(request: Request, go_on: Any) -> Any:
        link.paths.append(str(request.url))
        return await go_on(request)

    @app.post("/v1/live-link")
    async def look(request: Request) -> JSONResponse:
        link.asked.append(await request.json())
        return JSONResponse(link.answer, 503 if link.failing else 200)

    @app.post("/v1/live-link/code", status_code=202)
    async def code() -> dict[str, str]:
        return {"state": "sent_if_it_holds"}

    async with serving(app) as address:
        yield f"{address}/l#{TOKEN}"


@contextlib.asynccontextmanager
async def on_a_phone(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """A page on a small phone; whatever it complains of fails the test."""
    context = await browser.new_context(viewport={"width": 320, "height": 640}, locale="kk-KZ", **options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" and "503" not in m.text else None)
    yield page
    await context.close()
    assert complaints == []


async def test_the_token_leaves_the_address_and_reaches_no_server_s_log(browser: Browser, url: str, link: Link) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await expect(page.locator("#live")).to_be_visible()
        assert TOKEN not in page.url
        assert not [path for path in link.paths if TOKEN in path]
        assert link.asked[0] == {"token": TOKEN, "first": True}
        assert await page.evaluate("JSON.stringify([localStorage, sessionStorage])") == "[{},{}]"
        assert {path.split("/")[2] for path in link.paths} == {url.split("/")[2]}  # nothing from elsewhere


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_phone_in_three_languages_and_stands_out(
    browser: Browser, url: str, low_contrast: str, scheme: str
) -> None:
    async with on_a_phone(browser, color_scheme=scheme) as page:
        await page.goto(url)
        await expect(page.locator("#live")).to_be_visible()
        for language, words in (("kk", "қоңырау шалмаңыз"), ("ru", "Не звоните"), ("en", "Do not call")):
            await page.click(f"[data-language={language}]")
            await expect(page.locator("#rule")).to_contain_text(words)
            await expect(page.locator("html")).to_have_attribute("lang", language)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 320
            assert await page.evaluate(low_contrast) == []


async def test_what_has_ended_is_shown_no_more(browser: Browser, url: str, link: Link) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await expect(page.locator("#coordinates")).to_have_text("43.23812, 76.94561")
        link.live(seen_by_police_at=at(2))
        await expect(page.locator("#police")).to_have_class("card seen")
        link.answer = dict(ENDED)
        await expect(page.locator("#ended")).to_be_visible()
        assert "43.23" not in await page.content()


async def test_what_cannot_be_asked_for_is_not_shown_for_long(browser: Browser, url: str, link: Link) -> None:
    async with on_a_phone(browser) as page:
        await page.clock.install()
        await page.goto(url)
        await expect(page.locator("#place")).to_be_visible()
        link.failing = True
        await page.clock.fast_forward(3_000)
        await expect(page.locator("#status")).to_have_class("stale")
        await expect(page.locator("#place")).to_be_visible()
        await page.clock.fast_forward(70_000)
        await expect(page.locator("#place")).to_be_hidden()


async def test_another_browser_asks_for_a_code_with_the_keyboard_alone(browser: Browser, url: str, link: Link) -> None:
    link.answer = dict(ELSEWHERE)
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await expect(page.locator("#elsewhere")).to_be_visible()
        for _ in range(4):
            await page.keyboard.press("Tab")
        await expect(page.locator("#ask-code")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.locator("#code")).to_be_focused()
        await page.keyboard.type("123456")
        link.live()
        await page.keyboard.press("Enter")
        await expect(page.locator("#live")).to_be_visible()
        assert {"token": TOKEN, "first": False, "code": "123456"} in link.asked
