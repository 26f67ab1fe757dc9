"""Ping history: binary COPY into partitions by role and day, made ahead; `core.postgres.retention` drops them.

The rows of a batch are built as one numpy array of PostgreSQL's binary copy format, so a ping costs no Python
object. A ping that is already there (same role, device, live time and sequence) is dropped.

Columns: `live_at` is min(at, received_at). A ping without a sequence number has a negative `seq`: -1, or, when
the device's clock ran ahead, -1 less the lead in milliseconds, so that two such pings of one moment stay two.
`flags` are the record's 32 bits; above them stands where in the log it was (`place_in_log`), which with `received_at`,
the time of its entry, names the very record that a decision was made by.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import asyncpg
import numpy as np
from numpy.typing import NDArray

from core.clock import to_ms
from core.domain.ping import CLOSED, NO_SEQ, OPEN, ROLE_NAMES, Role
from core.errors import InvalidInput
from core.postgres.database import Connection

DAY_MS: Final = 86_400_000
TABLES: Final[dict[int, str]] = {Role.OTHER: "ping_other", Role.VICTIM: "ping_victim", Role.AGGRESSOR: "ping_aggressor"}
ROLE_PAGE_ROWS: Final = 20_000
"""Devices read at once when roles are loaded."""
SWEEP_ROWS: Final = 10_000
"""Most rows one sweep of `ping_heard` removes."""
PARTITION_LOCK: Final = 7_067_002
"""Advisory lock under which partitions are made and dropped, by one process at a time."""

FLAGS_MASK: Final = 0xFFFF_FFFF
"""The record's own flags."""
_INDEX_SHIFT: Final = 32
_INDEX_MAX: Final = (1 << 20) - 1
_NUMBER_SHIFT: Final = 52
_NUMBER_MAX: Final = (1 << 11) - 1

_POSTGRES_EPOCH_MS: Final = to_ms(datetime(2000, 1, 1, tzinfo=UTC))
_TIME_MAX_MS: Final = to_ms(datetime(9999, 1, 1, tzinfo=UTC))
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_COLUMNS: Final = (
    ("role", ">i2"),
    ("live_at", ">i8"),
    ("device_number", ">i8"),
    ("seq", ">i8"),
    ("at", ">i8"),
    ("received_at", ">i8"),
    ("flags", ">i8"),
    ("lat", ">f8"),
    ("lon", ">f8"),
    ("accuracy_m", ">f4"),
    ("speed_mps", ">f4"),
    ("heading_deg", ">f4"),
    ("altitude_m", ">f4"),
    ("battery_pct", ">f4"),
)
_NAMES: Final = [name for name, _ in _COLUMNS]
_TUPLE: Final = np.dtype(
    [("fields", ">i2")] + [part for name, kind in _COLUMNS for part in ((f"{name}_bytes", ">i4"), (name, kind))]
)


def _blank_tuple() -> NDArray[np.void]:
    blank = np.zeros(1, dtype=_TUPLE)
    blank["fields"] = len(_COLUMNS)
    for name, kind in _COLUMNS:
        blank[f"{name}_bytes"] = np.dtype(kind).itemsize
    return blank


_BLANK: Final = _blank_tuple()


def places_in_log(number: NDArray[np.int64], index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where records stood, (n,): number of the entry within its millisecond, and index in it; 0 where it is too far."""
    known = (number <= _NUMBER_MAX) & (index < _INDEX_MAX)
    places: NDArray[np.int64] = np.where(known, number << _NUMBER_SHIFT | (index + 1) << _INDEX_SHIFT, 0)
    return places


def place_in_log(flags: int) -> tuple[int, int] | None:
    """(number of the entry within its millisecond, index in it) of a stored ping; None: it was not kept."""
    index = flags >> _INDEX_SHIFT & _INDEX_MAX
    return (flags >> _NUMBER_SHIFT, index - 1) if index else None


@dataclass(frozen=True)
class Rows:
    """Pings on their way to history: RECORD array, times of receipt (int64 ms), roles (uint8) and places in the log
    (`places_in_log`), all shape (n,)."""

    records: NDArray[np.void]
    received_ms: NDArray[np.int64]
    roles: NDArray[np.uint8]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def at_ms(self) -> NDArray[np.int64]:
        """When the device says it was there, held to what a timestamp can bear."""
        at_ms: NDArray[np.int64] = np.clip(self.records["at_ms"], 0, _TIME_MAX_MS)
        return at_ms

    @property
    def live_ms(self) -> NDArray[np.int64]:
        """The live time: min(at, received_at)."""
        return np.minimum(self.at_ms, self.received_ms)

    def take(self, wanted: NDArray[Any]) -> Rows:
        """The rows a mask or index picks."""
        return Rows(self.records[wanted], self.received_ms[wanted], self.roles[wanted], self.places[wanted])

    def days(self) -> set[tuple[int, date]]:
        """The (role, UTC day) partitions these rows belong to."""
        pairs = np.unique(self.roles.astype(np.int64) << 32 | self.live_ms // DAY_MS)
        return {(int(pair) >> 32, date(1970, 1, 1) + timedelta(days=int(pair) & 0xFFFFFFFF)) for pair in pairs}

    def encode(self) -> bytes:
        """The rows in PostgreSQL's binary copy format, without header and end."""
        out = np.repeat(_BLANK, len(self))
        records, live_ms, at_ms = self.records, self.live_ms, self.at_ms
        out["role"] = self.roles
        out["device_number"] = records["device"]
        out["seq"] = np.where(records["seq"] == NO_SEQ, NO_SEQ - (at_ms - live_ms), records["seq"])
        for name, moment_ms in (("live_at", live_ms), ("at", at_ms), ("received_at", self.received_ms)):
            out[name] = (moment_ms - _POSTGRES_EPOCH_MS) * 1000
        for name in _NAMES[_NAMES.index("flags") :]:
            out[name] = records[name]
        out["flags"] |= self.places
        return out.tobytes()


async def _stream(body: bytes) -> AsyncIterator[bytes]:
    yield _SIGNATURE
    yield body
    yield _END


async def _copy_into(connection: Connection, table: str, body: bytes) -> None:
    try:
        await connection.copy_to_table(table, source=_stream(body), columns=_NAMES, format="binary")
    except (asyncpg.DataError, asyncpg.CheckViolationError, asyncpg.NotNullViolationError) as error:
        raise InvalidInput(f"PostgreSQL refuses the pings: {type(error).__name__}.") from error


async def copy(connection: Connection, rows: Rows) -> int:
    """Add pings to history inside the caller's transaction; returns how many were new.

    The partitions must be there (`make_partitions`). Duplicates are rare, so they are looked for only once the
    plain copy has met one. Raises InvalidInput when a value or a missing partition makes it impossible.
    """
    added = 0
    for role, table in TABLES.items():
        mine = rows.take(rows.roles == role)
        if not len(mine):
            continue
        body = mine.encode()
        try:
            async with connection.transaction():
                await _copy_into(connection, table, body)
            added += len(mine)
        except asyncpg.UniqueViolationError:
            added += await _copy_new(connection, table, body)
    return added


async def _copy_new(connection: Connection, table: str, body: bytes) -> int:
    """As a plain copy, but dropping what is there already."""
    await connection.execute("CREATE TEMP TABLE IF NOT EXISTS ping_incoming (LIKE ping) ON COMMIT DELETE ROWS")
    await connection.execute("TRUNCATE ping_incoming")
    await _copy_into(connection, "ping_incoming", body)
    status = await connection.execute(f"INSERT INTO {table} SELECT * FROM ping_incoming ON CONFLICT DO NOTHING")  # noqa: S608
    return int(status.rpartition(" ")[2])


async def add_heard(connection: Connection, heard: Sequence[tuple[int, datetime, list[dict[str, Any]]]]) -> None:
    """Add (device number, live time, beacons heard); what is there already is not added again."""
    await connection.executemany(
        """
        INSERT INTO ping_heard (device_number, live_at, heard)
        SELECT $1, $2, $3 WHERE NOT EXISTS (
            SELECT 1 FROM ping_heard WHERE device_number = $1 AND live_at = $2 AND heard = $3::jsonb)
        """,
        heard,
    )


def partition_name(role: int, day: date) -> str:
    """Name of the table that holds a role's pings of a UTC day, as in `ping_victim_20260101`."""
    return f"{TABLES[role]}_{day:%Y%m%d}"


async def partitions(connection: Connection) -> set[str]:
    """Names of every day's partition there is."""
    rows = await connection.fetch(
        "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid"
        " JOIN pg_class AS parent ON parent.oid = inhparent WHERE parent.relname = ANY($1::text[])",
        list(TABLES.values()),
    )
    return {row["relname"] for row in rows}


async def make_partitions(connection: Connection, wanted: Collection[tuple[int, date]]) -> None:
    """Make the partitions of these (role, UTC day) that are not there; in a transaction of its own."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", PARTITION_LOCK)
    for role, day in sorted(wanted):
        await connection.execute("SELECT make_ping_day($1, $2)", TABLES[role], day)


async def forget_heard(connection: Connection, aggressor_before: datetime, others_before: datetime) -> None:
    """Remove a bounded number of beacons heard that are older than their device's pings are kept."""
    await connection.execute(
        """
        DELETE FROM ping_heard WHERE ctid IN (
            SELECT heard.ctid FROM ping_heard AS heard LEFT JOIN device ON device.number = heard.device_number
            WHERE heard.live_at < CASE WHEN device.role = 'aggressor' THEN $1::timestamptz ELSE $2 END LIMIT $3)
        """,
        aggressor_before,
        others_before,
        SWEEP_ROWS,
    )


async def update_last_seen(
    connection: Connection,
    numbers: Sequence[int],
    seen_ms: Sequence[int],
    battery_pct: Sequence[float],
    strap: Sequence[int],
) -> None:
    """Note when devices were last heard, and what they said of battery (NaN: nothing) and strap (two bits).

    A device somebody else is changing just now is left for the next time.
    """
    await connection.execute(
        """
        WITH said AS (
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::real[], $4::int[]) AS s (number, seen, battery, strap)
        ), free AS (
            SELECT device.number FROM device JOIN said USING (number)
            ORDER BY device.number FOR NO KEY UPDATE OF device SKIP LOCKED
        )
        UPDATE device SET
            last_seen_at = greatest(last_seen_at, to_timestamp(said.seen / 1000.0)),
            battery_pct = CASE WHEN said.battery = 'NaN' THEN device.battery_pct ELSE said.battery END,
            strap = CASE said.strap WHEN $5 THEN 'closed' WHEN $6 THEN 'open' ELSE device.strap END
        FROM said JOIN free USING (number) WHERE device.number = said.number
        """,
        numbers,
        seen_ms,
        battery_pct,
        strap,
        CLOSED,
        OPEN,
    )


async def roles_after(connection: Connection, number: int) -> list[tuple[int, int]]:
    """One page of (device number, Role) above `number`, in order; empty at the end."""
    rows = await connection.fetch(
        "SELECT number, role FROM device WHERE number > $1 ORDER BY number LIMIT $2", number, ROLE_PAGE_ROWS
    )
    return [(row["number"], ROLE_NAMES[row["role"]]) for row in rows]


async def roles_changed(connection: Connection, mark: int) -> tuple[int, list[tuple[int, int]]]:
    """The next transaction mark, and (device number, Role) of devices changed at or above `mark`."""
    rows = await connection.fetch(
        """
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS mark, device.number, device.role
        FROM (SELECT 1) AS once LEFT JOIN device ON changed_xid >= $1::text::xid8
        """,
        str(mark),
    )
    return rows[0]["mark"], [(row["number"], ROLE_NAMES[row["role"]]) for row in rows if row["number"] is not None]


async def transaction_mark(connection: Connection) -> int:
    """A mark below which every transaction has ended: where a poll for changes begins."""
    return int(await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))


async def commit_asynchronously(connection: Connection) -> None:
    """Let this transaction's commit not wait for the disk; `wal_positions` tells when it got there."""
    await connection.execute("SET LOCAL synchronous_commit = off")


async def wal_positions(connection: Connection) -> tuple[int, int]:
    """(written up to, on disk up to) of the write-ahead log, in bytes."""
    row = await connection.fetchrow(
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint AS inserted,"
        " (pg_current_wal_flush_lsn() - '0/0')::bigint AS flushed"
    )
    return row["inserted"], row["flushed"]


async def track(
    connection: Connection, role: int, device_id: uuid.UUID, since: datetime, until: datetime, limit: int
) -> list[dict[str, Any]]:
    """A device's positions between two moments, oldest first, at most `limit` (the newest of them)."""
    rows = await connection.fetch(
        """
        SELECT live_at, lat, lon, accuracy_m, speed_mps, heading_deg FROM ping
        WHERE role = $1 AND device_number = (SELECT number FROM device WHERE id = $2)
            AND live_at >= $3 AND live_at < $4 AND lat <> 'NaN' ORDER BY live_at DESC LIMIT $5
        """,
        role,
        device_id,
        since,
        until,
        limit,
    )
    return [dict(row) for row in reversed(rows)]
