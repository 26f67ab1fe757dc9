"""Data keys as rows, and values sealed and opened with them.

Every connection of a pool that was made with a vault bears it. Values say themselves whose key opens them, so a list of
any length is opened with one look at the keys. An erased key's values read as `ERASED`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import structlog

from core.domain.sealing import AGENCY, HEADER_BYTES, PERSON, Owner, Spot, agency, owner_of, person
from core.errors import Conflict, KeyUnavailable, Misconfigured
from core.key_rings import KeyLost, Wrapped
from core.postgres.bulk import copy_rows
from core.postgres.database import Connection
from core.vault import Dek, Unsealable, Vault

log = structlog.get_logger(__name__)


class Erased:
    """What an erased person's values read as."""

    def __repr__(self) -> str:
        return "ERASED"

    def __bool__(self) -> Literal[False]:
        return False


ERASED: Final = Erased()


class Spoilt(Erased):
    """What a value reads as that does not open: it was changed, moved, or its key was lost."""

    def __repr__(self) -> str:
        return "SPOILT"


SPOILT: Final = Spoilt()


def vault_of(connection: Connection) -> Vault:
    """The vault a connection bears. Raises Misconfigured when its pool was made without one."""
    vault = getattr(connection, "vault", None)
    if not isinstance(vault, Vault):
        raise Misconfigured("This part was started without keys; it can neither seal nor open.")
    return vault


_FIND: Final = f"""
    SELECT {PERSON} AS kind, person_id AS id, kek_id, wrapped FROM person_key WHERE person_id = ANY ($1::uuid[])
    UNION ALL
    SELECT {AGENCY}, agency_id, kek_id, wrapped FROM agency_key WHERE agency_id = ANY ($2::uuid[])
"""  # noqa: S608


async def find(connection: Connection, owners: Iterable[Owner]) -> dict[Owner, Dek | None]:
    """The keys there are: from memory, else with one query. None: erased; an owner without a key is left out.

    Raises KeyUnavailable when a key cannot be unwrapped.
    """
    try:
        return await _find(connection, owners)
    except KeyLost as error:
        raise KeyUnavailable(f"A data key does not open: {error}.") from error


async def _find(connection: Connection, owners: Iterable[Owner]) -> dict[Owner, Dek | None]:
    """The same; raises KeyLost for one that does not open."""
    vault = vault_of(connection)
    wanted = set(owners)
    found: dict[Owner, Dek | None] = dict(vault.kept(wanted))
    missing = wanted - found.keys()
    if missing:
        rows = await connection.fetch(
            _FIND,
            [owner.id for owner in missing if owner.kind == PERSON],
            [owner.id for owner in missing if owner.kind == AGENCY],
        )
        found |= await _learn(connection, [(Owner(r["kind"], r["id"]), r["kek_id"], r["wrapped"]) for r in rows])
    return found


async def learn(
    connection: Connection, rows: Iterable[tuple[Owner, str | None, bytes | None]]
) -> dict[Owner, Dek | None]:
    """The keys of rows that were read with something else: (owner, id of what wrapped it, wrapped key or None).

    Raises KeyUnavailable.
    """
    try:
        return await _learn(connection, rows)
    except KeyLost as error:
        raise KeyUnavailable(f"A data key does not open: {error}.") from error


async def _learn(
    connection: Connection, rows: Iterable[tuple[Owner, str | None, bytes | None]]
) -> dict[Owner, Dek | None]:
    wrapped: dict[Owner, Wrapped] = {}
    found: dict[Owner, Dek | None] = {}
    for owner, kek_id, blob in rows:
        if kek_id is None or blob is None:
            found[owner] = None
        else:
            wrapped[owner] = Wrapped(kek_id, blob)
    return found | await vault_of(connection).unwrap(wrapped)


async def ensure(connection: Connection, owners: Mapping[Owner, uuid.UUID], now: datetime) -> dict[Owner, Dek]:
    """The keys of owners, made where there is none; `owners` gives each one's agency. Raises Conflict `person_erased`.

    A key that is made here holds once the caller's transaction commits, and is kept by nobody until then.
    """
    found = await ensure_or_erased(connection, owners, now)
    deks = {owner: dek for owner, dek in found.items() if dek is not None}
    if len(deks) < len(owners):
        raise Conflict("The person was erased; nothing can be kept of her.", code="person_erased")
    return deks


async def ensure_or_erased(
    connection: Connection, owners: Mapping[Owner, uuid.UUID], now: datetime
) -> dict[Owner, Dek | None]:
    """The same with None for who was erased."""
    found = await find(connection, owners)
    missing = {owner: agency_id for owner, agency_id in owners.items() if owner not in found}
    return found | (await _make(connection, missing, now) if missing else {})


_INSERT: Final = {
    PERSON: """
        INSERT INTO person_key (person_id, agency_id, kek_id, wrapped, created_at)
        SELECT *, $5 FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[])
        ON CONFLICT (person_id) DO NOTHING RETURNING person_id AS id
    """,
    AGENCY: """
        INSERT INTO agency_key (agency_id, kek_id, wrapped, created_at)
        SELECT agency_id, kek_id, wrapped, $5
        FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[]) AS new (agency_id, same, kek_id, wrapped)
        ON CONFLICT (agency_id) DO NOTHING RETURNING agency_id AS id
    """,
}


async def _make(connection: Connection, owners: Mapping[Owner, uuid.UUID], now: datetime) -> dict[Owner, Dek | None]:
    made = await vault_of(connection).make(owners)
    stored: set[uuid.UUID] = set()
    for kind, statement in _INSERT.items():
        mine = [owner for owner in owners if owner.kind == kind]
        if mine:
            rows = await connection.fetch(
                statement,
                [owner.id for owner in mine],
                [owners[owner] for owner in mine],
                [made[owner][0].key_id for owner in mine],
                [made[owner][0].blob for owner in mine],
                now,
            )
            stored |= {row["id"] for row in rows}
    found: dict[Owner, Dek | None] = {owner: made[owner][1] for owner in owners if owner.id in stored}
    rivals = [owner for owner in owners if owner.id not in stored]  # made by others at the same moment, committed since
    return found | (await find(connection, rivals) if rivals else {})


async def copy_new(
    connection: Connection, person_ids: Sequence[uuid.UUID], agency_id: uuid.UUID, now: datetime
) -> None:
    """Keys for many new people of an agency at once."""
    made = await vault_of(connection).make_wrapped([person(person_id) for person_id in person_ids])
    await copy_rows(
        connection,
        "person_key",
        ("person_id", "agency_id", "kek_id", "wrapped", "created_at"),
        [(one, agency_id, key.key_id, key.blob, now) for one, key in zip(person_ids, made, strict=True)],
    )


async def open_all(connection: Connection, values: Sequence[tuple[Spot, bytes]]) -> list[Any]:
    """The values in their order, opened with one look at the keys; ERASED where the key is gone.

    Raises KeyUnavailable when one does not open: it was changed, or its key was lost.
    """
    try:
        return await _open(connection, values)
    except _DOES_NOT_OPEN as error:
        raise KeyUnavailable("Something sealed does not open; see docs/encryption.md.") from error


async def open_each(connection: Connection, values: Sequence[tuple[Spot, bytes]]) -> list[Any]:
    """The same for where help depends on it: SPOILT stands for what does not open, and all the rest opens.

    One changed row or lost key then silences itself alone. Raises KeyUnavailable when the key service is away.
    """
    try:
        return await _open(connection, values)
    except _DOES_NOT_OPEN:
        pass
    opened: list[Any] = []
    for spot, sealed in values:
        try:
            opened += await _open(connection, [(spot, sealed)])
        except _DOES_NOT_OPEN as error:
            log.error("sealed_value_spoilt", table=spot.table, column=spot.column, row=str(spot.row), reason=str(error))
            opened.append(SPOILT)
    return opened


async def open_what_can(connection: Connection, values: Sequence[tuple[Spot, bytes]]) -> list[Any]:
    """The same for words that nothing depends on: SPOILT stands for all of them while the key service is away."""
    try:
        return await open_each(connection, values)
    except KeyUnavailable:
        return [SPOILT] * len(values)


_DOES_NOT_OPEN: Final = (KeyLost, Unsealable, ValueError)


async def _open(connection: Connection, values: Sequence[tuple[Spot, bytes]]) -> list[Any]:
    """As `open_all`; raises KeyLost, Unsealable, and ValueError for what is no sealed value."""
    if not values:
        return []
    owners = {sealed[:HEADER_BYTES]: sealed for _, sealed in values}
    by_header = {header: owner_of(sealed) for header, sealed in owners.items()}
    found = await _find(connection, by_header.values())
    deks = {header: found.get(owner) for header, owner in by_header.items()}
    opened: list[Any] = []
    for spot, sealed in values:
        dek = deks[sealed[:HEADER_BYTES]]
        opened.append(dek.open(spot, sealed) if dek is not None else ERASED)
    return opened


async def seal_for(
    connection: Connection,
    person_id: uuid.UUID | None,
    agency_id: uuid.UUID,
    values: Mapping[Spot, Any],
    now: datetime,
    *,
    or_agency: bool = False,
) -> dict[Spot, bytes]:
    """Values sealed with a person's key, or with her agency's when there is no person.

    Raises Conflict `person_erased`; with `or_agency` the agency's key seals what came after her erasure.
    """
    owner = person(person_id) if person_id is not None else agency(agency_id)
    if or_agency and person_id is not None and (await find(connection, [owner])).get(owner, owner) is None:
        owner = agency(agency_id)
    dek = (await ensure(connection, {owner: agency_id}, now))[owner]
    return {spot: dek.seal(spot, value) for spot, value in values.items()}


async def count_by_kek(connection: Connection) -> dict[str, int]:
    """How many data keys each key-encryption key wraps."""
    rows = await connection.fetch(
        "SELECT kek_id, count(*) AS keys FROM (SELECT kek_id FROM person_key WHERE kek_id IS NOT NULL"
        " UNION ALL SELECT kek_id FROM agency_key) wrapped GROUP BY kek_id ORDER BY kek_id"
    )
    return {row["kek_id"]: int(row["keys"]) for row in rows}


async def lock_wrapped_otherwise(connection: Connection, kek_id: str, limit: int) -> list[tuple[Owner, Wrapped]]:
    """At most `limit` keys that another key-encryption key wraps, locked; those that others hold are passed over."""
    rows = await connection.fetch(
        f"SELECT {AGENCY} AS kind, agency_id AS id, kek_id, wrapped FROM agency_key WHERE kek_id <> $1"  # noqa: S608
        " LIMIT $2 FOR UPDATE SKIP LOCKED",
        kek_id,
        limit,
    )
    if len(rows) < limit:
        rows += await connection.fetch(
            f"SELECT {PERSON} AS kind, person_id AS id, kek_id, wrapped FROM person_key WHERE kek_id <> $1"  # noqa: S608
            " LIMIT $2 FOR UPDATE SKIP LOCKED",
            kek_id,
            limit - len(rows),
        )
    return [(Owner(row["kind"], row["id"]), Wrapped(row["kek_id"], row["wrapped"])) for row in rows]


async def store_wrapped(connection: Connection, keys: Sequence[tuple[Owner, Wrapped]]) -> None:
    """Write how keys are wrapped now."""
    for kind, table, column in ((PERSON, "person_key", "person_id"), (AGENCY, "agency_key", "agency_id")):
        mine = [(owner.id, wrapped) for owner, wrapped in keys if owner.kind == kind]
        await connection.execute(
            f"UPDATE {table} SET kek_id = new.kek_id, wrapped = new.wrapped"  # noqa: S608
            f" FROM unnest($1::uuid[], $2::text[], $3::bytea[]) AS new (id, kek_id, wrapped) WHERE {column} = new.id",
            [owner_id for owner_id, _ in mine],
            [wrapped.key_id for _, wrapped in mine],
            [wrapped.blob for _, wrapped in mine],
        )


async def erase(connection: Connection, person_ids: Sequence[uuid.UUID], now: datetime) -> None:
    """Destroy people's keys; who never had one gets a row that says so. What they sealed opens never again."""
    await connection.execute(
        "INSERT INTO person_key (person_id, agency_id, created_at, erased_at)"
        " SELECT id, agency_id, $2, $2 FROM person WHERE id = ANY ($1::uuid[])"
        " ON CONFLICT (person_id) DO UPDATE SET kek_id = NULL, wrapped = NULL,"
        " erased_at = coalesce(person_key.erased_at, excluded.erased_at)",
        list(person_ids),
        now,
    )
    for person_id in person_ids:
        vault_of(connection).forget(person(person_id))
