"""What of its agency's feed a socket is sent: nothing of what is hidden from its user, no place beyond her sight.

PostgreSQL decides what is hidden (core.postgres.access.hidden_from); it is read when a socket comes, at each event that
says that it changed, and every `REFRESH_S`, since broken glass shuts by itself. While PostgreSQL is away the last
known holds; who was not known before it went is shown everything of her agency, since what comes then is danger.

How exactly an incident's event tells where somebody is follows from `core.domain.sight`, from the incident as it is
*now* (who resumes from an old cursor learns no old places), and from whom the user looks at for a reason.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from api.live.audience import AUDIENCE, hears
from api.live.frames import event_frame, sealed_frame
from core.domain.scope import Scope
from core.postgres import access
from core.postgres import sight as places
from core.postgres.access import Hidden
from core.postgres.feed import FeedRow

REFRESH_S: Final = 5.0
NOTHING: Final = Hidden()
SEALED: Final = AUDIENCE["incident.sealed"]
"""Who is told that something grave waits in a case sealed from her."""


class _About(msgspec.Struct):
    """The ids by which an event belongs to a case or a person."""

    case_id: str | None = None
    order_id: str | None = None
    victim_id: str | None = None
    aggressor_id: str | None = None
    person_id: str | None = None
    device_id: str | None = None

    def touches(self, hidden: frozenset[str]) -> bool:
        """Whether it is about something hidden."""
        return not hidden.isdisjoint(
            (self.case_id, self.order_id, self.victim_id, self.aggressor_id, self.person_id, self.device_id)
        )


class Sights:
    """What is hidden from whom, as last read."""

    def __init__(self) -> None:
        self._hidden: dict[uuid.UUID, dict[uuid.UUID, Hidden]] = {}
        self._read_at: dict[uuid.UUID, float] = {}
        self._looks: dict[uuid.UUID, dict[uuid.UUID, frozenset[str]]] = {}

    def forget(self, agency_id: uuid.UUID) -> None:
        """Nobody of the agency watches any more."""
        self._hidden.pop(agency_id, None)
        self._looks.pop(agency_id, None)
        self._read_at.pop(agency_id, None)

    async def look(
        self, connection: Any, agency_id: uuid.UUID, scopes: Iterable[Scope], now: datetime, *, changed: bool = False
    ) -> set[uuid.UUID]:
        """Read what is hidden from these users, unless it is known and fresh; returns for whom it is another now."""
        users = {scope.user_id for scope in scopes}
        fresh = time.monotonic() - self._read_at.get(agency_id, float("-inf")) < REFRESH_S
        if not users or (fresh and not changed and users <= self._hidden.get(agency_id, {}).keys()):
            return set()
        before = self._hidden.get(agency_id, {})
        self._hidden[agency_id] = after = await access.hidden_from(connection, agency_id, sorted(users))
        looks = self._looks.get(agency_id, {})
        self._looks[agency_id] = others = await places.looked_at(connection, agency_id, sorted(users), now)
        self._read_at[agency_id] = time.monotonic()
        return {
            user
            for user in users
            if user in before and (before[user] != after[user] or looks.get(user) != others.get(user))
        }

    def looked(self, scope: Scope | None) -> frozenset[str]:
        """At whom a user looks now, for a reason she gave."""
        if scope is None:
            return frozenset()
        return self._looks.get(scope.agency_id, {}).get(scope.user_id, frozenset())

    def hidden(self, scope: Scope | None) -> Hidden:
        """What is hidden from a user."""
        if scope is None:
            return NOTHING
        return self._hidden.get(scope.agency_id, {}).get(scope.user_id, NOTHING)

    def may_see(self, scope: Scope | None, record: dict[str, Any]) -> bool:
        """Whether a user may see an incident or a position."""
        hidden = self.hidden(scope)
        return not hidden or not msgspec.convert(record, _About).touches(hidden.related | hidden.sealed)

    def frame(self, scope: Scope | None, row: FeedRow, whole: str) -> str | None:
        """The frame of an event for a user; `whole`: the event with no more of places than she sees."""
        if scope is None or not hears(scope, row):
            return None
        hidden = self.hidden(scope)
        if not hidden:
            return whole
        if row.kind == "device.late":
            return _without(row, hidden)
        about = msgspec.json.decode(row.data, type=_About)
        if about.touches(hidden.related):
            return None
        if about.touches(hidden.sealed):
            return sealed_frame(row) if row.kind.startswith("incident.") and scope.role in SEALED else None
        return whole


def _without(row: FeedRow, hidden: Hidden) -> str | None:
    """An event of many devices without those that are hidden."""
    data = msgspec.json.decode(row.data)
    left = [one for one in data["devices"] if one["device_id"] not in hidden.related | hidden.sealed]
    gone = len(data["devices"]) - len(left)
    if not left:
        return None
    told = msgspec.json.encode({**data, "devices": left, "count": data["count"] - gone}).decode()
    return event_frame(FeedRow(row.id, row.kind, row.at, told))
