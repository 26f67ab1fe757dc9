"""Requests to be erased, and erasing."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import person
from core.postgres.database import Connection
from core.postgres.keys import vault_of

_OPEN: Final = "num_nonnulls(withdrawn_at, lapsed_at, erased_at) = 0"
_COLUMNS: Final = (
    "id, agency_id, person_id, asked_at, asked_by, due_at, code_digest, code_tries, code_sent_at, confirmed_at,"
    " withdrawn_at, lapsed_at, erased_at, held_at, held_for"
)


async def latest(connection: Connection, person_id: uuid.UUID, *, lock: bool = False) -> dict[str, Any] | None:
    """A person's latest request, open or not; `lock` keeps others from changing it."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM erasure_request WHERE person_id = $1 ORDER BY asked_at DESC, id DESC LIMIT 1"  # noqa: S608
        + (" FOR NO KEY UPDATE" if lock else ""),
        person_id,
    )
    return dict(row) if row is not None else None


async def add(connection: Connection, values: dict[str, Any]) -> bool:
    """Add a request; False when the person has an open one, made by somebody else at the same moment."""
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    added = await connection.fetchval(
        f"INSERT INTO erasure_request ({names}) VALUES ({places})"  # noqa: S608
        f" ON CONFLICT (person_id) WHERE {_OPEN} DO NOTHING RETURNING id",
        *values.values(),
    )
    return added is not None


async def change(connection: Connection, request_id: uuid.UUID, values: dict[str, Any]) -> None:
    """Set columns of a request."""
    sets = ", ".join(f"{name} = ${number}" for number, name in enumerate(values, start=2))
    await connection.execute(f"UPDATE erasure_request SET {sets} WHERE id = $1", request_id, *values.values())  # noqa: S608


async def lapse(connection: Connection, now: datetime) -> int:
    """End the requests that are due and were never confirmed; returns how many."""
    rows = await connection.fetch(
        f"UPDATE erasure_request SET lapsed_at = $1 WHERE {_OPEN} AND due_at <= $1"  # noqa: S608
        " AND confirmed_at IS NULL RETURNING id",
        now,
    )
    return len(rows)


async def due(connection: Connection, now: datetime, limit: int) -> list[uuid.UUID]:
    """Requests that may be carried out, the earliest first; those that are held are looked at last."""
    rows = await connection.fetch(
        f"SELECT id FROM erasure_request WHERE {_OPEN} AND due_at <= $1 AND confirmed_at IS NOT NULL"  # noqa: S608
        " ORDER BY held_at NULLS FIRST, due_at LIMIT $2",
        now,
        limit,
    )
    return [row["id"] for row in rows]


async def worn(connection: Connection, request_id: uuid.UUID) -> list[tuple[int, list[int]]]:
    """(number, shards) of the devices worn by who asked in a request."""
    rows = await connection.fetch(
        "SELECT d.number, d.routes FROM device d JOIN erasure_request r ON r.person_id = d.person_id WHERE r.id = $1",
        request_id,
    )
    return [(row["number"], list(row["routes"])) for row in rows]


async def worn_by(connection: Connection, person_ids: Sequence[uuid.UUID]) -> list[tuple[int, list[int]]]:
    """(number, shards) of the devices that people wear."""
    rows = await connection.fetch(
        "SELECT number, routes FROM device WHERE person_id = ANY ($1::uuid[])", list(person_ids)
    )
    return [(row["number"], list(row["routes"])) for row in rows]


async def carry_out(connection: Connection, request_id: uuid.UUID, now: datetime) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Erase who asked, if it may be (SQL `carry_out_erasure` says what must be so); person and agency, or None."""
    row = await connection.fetchrow(
        "SELECT p.id, p.agency_id FROM carry_out_erasure($1, $2) AS erased JOIN person p ON p.id = erased",
        request_id,
        now,
    )
    if row is None:
        return None
    vault_of(connection).forget(person(row["id"]))
    return row["id"], row["agency_id"]


async def erase(connection: Connection, person_id: uuid.UUID, at: datetime) -> None:
    """Erase a person without asking anything: for what was decided before. Only the owner of the tables may."""
    await connection.execute("SELECT erase_person($1, $2)", person_id, at)
    vault_of(connection).forget(person(person_id))


async def unapplied(connection: Connection, lines: Sequence[tuple[uuid.UUID, datetime]]) -> list[uuid.UUID]:
    """Who of (person, moment of her erasure) is there all the same, and may not be; SQL `unapplied_erasures`."""
    rows = await connection.fetch(
        "SELECT id FROM unapplied_erasures($1, $2) AS id", [one for one, _ in lines], [at for _, at in lines]
    )
    return [row["id"] for row in rows]


async def lock_person(connection: Connection, person_id: uuid.UUID) -> None:
    """Keep holds and incidents of a person from being made until this transaction ends."""
    await connection.execute("SELECT FROM person WHERE id = $1 FOR UPDATE", person_id)


async def keep_silent(connection: Connection, person_ids: Sequence[uuid.UUID]) -> int:
    """Cancel messages to people, or to their contacts about them, that wait to be sent; returns how many."""
    status = await connection.execute(
        "UPDATE delivery SET state = 'cancelled' WHERE state IN ('queued', 'sending')"
        " AND audience IN ('victim', 'contact') AND (recipient = ANY ($1::text[])"
        " OR incident_id IN (SELECT id FROM incident WHERE victim_id = ANY ($2::uuid[])))",
        [f"person:{person_id}" for person_id in person_ids],
        list(person_ids),
    )
    return int(status.split()[-1])


async def erased_besides(
    connection: Connection, person_ids: Sequence[uuid.UUID]
) -> list[tuple[uuid.UUID, uuid.UUID, datetime]]:
    """(person, agency, moment) of the erased who are not among these."""
    rows = await connection.fetch(
        "SELECT id, agency_id, erased_at FROM person WHERE erased_at IS NOT NULL AND id <> ALL ($1::uuid[])"
        " ORDER BY id",
        list(person_ids),
    )
    return [(row["id"], row["agency_id"], row["erased_at"]) for row in rows]


async def attacks(connection: Connection, person_id: uuid.UUID) -> bool:
    """Whether an order still keeps this person away from somebody."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM protection_order WHERE aggressor_id = $1"
            " AND status NOT IN ('revoked', 'expired'))",
            person_id,
        )
    )
