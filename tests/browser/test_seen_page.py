"""The page of the link "I have seen it" on a phone, without a script: two buttons that a keyboard reaches too."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from playwright.async_api import Browser, Page, expect

from api.routes.receipts import HEADERS, THANKS, ask_seen
from tests.browser.conftest import serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def said() -> list[str]:
    """What was said by the buttons, in order."""
    return []


@pytest_asyncio.fixture(loop_scope="session")
async def url(said: list[str]) -> AsyncIterator[str]:
    """Where the page is; what it posts is noted as the API reads it."""
    app = FastAPI()
    app.get("/seen/{token}", response_class=HTMLResponse)(ask_seen)

    @app.post("/seen/{token}", response_class=HTMLResponse)
    async def confirm(request: Request) -> HTMLResponse:
        form = parse_qs((await request.body()).decode())
        said.append(form.get("said", ["seen"])[0])
        return HTMLResponse(THANKS[said[-1]], headers=HEADERS)

    async with serving(app) as address:
        yield f"{address}/seen/a-token"


@contextlib.asynccontextmanager
async def on_a_phone(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """A small phone that runs no script."""
    context = await browser.new_context(viewport={"width": 320, "height": 640}, java_script_enabled=False, **options)
    yield await context.new_page()
    await context.close()


async def test_who_has_seen_it_may_say_then_that_she_acts_on_it(browser: Browser, url: str, said: list[str]) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url)
        assert said == [], "opening it says nothing"
        await page.get_by_role("button", name="I have seen it").click()
        await expect(page.get_by_text("Thank you")).to_be_visible()
        await page.get_by_role("button", name="I am acting on it").click()
        await expect(page.get_by_role("button")).to_have_count(0)
    assert said == ["seen", "acknowledged"]


async def test_a_keyboard_reaches_both_buttons(browser: Browser, url: str, said: list[str]) -> None:
    async with on_a_phone(browser) as page:
        for tabs in (1, 2):
            await page.goto(url)
            for _ in range(tabs):
                await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("Thank you")).to_be_visible()
    assert said == ["seen", "acknowledged"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_fits_a_small_phone_and_is_read_by_day_and_by_night(
    browser: Browser, url: str, low_contrast: str, scheme: Any
) -> None:
    context = await browser.new_context(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    page = await context.new_page()
    await page.goto(url)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 320
    assert await page.evaluate("document.documentElement.scrollHeight") <= 640
    boxes = [await button.bounding_box() for button in await page.get_by_role("button").all()]
    assert all(box is not None and box["height"] >= 44 and box["width"] >= 240 for box in boxes)
    assert await page.evaluate(low_contrast) == []
    await context.close()
