"""What an older version left plain: found in batches, sealed, and the plain columns emptied.

Each batch is one transaction that ends with less left over; whoever comes next goes on from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import Owner, Spot, agency, person
from core.postgres import keys
from core.postgres.agencies import ROUTES
from core.postgres.contacts import CONTACTS
from core.postgres.database import Connection
from core.postgres.devices import DEVICES
from core.postgres.incidents import PRIVATE
from core.postgres.orders import ORDERS
from core.postgres.people import PEOPLE, index
from core.postgres.reasons import GLASS, LOOKS, WORDS, Reasons
from core.postgres.sealed_table import SUFFIX, SealedTable
from core.postgres.suspensions import SUSPENSIONS
from core.postgres.zones import ZONES

Batch = Callable[[Connection, int, datetime], Awaitable[int]]
"""(connection, most rows, now) → how many rows it dealt with."""


def _owner(row: Any) -> Owner:
    return person(row["person_id"]) if row["person_id"] is not None else agency(row["agency_id"])


@dataclass(frozen=True)
class _Managed:
    """A managed table's leftovers; `person_sql` gives whose key seals a row."""

    table: SealedTable
    person_sql: str

    async def __call__(self, connection: Connection, limit: int, now: datetime) -> int:
        names = self.table.private
        rows = await connection.fetch(
            f"SELECT id, agency_id, {self.person_sql} AS person_id, {', '.join(f'{n} AS {n}_plain' for n in names)}"  # noqa: S608
            f" FROM {self.table.name} WHERE num_nonnulls({', '.join(names)}) > 0 ORDER BY id LIMIT $1"
            f" FOR NO KEY UPDATE OF {self.table.name} SKIP LOCKED",
            limit,
        )
        deks = await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
        sets = ", ".join(
            f"{name} = NULL, {name}{SUFFIX} = coalesce({name}{SUFFIX}, ${n})" for n, name in enumerate(names, 2)
        )
        await connection.executemany(
            f"UPDATE {self.table.name} SET {sets} WHERE id = $1",  # noqa: S608
            [(row["id"], *(self._sealed(deks[_owner(row)], row, name) for name in names)) for row in rows],
        )
        if self.table is PEOPLE and rows:
            await index(
                connection,
                [
                    {"id": row["id"], "agency_id": row["agency_id"], "identity": row["identity_plain"] or {}}
                    for row in rows
                    if row["identity_plain"] is not None and deks[_owner(row)] is not None
                ],
            )
        return len(rows)

    def _sealed(self, dek: Any, row: Any, name: str) -> bytes | None:
        value = row[f"{name}_plain"]
        if dek is None or value is None or value == self.table.absent.get(name):
            return None
        sealed: bytes = dek.seal(Spot(self.table.name, name, row["id"]), value)
        return sealed


async def _keyless_people(connection: Connection, limit: int, now: datetime) -> int:
    rows = await connection.fetch(
        "SELECT id AS person_id, agency_id FROM person p"
        " WHERE NOT EXISTS (SELECT FROM person_key k WHERE k.person_id = p.id) ORDER BY id LIMIT $1",
        limit,
    )
    await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
    return len(rows)


async def _panics(connection: Connection, limit: int, now: datetime) -> int:
    rows = await connection.fetch(
        "SELECT id, agency_id, person_id, note, body FROM panic WHERE num_nonnulls(note, body) > 0 ORDER BY id LIMIT $1"
        " FOR NO KEY UPDATE SKIP LOCKED",
        limit,
    )
    deks = await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
    changes = []
    for row in rows:
        dek = deks[_owner(row)]
        sealed = [
            dek.seal(Spot("panic", name, row["id"]), row[name]) if dek is not None and row[name] else None
            for name in ("note", "body")
        ]
        changes.append((row["id"], *sealed))
    await connection.executemany(
        "UPDATE panic SET note = NULL, body = NULL, note_sealed = coalesce(note_sealed, $2),"
        " body_sealed = coalesce(body_sealed, $3) WHERE id = $1",
        changes,
    )
    return len(rows)


async def _lines(connection: Connection, limit: int, now: datetime) -> int:
    rows = await connection.fetch(
        "SELECT t.id, t.data, i.agency_id, i.victim_id AS person_id FROM timeline t"
        " JOIN incident i ON i.id = t.incident_id WHERE t.data ?| $2::text[]"
        " ORDER BY t.id LIMIT $1 FOR NO KEY UPDATE OF t SKIP LOCKED",
        limit,
        sorted(PRIVATE),
    )
    deks = await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
    changes = []
    for row in rows:
        dek = deks[_owner(row)]
        private = {name: value for name, value in row["data"].items() if name in PRIVATE}
        rest = {name: value for name, value in row["data"].items() if name not in PRIVATE}
        sealed = dek.seal(Spot("timeline", "private", row["id"]), private) if dek is not None else None
        changes.append((row["id"], rest, sealed))
    await connection.executemany("UPDATE timeline SET data = $2, private_sealed = $3 WHERE id = $1", changes)
    return len(rows)


async def _deliveries(connection: Connection, limit: int, now: datetime) -> int:
    rows = await connection.fetch(
        "SELECT d.id, d.agency_id, d.address, d.secret, CASE WHEN d.audience IN ('victim', 'contact') THEN"
        " coalesce(i.victim_id, (SELECT v.person_id FROM device v WHERE 'device:' || v.id = d.recipient)) END"
        " AS person_id FROM delivery d LEFT JOIN incident i ON i.id = d.incident_id"
        " WHERE num_nonnulls(d.address, d.secret) > 0 ORDER BY d.id LIMIT $1 FOR NO KEY UPDATE OF d SKIP LOCKED",
        limit,
    )
    deks = await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
    changes = []
    for row in rows:
        dek, address = deks[_owner(row)], row["address"] or ""
        target = {"address": address, "secret": row["secret"], "data": {}}
        sealed = dek.seal(Spot("delivery", "target", row["id"]), target) if dek is not None else None
        changes.append((row["id"], sealed, dek.digest("address", address) if dek is not None else None))
    await connection.executemany(
        "UPDATE delivery SET address = NULL, secret = NULL, target_sealed = $2, address_digest = $3 WHERE id = $1",
        changes,
    )
    return len(rows)


async def _order_versions(connection: Connection, limit: int, now: datetime) -> int:
    rows = await connection.fetch(
        "SELECT v.order_id, v.version, v.body, v.agency_id, o.victim_id AS person_id FROM order_version v"
        " JOIN protection_order o ON o.id = v.order_id WHERE v.body ->> 'legal_ground' IS NOT NULL"
        " OR jsonb_array_length(coalesce(nullif(v.body -> 'exceptions', 'null'), '[]')) > 0"
        " ORDER BY v.order_id, v.version LIMIT $1 FOR NO KEY UPDATE OF v SKIP LOCKED",
        limit,
    )
    deks = await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
    changes = []
    for row in rows:
        body, dek = dict(row["body"]), deks[_owner(row)]
        for name in ORDERS.private:
            value = body.get(name)
            body[name] = None
            if dek is not None and value is not None and value != ORDERS.absent.get(name):
                sealed = dek.seal(Spot(ORDERS.name, name, row["order_id"]), value)
                body[name + SUFFIX] = "\\x" + sealed.hex()
        changes.append((row["order_id"], row["version"], body))
    await connection.executemany("UPDATE order_version SET body = $3 WHERE order_id = $1 AND version = $2", changes)
    return len(rows)


@dataclass(frozen=True)
class _Reasons:
    """What was said of broken glass, or of looks."""

    words: Reasons
    person_sql: str

    async def __call__(self, connection: Connection, limit: int, now: datetime) -> int:
        table = self.words.table
        rows = await connection.fetch(
            f"SELECT id, agency_id, {self.person_sql} AS person_id, reason, review_note FROM {table}"  # noqa: S608
            " WHERE num_nonnulls(reason, review_note) > 0 ORDER BY id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED",
            limit,
        )
        deks = await keys.ensure_or_erased(connection, {_owner(row): row["agency_id"] for row in rows}, now)
        changes = []
        for row in rows:
            dek = deks[_owner(row)]
            sealed = [
                dek.seal(Spot(table, name, row["id"]), row[name]) if dek is not None and row[name] else None
                for name in WORDS
            ]
            changes.append((row["id"], *sealed))
        await connection.executemany(
            f"UPDATE {table} SET reason = NULL, review_note = NULL, reason_sealed = coalesce(reason_sealed, $2),"  # noqa: S608
            " review_note_sealed = coalesce(review_note_sealed, $3) WHERE id = $1",
            changes,
        )
        return len(rows)


STEPS: Final[Sequence[tuple[str, Batch]]] = (
    ("person_key", _keyless_people),
    ("person", _Managed(PEOPLE, "id")),
    ("contact", _Managed(CONTACTS, "person_id")),
    (
        "zone",
        _Managed(ZONES, "(SELECT o.victim_id FROM protection_order o WHERE o.id = order_id)"),
    ),
    ("device", _Managed(DEVICES, "person_id")),
    ("notification_route", _Managed(ROUTES, "NULL::uuid")),
    ("panic", _panics),
    ("timeline", _lines),
    ("delivery", _deliveries),
    ("protection_order", _Managed(ORDERS, "victim_id")),
    ("order_version", _order_versions),
    ("suspension", _Managed(SUSPENSIONS, "(SELECT o.victim_id FROM protection_order o WHERE o.id = order_id)")),
    ("break_glass", _Reasons(GLASS, "NULL::uuid")),
    ("person_look", _Reasons(LOOKS, "person_id")),
)
"""What has leftovers: the table, and what deals with a batch of them."""


async def count(connection: Connection) -> dict[str, int]:
    """Rows with something plain left in them, by table; tables without are left out."""
    found = {}
    for name, condition in (
        ("person", "num_nonnulls(identity, safe_contact, safe_word) > 0"),
        ("contact", "num_nonnulls(name, relation, channels) > 0"),
        ("zone", "name IS NOT NULL"),
        ("device", "push_token IS NOT NULL"),
        ("notification_route", "secret IS NOT NULL"),
        ("panic", "num_nonnulls(note, body) > 0"),
        ("timeline", "data ?| ARRAY['differs', 'note']"),
        ("delivery", "num_nonnulls(address, secret) > 0"),
        ("protection_order", "num_nonnulls(legal_ground, exceptions) > 0"),
        ("suspension", "reason IS NOT NULL"),
        ("break_glass", "num_nonnulls(reason, review_note) > 0"),
        ("person_look", "num_nonnulls(reason, review_note) > 0"),
    ):
        rows = int(await connection.fetchval(f"SELECT count(*) FROM {name} WHERE {condition}"))  # noqa: S608
        if rows:
            found[name] = rows
    return found
