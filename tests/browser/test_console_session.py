"""Signing in, staying signed in, and what the console shows before its first board."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_dispatcher_signs_in_and_sees_that_nothing_is_open(console: Any) -> None:
    await console.live()
    await expect(console.page.get_by_text("No open incidents")).to_be_visible()
    await expect(console.banner).to_be_hidden()


async def test_a_wrong_password_is_told_and_nothing_is_kept(console: Any) -> None:
    await console.sign_in("wrong")
    await expect(console.page.get_by_role("alert")).to_have_text("The user name or the password is wrong.")
    assert await console.page.evaluate("Object.keys(sessionStorage).length") == 0


async def test_empty_fields_are_told_before_anything_is_asked(console: Any) -> None:
    await console.page.goto(f"{console.address}/console/")
    await console.page.get_by_role("button", name="Sign in").click()
    await expect(console.page.get_by_role("alert")).to_have_text("Enter your user name and your password.")
    assert console.desk.access_tokens == 0


async def test_a_reload_keeps_the_session_and_no_access_token_is_stored(console: Any) -> None:
    await console.live()
    stored = await console.page.evaluate(
        "JSON.stringify([Object.entries(sessionStorage), Object.entries(localStorage)])"
    )
    assert "access-" not in stored
    await console.page.reload()
    await expect(console.page.get_by_text("No open incidents")).to_be_visible()


async def test_a_session_that_has_ended_leads_back_to_signing_in(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    console.desk.session_ended = True
    await console.desk.hang_up(4401)
    await expect(console.page.get_by_role("alert").first).to_have_text("Your session has ended. Sign in again.")
    await expect(console.rows).to_have_count(0)


async def test_signing_out_forgets_everything(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    await console.page.get_by_role("button", name="Sign out").click()
    await expect(console.page.get_by_label("User name")).to_be_focused()
    assert await console.page.evaluate("sessionStorage.length") == 0
    await expect(console.rows).to_have_count(0)


async def test_while_the_board_is_on_its_way_the_console_says_so(console: Any) -> None:
    console.desk.board_answers.clear()
    await console.sign_in()
    await expect(console.page.get_by_text("Fetching the present situation.")).to_be_visible()
    console.desk.board_answers.set()
    await expect(console.page.get_by_text("No open incidents")).to_be_visible()


async def test_a_board_that_cannot_be_had_is_an_error_with_a_way_on(console: Any) -> None:
    console.desk.refuse_board = True
    await console.sign_in()
    await expect(console.page.get_by_text("The server cannot be reached")).to_be_visible()
    console.desk.refuse_board = False
    await console.page.locator("#queue").get_by_role("button", name="Reconnect").click()
    await expect(console.page.get_by_text("No open incidents")).to_be_visible()


async def test_a_console_that_cannot_load_its_words_says_so_and_offers_to_try_again(console: Any) -> None:
    await console.page.route("**/locales/*.json", lambda route: route.abort())
    await console.page.goto(f"{console.address}/console/")
    await expect(console.page.get_by_role("alert").first).to_contain_text("The console did not load")
    await console.page.unroute("**/locales/*.json")
    await console.page.get_by_role("button", name="Try again").click()
    await expect(console.page.get_by_label("User name")).to_be_visible()


async def test_the_page_is_served_with_a_policy_that_forbids_inline_code(address: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        for path in ("/console/", "/console/js/main.js", "/console/config.json", "/console/nothing"):
            headers = (await client.get(path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"] == "no-referrer"


async def test_only_the_console_s_own_files_are_served(address: str) -> None:
    async with httpx.AsyncClient(base_url=address) as client:
        for path in ("__init__.py", "package.json", ".npmrc", "node_modules/maplibre-gl/package.json", "../app.py"):
            assert (await client.get(f"/console/{path}")).status_code == 404, path
        assert (await client.get("/console/config.json")).json() == {
            "map_style_url": None,
            "languages": ["kk", "ru", "en"],
        }
