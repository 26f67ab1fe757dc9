"""What late data shows of the past: an incident marked retrospective, or a line of the one that was going on then.

One that knew of less than a breach (an approach) does not hide it: it becomes more, and that is told, or, where it is
resolved already, the breach stands beside it. Such an incident folds by the order and the moment, never with what
happens now, and says nothing of where he is now.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from core.actions.escalation import start
from core.actions.fold_facts import Facts, Judgement
from core.actions.incident_rows import fold_into, line_of, opening_row
from core.actions.notices import Notice, notice_of
from core.actions.unit_of_work import Unit
from core.actions.untold import mark, tell_or_wait
from core.clock import from_ms, rfc3339, to_ms
from core.domain.alarm import Alarm, past_end_ms, past_severity, subject_of
from core.domain.incident import FAMILY_OF_TYPE, Severity
from core.domain.transition import Transition
from core.metrics import INCIDENTS_OPENED
from core.postgres import audit
from core.postgres import incidents as store
from core.postgres import transitions as records


async def tell_past(unit: Unit, facts: Facts, items: Sequence[Transition]) -> None:
    """Take past breaches: each opens its own incident unless one of its order and type was going on then."""
    notices: list[Notice] = []
    linked: dict[uuid.UUID, uuid.UUID] = {}
    for item in items:
        if item.to_state != "breach" or item.kind not in {"proximity", "zone"}:
            continue
        linked[item.id], notice = await _tell_one(unit, facts, item)
        notices += [notice] if notice is not None else []
    if linked:
        await records.link(unit.connection, linked)
    if waiting := await tell_or_wait(unit, notices):
        rows = await store.lock_many(unit.connection, sorted(waiting))
        for row in rows:
            mark(row, waiting[row["id"]])
        await store.update_many(unit.connection, rows)


async def _tell_one(unit: Unit, facts: Facts, item: Transition) -> tuple[uuid.UUID, Notice | None]:
    subject, family, began = subject_of(item), FAMILY_OF_TYPE[item.kind], from_ms(item.at_ms)
    ended = from_ms(past_end_ms(item))
    severity = past_severity(to_ms(ended), to_ms(unit.now))
    recent = severity == Severity.CRITICAL
    judgement = Judgement(item, Alarm(f"{subject}@{item.at_ms}", family, item.kind, severity, raised=True))
    row = await store.lock_overlapping(unit.connection, item.case_id, subject, family, item.kind, began, ended)
    if row is not None:
        version = row["version"]
        if row["type"] != item.kind:
            fold_into(row, replace(judgement, own=False))  # its figures and places are those of now
        row["updated_at"] = unit.now
        if row["version"] != version:
            await start(unit, [row])
        await store.update_many(unit.connection, [row])
        await store.add_lines(unit.connection, [line_of(row, judgement, "past")])
        unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))
        return row["id"], notice_of(row, item.id, to_her=recent) if row["version"] != version else None
    # An episode is of minutes: what is long over joins none.
    row = opening_row(facts if recent else replace(facts, recent={}), judgement, unit.now)
    row["detail"] = {**row["detail"], "until": rfc3339(ended)}
    to_routes, to_her = facts.pages(row)
    if not await store.insert_open(unit.connection, row):
        return row["id"], None
    facts.stood(row)
    await start(unit, [row])
    await store.add_lines(unit.connection, [line_of(row, judgement, "opened")])
    await audit.write_openings(unit.connection, unit.now, [row])
    unit.emit(row["agency_id"], "incident.opened", store.incident_json(row))
    unit.after_commit(INCIDENTS_OPENED.labels(row["type"], row["severity"]).inc)
    return row["id"], notice_of(row, item.id, to_routes=to_routes, to_her=to_her and recent)
