"""People: protected, kept away, or beside them. Who they are is sealed with a key of their own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.clock import utc_now
from core.domain.sealing import agency, normal_value, person, searchable_values
from core.domain.statistics import traits_of
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.sealed_table import SealedTable, itself
from core.postgres.table import Record


@dataclass(frozen=True)
class _People(SealedTable):
    """A person has her key from the start, and is found by exact values of her identity."""

    async def read(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        return self._told(await super().read(connection, rows))

    async def read_page(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> list[Record]:
        return self._told(await super().read_page(connection, rows))

    @staticmethod
    def _told(records: list[Record]) -> list[Record]:
        return [{**record, "erased": record["erased_at"] is not None} for record in records]

    async def insert(self, connection: Connection, values: Mapping[str, Any]) -> Record:
        await keys.ensure(connection, {person(values["id"]): values["agency_id"]}, utc_now())
        record = await super().insert(connection, values)
        await index(connection, [record])
        await keep_traits(connection, record)
        return record

    async def update(
        self, connection: Connection, agency_id: uuid.UUID, record_id: uuid.UUID, values: Mapping[str, Any]
    ) -> Record:
        record = await super().update(connection, agency_id, record_id, values)
        if "identity" in values:
            await index(connection, [record])
            await keep_traits(connection, record)
        return record


PEOPLE: Final = _People(
    "person",
    "person",
    (
        "identity", "safe_contact", "safe_word", "language", "needs", "hazards", "created_at", "updated_at",
        "erased_at",
    ),
    private=("identity", "safe_contact", "safe_word"),
    person=itself,
    absent={"identity": {}},
)  # fmt: skip


async def missing(connection: Connection, agency_id: uuid.UUID, person_ids: list[uuid.UUID]) -> list[uuid.UUID]:
    """Which of these are no people of the agency."""
    rows = await connection.fetch(
        "SELECT id FROM unnest($2::uuid[]) AS asked (id)"
        " WHERE NOT EXISTS (SELECT FROM person WHERE person.id = asked.id AND person.agency_id = $1)",
        agency_id,
        person_ids,
    )
    return [row["id"] for row in rows]


async def index(connection: Connection, records: Sequence[Record]) -> None:
    """Have people found by the exact values of their identities as these are now, and by no earlier ones."""
    agencies = {agency(record["agency_id"]): record["agency_id"] for record in records}
    found = [(record, list(searchable_values(record["identity"]))) for record in records]
    deks = await keys.ensure(connection, agencies, utc_now()) if any(values for _, values in found) else {}
    await connection.execute(
        "DELETE FROM person_index WHERE person_id = ANY ($1::uuid[])", [record["id"] for record in records]
    )
    rows = [
        (record["agency_id"], field, deks[agency(record["agency_id"])].digest(field, value), record["id"])
        for record, values in found
        for field, value in values
    ]
    if rows:
        await connection.executemany(
            "INSERT INTO person_index (agency_id, field, digest, person_id) VALUES ($1, $2, $3, $4)"
            " ON CONFLICT DO NOTHING",
            rows,
        )


async def keep_traits(connection: Connection, record: Record) -> None:
    """Keep the coarse attributes of an identity as it was told: they outlast it, and name nobody."""
    if not record["identity"]:
        return
    traits = traits_of(record["identity"], record["updated_at"].year)
    await connection.execute(
        "UPDATE person SET sex = $2, age_band = $3, region_code = $4 WHERE id = $1", record["id"], *traits
    )


async def is_deaf(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether a call does not reach a person by its nature."""
    return bool(await connection.fetchval("SELECT 'deaf' = ANY (needs) FROM person WHERE id = $1", person_id))


async def search(connection: Connection, agency_id: uuid.UUID, field: str, text: str, limit: int) -> list[Record]:
    """An agency's people of whom a field has exactly this value, however it was written; at most `limit`."""
    normal = normal_value(field, text)
    if normal is None:
        return []
    owner = agency(agency_id)
    dek = (await keys.find(connection, [owner])).get(owner)
    if dek is None:
        return []  # the agency has no key yet: it has no people with an identity
    rows = await connection.fetch(
        f"SELECT {PEOPLE.selected} FROM person WHERE agency_id = $1 AND id IN ("  # noqa: S608
        "SELECT person_id FROM person_index WHERE agency_id = $1 AND field = $2 AND digest = $3)"
        " ORDER BY id LIMIT $4",
        agency_id,
        field,
        dek.digest(field, normal),
        limit,
    )
    return await PEOPLE.read(connection, rows)


async def protected_by_phone(connection: Connection, number: str) -> Record | None:
    """The protected person whose telephone number is exactly this, whatever her agency: `person_id`, `agency_id`, and
    a `device_id` of hers, if she has one; None for any other number. Raises KeyUnavailable."""
    normal = normal_value("phone", number)
    if normal is None:
        return None
    agencies = [agency(row["id"]) for row in await connection.fetch("SELECT id FROM agency ORDER BY created_at, id")]
    deks = await keys.find(connection, agencies)
    digests = {owner.id: dek.digest("phone", normal) for owner, dek in deks.items() if dek is not None}
    row = await connection.fetchrow(
        """
        SELECT p.id AS person_id, p.agency_id, carried.id AS device_id
        FROM unnest($1::uuid[], $2::bytea[]) AS asked (agency_id, digest)
        JOIN person_index i ON i.agency_id = asked.agency_id AND i.field = 'phone' AND i.digest = asked.digest
        JOIN person p ON p.id = i.person_id
        LEFT JOIN LATERAL (
            SELECT d.id FROM device d WHERE d.person_id = p.id AND d.role = 'victim'
                AND d.status NOT IN ('revoked', 'returned') ORDER BY d.kind = 'phone' DESC, d.id LIMIT 1
        ) carried ON true
        WHERE p.erased_at IS NULL
            AND NOT EXISTS (SELECT FROM protection_order o WHERE o.aggressor_id = p.id)
            AND (carried.id IS NOT NULL
                OR EXISTS (SELECT FROM protection_order o
                    WHERE o.victim_id = p.id OR p.id = ANY (o.protected_person_ids)))
        ORDER BY carried.id IS NULL, p.id LIMIT 1
        """,
        list(digests),
        list(digests.values()),
    )
    return dict(row) if row is not None else None
