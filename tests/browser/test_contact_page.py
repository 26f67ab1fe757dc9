"""The page of an invitation on a phone: it names nobody too early and loads nothing from elsewhere."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from playwright.async_api import Browser, Page, expect

from api.contact_page import PAGE_PATH, mount
from core.actions.contacts import ENDED
from tests.browser.conftest import serving
from tests.browser.desk import at

pytestmark = pytest.mark.asyncio(loop_scope="session")
TOKEN = "an-invitation-s-token-01"
CODE = "482913"


@dataclass
class Invitation:
    """What the invitation answers, step by step as the API does, and what it was asked."""

    known: bool = False
    active: bool = False
    ended: bool = False
    failing: int = 0
    inviter: str | None = "Гүлім"
    sent: set[int] = field(default_factory=set)
    verified: set[int] = field(default_factory=set)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    def shown(self, *, code_wrong: bool = False) -> dict[str, Any]:
        """The answer as it stands."""
        if self.ended:
            return dict(ENDED)
        ways = [("email", "b•••@e•••.kz"), ("sms", "•••42")]
        return {
            "state": "active" if self.active else "verified" if self.known else "invited",
            "language": "ru",
            "inviter": self.inviter if self.known else None,
            "may_see": ["position", "time"] if self.known else [],
            "ways": [
                {"way": n, "channel": channel, "masked": masked, "code_sent": n in self.sent,
                 "verified": n in self.verified}
                for n, (channel, masked) in enumerate(ways) if not self.active or n in self.verified
            ],
            "expires_at": None if self.active else at(-7 * 86400),
            "code_wrong": code_wrong,
        }  # fmt: skip

    def take(self, step: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a step."""
        self.asked.append((step, body))
        if step == "code":
            self.sent.add(body["way"])
        elif step == "verify":
            if body["code"] != CODE:
                return self.shown(code_wrong=True)
            self.verified.add(body["way"])
            self.known = True
        elif step == "consent":
            self.active = True
        elif step == "refuse":
            self.ended = True
        return self.shown()


@pytest.fixture
def invitation() -> Invitation:
    """An invitation that nobody has opened."""
    return Invitation()


@pytest_asyncio.fixture(loop_scope="session")
async def url(invitation: Invitation) -> AsyncIterator[str]:
    """Where the page is."""
    app = FastAPI()
    mount(app)

    @app.middleware("http")
    async def note(request: Request, go_on: Any) -> Any:
        invitation.paths.append(str(request.url))
        return await go_on(request)

    @app.post("/v1/contact-invitation")
    @app.post("/v1/contact-invitation/{step}")
    async def answer(request: Request, step: str = "") -> JSONResponse:
        if invitation.failing:
            return JSONResponse({}, invitation.failing)
        return JSONResponse(invitation.take(step, await request.json()))

    async with serving(app) as address:
        yield f"{address}/contact#{TOKEN}"


@contextlib.asynccontextmanager
async def on_a_phone(browser: Browser, **options: Any) -> AsyncIterator[Page]:
    """A page on a small phone; whatever it complains of fails the test."""
    context = await browser.new_context(viewport={"width": 320, "height": 640}, locale="kk-KZ", **options)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda m: (
            complaints.append(m.text) if m.type == "error" and "503" not in m.text and "429" not in m.text else None
        ),
    )
    yield page
    await context.close()
    assert complaints == []


async def confirm(page: Page, way: int) -> None:
    """Ask for a code to one of the ways and type it."""
    await page.click(f"[data-way='{way}'] .send")
    await page.fill(f"[data-way='{way}'] input", CODE)
    await page.press(f"[data-way='{way}'] input", "Enter")
    await expect(page.locator(f"[data-way='{way}'] .mark")).not_to_be_empty()


async def test_the_token_leaves_the_address_and_reaches_no_server_s_log(
    browser: Browser, url: str, invitation: Invitation
) -> None:
    async with on_a_phone(browser) as page:
        answer = await page.goto(url)
        assert answer is not None
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "noindex" in answer.headers["x-robots-tag"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        await expect(page.locator("#asked")).to_be_visible()
        assert TOKEN not in page.url
        assert not [path for path in invitation.paths if TOKEN in path]
        assert invitation.asked == [("", {"token": TOKEN})]
        assert {path.split("/")[2] for path in invitation.paths} == {url.split("/")[2]}  # nothing from elsewhere
        await page.reload()
        await expect(page.locator("#asked")).to_be_visible()


async def test_before_an_address_is_confirmed_it_speaks_of_no_alarm_and_names_nobody(
    browser: Browser, url: str
) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await expect(page.locator("#ways li")).to_have_count(2)
        for language in ("kk", "ru", "en"):
            await page.click(f"[data-language={language}]")
            shown = (await page.title() + await page.inner_text("body")).lower()
            telling = ("тревог", "полици", "дабыл", "alarm", "police", "qorgan", "гүлім", "102")
            assert not [word for word in telling if word in shown]


async def test_he_confirms_agrees_and_later_ends_it(browser: Browser, url: str, invitation: Invitation) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await expect(page.locator("#answers")).to_be_hidden()
        await page.click("[data-way='1'] .send")
        await expect(page.locator("[data-way='1'] input")).to_be_focused()
        await page.keyboard.type("000000")
        await page.keyboard.press("Enter")
        await expect(page.locator("[data-way='1'] .wrong")).to_be_visible()
        await page.fill("[data-way='1'] input", CODE)
        await page.keyboard.press("Enter")
        await expect(page.locator("#who")).to_contain_text("Гүлім")
        await expect(page.locator("#rule")).to_contain_text("не звоните")
        await expect(page.locator("#place")).to_be_visible()
        await page.click("#agree")
        await expect(page.locator("#asked-title")).to_have_text("Вы доверенное лицо")
        await expect(page.locator("#ways li")).to_have_count(1)
        assert invitation.asked[-1] == ("consent", {"token": TOKEN, "language": "ru"})
        await page.click("#leave")
        await expect(page.locator("#no")).to_be_focused()
        assert not invitation.ended
        await page.click("#yes")
        await expect(page.locator("#ended-title")).to_have_text("Сообщений больше не будет")
        assert await page.evaluate("sessionStorage.length") == 0


async def test_refusing_is_asked_twice_and_nothing_of_it_stays(
    browser: Browser, url: str, invitation: Invitation
) -> None:
    invitation.known = True
    invitation.verified = {0}
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await page.click("#refuse")
        await page.click("#no")
        await expect(page.locator("#agree")).to_be_visible()
        await page.click("#refuse")
        await page.click("#yes")
        await expect(page.locator("#ended")).to_be_visible()
        await expect(page.locator("#asked")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("stage", ["invited", "verified", "active", "ended"])
async def test_it_fits_a_phone_in_three_languages_and_stands_out(
    browser: Browser, url: str, invitation: Invitation, low_contrast: str, scheme: str, stage: str
) -> None:
    invitation.sent, invitation.verified = {0}, {1} if stage != "invited" else set()
    invitation.known, invitation.active, invitation.ended = stage != "invited", stage == "active", stage == "ended"
    async with on_a_phone(browser, color_scheme=scheme) as page:
        await page.goto(url)
        await expect(page.locator("#ended" if stage == "ended" else "#asked")).to_be_visible()
        for language in ("kk", "ru", "en"):
            await page.click(f"[data-language={language}]")
            await expect(page.locator("html")).to_have_attribute("lang", language)
            assert "undefined" not in await page.inner_text("body")
            assert await page.evaluate("document.documentElement.scrollWidth") <= 320
            assert await page.evaluate(low_contrast) == []


@pytest.mark.parametrize(("status", "words"), [(503, "не отвечает"), (429, "Слишком часто")])
async def test_what_fails_says_so_and_loses_nothing(
    browser: Browser, url: str, invitation: Invitation, status: int, words: str
) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url)
        await expect(page.locator("html")).to_have_attribute("lang", "ru")
        invitation.failing = status
        await page.click("[data-way='0'] .send")
        await expect(page.locator("#trouble")).to_contain_text(words)
        invitation.failing = 0
        await confirm(page, 0)
        await expect(page.locator("#trouble")).to_be_hidden()


async def test_without_a_token_there_is_nothing_to_answer(browser: Browser, url: str, invitation: Invitation) -> None:
    async with on_a_phone(browser) as page:
        await page.goto(url.partition("#")[0])
        await expect(page.locator("#ended")).to_be_visible()
        assert invitation.asked == []


async def test_every_language_says_the_same_things() -> None:
    source = (PAGE_PATH / "words.js").read_text()
    blocks = [block.split("  },")[0] for block in source.split(": {\n")[1:]]
    keys = [[line.split(":")[0].strip() for line in block.splitlines() if line.strip()] for block in blocks]
    assert len(keys) == 3
    assert keys[0] == keys[1] == keys[2]
    assert len({tuple(re.findall(r"{\w+}", block)) for block in blocks}) == 1
