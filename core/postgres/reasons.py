"""Why somebody broke the glass or looked, and what a reviewer found: words, sealed; the codes beside them are plain.

A look is sealed with the key of the person looked at, broken glass with the agency's. Nothing waits for a key here:
while the keys are away an emergency is opened all the same, its code kept and its words not.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import Spot
from core.errors import KeyUnavailable
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.table import Record

WORDS: Final = ("reason", "review_note")


@dataclass(frozen=True)
class Reasons:
    """The words of one table."""

    table: str

    async def seal(
        self,
        connection: Connection,
        row_id: uuid.UUID,
        column: str,
        words: str | None,
        agency_id: uuid.UUID,
        person_id: uuid.UUID | None,
        now: datetime,
    ) -> bytes | None:
        """Words of a row as they are kept; None for none, and while the keys are away."""
        if not words:
            return None
        spot = Spot(self.table, column, row_id)
        try:
            return (await keys.seal_for(connection, person_id, agency_id, {spot: words}, now, or_agency=True))[spot]
        except KeyUnavailable:
            return None

    async def read(self, connection: Connection, rows: Sequence[Any]) -> list[Record]:
        """Rows (`id`, each of `WORDS` and its sealed form) with the words that open; an older version's are plain."""
        sealed = [
            (n, name, row[f"{name}_sealed"])
            for n, row in enumerate(rows)
            for name in WORDS
            if row[f"{name}_sealed"] is not None
        ]
        opened = await keys.open_what_can(
            connection, [(Spot(self.table, name, rows[n]["id"]), blob) for n, name, blob in sealed]
        )
        found = {(n, name): value or None for (n, name, _), value in zip(sealed, opened, strict=True)}
        records = []
        for n, row in enumerate(rows):
            record = {name: value for name, value in row.items() if not name.endswith("_sealed")}
            for name in WORDS:
                record[name] = found.get((n, name), record[name])
            records.append({**record, "reason": record["reason"] or ""})
        return records


GLASS: Final = Reasons("break_glass")
LOOKS: Final = Reasons("person_look")
