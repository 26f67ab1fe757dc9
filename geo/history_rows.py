"""From log entries to the rows of history: who sent it decides the partition, age decides whether it is kept."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from core.clock import Clock, from_ms, to_ms
from core.domain.log import Entry
from core.domain.ping import FLAG_EXTRA, FLAG_PRIMARY, RECORD_BYTES, Role, unpack_records
from core.postgres import pings
from core.postgres.database import Database
from core.settings import Settings
from geo.last_seen import LastSeen, RoleMap

ROLES_S: Final = 5.0
"""How often changed roles are looked for."""
UNKNOWN_ROLES_S: Final = 1.0
"""How soon after the last look a device number that is not known may cause another."""
PRIMARY_HEARD: Final = FLAG_PRIMARY | FLAG_EXTRA


class RowMaker:
    """Makes rows; knows every device's role, and collects what devices said last of themselves."""

    def __init__(self, settings: Settings, database: Database, clock: Clock) -> None:
        self._settings = settings
        self._database = database
        self._clock = clock
        self._roles = RoleMap()
        self._mark: int | None = None
        self._looked_at = 0.0
        self.last_seen = LastSeen()

    def oldest_day(self, role: int) -> date:
        """The first UTC day whose pings of a role are still kept."""
        days = self._settings.aggressor_ping_days if role == Role.AGGRESSOR else self._settings.victim_ping_days
        return self._clock().astimezone(UTC).date() - timedelta(days=days)

    async def rows(self, entries: Sequence[Entry]) -> pings.Rows:
        """The rows of sound PINGS entries: primary copies only, none beyond its role's retention."""
        records = unpack_records(b"".join(entry.payload for entry in entries))
        sizes = np.array([len(entry.payload) // RECORD_BYTES for entry in entries], dtype=np.int64)
        received_ms = np.repeat(np.array([entry.ms for entry in entries], dtype=np.int64), sizes)
        number = np.repeat(np.array([entry.n for entry in entries], dtype=np.int64), sizes)
        places = pings.places_in_log(number, np.arange(len(records)) - np.repeat(np.cumsum(sizes) - sizes, sizes))
        primary = (records["flags"] & FLAG_PRIMARY) != 0
        records, received_ms, places = records[primary], received_ms[primary], places[primary]
        roles = await self._roles_of(records["device"])
        known = roles != RoleMap.UNKNOWN_ROLE
        self.last_seen.add(records[known], received_ms[known])
        rows = pings.Rows(records, received_ms, np.where(known, roles, np.uint8(Role.OTHER)), places)
        oldest_ms = np.array([_start_ms(self.oldest_day(role)) for role in sorted(Role)], dtype=np.int64)
        return rows.take(rows.live_ms >= oldest_ms[rows.roles])

    async def _roles_of(self, numbers: NDArray[np.uint32]) -> NDArray[np.uint8]:
        """Roles by device number, UNKNOWN_ROLE where PostgreSQL knows none."""
        await self._learn(ROLES_S)
        roles = self._roles.of(numbers)
        if (roles == RoleMap.UNKNOWN_ROLE).any() and await self._learn(UNKNOWN_ROLES_S):
            roles = self._roles.of(numbers)
        return roles

    async def _learn(self, after_s: float) -> bool:
        """Load every role the first time, changed ones when the last look is `after_s` old; True when it looked."""
        moment = time.monotonic()
        if self._mark is not None and moment < self._looked_at + after_s:
            return False
        async with self._database.connection() as connection:
            if self._mark is None:
                mark, last = await pings.transaction_mark(connection), 0
                while page := await pings.roles_after(connection, last):
                    self._roles.learn(page)
                    last = page[-1][0]
                self._mark = mark
            else:
                self._mark, changed = await pings.roles_changed(connection, self._mark)
                self._roles.learn(changed)
        self._looked_at = moment
        return True


def heard_in(entry: Entry) -> list[tuple[int, datetime, list[dict[str, Any]]]]:
    """(device number, live time, beacons) of an entry's primary records that heard something."""
    records = unpack_records(entry.payload)
    try:
        extras = msgspec.json.decode(entry.extras or b"{}", type=dict[str, dict[str, Any]])
    except msgspec.DecodeError:
        return []
    heard = []
    for key, rare in extras.items():
        index = int(key) if key.isdecimal() else len(records)
        if index < len(records) and int(records["flags"][index]) & PRIMARY_HEARD == PRIMARY_HEARD and rare.get("heard"):
            live_ms = min(max(0, int(records["at_ms"][index])), entry.ms)
            heard.append((int(records["device"][index]), from_ms(live_ms), rare["heard"]))
    return heard


def _start_ms(day: date) -> int:
    return to_ms(datetime.combine(day, datetime.min.time(), UTC))
