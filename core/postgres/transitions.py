"""Transitions as stored, and what must be known beside them to judge them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from core.clock import from_ms
from core.domain.transition import Transition
from core.postgres.database import Connection


async def add_new(connection: Connection, transitions: Sequence[Transition]) -> set[uuid.UUID]:
    """Store transitions and return the ids that were not stored before."""
    rows = await connection.fetch(
        "INSERT INTO transition (id, shard, agency_id, case_id, order_id, at, evaluated_at, kind, from_state,"
        " to_state, body) SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::uuid[], $4::uuid[], $5::uuid[],"
        " $6::timestamptz[], $7::timestamptz[], $8::text[], $9::text[], $10::text[], $11::jsonb[])"
        " ON CONFLICT (id) DO NOTHING RETURNING id",
        [item.id for item in transitions],
        [item.shard for item in transitions],
        [item.agency_id for item in transitions],
        [item.case_id for item in transitions],
        [item.order_id for item in transitions],
        [from_ms(item.at_ms) for item in transitions],
        [from_ms(item.evaluated_ms) for item in transitions],
        [item.kind for item in transitions],
        [item.from_state for item in transitions],
        [item.to_state for item in transitions],
        [msgspec.to_builtins(item) for item in transitions],
    )
    return {row["id"] for row in rows}


async def link(connection: Connection, incident_of: dict[uuid.UUID, uuid.UUID]) -> None:
    """Write which incident each transition (key) folded into."""
    await connection.execute(
        "UPDATE transition SET incident_id = folded.incident FROM unnest($1::uuid[], $2::uuid[])"
        " AS folded (id, incident) WHERE transition.id = folded.id",
        list(incident_of),
        list(incident_of.values()),
    )


@dataclass(frozen=True, slots=True)
class OrderParties:
    """What an incident takes from its order and the people in it."""

    id: uuid.UUID
    case_id: uuid.UUID
    reference: str | None
    victim_id: uuid.UUID
    aggressor_id: uuid.UUID
    language: str
    needs: tuple[str, ...]
    hazards: dict[str, Any]


async def orders_of_cases(connection: Connection, case_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, OrderParties]:
    """The orders of cases that are not revoked, by id."""
    rows = await connection.fetch(
        "SELECT o.id, o.case_id, o.reference, o.victim_id, o.aggressor_id, v.language, v.needs,"
        " a.hazards || v.hazards AS hazards FROM protection_order o"
        " JOIN person v ON v.id = o.victim_id JOIN person a ON a.id = o.aggressor_id"
        " WHERE o.case_id = ANY($1) AND o.status <> 'revoked' ORDER BY o.id",
        case_ids,
    )
    return {
        row["id"]: OrderParties(
            row["id"], row["case_id"], row["reference"], row["victim_id"], row["aggressor_id"], row["language"],
            tuple(row["needs"]), row["hazards"],
        )
        for row in rows
    }  # fmt: skip


async def wearers(
    connection: Connection, device_ids: Sequence[uuid.UUID]
) -> dict[uuid.UUID, tuple[uuid.UUID | None, str]]:
    """By device: who carries it, and in which role."""
    rows = await connection.fetch("SELECT id, person_id, role FROM device WHERE id = ANY($1)", device_ids)
    return {row["id"]: (row["person_id"], row["role"]) for row in rows}


async def by_ids(connection: Connection, transition_ids: Sequence[uuid.UUID]) -> list[Transition]:
    """Stored transitions, in the order they were decided."""
    rows = await connection.fetch(
        "SELECT body FROM transition WHERE id = ANY($1) ORDER BY evaluated_at, id", transition_ids
    )
    return [msgspec.convert(row["body"], Transition) for row in rows]
