"""How long until the next are told, and how far it has come, on the incident and in the queue."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from core.clock import rfc3339, utc_now

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def line(kind: str, **data: Any) -> dict[str, Any]:
    """A line of a timeline."""
    return {"id": kind, "at": "2026-01-05T10:00:00.000Z", "kind": kind, "actor_id": None, "data": data}


async def test_the_step_and_what_is_left_are_shown(console: Any) -> None:
    later = rfc3339(utc_now().replace(year=utc_now().year + 1))
    incident = console.desk.make(1, escalation_step=2, next_deadline_at=later)
    console.desk.add(incident, line("escalated", why="unaccepted", callsign="A-7", step=1, told=2))
    await console.live()
    await expect(console.rows.first).to_contain_text("Escalated, step 2")
    await console.open_first()
    for words in ("Escalated, step 2", "until the next are told", "A unit did not answer", "A-7"):
        await expect(console.panel).to_contain_text(words)


async def test_a_deadline_that_is_over_says_so_and_none_says_nothing(console: Any) -> None:
    console.desk.add(console.desk.make(1, escalation_step=0, next_deadline_at="2026-01-05T10:00:00.000Z"))
    await console.live()
    await console.open_first()
    await expect(console.panel).to_contain_text("Escalationnow")
    quiet = console.desk.make(1, escalation_step=0, next_deadline_at=None, state="acknowledged", version=2)
    await console.desk.emit("incident.acknowledged", quiet)
    await expect(console.panel).not_to_contain_text("Escalation")
