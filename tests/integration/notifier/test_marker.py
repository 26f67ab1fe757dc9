"""How attempts ended is written for all lanes together, and one's mistake costs no other."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

from core.actions import deliveries
from core.errors import StoreUnavailable
from core.postgres.database import Database
from core.postgres.deliveries import Mark
from notifier.marker import Marker, Outcome

HOLDER = "test"


async def sent(outbox: Any, database: Database, clock: Any, channel: str) -> Outcome:
    """A delivery of a channel that went out and waits to be marked."""
    delivery_id = await outbox.put(channel=channel)
    [claimed] = await deliveries.claim(
        database, channel=channel, now=clock(), lease_s=30, holder=HOLDER, limit=1
    )  # fmt: skip
    assert claimed.id == delivery_id
    return Outcome(Mark(delivery_id, claimed.attempt, "sent", "sent", clock(), clock()))


async def test_marks_of_several_lanes_are_one_transaction(outbox: Any, database: Database, clock: Any) -> None:
    outcomes = [await sent(outbox, database, clock, channel) for channel in ("sms", "email", "webhook")]
    marker = Marker(database, clock, HOLDER)
    ended = await asyncio.gather(*(marker.mark([outcome]) for outcome in outcomes))
    assert [[one.id for one in mine] for mine in ended] == [[one.mark.delivery_id] for one in outcomes]
    rows = await outbox.rows("SELECT state, xmin::text AS transaction FROM delivery")
    assert {row["state"] for row in rows} == {"sent"}
    assert len({row["transaction"] for row in rows}) == 1


async def test_a_mark_that_cannot_be_written_keeps_no_other_lane_from_its_own(
    outbox: Any, database: Database, clock: Any
) -> None:
    good, bad = [await sent(outbox, database, clock, channel) for channel in ("sms", "email")]
    bad = dataclasses.replace(bad, mark=dataclasses.replace(bad.mark, attempt=2**40))
    marker = Marker(database, clock, HOLDER)
    ended, error = await asyncio.gather(marker.mark([good]), marker.mark([bad]), return_exceptions=True)
    assert isinstance(ended, list)
    assert [one.id for one in ended] == [good.mark.delivery_id]
    assert isinstance(error, Exception)
    assert not isinstance(error, StoreUnavailable)
    assert (await outbox.get(good.mark.delivery_id))["state"] == "sent"


async def test_with_postgresql_away_every_lane_hears_so_and_may_mark_again(
    outbox: Any, database: Database, clock: Any
) -> None:
    outcomes = [await sent(outbox, database, clock, channel) for channel in ("sms", "email")]
    away = Marker(Database("postgresql:///nowhere?host=/nonexistent", size=1), clock, HOLDER)
    lost = await asyncio.gather(*(away.mark([outcome]) for outcome in outcomes), return_exceptions=True)
    assert [type(error) for error in lost] == [StoreUnavailable, StoreUnavailable]
    marker = Marker(database, clock, HOLDER)
    await asyncio.gather(*(marker.mark([outcome]) for outcome in outcomes))
    assert {row["state"] for row in await outbox.rows("SELECT state FROM delivery")} == {"sent"}
