"""What a shard's log says beside pings, kept so that a case can be judged again: configurations, answers, ticks.

The historian writes them in the transaction that moves its cursor, so they are here exactly when the log was passed.
What is there already is not added again. Nothing here is ever changed; ticks and answers of history go when a
victim's pings do.

A tick is eight bytes: milliseconds of its entry, then eleven bits of its number, then whether it was paused.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np

from core.clock import to_ms
from core.postgres.database import Connection

NUMBER_BITS: Final = 11
NUMBER_MAX: Final = (1 << NUMBER_BITS) - 1
SWEEP_ROWS: Final = 20_000
"""Most rows of a table that one sweep removes."""

Tick = tuple[int, int, bool]
"""(ms, n, paused) of a tick's entry."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """One case of a CONFIGURATION entry."""

    case_id: uuid.UUID
    agency_id: uuid.UUID
    version: int
    shard: int
    ms: int
    n: int
    index: int
    """Its place in the entry."""
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """One part of a PAST entry."""

    case_number: int
    ms: int
    n: int
    index: int
    body: bytes


def pack_ticks(ticks: Sequence[Tick]) -> bytes:
    """Ticks, oldest first, as a row keeps them."""
    words = [ms << NUMBER_BITS + 1 | min(n, NUMBER_MAX) << 1 | paused for ms, n, paused in ticks]
    return np.asarray(words, dtype="<i8").tobytes()


def unpack_ticks(packed: bytes) -> list[Tick]:
    """The ticks of a row."""
    return [
        (word >> NUMBER_BITS + 1, word >> 1 & NUMBER_MAX, bool(word & 1))
        for word in np.frombuffer(packed, dtype="<i8").tolist()
    ]


async def add_ticks(connection: Connection, ticks: dict[int, list[Tick]]) -> None:
    """Add a row for each shard's ticks, none of them empty."""
    await connection.execute(
        "INSERT INTO shard_tick (shard, first_ms, last_ms, ticks)"
        " SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::bytea[]) ON CONFLICT DO NOTHING",
        list(ticks),
        [told[0][0] for told in ticks.values()],
        [told[-1][0] for told in ticks.values()],
        [pack_ticks(told) for told in ticks.values()],
    )


async def add_configurations(connection: Connection, found: Sequence[Configuration]) -> None:
    """Add versions of cases."""
    await connection.execute(
        "INSERT INTO case_config_version"
        " (case_id, version, agency_id, shard, entry_ms, entry_n, entry_index, config) SELECT * FROM unnest("
        " $1::uuid[], $2::int[], $3::uuid[], $4::smallint[], $5::bigint[], $6::int[], $7::int[], $8::jsonb[])"
        " ON CONFLICT DO NOTHING",
        [one.case_id for one in found],
        [one.version for one in found],
        [one.agency_id for one in found],
        [one.shard for one in found],
        [one.ms for one in found],
        [one.n for one in found],
        [one.index for one in found],
        [one.config for one in found],
    )


async def add_answers(connection: Connection, found: Sequence[Answer]) -> None:
    """Add what cases were told of their past; of a case that is gone nothing."""
    await connection.execute(
        "INSERT INTO case_past (case_id, agency_id, entry_ms, entry_n, entry_index, body)"
        " SELECT c.id, c.agency_id, told.ms, told.n, told.place, told.body"
        " FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::bytea[])"
        " AS told (case_number, ms, n, place, body) JOIN protection_case c ON c.number = told.case_number"
        " ON CONFLICT DO NOTHING",
        [one.case_number for one in found],
        [one.ms for one in found],
        [one.n for one in found],
        [one.index for one in found],
        [one.body for one in found],
    )


async def ticks_between(connection: Connection, shard: int, since: datetime, until: datetime) -> list[Tick]:
    """The ticks a shard was told in [since, until), as far as they are still kept."""
    first_ms, last_ms = to_ms(since), to_ms(until)
    rows = await connection.fetch(
        "SELECT ticks FROM shard_tick WHERE shard = $1 AND first_ms < $3 AND last_ms >= $2"
        " AND first_ms >= $2 - 3600000 ORDER BY first_ms",
        shard,
        first_ms,
        last_ms,
    )
    return [tick for row in rows for tick in unpack_ticks(row["ticks"]) if first_ms <= tick[0] < last_ms]


async def configurations_of(connection: Connection, case_id: uuid.UUID) -> list[Configuration]:
    """Every version of a case's configuration that is kept, oldest first."""
    rows = await connection.fetch(
        "SELECT case_id, agency_id, version, shard, entry_ms, entry_n, entry_index, config"
        " FROM case_config_version WHERE case_id = $1 ORDER BY version",
        case_id,
    )
    return [Configuration(*row) for row in rows]


async def answers_between(
    connection: Connection, case_id: uuid.UUID, since: datetime, until: datetime
) -> list[tuple[int, int, bytes]]:
    """(ms, n, part) of what a case was told of its past in [since, until), in the order of the log."""
    rows = await connection.fetch(
        "SELECT entry_ms, entry_n, body FROM case_past WHERE case_id = $1 AND entry_ms >= $2 AND entry_ms < $3"
        " ORDER BY entry_ms, entry_n, entry_index",
        case_id,
        to_ms(since),
        to_ms(until),
    )
    return [tuple(row) for row in rows]


async def forget(connection: Connection, before: datetime) -> None:
    """Remove a bounded number of ticks and answers from before a moment."""
    await connection.execute(
        "DELETE FROM shard_tick WHERE ctid IN (SELECT ctid FROM shard_tick WHERE last_ms < $1 LIMIT $2)",
        to_ms(before),
        SWEEP_ROWS,
    )
    await connection.execute(
        "DELETE FROM case_past WHERE ctid IN (SELECT ctid FROM case_past WHERE entry_ms < $1 LIMIT $2)",
        to_ms(before),
        SWEEP_ROWS,
    )
