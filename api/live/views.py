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
from core.postgres.sight import Shown


class Page:
    """Rows of a feed, and what is told of places in them to whom."""

    def __init__(self, rows: Sequence[FeedRow]) -> None:
        self.rows = rows
        self._incidents = {
            row.id: msgspec.json.decode(row.data, type=dict[str, Any])
            for row in rows
            if row.kind.startswith("incident.") and '"type"' in row.data
        }
        self._now = Shown(frozenset(), frozenset(), Coarse())
        self._frames: dict[tuple[int, tuple[Sight, Sight] | None], str] = {}

    async def prepare(self, connection: Any) -> None:
        """Learn what is open now, and in which cells people were shown."""
        incidents = self._incidents.values()
        if incidents:
            self._now = await places.shown_now(
                connection,
                (one["id"] for one in incidents),
                {who for one in incidents for who in sight.places_in(one)},
            )

    async def keep_cells(self, connection: Any, agency_id: uuid.UUID, now: datetime) -> None:
        """Keep the cells of all its places: whoever reads one, it gets its cell once, before anybody is shown it."""
        for incident in self._incidents.values():
            sight.incident_seen(incident, Sight.COARSE, Sight.COARSE, self._now.coarse)
        await places.keep_cells(connection, agency_id, self._now.coarse, now)

    def shows_cells(self, scope: Scope | None, looked: frozenset[str]) -> bool:
        """Whether a user sees any place of it as a cell: then it waits until the cells are kept."""
        hows = (self._how(row, scope, looked) for row in self.rows if row.id in self._incidents)
        return any(how is not None and Sight.COARSE in how for how in hows)

    def frame(self, row: FeedRow, scope: Scope | None, looked: frozenset[str]) -> str:
        """An event as a user sees the places in it."""
        how = self._how(row, scope, looked)
        frame = self._frames.get((row.id, how))
        if frame is None:
            frame = self._frames[row.id, how] = event_frame(row if how is None else self._seen(row, how))
        return frame

    def _how(self, row: FeedRow, scope: Scope | None, looked: frozenset[str]) -> tuple[Sight, Sight] | None:
        """How exactly a user sees her and him in an event; None: it tells of no incident."""
        incident = self._incidents.get(row.id)
        if incident is None:
            return None
        role, name = ("", "") if scope is None else (scope.role, incident["id"])
        now = self._now
        return sight.sights(role, incident, looked, unlocked=name in now.unlocked, is_open=name in now.open)

    def _seen(self, row: FeedRow, how: tuple[Sight, Sight]) -> FeedRow:
        seen = sight.incident_seen(self._incidents[row.id], how[0], how[1], self._now.coarse)
        return FeedRow(row.id, row.kind, row.at, msgspec.json.encode(seen).decode())
