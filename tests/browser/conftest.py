"""A real headless Chromium, and the real console before a scripted API (`desk.py`).

A test against the real API is in `test_console_real_api.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, Page, async_playwright, expect

from core.settings import Settings
from infra.console_assets import install
from tests.browser.desk import Desk, scripted_api

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
WAIT_MS = 15_000
expect.set_options(timeout=WAIT_MS)


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve `app` on a free port for the length of the block; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="critical", lifespan="off", ws="websockets-sansio", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        listener.close()


@pytest.fixture(scope="session")
def vendor() -> None:
    """The console's map library in its place."""
    install()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(vendor: None) -> AsyncIterator[Browser]:
    """A headless Chromium; its absence is a failure with words, never a skip."""
    if not CHROMIUM.exists():
        pytest.fail(f"The browser tests need Chromium at {CHROMIUM}; install the package `chromium`.")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
def low_contrast() -> str:
    """The script that finds words that do not stand out."""
    return (Path(__file__).parent / "low_contrast.js").read_text()


@pytest.fixture
def desk() -> Desk:
    """What the scripted API answers."""
    return Desk()


@pytest_asyncio.fixture(loop_scope="session")
async def address(desk: Desk) -> AsyncIterator[str]:
    """Where the scripted API and the real console are."""
    async with serving(scripted_api(desk, Settings(map_style_url=desk.map_style_url))) as url:
        yield url
        await desk.hang_up()


@contextlib.asynccontextmanager
async def open_page(browser: Browser, *, with_map: bool) -> AsyncIterator[Page]:
    """A page in English on a desktop screen; anything it complains of fails the test."""
    context = await browser.new_context(locale="en-GB", viewport={"width": 1440, "height": 900}, color_scheme="dark")
    opened = await context.new_page()
    opened.set_default_timeout(WAIT_MS)
    if not with_map:
        await opened.route("**/vendor/maplibre-gl.mjs", lambda route: route.abort())
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if _matters(message) else None)
    yield opened
    await context.close()
    assert complaints == []


@pytest_asyncio.fixture(loop_scope="session")
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A page without the map library: drawing maps in software costs more than all the rest."""
    async with open_page(browser, with_map=False) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def map_page(browser: Browser) -> AsyncIterator[Page]:
    """A page with its map."""
    async with open_page(browser, with_map=True) as opened:
        yield opened


def _matters(message: Any) -> bool:
    """Errors of ours; not the browser's own on answers that a test made fail, or on a page left while it loaded."""
    not_ours = ("Failed to load resource", "WebSocket", "Worker failed to load")
    return message.type == "error" and not any(words in message.text for words in not_ours)


class Console:
    """The console in the browser, and what stands behind it."""

    def __init__(self, page: Page, desk: Desk, address: str) -> None:
        self.page = page
        self.desk = desk
        self.address = address
        self.rows = page.locator("li.row")
        self.panel = page.locator("#incident")
        self.banner = page.locator("#banner")
        self.dialog = page.locator("#dialog")

    async def sign_in(self, password: str = "right") -> None:
        """Open the console and sign in."""
        await self.page.goto(f"{self.address}/console/")
        await self.page.get_by_label("User name").fill("dispatcher")
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Sign in").click()

    async def live(self) -> None:
        """Sign in and wait until the feed is open."""
        await self.sign_in()
        await expect(self.page.locator("#link")).to_have_attribute("data-status", "live")

    async def open_first(self) -> None:
        """Open the incident on top of the queue and wait for its timeline."""
        await self.rows.first.get_by_role("button").click()
        await expect(self.panel.locator(".timeline")).to_be_attached()


@pytest.fixture
def console(page: Page, desk: Desk, address: str) -> Console:
    """The console in the browser against the scripted API."""
    return Console(page, desk, address)


@pytest.fixture
def map_console(map_page: Page, desk: Desk, address: str) -> Console:
    """The same with its map."""
    return Console(map_page, desk, address)
