"""Where she is while her panic is open: her devices' fixes become the incident's place, and dispatchers see it move.

The place follows at most every five seconds an incident; the timeline is left alone (her fixes are history, and kept as
evidence). One process at a time does it. With Redis away the place stays as it is, and says how old it is.
"""

from __future__ import annotations

import math
import uuid
from typing import Final

import structlog

from core.actions.unit_of_work import act
from core.clock import Clock
from core.domain.panic_place import Seen, next_place
from core.errors import StoreUnavailable
from core.postgres import incidents as store
from core.postgres import maintenance
from core.postgres import panic_places as places
from core.postgres.database import Database
from core.redis.client import Client
from core.redis.live import LiveFix, read_live
from core.service import Loop

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 2.0
DEVICES_MAX: Final = 2_000
"""Devices that one look takes."""
UPKEEP: Final = 7_101
"""Which upkeep this is among all: only one process does it at a time."""


class PanicPlaces(Loop):
    """Keeps open panics' places current; in every API process, at one time in one of them."""

    def __init__(self, database: Database, client: Client, clock: Clock, interval_s: float = INTERVAL_S) -> None:
        super().__init__("panic_places", self.step, interval_s)
        self._database = database
        self._client = client
        self._clock = clock
        self._turn = places.FIRST

    async def step(self) -> None:
        """One look at everybody in an open panic; where they are too many for one, at the next of them in turn."""
        try:
            async with self._database.connection() as connection:
                carried = await places.carried(connection, self._turn, DEVICES_MAX)
            last = carried[-1] if len(carried) == DEVICES_MAX else None
            self._turn = places.Turn(last.incident_id, last.device_number) if last is not None else places.FIRST
            if carried and (moved := await self._moved(carried)):
                await self._keep(moved)
        except StoreUnavailable:
            return
        except Exception as error:  # this runs beside the panic button: no fix may end it
            log.error("panic_places_failed", error=type(error).__name__)

    async def _moved(self, carried: list[places.Carried]) -> dict[uuid.UUID, list[Seen]]:
        """Incident → her fixes, where one of them is worth telling."""
        by_shard: dict[int, list[int]] = {}
        for one in carried:
            by_shard.setdefault(one.shard, []).append(one.device_number)
        fixes: dict[int, LiveFix] = {}
        for shard, numbers in by_shard.items():
            fixes |= await read_live(self._client, shard, numbers)
        seen: dict[uuid.UUID, list[Seen]] = {}
        told = {one.incident_id: one.place for one in carried}
        for one in carried:
            fix = fixes.get(one.device_number)
            if fix is not None and fix.has_position:
                accuracy_m = None if math.isnan(fix.accuracy_m) else round(fix.accuracy_m, 1)
                seen.setdefault(one.incident_id, []).append(
                    Seen(fix.lat, fix.lon, accuracy_m, fix.at_ms, fix.received_ms)
                )
        return {name: found for name, found in seen.items() if next_place(told[name], found) is not None}

    async def _keep(self, moved: dict[uuid.UUID, list[Seen]]) -> None:
        async with act(self._database, self._clock()) as unit:
            if not await maintenance.try_upkeep(unit.connection, UPKEEP):
                return
            changed = []
            for row in await store.lock_many(unit.connection, list(moved)):
                fix = next_place(row["place"], moved[row["id"]])
                if fix is None:
                    continue
                row["place"] = fix.as_place()
                age_s = max(0.0, (fix.received_ms - fix.moment_ms) / 1000.0)
                row["fix_age_s"] = {**(row["fix_age_s"] or {"aggressor": None}), "victim": age_s}
                row["detail"] = {name: value for name, value in row["detail"].items() if name != "place_doubts"}
                row["updated_at"] = unit.now
                changed.append(row)
            if changed:
                await store.update_many(unit.connection, changed)
            for row in changed:
                unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))
