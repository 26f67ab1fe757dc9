"""A device is late: its wearer is asked to see to it, before it is called silent.

A protected person is asked on her own devices that take push messages, in words that betray nothing. An aggressor's
bracelet has no such channel yet: the prompt is kept (`device_prompt`, no pushes) for what sends commands to devices.
Nothing told to him ever comes from here, and nothing told to her speaks of him.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from core.actions.fold_facts import Facts
from core.actions.unit_of_work import Unit
from core.clock import from_ms
from core.domain.delivery import PRIORITY_REST, Delivery
from core.domain.transition import Transition
from core.errors import KeyUnavailable
from core.ids import derived_id
from core.postgres import incidents as store
from core.postgres import prompts, routing
from core.postgres.incidents import Line

NAMED_MAX: Final = 50
"""Devices one event names; more are only counted."""


async def prompt_wearers(unit: Unit, facts: Facts, items: Sequence[Transition]) -> None:
    """Ask the wearers of late devices; a line on each open incident of their cases, one event an agency."""
    wearers = {item.id: facts.wearer(item) for item in items}
    hers = sorted({person for person, role in wearers.values() if role == "victim" and person is not None})
    try:
        phones = await routing.push_devices(unit.connection, hers) if hers else []
    except KeyUnavailable:  # asked or not is told (`pushes`), and what is decided beside it does not wait for keys
        phones = []
    rows: list[prompts.Row] = []
    lines: list[Line] = []
    late: dict[uuid.UUID, list[dict[str, Any]]] = {}
    for item in items:
        person, role = wearers[item.id]
        reached = [phone for phone in phones if role == "victim" and phone["person_id"] == person]
        for phone in reached:
            unit.queue(_prompt(item, phone))
        assert item.device_id is not None
        prompt_id, at = derived_id("prompt", item.id), from_ms(item.evaluated_ms)
        rows.append((prompt_id, item.device_id, person, role, item.agency_id, item.case_id, at, len(reached)))
        said = {"device_id": str(item.device_id), "role": role, "pushes": len(reached)}
        lines += [
            (derived_id("timeline", item.id, incident_id), incident_id, at, "prompt", None, said)
            for incident_id in facts.standing.get(item.case_id, ())
        ]
        late.setdefault(item.agency_id, []).append(said)
    await prompts.add(unit.connection, rows)
    if lines:
        await store.add_lines(unit.connection, lines)
    for agency_id, devices in late.items():
        unit.emit(agency_id, "device.late", {"count": len(devices), "devices": devices[:NAMED_MAX]})


def _prompt(item: Transition, phone: dict[str, Any]) -> Delivery:
    return Delivery(
        agency_id=item.agency_id,
        incident_id=None,
        cause=item.id,
        audience="victim",
        recipient=f"device:{phone['id']}",
        channel="fcm",
        address=phone["push_token"],
        template="device_prompt",
        language=phone["language"],
        priority=PRIORITY_REST,
        person_id=phone["person_id"],
    )
