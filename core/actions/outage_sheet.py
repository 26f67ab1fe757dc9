"""Makes an agency's outage sheet out of PostgreSQL alone, and writes down that it was made."""

from __future__ import annotations

import uuid
from typing import Any

from core.actions.unit_of_work import Unit
from core.domain.outage_sheet import SheetPair, riskiest
from core.evidence.outage_sheet import Sheet
from core.postgres import agencies
from core.postgres import outage_sheet as store
from core.postgres.table import Record


async def make(
    unit: Unit, agency_id: uuid.UUID, *, hide_sealed: bool, staff_names: bool = True
) -> tuple[Sheet, list[uuid.UUID]]:
    """The sheet, and the people it tells of.

    `hide_sealed`: name nobody of a sealed case; a user's own scope leaves out what is hidden from her anyway.
    `staff_names`: name who is on duty; the device side knows no users, only roles and numbers.
    """
    agency = await agencies.get(unit.connection, agency_id)
    found = await store.pairs(unit.connection, agency_id)
    by_order = {str(row["id"]): row for row in found}
    listed = riskiest([_pair(row) for row in found], unit.now)
    told = [by_order[pair.order_id] for pair in listed]
    open_rows = [row for row in told if not (row["sealed"] and hide_sealed)]
    ids = list(dict.fromkeys(row[side] for row in open_rows for side in ("victim_id", "aggressor_id")))
    known = await store.people(unit.connection, ids)
    pairs = [_named(row, known, sealed=row["sealed"] and hide_sealed) for row in told]
    total = await store.count(unit.connection, agency_id)
    sheet = Sheet(
        agency_id,
        agency["name"],
        agency["time_zone"],
        unit.now,
        pairs,
        max(0, total - len(pairs)),
        await store.duty(unit.connection, agency_id, names=staff_names),
        await store.units(unit.connection, agency_id),
    )
    return sheet, ids


def _pair(row: Record, **more: Any) -> SheetPair:
    return SheetPair(
        order_id=str(row["id"]),
        reference=row["reference"] or "—",
        district=row["region"] or "",
        risk=row["risk_level"],
        state=row["state"] if row["state"] in {"clear", "warning", "breach"} else "unknown",
        distance_m=row["distance_m"],
        known_at=row["evaluated_at"],
        alert_m=row["alert_m"],
        her_seen_at=row["her_seen_at"],
        his_seen_at=row["his_seen_at"],
        **more,
    )


def _named(row: Record, known: dict[uuid.UUID, Record], *, sealed: bool) -> SheetPair:
    her, him = known.get(row["victim_id"], {}), known.get(row["aggressor_id"], {})
    safe = her.get("safe_contact") or {}
    reach = " · ".join(str(safe[name]) for name in ("channel", "address", "hours") if safe.get(name))
    return _pair(
        row,
        her=_name(her),
        him=_name(him),
        reach=reach or _phone(her),
        language=str(her.get("language") or ""),
        sealed=sealed,
    )


def _name(person: Record) -> str:
    return str((person.get("identity") or {}).get("name") or "—")


def _phone(person: Record) -> str:
    return str((person.get("identity") or {}).get("phone") or "—")
