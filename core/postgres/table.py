"""The four statements every managed record needs, always within one agency.

A `Table` knows its columns; a name that is not one of them never reaches a statement. What a record needs beyond
these stands in its own module, written out.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.errors import NotFound
from core.postgres.database import Connection

MAX_PAGE: Final = 200
"""Rows one page of a list may have."""

Record = dict[str, Any]


async def add_row(connection: Connection, table: str, values: Mapping[str, Any]) -> None:
    """Add a row by column; table and columns are our own words."""
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(f"INSERT INTO {table} ({names}) VALUES ({places})", *values.values())  # noqa: S608


async def set_columns(connection: Connection, table: str, row_id: uuid.UUID, values: Mapping[str, Any]) -> None:
    """Set columns of a row; table and columns are our own words."""
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(values, 2))
    await connection.execute(f"UPDATE {table} SET {changes} WHERE id = $1", row_id, *values.values())  # noqa: S608


@dataclass(frozen=True)
class Table:
    """A table with `id uuid` and `agency_id uuid`, and the rest of its columns that may be read and written."""

    name: str
    noun: str
    """What one row is, in an error's words."""
    columns: tuple[str, ...]

    @property
    def selected(self) -> str:
        """The columns as a SELECT names them."""
        return ", ".join(("id", "agency_id", *self.columns))

    @property
    def writable(self) -> frozenset[str]:
        """The columns as they are written."""
        return frozenset(("id", "agency_id", *self.columns))

    async def stored(
        self,
        connection: Connection,  # noqa: ARG002 - here and below: what a table with sealed columns needs
        agency_id: uuid.UUID,  # noqa: ARG002
        row_id: uuid.UUID,  # noqa: ARG002
        values: Mapping[str, Any],
        *,
        new: bool,  # noqa: ARG002
    ) -> dict[str, Any]:
        """The values by the columns they are written to; `new`: of a row that is not there yet."""
        return dict(values)

    async def read(
        self,
        connection: Connection,  # noqa: ARG002
        rows: Sequence[Mapping[str, Any]],
    ) -> list[Record]:
        """Rows with the columns of `selected`, as records."""
        return [dict(row) for row in rows]

    async def read_page(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        """The same for a list, in which one row that cannot be read must not hide the others."""
        return await self.read(connection, rows)

    def _checked(self, names: Mapping[str, Any]) -> list[str]:
        unknown = sorted(set(names) - self.writable)
        assert not unknown, f"{self.name} has no {unknown}"
        return list(names)

    async def insert(self, connection: Connection, values: Mapping[str, Any]) -> Record:
        """Add a row; returns it whole. Raises Conflict (by `Database`) when its id is taken."""
        values = await self.stored(connection, values["agency_id"], values["id"], values, new=True)
        names = self._checked(values)
        places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
        row = await connection.fetchrow(
            f"INSERT INTO {self.name} ({', '.join(names)}) VALUES ({places}) RETURNING {self.selected}",  # noqa: S608
            *values.values(),
        )
        return (await self.read(connection, [row]))[0]

    async def find(
        self, connection: Connection, agency_id: uuid.UUID, record_id: uuid.UUID, *, lock: bool = False
    ) -> Record | None:
        """The agency's row, or None; `lock` keeps others from changing it until the transaction ends."""
        row = await connection.fetchrow(
            f"SELECT {self.selected} FROM {self.name} WHERE id = $1 AND agency_id = $2"  # noqa: S608
            + (" FOR NO KEY UPDATE" if lock else ""),
            record_id,
            agency_id,
        )
        return (await self.read(connection, [row]))[0] if row is not None else None

    async def get(
        self, connection: Connection, agency_id: uuid.UUID, record_id: uuid.UUID, *, lock: bool = False
    ) -> Record:
        """The agency's row; raises NotFound, the same for one that is another agency's."""
        record = await self.find(connection, agency_id, record_id, lock=lock)
        if record is None:
            raise NotFound(f"There is no {self.noun} with this id.")
        return record

    async def page(
        self,
        connection: Connection,
        agency_id: uuid.UUID,
        *,
        after: uuid.UUID | None = None,
        limit: int = MAX_PAGE,
        where: Mapping[str, Any] | None = None,
    ) -> list[Record]:
        """The agency's rows in the order of their ids, after `after`; `where` asks for equal columns, None for any."""
        asked = {name: value for name, value in (where or {}).items() if value is not None}
        conditions = "".join(f" AND {name} = ${number}" for number, name in enumerate(self._checked(asked), start=4))
        rows = await connection.fetch(
            f"SELECT {self.selected} FROM {self.name} WHERE agency_id = $1"  # noqa: S608
            f" AND ($2::uuid IS NULL OR id > $2){conditions} ORDER BY id LIMIT $3",
            agency_id,
            after,
            limit,
            *asked.values(),
        )
        return await self.read_page(connection, rows)

    async def update(
        self, connection: Connection, agency_id: uuid.UUID, record_id: uuid.UUID, values: Mapping[str, Any]
    ) -> Record:
        """Set columns of the agency's row; returns it whole. Raises NotFound."""
        if not values:
            return await self.get(connection, agency_id, record_id)
        values = await self.stored(connection, agency_id, record_id, values, new=False)
        sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(self._checked(values), start=3))
        row = await connection.fetchrow(
            f"UPDATE {self.name} SET {sets} WHERE id = $1 AND agency_id = $2 RETURNING {self.selected}",  # noqa: S608
            record_id,
            agency_id,
            *values.values(),
        )
        if row is None:
            raise NotFound(f"There is no {self.noun} with this id.")
        return (await self.read(connection, [row]))[0]
