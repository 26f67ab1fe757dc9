"""The events of one page of a feed, each made once for all who see it alike."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from api.live.frames import event_frame
from core.domain import sight
from core.domain.scope import Scope
from core.domain.sight import Coarse, Sight
from core.postgres import sight as places
from core.postgres.feed import FeedRow


class Page:
    """Rows of a feed, and what is told of places in them to whom."""

    def __init__(self, rows: Sequence[FeedRow]) -> None:
        self.rows = rows
        self._incidents = {
            row.id: msgspec.json.decode(row.data, type=dict[str, Any])
            for row in rows
            if row.kind.startswith("incident.") and '"type"' in row.data
        }
        self._unlocked: frozenset[str] = frozenset()
        self._open: frozenset[str] = frozenset()
        self._coarse = Coarse()
        self._frames: dict[tuple[int, tuple[Sight, Sight] | None], str] = {}

    async def prepare(self, connection: Any, agency_id: uuid.UUID, now: datetime) -> None:
        """Learn what is open now, and in which cells people are shown."""
        if not self._incidents:
            return
        incidents = self._incidents.values()
        self._unlocked, self._open = await places.unlocked_now(connection, (one["id"] for one in incidents))
        self._coarse = await places.coarse_of(connection, {who for one in incidents for who in sight.places_in(one)})
        for incident in incidents:  # whoever reads it, each place gets its cell once
            sight.incident_seen(incident, Sight.COARSE, Sight.COARSE, self._coarse)
        await places.keep_cells(connection, agency_id, self._coarse, now)

    def frame(self, row: FeedRow, scope: Scope | None, looked: frozenset[str]) -> str:
        """An event as a user sees the places in it."""
        incident = self._incidents.get(row.id)
        how = None
        if incident is not None:
            role, name = ("", "") if scope is None else (scope.role, incident["id"])
            how = sight.sights(role, incident, looked, unlocked=name in self._unlocked, is_open=name in self._open)
        frame = self._frames.get((row.id, how))
        if frame is None:
            frame = self._frames[row.id, how] = event_frame(row if how is None else self._seen(row, how))
        return frame

    def _seen(self, row: FeedRow, how: tuple[Sight, Sight]) -> FeedRow:
        seen = sight.incident_seen(self._incidents[row.id], how[0], how[1], self._coarse)
        return FeedRow(row.id, row.kind, row.at, msgspec.json.encode(seen).decode())
