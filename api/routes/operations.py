"""`/healthz`, `/readyz`, `/metrics`: for those who keep it running. Nothing here bears a person or a place."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from api.auth import client_address
from api.deps import ApiContext, Context
from api.ledger_gate import State
from api.schemas.base import View
from api.who_may import ANYONE
from core.clock import from_ms
from core.errors import NotFound, StoreUnavailable
from core.postgres import readiness
from core.redis import keys
from core.redis.client import AWAY, RedisError

router = APIRouter(tags=["operations"])

CHECK_TIMEOUT_S: Final = 2.0
"""Longest readiness waits for a store."""
MAX_LAG_S: Final = 10.0
"""Beyond this, what is decided is too old to be called ready."""

FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-real-ip")
"""Headers by which a proxy tells for whom it asks."""


class HealthView(View):
    """The process answers."""

    status: str


class ReadyView(View):
    """Ready or not, and each part's own answer."""

    ready: bool
    parts: dict[str, Any]


@router.get("/healthz", response_model=HealthView, openapi_extra=ANYONE)
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz", response_model=ReadyView, responses={503: {"model": ReadyView}}, openapi_extra=ANYONE)
async def readyz(context: Context, response: Response) -> dict[str, Any]:
    """Both stores answer, every shard has an owner, what they have decided is fresh, and nobody erased is there."""
    postgres, redis = await asyncio.gather(_bounded(_look_at_postgres(context)), _bounded(_look_at_redis(context)))
    parts = {"postgres": postgres, "redis": redis}
    if context.ledger_gate is not None:
        state = context.ledger_gate.state
        parts["ledger"] = {"ok": state is State.OPEN, "state": state.value}
    ready = all(part["ok"] for part in parts.values())
    response.status_code = 200 if ready else 503
    return {"ready": ready, "parts": parts}


async def _bounded(look: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        return await asyncio.wait_for(look, CHECK_TIMEOUT_S)
    except (TimeoutError, StoreUnavailable, RedisError, *AWAY):
        return {"ok": False, "reason": "does not answer"}


async def _look_at_postgres(context: ApiContext) -> dict[str, Any]:
    async with context.device_database.connection(timeout_s=CHECK_TIMEOUT_S) as connection:
        leases = await readiness.leases(connection, context.clock())
        cursors = await readiness.cursors(connection)
    unowned = [lease["name"] for lease in leases if not lease["held"]]
    return {"ok": not unowned, "shards_owned": len(leases) - len(unowned), "shards_unowned": unowned, "taken": cursors}


async def _look_at_redis(context: ApiContext) -> dict[str, Any]:
    """The owner of a shard writes a tick into its log each second, so an old engine cursor means it lags or is gone."""
    now = context.clock()
    lag_s: dict[str, float | None] = {}
    for shard in range(context.settings.shard_count):
        cursor = await context.redis.get(keys.cursor(shard))
        if cursor is None:
            lag_s[str(shard)] = None
            continue
        moment = from_ms(int(bytes(cursor).split(b"-")[0]))
        lag_s[str(shard)] = round(max(0.0, (now - moment) / timedelta(seconds=1)), 3)
    late = [shard for shard, seconds in lag_s.items() if seconds is not None and seconds > MAX_LAG_S]
    return {"ok": not late, "lag_s": lag_s, "shards_late": late}


def from_within(request: Request) -> bool:
    """Whether a request comes from this machine or its private network, and through no proxy for strangers.

    A counter that goes up tells whoever watches it that somebody pressed the button just now; where few are
    protected, that is who. His own bracelet knows this address.
    """
    if any(name in request.headers for name in FORWARDED):
        return False
    try:
        return not ip_address(client_address(request)).is_global
    except ValueError:  # a unix socket has no address
        return True


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    openapi_extra=ANYONE,
)
async def metrics(request: Request) -> Response:
    """Prometheus metrics; of all processes together when PROMETHEUS_MULTIPROC_DIR is set."""
    if not from_within(request):
        raise NotFound("There is nothing at this address.")
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE_LATEST})
