"""`GET /v1/board`: the snapshot that the feed goes on from."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from api import seen
from api.auth import Actor, require
from api.deps import Context
from api.live.audience import SENDERS
from api.live.positions import PositionSource, Shown, watched_by
from api.live.socket import FEED_ROLES
from core.actions import records
from core.actions.unit_of_work import act
from core.clock import rfc3339
from core.errors import StoreUnavailable
from core.postgres import board
from core.redis.client import AWAY, RedisError

router = APIRouter(prefix="/v1", tags=["dispatch"])


@router.get("/board")
async def read_board(
    context: Context, actor: Annotated[Actor, Depends(require(*sorted(FEED_ROLES)))]
) -> dict[str, Any]:
    """Open incidents, units, health and live positions; `cursor` is where `WS /v1/feed?after=` goes on."""
    snapshot = await board.load(context.database, actor.scope)
    health = dict(context.tail.health) if context.tail is not None else {}
    found: list[Shown] = []
    try:
        found, _ = await PositionSource(context.database, context.redis).read(actor.agency_id, actor.scope)
    except (RedisError, StoreUnavailable, *AWAY):
        health["redis"] = "away"
    # Nobody sees it before it is written that she does.
    async with act(context.database, context.clock(), actor.scope) as unit:
        positions = watched_by(actor.role, await seen.looks_of(unit, actor), found)
        people = records.whose(*snapshot.incidents, *positions)
        await records.note(unit, actor, "board.read", "board", people=people, positions=len(positions))
        incidents = await seen.incidents_seen(unit, actor, snapshot.incidents)
    return {
        "cursor": str(snapshot.cursor),
        "at": rfc3339(context.clock()),
        "incidents": incidents,
        "units": snapshot.units,
        "sealed": snapshot.sealed,
        "deliveries": {one["id"]: snapshot.deliveries.get(one["id"], {}) for one in incidents},
        "health": health,
        "shared": snapshot.shared if actor.role in SENDERS else [],
        "positions": positions,
    }
