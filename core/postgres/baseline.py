"""What a benchmark asks PostgreSQL: bare figures to hold its own beside, and how many pings are in history."""

from __future__ import annotations

import time
from typing import Final

import asyncpg

from core.postgres.database import CONNECT_TIMEOUT_S

COPY_ROWS: Final = 2_000
COPY_COLUMNS: Final = tuple(f"c{n}" for n in range(10))


async def bare_insert_ms(url: str, count: int) -> list[float]:
    """Milliseconds of each of `count` single-row inserts, every one committed by itself."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        await connection.execute("CREATE TABLE bare_insert (id bigint PRIMARY KEY, body text NOT NULL)")
        statement = await connection.prepare("INSERT INTO bare_insert VALUES ($1, $2)")
        taken_ms = []
        for number in range(count):
            begun = time.perf_counter()
            await statement.fetch(number, "a row of about the size of an event")
            taken_ms.append((time.perf_counter() - begun) * 1000)
        await connection.execute("DROP TABLE bare_insert")
        return taken_ms
    finally:
        await connection.close()


async def bare_copy_rows_per_s(url: str, batches: int) -> float:
    """Rows a second of COPY into a plain ten-column table, COPY_ROWS a batch, each batch committed."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        columns = ", ".join(f"{name} double precision" for name in COPY_COLUMNS)
        await connection.execute(f"CREATE TABLE bare_copy ({columns})")
        rows = [tuple(float(row * 10 + column) for column in range(10)) for row in range(COPY_ROWS)]
        begun = time.perf_counter()
        for _ in range(batches):
            await connection.copy_records_to_table("bare_copy", records=rows, columns=COPY_COLUMNS)
        elapsed_s = time.perf_counter() - begun
        await connection.execute("DROP TABLE bare_copy")
        return COPY_ROWS * batches / elapsed_s
    finally:
        await connection.close()


async def pings_in_history(url: str) -> int:
    """Rows of the ping table, all partitions."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM ping"))
    finally:
        await connection.close()


async def cursors(url: str, kind: str) -> dict[int, str]:
    """The log cursors of a kind (historian, recorder) by shard."""
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        rows = await connection.fetch("SELECT name, entry FROM log_cursor WHERE name LIKE $1 || ':%'", kind)
        return {int(row["name"].partition(":")[2]): row["entry"] for row in rows}
    finally:
        await connection.close()
