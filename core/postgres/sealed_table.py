"""Tables with columns that are sealed: `name` stands as `name_sealed`, and is written and read as ever.

The plain column `name` is there for what an older version left: it is read while nothing sealed is there, emptied
by the first change, and never written.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from core.clock import utc_now
from core.domain.sealing import Spot
from core.errors import NotFound
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.table import Record, Table

SUFFIX: Final = "_sealed"

FindPerson = Callable[[Connection, uuid.UUID, Mapping[str, Any]], Awaitable[uuid.UUID | None]]
"""(connection, row, values being written) → the person whose key seals; None: her agency's does."""

Opening = Callable[[Connection, Sequence[tuple[Spot, bytes]]], Awaitable[list[Any]]]


async def nobody(_: Connection, __: uuid.UUID, ___: Mapping[str, Any]) -> uuid.UUID | None:
    """The agency's own key."""
    return None


async def itself(_: Connection, row_id: uuid.UUID, __: Mapping[str, Any]) -> uuid.UUID | None:
    """The row is the person."""
    return row_id


def named_by(table: str) -> FindPerson:
    """The row's `person_id`."""

    async def find(connection: Connection, row_id: uuid.UUID, values: Mapping[str, Any]) -> uuid.UUID | None:
        if "person_id" in values:
            given: uuid.UUID | None = values["person_id"]
            return given
        found: uuid.UUID | None = await connection.fetchval(
            f"SELECT person_id FROM {table} WHERE id = $1",  # noqa: S608
            row_id,
        )
        return found

    return find


@dataclass(frozen=True)
class SealedTable(Table):
    """A table of which the columns in `private` are sealed, each by itself."""

    private: tuple[str, ...] = ()
    person: FindPerson = field(default=nobody, repr=False)
    absent: Mapping[str, Any] = field(default_factory=dict)
    """What a private column reads as when nothing is in it; None where nothing else is said."""
    needed: bool = True
    """Whether the row is of use only with its private columns. Without, it is read as ever while the keys to them are
    away, and they as absent: what an order says must not keep it from ending or going on."""

    @property
    def selected(self) -> str:
        return ", ".join((super().selected, *(name + SUFFIX for name in self.private)))

    @property
    def writable(self) -> frozenset[str]:
        return super().writable | {name + SUFFIX for name in self.private}

    async def stored(
        self, connection: Connection, agency_id: uuid.UUID, row_id: uuid.UUID, values: Mapping[str, Any], *, new: bool
    ) -> dict[str, Any]:
        private = {name: values[name] for name in self.private if name in values}
        row = {name: value for name, value in values.items() if name not in private}
        if not new:
            row |= dict.fromkeys(private)
        row |= {name + SUFFIX: None for name in private}
        told = {
            Spot(self.name, name, row_id): value
            for name, value in private.items()
            if value is not None and value != self.absent.get(name)
        }
        if told:
            if not new:
                await self._check_there(connection, agency_id, row_id)
            person_id = await self.person(connection, row_id, values)
            sealed = await keys.seal_for(connection, person_id, agency_id, told, utc_now())
            row |= {spot.column + SUFFIX: blob for spot, blob in sealed.items()}
        return row

    async def _check_there(self, connection: Connection, agency_id: uuid.UUID, row_id: uuid.UUID) -> None:
        """Raise NotFound before anything is told of whose key there is."""
        if not await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {self.name} WHERE id = $1 AND agency_id = $2)",  # noqa: S608
            row_id,
            agency_id,
        ):
            raise NotFound(f"There is no {self.noun} with this id.")

    async def read(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        return await self._read(connection, rows, keys.open_all if self.needed else keys.open_what_can)

    async def read_strictly(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        """The same for what must be whole. Raises KeyUnavailable for a column that does not open."""
        return await self._read(connection, rows, keys.open_all)

    async def read_what_opens(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        """The same for whoever is called to help: what does not open reads as absent, and keeps nobody else away."""
        return await self._read(connection, rows, keys.open_each)

    async def read_page(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        """For lists: a row of which something does not open says what (`unreadable`), and hides no other."""
        opening = keys.open_each if self.needed else keys.open_what_can
        return await self._read(connection, rows, opening, tell=True)

    async def _read(
        self, connection: Connection, rows: Sequence[Mapping[str, Any]], opening: Opening, *, tell: bool = False
    ) -> list[Record]:
        sealed = [
            (place, name, row[name + SUFFIX])
            for place, row in enumerate(rows)
            for name in self.private
            if row[name + SUFFIX] is not None
        ]
        records = [{name: value for name, value in row.items() if not name.endswith(SUFFIX)} for row in rows]
        opened = await opening(
            connection, [(Spot(self.name, name, rows[place]["id"]), blob) for place, name, blob in sealed]
        )
        for (place, name, _), value in zip(sealed, opened, strict=True):
            records[place][name] = None if isinstance(value, keys.Erased) else value
            if tell and isinstance(value, keys.Spoilt):
                records[place].setdefault("unreadable", []).append(name)
        for record in records:
            for name, value in self.absent.items():
                if record[name] is None:
                    record[name] = value.copy() if isinstance(value, dict | list) else value
        return records
