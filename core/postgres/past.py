"""History read back for retrospective checks: both parties' fixes of stretches of time, a bounded number each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from core.domain.past import MARGIN_MS, PAST_FIX, Past, Want, bucket_ms
from core.postgres.database import Connection

CURSORS: Final = "historian:%"
"""Names of the history cursors (`geo.historian.cursor_name`)."""


async def reached_ms(connection: Connection, shards: int) -> int:
    """Log time up to which history has the pings of every shard; 0 while it has not begun with some."""
    rows = await connection.fetch("SELECT entry FROM log_cursor WHERE name LIKE $1", CURSORS)
    times = [int(row["entry"].partition("-")[0]) for row in rows]
    return min(times) if len(times) >= shards else 0


async def answers(connection: Connection, wants: Sequence[Want], serials: Sequence[int]) -> list[Past]:
    """What history has of each want, with a margin before and after: parts bearing the given serials.

    Of a long stretch the surest fix a moment and device (`core.domain.past.bucket_ms`). In one query, for a want costs
    less to look up than a query to send.
    """
    asked = [
        (part, number, want.from_ms - MARGIN_MS, want.to_ms + MARGIN_MS)
        for part, want in enumerate(wants)
        for number in (*want.victim, *want.aggressor)
    ]
    rows = await connection.fetch(
        """
        SELECT asked.part, fix.* FROM unnest($1::int[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
            AS asked (part, device, from_ms, to_ms, bucket_ms)
        CROSS JOIN LATERAL (
            SELECT DISTINCT ON (moment) (extract(epoch FROM live_at) * 1000)::bigint AS live_ms, lat, lon,
                device_number, flags & 4294967295 AS flags, accuracy_m, speed_mps,
                (extract(epoch FROM live_at) * 1000)::bigint / asked.bucket_ms AS moment
            FROM ping
            WHERE role IN (0, 1, 2) AND device_number = asked.device AND lat <> 'NaN'
                AND live_at >= to_timestamp(asked.from_ms / 1000.0) AND live_at <= to_timestamp(asked.to_ms / 1000.0)
            ORDER BY moment, accuracy_m, live_at, seq
        ) AS fix
        """,
        [part for part, _, _, _ in asked],
        [number for _, number, _, _ in asked],
        [first_ms for _, _, first_ms, _ in asked],
        [last_ms for _, _, _, last_ms in asked],
        [bucket_ms(first_ms, last_ms) for _, _, first_ms, last_ms in asked],
    )
    fixes = np.array([tuple(row)[1:-1] for row in rows], dtype=PAST_FIX)
    parts = np.array([row[0] for row in rows], dtype=np.int64)
    return [
        Past(
            want.case,
            want.order,
            serial,
            _of(fixes[parts == part], want.victim),
            _of(fixes[parts == part], want.aggressor),
        )
        for part, (want, serial) in enumerate(zip(wants, serials, strict=True))
    ]


def _of(fixes: NDArray[np.void], devices: Sequence[int]) -> NDArray[np.void]:
    return fixes[np.isin(fixes["device"], devices)]
