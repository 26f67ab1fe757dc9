"""Incidents out of transitions: the idempotent fold.

Raw alarms fold into one open incident per subject (order or device) and family. A transition that was applied
before does nothing; two transactions that open the same incident at the same moment end with one of them. All of a
batch takes about a dozen statements, however long it is.

A batch is judged in order, each transition by what was so at that moment (`fold_facts`). Silences that may be one of
many wait (`silences`), what tells of the past goes its own way (`past`), and the rest folds.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from core.actions.edges import read_probing
from core.actions.edges import tell as tell_of_edges
from core.actions.escalation import start as start_clocks
from core.actions.fold_facts import Facts, Judgement, gather
from core.actions.incident_rows import fold_into, line_of, opening_row
from core.actions.notices import Notice, notice_of
from core.actions.past import tell_past
from core.actions.prompts import prompt_wearers
from core.actions.silences import absorb
from core.actions.unit_of_work import Unit
from core.actions.untold import mark, tell_or_wait
from core.domain.alarm import SEPARATION_KINDS, is_past, is_prompt
from core.domain.transition import Transition
from core.metrics import INCIDENTS_OPENED
from core.postgres import audit, separations
from core.postgres import incidents as store
from core.postgres import transitions as records
from core.postgres.incidents import Key, Line, Row

__all__ = ["apply_transitions", "fold", "fold_again"]

AGAIN_MAX: Final = 500
"""Transitions folded again at once; the next call takes the rest."""


async def apply_transitions(unit: Unit, transitions: Sequence[Transition]) -> None:
    """Take transitions in order: their rows, the incidents they open, escalate or ease, and who is told.

    Idempotent by the transitions' ids. Raises only when nothing of it must be committed.
    """
    if not transitions:
        return
    new = await records.add_new(unit.connection, transitions)
    fresh = list({item.id: item for item in reversed(transitions) if item.id in new}.values())[::-1]
    if not fresh:
        return
    facts = await gather(unit, fresh)
    judged = [judgement for item in fresh for judgement in facts.judge(item)]
    judged, taken = await absorb(unit, facts, fresh, judged)
    facts.probing = await read_probing(unit, fresh)
    if judged:
        await fold(unit, facts, judged)
    await tell_of_edges(unit, facts, fresh, facts.probing)
    if taken:
        await records.link(unit.connection, taken)
    if past := [item for item in fresh if is_past(item)]:
        await tell_past(unit, facts, past)
    if late := [item for item in fresh if is_prompt(item)]:
        await prompt_wearers(unit, facts, late)
    present = [item for item in fresh if item.kind in SEPARATION_KINDS and not item.retrospective]
    await separations.keep(unit.later, present)


async def fold_again(unit: Unit, transition_ids: Sequence[uuid.UUID], why: uuid.UUID, *, link: bool = True) -> None:
    """Open what stored transitions call for though an incident of theirs is over, or none was opened.

    `why` (a resolved incident, an outage) makes the new incidents' ids; `link`: whether the transitions are theirs now.
    """
    for start in range(0, len(transition_ids), AGAIN_MAX):
        items = await records.by_ids(unit.connection, transition_ids[start : start + AGAIN_MAX])
        facts = await gather(unit, items)
        judged = [judgement for item in items for judgement in facts.judge(item)]
        await fold(unit, facts, judged, again=why, link=link)


async def fold(
    unit: Unit, facts: Facts, judged: Sequence[Judgement], *, again: uuid.UUID | None = None, link: bool = True
) -> None:
    """Open, escalate and ease the incidents of `judged`, in order, and tell whom they concern."""
    openings: dict[Key, tuple[Judgement, Row]] = {}
    for one in judged:
        key = (one.alarm.subject, one.alarm.family)
        if one.alarm.raised and one.alarm.opens and key not in openings:
            row = opening_row(facts, one, unit.now, again)
            openings[key] = (one, row)
            if not facts.stands(row):
                facts.joined(row)
    keys = {(one.alarm.subject, one.alarm.family) for one in judged}
    found, opened = await store.claim(unit.connection, keys, {key: row for key, (_, row) in openings.items()})
    for key, row in found.items():
        if key not in opened:
            facts.stood(row)
    if opened:
        await start_clocks(unit, [found[key] for key in sorted(opened)])

    lines: list[Line] = []
    notices: list[Notice] = []
    incident_of: dict[uuid.UUID, uuid.UUID] = {}
    changed: dict[uuid.UUID, Row] = {}
    risen: dict[uuid.UUID, Row] = {}
    for one in judged:
        key = (one.alarm.subject, one.alarm.family)
        if key not in found:
            continue
        row = found[key]
        if key in opened and one is openings[key][0]:
            what = "opened"
            to_routes, to_her = facts.pages(row)
            facts.stood(row)
            notices.append(notice_of(row, row["id"] if again else one.item.id, to_routes=to_routes, to_her=to_her))
        else:
            what, rose = fold_into(row, one)
            if not one.own and not rose:
                continue
            row["updated_at"] = unit.now
            changed[row["id"]] = row
            if rose:
                notices.append(notice_of(row, one.item.id))
                risen[row["id"]] = row
        if one.own:
            incident_of[one.item.id] = row["id"]
        lines.append(line_of(row, one, what, again=again is not None))
    if risen:
        await start_clocks(unit, list(risen.values()))
    # Told before the rows are written: of whom the keys are away, the row says that the messages wait.
    waiting = await tell_or_wait(unit, notices)
    for row in found.values():
        if row["id"] in waiting:
            mark(row, waiting[row["id"]])
            changed[row["id"]] = row
    await _write(unit, found, opened, changed, lines)
    if link and incident_of:
        await records.link(unit.connection, incident_of)


async def _write(
    unit: Unit, found: dict[Key, Row], opened: set[Key], changed: dict[uuid.UUID, Row], lines: Sequence[Line]
) -> None:
    if changed:
        await store.update_many(unit.connection, list(changed.values()))
    if lines:
        await store.add_lines(unit.later, lines)
    if opened:
        await audit.write_openings(unit.later, unit.now, [found[key] for key in sorted(opened)])
    for key, row in found.items():
        if key in opened:
            unit.emit(row["agency_id"], "incident.opened", store.incident_json(row))
            counter = INCIDENTS_OPENED.labels(row["type"], row["severity"])
            unit.after_commit(counter.inc)
        elif row["id"] in changed:
            unit.emit(row["agency_id"], "incident.updated", store.incident_json(row))
