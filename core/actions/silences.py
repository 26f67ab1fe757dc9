"""Silences on their way into the fold: alone, waiting to be judged as one of many, or part of an outage.

A device counts from when it is late: that is long before it is called silent or a separation unknown, so that an
outage is there to take them. When so many devices of one agency or district are not heard that it may be one, single
incidents of medium severity wait for at most `HOLD`; `core.actions.outages` decides. Danger does not wait: the silence
of a victim during an incident, and a separation that became unknown when he was near or coming, stand alone always.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core.actions.fold_facts import Facts, Judgement
from core.actions.unit_of_work import Unit
from core.clock import from_ms
from core.domain.alarm import LATE, is_prompt, signal_of
from core.domain.outage import JOINS, SILENT_LEAST, WINDOW, cell_of
from core.domain.transition import Transition
from core.postgres import prompts
from core.postgres import silences as store
from core.postgres.silences import Silence


def outage_subject(agency_id: uuid.UUID, cell: str | None) -> str:
    """What outages fold by: an agency, or one district of it."""
    return f"outage:{agency_id}" if cell is None else f"outage:{agency_id}:{cell}"


async def absorb(
    unit: Unit, facts: Facts, items: Sequence[Transition], judged: Sequence[Judgement]
) -> tuple[list[Judgement], dict[uuid.UUID, uuid.UUID]]:
    """Keep who is silent, and take out of `judged` what stands not alone.

    Returns what is left to fold, and by transition the outage that took it.
    """
    heard = [item.device_id for item in items if signal_of(item) == "silence" and item.to_state == "reporting"]
    raised = [one for one in judged if one.own and one.alarm.raised and one.alarm.type == "silence"]
    unheard = [_Unheard(item, LATE, near=False) for item in items if is_prompt(item)]
    unheard += [_Unheard(one.item, "silent", one.near) for one in raised]
    distant = [one for one in judged if _is_distant(one)]
    if heard:
        await prompts.answered(unit.connection, heard, unit.now)
    taken: dict[uuid.UUID, uuid.UUID] = {}
    held: set[uuid.UUID] = set()
    kept: dict[uuid.UUID, Silence] = {}
    if unheard:
        await _place(unit, facts, unheard, taken, held, kept)
    gone = {device_id for device_id in heard if device_id is not None and not _unheard_after(device_id, items)}
    if left := [one for one in kept.values() if one.device_id not in gone]:
        await store.keep(unit.connection, left, unit.now)
    if gone:
        await store.forget(unit.connection, sorted(gone))
    if distant:
        taken |= await _of_outages(unit, facts, distant)
    alone = [one for one in judged if not one.alarm.raised or (one.item.id not in taken and one.item.id not in held)]
    return alone, taken


@dataclass(frozen=True, slots=True)
class _Unheard:
    """A device that is late, or silent."""

    item: Transition
    state: str
    near: bool


def _is_distant(one: Judgement) -> bool:
    """Whether a separation became unknown by a silence while nobody was near."""
    unknown = one.alarm.raised and one.alarm.type == "separation_unknown"
    return unknown and not one.near and one.item.detail.get("reason") != "poor_fixes"


async def _place(
    unit: Unit,
    facts: Facts,
    unheard: Sequence[_Unheard],
    taken: dict[uuid.UUID, uuid.UUID],
    held: set[uuid.UUID],
    kept: dict[uuid.UUID, Silence],
) -> None:
    """Decide of each silence: an outage's, held, or alone. Who is late is only counted, or an outage's."""
    agencies = sorted({one.item.agency_id for one in unheard})
    outages = await store.open_outages(unit.connection, agencies, unit.now - JOINS)
    counts = await store.fallen_silent(unit.connection, agencies, unit.now - WINDOW)
    totals = Counter(one.item.agency_id for one in unheard)
    for (agency_id, _), count in counts.items():
        totals[agency_id] += count
    for one in unheard:
        item, outage_id, cell = one.item, None, _cell(one.item)
        person, role = facts.wearer(item)
        assert item.device_id is not None
        if not one.near:
            own = outages.get(outage_subject(item.agency_id, cell)) if cell is not None else None
            outage_id = own or outages.get(outage_subject(item.agency_id, None))
            if outage_id is not None:
                taken[item.id] = outage_id
            elif one.state == "silent" and totals[item.agency_id] >= SILENT_LEAST:
                held.add(item.id)  # a district's count is never more than its agency's
        kept[item.device_id] = Silence(
            item.device_id, person, role, one.state, item.agency_id, item.case_id, from_ms(item.at_ms), cell, item.id,
            held=item.id in held, outage_id=outage_id,
        )  # fmt: skip


async def _of_outages(unit: Unit, facts: Facts, distant: Sequence[Judgement]) -> dict[uuid.UUID, uuid.UUID]:
    """By transition: the outage behind a separation that became unknown while nobody was near."""
    parties = {
        one.item.id: [
            person for order in facts.orders_of(one.item, None) for person in (order.victim_id, order.aggressor_id)
        ]
        for one in distant
    }
    people = sorted({person for of_order in parties.values() for person in of_order})
    outages = await store.outages_of_people(unit.connection, people)
    return {
        item_id: found
        for item_id, of_order in parties.items()
        if (found := next((outages[person] for person in of_order if person in outages), None)) is not None
    }


def _unheard_after(device_id: uuid.UUID, items: Sequence[Transition]) -> bool:
    last = [item for item in items if item.device_id == device_id and signal_of(item) == "silence"][-1]
    return last.to_state != "reporting"


def _cell(item: Transition) -> str | None:
    position = item.victim_position or item.aggressor_position
    return cell_of(position.lat, position.lon) if position is not None else None
