"""Live positions of the parties of an agency's open incidents, for its dispatchers' maps.

They are exact, or they are not shown at all: where somebody is only coarsely told, her incident says in which cell,
and nothing follows her over a cell's edge.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any, Final

from core.clock import from_ms, rfc3339
from core.domain.scope import Scope
from core.domain.sight import Sight, of_her
from core.errors import StoreUnavailable
from core.postgres import board
from core.postgres.board import Party
from core.postgres.database import Database
from core.redis.client import Client
from core.redis.live import LiveFix, read_live

PARTIES_S: Final = 15.0
"""How long the list of parties is used when no incident changes (a device may have been exchanged)."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Where a device is, and whether an open incident unlocks it."""

    position: dict[str, Any]
    unlocked: bool


class PositionSource:
    """Reads the parties' last fixes; remembers what was shown, so that only changes travel."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._parties: dict[uuid.UUID, tuple[float, list[Party]]] = {}
        self._stale: set[uuid.UUID] = set()
        self._shown: dict[uuid.UUID, dict[int, tuple[int, bool]]] = {}

    def changed(self, agency_id: uuid.UUID) -> None:
        """An incident of the agency changed: its parties may be others now."""
        self._stale.add(agency_id)

    def forget(self, agency_id: uuid.UUID) -> None:
        """Nobody of the agency watches any more."""
        self._parties.pop(agency_id, None)
        self._shown.pop(agency_id, None)
        self._stale.discard(agency_id)

    async def read(self, agency_id: uuid.UUID, scope: Scope | None = None) -> tuple[list[Shown], list[Shown]]:
        """All positions of the agency's parties, and those of them that are new since the last read.

        With a scope, of those parties that the user may see. Who may be shown which: `watched_by`.
        """
        parties = await self._parties_of(agency_id, scope)
        by_shard: dict[int, list[Party]] = {}
        for party in parties:
            by_shard.setdefault(party.shard, []).append(party)
        everything: list[Shown] = []
        changed: list[Shown] = []
        before = self._shown.get(agency_id, {})
        after: dict[int, tuple[int, bool]] = {}
        for shard, members in by_shard.items():
            fixes = await read_live(self._client, shard, [party.device_number for party in members])
            for party in members:
                fix = fixes.get(party.device_number)
                if fix is None or not fix.has_position:
                    continue
                entry = Shown(position_json(party, fix), party.unlocked)
                everything.append(entry)
                after[party.device_number] = fix.received_ms, party.unlocked
                if before.get(party.device_number) != after[party.device_number]:
                    changed.append(entry)
        self._shown[agency_id] = after
        return everything, changed

    async def _parties_of(self, agency_id: uuid.UUID, scope: Scope | None) -> list[Party]:
        """The agency's parties; the last known ones while PostgreSQL is away."""
        read_at, parties = self._parties.get(agency_id, (-math.inf, []))
        if agency_id not in self._stale and time.monotonic() - read_at < PARTIES_S:
            return parties
        try:
            async with self._database.connection(scope, timeout_s=1.0) as connection:
                parties = await board.parties(connection, agency_id)
        except StoreUnavailable:
            return parties
        self._stale.discard(agency_id)
        self._parties[agency_id] = (time.monotonic(), parties)
        return parties


def watched_by(role: str, looked: Container[str], found: Iterable[Shown]) -> list[dict[str, Any]]:
    """Of live positions those that a user may be shown, who looks at `looked` for a reason she gave."""
    return [
        one.position
        for one in found
        if of_her(role, unlocked=one.unlocked, looked=one.position["person_id"] in looked) is Sight.EXACT
    ]


def position_json(party: Party, fix: LiveFix) -> dict[str, Any]:
    """Where a device of a party is, as dispatchers see it."""
    return {
        "person_id": party.person_id,
        "device_id": party.device_id,
        "incident_ids": list(party.incident_ids),
        "role": party.role,
        "lat": fix.lat,
        "lon": fix.lon,
        "accuracy_m": _known(fix.accuracy_m),
        "speed_mps": _known(fix.speed_mps),
        "heading_deg": _known(fix.heading_deg),
        "battery_pct": _known(fix.battery_pct),
        "at": rfc3339(from_ms(fix.at_ms)),
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 2)
