"""A delivery once it is queued: it is claimed, and its end goes on the incident's timeline and the feed."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.unit_of_work import act
from core.clock import rfc3339
from core.ids import derived_id
from core.postgres import deliveries, subscriptions
from core.postgres.database import Database
from core.postgres.deliveries import NOBODY, Claimed, Ended, Mark, Passed

FEED_KIND: Final = "delivery.updated"
"""Not `incident.…`: the data of those is always a whole incident."""
TIMELINE_KIND: Final = "delivery"


async def claim(
    database: Database,
    *,
    channel: str,
    now: datetime,
    lease_s: float,
    holder: str,
    limit: int,
    limit_rest: int | None = None,
    passed: Passed = NOBODY,
    passed_urgent: Passed = NOBODY,
    dead_before: datetime | None = None,
) -> list[Claimed]:
    """Lease what is due on a channel, in a statement of its own: nothing is sent under a lock."""
    async with database.connection() as connection:
        return await deliveries.claim_due(
            connection,
            channel=channel,
            now=now,
            leased_until=now + timedelta(seconds=lease_s),
            holder=holder,
            limit=limit,
            limit_rest=limit_rest,
            passed=passed,
            passed_urgent=passed_urgent,
            dead_before=dead_before,
        )


async def give_back_unheard(
    database: Database, *, channel: str, holder: str, known: Sequence[uuid.UUID], now: datetime
) -> None:
    """What `holder` claimed on a channel without hearing of it is due again at once; `known`: what it does know of."""
    async with database.connection() as connection:
        await deliveries.give_back_unheard(connection, channel, holder, known, now)


async def finish(
    database: Database,
    marks: Sequence[Mark],
    *,
    holder: str,
    now: datetime,
    gone_tokens: Sequence[tuple[uuid.UUID, str]] = (),
    gone_subscriptions: Sequence[str] = (),
) -> list[Ended]:
    """Record how attempts ended, in one transaction; what is sent or dead thereby goes on its incident's timeline
    and on the feed, once. `gone_tokens` are push tokens, `gone_subscriptions` Web Push addresses, that their provider
    disowned."""
    if not any(one.state in ("sent", "dead") for one in marks):
        async with database.transaction() as connection:
            return await deliveries.mark(connection, marks, holder=holder, now=now)
    async with act(database, now) as unit:
        ended = await deliveries.mark(unit.later, marks, holder=holder, now=now)
        told = [(one, one.incident_id) for one in ended if one.incident_id is not None]
        await deliveries.add_timeline(
            unit.later,
            [
                (derived_id("timeline", one.id, one.state), incident_id, now, TIMELINE_KIND, _line(one))
                for one, incident_id in told
            ],
        )
        if gone_tokens:
            await deliveries.forget_push_tokens(unit.connection, gone_tokens, now)
        if gone_subscriptions:
            await subscriptions.retire(unit.connection, gone_subscriptions)
        for one, incident_id in told:
            unit.emit(
                one.agency_id,
                FEED_KIND,
                {
                    "incident_id": str(incident_id),
                    "delivery_id": str(one.id),
                    "channel": one.channel,
                    "audience": one.audience,
                    "state": one.state,
                    "at": rfc3339(now),
                },
            )
    return ended


async def hasten(database: Database, channel: str, digests: Sequence[bytes] | None, now: datetime) -> None:
    """What waits for a provider that answers again is due now; see core.postgres.deliveries."""
    async with database.transaction() as connection:
        await deliveries.hasten(connection, channel, digests, now)


def _line(one: Ended) -> dict[str, Any]:
    line = {
        "delivery_id": str(one.id),
        "channel": one.channel,
        "audience": one.audience,
        "template": one.template,
        "state": one.state,
        "attempts": one.attempts,
    }
    return line | {"reason": one.detail} if one.state == "dead" else line
