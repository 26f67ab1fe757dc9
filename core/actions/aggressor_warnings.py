"""What is said to an aggressor who came near, where his order wants it said: later, within a radius, and not often.

When and how near was drawn as he came into the warning ring (`core.domain.jitter`, kept by `edges`). Here it is said
once that moment is over and he is, by his last fix and hers, within that radius; who turned back or stays away is told
nothing. At most once in `PAUSE`, whatever the number of orders.

Nothing here asks whether she pressed a button: a panic neither brings a warning nor keeps one back, so that no warning,
and none that fails to come, tells him of one. The words are the same whatever the reason, and bear no fact.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from core.actions.unit_of_work import Unit
from core.domain.delivery import PRIORITY_REST, Delivery
from core.domain.sight import apart_m
from core.ids import derived_id
from core.postgres import aggressor_warnings as store
from core.postgres import routing, sight

PAUSE: Final = timedelta(minutes=10)
"""He is told at most once in this time."""
HOLDS: Final = timedelta(minutes=30)
"""How long after its moment a warning may still be said."""
FIX_AGE: Final = timedelta(minutes=5)
"""How old both last fixes may be to say where he is."""
COMMAND_LIFE: Final = timedelta(minutes=10)
KEPT: Final = timedelta(days=1)
NEAR: Final = frozenset({"warning", "breach"})
COMMAND: Final = "show_message"
TEMPLATE: Final = "warning_aggressor"


async def release(unit: Unit, warning_ids: Sequence[uuid.UUID]) -> int:
    """Say what may be said now; how many were settled. One that is not yet due by his place waits."""
    settled = 0
    for warning in await store.lock(unit.connection, warning_ids, unit.now):
        outcome = await _outcome(unit, warning)
        if outcome is not None:
            await store.settle(unit.connection, warning["id"], outcome, unit.now)
            settled += 1
    if settled:
        await store.forget_commands(unit.connection, unit.now - KEPT)
    return settled


async def _outcome(unit: Unit, warning: dict[str, Any]) -> str | None:
    if warning["status"] != "in_force" or not warning["warn_aggressor"]:
        return "over"
    if unit.now > warning["release_at"] + HOLDS or warning["state"] not in NEAR:
        return "away"
    if not await _within(unit, warning):
        return None
    last = await store.last_sent(unit.connection, warning["aggressor_id"])
    if last is not None and unit.now - last < PAUSE:
        return "recent"
    return "sent" if await _say(unit, warning) else "unreachable"


async def _within(unit: Unit, warning: dict[str, Any]) -> bool:
    """Whether he is within the radius drawn, by fixes that are not old."""
    places = []
    for person in (warning["victim_id"], warning["aggressor_id"]):
        fix = await sight.last_fix(unit.connection, person, unit.now)
        if fix is None or unit.now - fix["at"] > FIX_AGE:
            return False
        places.append((fix["lat"], fix["lon"]))
    return apart_m(*places) <= float(warning["radius_m"])


async def _say(unit: Unit, warning: dict[str, Any]) -> bool:
    """Have it shown on his phone, or, without one, on his bracelet; False: he has neither."""
    phones = await routing.phones_of_aggressor(unit.connection, warning["aggressor_id"])
    for phone in phones:
        unit.queue(
            Delivery(
                agency_id=warning["agency_id"], incident_id=None, cause=warning["id"], audience="aggressor",
                recipient=f"device:{phone['id']}", channel="fcm", address=phone["push_token"], template=TEMPLATE,
                language=phone["language"], priority=PRIORITY_REST, person_id=warning["aggressor_id"],
            )
        )  # fmt: skip
    if phones:
        return True
    bracelets = await store.bracelets(unit.connection, warning["aggressor_id"])
    for bracelet in bracelets:
        values = {
            "agency_id": bracelet["agency_id"], "device_id": bracelet["id"], "kind": COMMAND,
            "body": {"message": "reminder", "language": bracelet["language"]},
            "created_at": unit.now, "expires_at": unit.now + COMMAND_LIFE,
        }  # fmt: skip
        await store.add_command(unit.connection, derived_id("command", warning["id"], bracelet["id"]), values)
    return bool(bracelets)
