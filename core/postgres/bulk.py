"""COPY: many rows at once, in binary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.postgres.database import Connection


async def copy_rows(connection: Connection, table: str, columns: Sequence[str], rows: list[tuple[Any, ...]]) -> None:
    """Append rows to a table; columns that are not named get their defaults. No jsonb: it has no binary codec here."""
    await connection.copy_records_to_table(table, columns=list(columns), records=rows)
