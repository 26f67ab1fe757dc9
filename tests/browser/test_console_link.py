"""The connection: resumed without a gap, and never silently lost."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def test_a_lost_connection_is_a_banner_and_what_was_missed_comes_after_it(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    console.desk.refuse_feed = True
    await console.desk.hang_up()
    await expect(console.banner).to_contain_text("Connection lost. New alerts are not shown.")
    await expect(console.banner).to_contain_text("Last news")
    await console.page.get_by_role("button", name="Reconnect").click()
    missed = console.desk.make(2, type="panic", family="panic")
    console.desk.incidents[missed["id"]] = missed
    console.desk.event("incident.opened", missed)
    console.desk.refuse_feed = False
    await expect(console.banner).to_be_hidden()
    await expect(console.rows).to_have_count(2)
    assert console.desk.resumed_after == ["1000", "1000"]


async def test_after_events_the_feed_resumes_from_the_last_of_them(console: Any) -> None:
    await console.live()
    frame = await console.desk.emit("incident.opened", console.desk.make(1))
    await expect(console.rows).to_have_count(1)
    await console.desk.hang_up()
    await expect(console.page.locator("#link")).to_have_attribute("data-status", "live")
    await console.desk.emit("incident.opened", console.desk.make(2))
    await expect(console.rows).to_have_count(2)
    assert console.desk.resumed_after == ["1000", frame["cursor"]]


async def test_a_reset_reads_the_board_again(console: Any) -> None:
    console.desk.add(console.desk.make(1))
    await console.live()
    console.desk.incidents.clear()
    console.desk.add(console.desk.make(2, type="zone", family="zone"))
    await console.desk.send({"kind": "reset", "at": "2026-01-01T00:00:00.000Z"})
    await expect(console.rows).to_have_count(1)
    await expect(console.rows.first).to_contain_text("In a forbidden zone")


async def test_a_feed_that_has_gone_deaf_is_found_out_by_the_board(console: Any) -> None:
    await console.page.add_init_script("window.qorganQuietMs = 200")
    await console.live()
    silent = console.desk.make(1)
    console.desk.incidents[silent["id"]] = silent
    console.desk.event("incident.opened", silent)  # the socket is open, and the event never comes through it
    await expect(console.rows).to_have_count(1)


async def test_a_server_that_does_not_answer_while_the_socket_is_open_is_shown_as_stale(console: Any) -> None:
    await console.page.add_init_script("window.qorganQuietMs = 200")
    await console.live()
    console.desk.refuse_board = True
    await expect(console.banner).to_contain_text("The server does not answer. What you see may be old.")
    console.desk.refuse_board = False
    await expect(console.banner).to_be_hidden()


async def test_who_may_not_see_the_feed_is_told_so(console: Any) -> None:
    console.desk.close_feed_with = 4403
    await console.sign_in()
    await expect(console.page.get_by_text("The console is not for your role")).to_be_visible()
