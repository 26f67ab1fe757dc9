"""Creating and changing managed records: idempotent by the client's id, audited, within one agency."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from core.actions.unit_of_work import Unit
from core.errors import NotFound
from core.ids import new_id
from core.postgres import audit, creations, people
from core.postgres.table import Record, Table

PERSON_FIELDS: Final = ("person_id", "victim_id", "aggressor_id")
"""Columns by which a record names people."""


class Asker(Protocol):
    """Who asks for an action: a signed-in user, as far as an action needs to know her."""

    @property
    def user_id(self) -> uuid.UUID:
        """The user."""

    @property
    def agency_id(self) -> uuid.UUID:
        """Her agency: the only one whose records she reaches."""

    @property
    def role(self) -> str:
        """What she acts as."""

    @property
    def address(self) -> str:
        """Where the request came from."""

    @property
    def session_id(self) -> uuid.UUID | None:
        """The sign-in she goes on with."""

    @property
    def purpose(self) -> str:
        """Why she asks, in a word; "": what she asks for says it."""


async def note(
    unit: Unit,
    asker: Asker,
    action: str,
    subject_kind: str | None = None,
    subject_id: uuid.UUID | None = None,
    *,
    people: Iterable[uuid.UUID | None] = (),
    **detail: Any,
) -> None:
    """Write what `asker` did or saw into the audit, in the same transaction.

    `people`: whose identity or position it was; a subject of the kind person is among them by itself.
    """
    own = [subject_id] if subject_kind == "person" else []
    await audit.write(
        unit.connection,
        unit.now,
        agency_id=asker.agency_id,
        actor_kind="user",
        actor_id=asker.user_id,
        action=action,
        subject_kind=subject_kind,
        subject_id=subject_id,
        address=asker.address or None,
        detail=detail,
        role=asker.role,
        session_id=asker.session_id,
        purpose=asker.purpose or None,
        person_ids=[*own, *people],
    )


def whose(*found: Mapping[str, Any]) -> list[uuid.UUID]:
    """Everybody whom records name: whose data they are."""
    named = [record[name] for record in found for name in PERSON_FIELDS if record.get(name) is not None]
    listed = [person_id for record in found for person_id in record.get("protected_person_ids") or ()]
    return [uuid.UUID(str(person_id)) for person_id in (*named, *listed)]


def body_digest(agency_id: uuid.UUID, kind: str, values: Mapping[str, Any]) -> bytes:
    """SHA-256 of what was asked for, the same however the client ordered its fields."""
    return hashlib.sha256(msgspec.json.encode([str(agency_id), kind, dict(values)], order="deterministic")).digest()


async def claim(unit: Unit, asker: Asker, table: Table, record_id: uuid.UUID | None, values: Mapping[str, Any]) -> bool:
    """Whether a create is new; False when it repeats one. Raises Conflict `id_reused`. No id: always new."""
    if record_id is None:
        return True
    digest = body_digest(asker.agency_id, table.name, values)
    return await creations.claim(unit.connection, record_id, table.name, digest, unit.now)


async def insert(
    unit: Unit, asker: Asker, table: Table, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> Record:
    """Add a row with its id, agency and times, and its line in the audit."""
    stamps: dict[str, Any] = {name: unit.now for name in ("created_at", "updated_at") if name in table.columns}
    record = await table.insert(
        unit.connection, {"id": record_id or new_id(), "agency_id": asker.agency_id, **values, **stamps}
    )
    await note(unit, asker, f"{table.name}.created", table.name, record["id"], people=whose(record))
    return record


async def create(
    unit: Unit, asker: Asker, table: Table, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The record and whether it is new; a repeat gives it as it is now."""
    if not await claim(unit, asker, table, record_id, values):
        assert record_id is not None
        return await table.get(unit.connection, asker.agency_id, record_id), False
    return await insert(unit, asker, table, record_id, values), True


async def change(
    unit: Unit, asker: Asker, table: Table, record_id: uuid.UUID, values: Mapping[str, Any], action: str = "changed"
) -> Record:
    """Set columns of a record; the audit names the columns, not their values. Raises NotFound."""
    stamps = {"updated_at": unit.now} if "updated_at" in table.columns and values else {}
    record = await table.update(unit.connection, asker.agency_id, record_id, {**values, **stamps})
    await note(
        unit, asker, f"{table.name}.{action}", table.name, record_id, people=whose(record), fields=sorted(values)
    )
    return record


async def check_people(unit: Unit, agency_id: uuid.UUID, person_ids: list[uuid.UUID]) -> None:
    """Raise NotFound unless all are people of the agency."""
    if await people.missing(unit.connection, agency_id, person_ids):
        raise NotFound("There is no person with one of these ids.")
