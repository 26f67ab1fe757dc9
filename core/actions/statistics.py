"""Figures without identities: what is entered for them, and the report with small counts suppressed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from core.actions.records import Asker, check_people, claim, insert
from core.actions.unit_of_work import Unit
from core.domain.statistics import DIMENSIONS, FUNNEL, MEASURES, MINISTRY
from core.domain.suppression import Counts, K, Shown, protect, steps
from core.errors import InvalidInput, NotFound
from core.postgres import statistics as store
from core.postgres.database import Connection
from core.postgres.orders import ORDERS
from core.postgres.statistics import CALLS, COURT_OUTCOMES
from core.postgres.table import Record

MONTHS_MAX: Final = 60


async def record_call(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The call as counted, and whether it is new; her coarse attributes are taken from her record where there is one.

    Raises NotFound (person, order), InvalidInput `time_in_future`, Conflict `id_reused`.
    """
    if not await claim(unit, asker, CALLS, record_id, values):
        assert record_id is not None
        return await CALLS.get(unit.connection, asker.agency_id, record_id), False
    row = {"received_at": unit.now, **values, "recorded_by": asker.user_id}
    if row["received_at"] > unit.now:
        raise InvalidInput("received_at lies in the future.", code="time_in_future")
    if (person_id := row.get("person_id")) is not None:
        await check_people(unit, asker.agency_id, [person_id])
        row = {**await _coarse(unit, person_id, row), **row}
    if row.get("order_id") is not None:
        await ORDERS.get(unit.connection, asker.agency_id, row["order_id"])
    return await insert(unit, asker, CALLS, record_id, row), True


async def link_call(unit: Unit, asker: Asker, call_id: uuid.UUID, order_id: uuid.UUID) -> Record:
    """The call with the order that followed from it. Raises NotFound (either)."""
    await ORDERS.get(unit.connection, asker.agency_id, order_id)
    return await CALLS.update(unit.connection, asker.agency_id, call_id, {"order_id": order_id, "updated_at": unit.now})


async def record_outcome(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """What a court decided, as counted, and whether it is new; with his coarse attributes as they are now.

    Raises NotFound (the order), InvalidInput `time_in_future`, Conflict `id_reused`.
    """
    if not await claim(unit, asker, COURT_OUTCOMES, record_id, values):
        assert record_id is not None
        return await COURT_OUTCOMES.get(unit.connection, asker.agency_id, record_id), False
    order = await ORDERS.get(unit.connection, asker.agency_id, values["order_id"])
    row = {"decided_at": unit.now, **values, "recorded_by": asker.user_id}
    if row["decided_at"] > unit.now:
        raise InvalidInput("decided_at lies in the future.", code="time_in_future")
    row = {**row, **await _coarse(unit, order["aggressor_id"], {})}
    return await insert(unit, asker, COURT_OUTCOMES, record_id, row), True


async def _coarse(unit: Unit, person_id: uuid.UUID, said: Mapping[str, Any]) -> dict[str, Any]:
    found = await store.traits(unit.connection, person_id)
    if found is None:
        raise NotFound("There is no person with this id.")
    return {name: found[name] for name in ("sex", "age_band") if name not in said}


def check_months(first: date, last: date) -> tuple[date, date]:
    """[first day, day after the last) of whole months; raises InvalidInput `time_invalid`."""
    begins, last_begins = first.replace(day=1), last.replace(day=1)
    months = (last_begins.year - begins.year) * 12 + last_begins.month - begins.month + 1
    if not 1 <= months <= MONTHS_MAX:
        raise InvalidInput(f"The last month must not be before the first, nor {MONTHS_MAX} on.", code="time_invalid")
    year, month = divmod(last_begins.year * 12 + last_begins.month, 12)
    return begins, date(year, month + 1, 1)


async def report(
    connection: Connection, first: date, last: date, agency_id: uuid.UUID | None, k: int = K
) -> dict[str, Any]:
    """The figures of whole months, of one agency or (None) of all that may be seen, small counts suppressed."""
    begins, ends = check_months(first, last)
    counts = {measure: _counts(await store.count(connection, measure, begins, ends, agency_id)) for measure in MEASURES}
    shown: dict[str, Shown] = {}
    for measure, whole in MEASURES.items():  # a whole stands before its parts
        if whole is None:
            shown[measure] = protect(counts[measure], k=k)
        else:
            shown[measure] = protect(counts[measure], counts[whole], shown[whole], k)
    funnel = await store.funnel(connection, begins, ends, agency_id)
    return {
        "from": f"{first:%Y-%m}",
        "to": f"{last:%Y-%m}",
        "k": k,
        "measures": {
            name: {"part_of": MEASURES[name], "total": one.total, "by": {by: dict(t) for by, t in one.tables.items()}}
            for name, one in shown.items()
        },
        "false_alarm_share": _share(shown["false_alarms"].total, shown["incidents_resolved"].total),
        "funnel": steps({name: funnel[name] for name in FUNNEL}, k),
        "response_times": _times(await store.response_times(connection, begins, ends, agency_id), k),
        "unprotected_gaps": _times(await store.gap_times(connection, begins, ends, agency_id), k),
        "ministry": _ministry(shown),
    }


def _counts(rows: Sequence[Record]) -> Counts:
    tables: dict[str, dict[str, int]] = {name: {} for name in DIMENSIONS}
    for row in rows:
        for name, table in tables.items():
            table[row[name]] = table.get(row[name], 0) + row["count"]
    return Counts(sum(row["count"] for row in rows), {name: dict(sorted(t.items())) for name, t in tables.items()})


def _share(part: int | None, whole: int | None) -> float | None:
    return round(part / whole, 4) if part is not None and whole else None


def _times(rows: Sequence[Record], k: int) -> list[dict[str, Any]]:
    """Times of at least k only, and without how many: beside other figures a count would tell."""
    return [
        {name: round(value, 1) if isinstance(value, float) else value for name, value in row.items() if name != "count"}
        for row in rows
        if row["count"] >= k
    ]


def _ministry(shown: Mapping[str, Shown]) -> list[dict[str, Any]]:
    """Calls, orders issued, persons held liable, by region, and all together (region null)."""
    regions = sorted({region for name in MINISTRY for region in shown[name].tables["region"]})
    total = {"region": None, **{name: shown[name].total for name in MINISTRY}}
    return [
        *({"region": region, **{name: _cell(shown[name], region) for name in MINISTRY}} for region in regions),
        total,
    ]


def _cell(measure: Shown, region: str) -> int | None:
    """A cell of a region that a measure does not name: none there, or, where all is withheld, nothing told."""
    return measure.tables["region"].get(region, 0 if measure.total is not None else None)
