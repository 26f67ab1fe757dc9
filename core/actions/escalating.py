"""What happens when a deadline of an incident is over: somebody else is told, or the next unit is sent.

A step is told with the incident's row held, and looks first whether what it waited for has happened meanwhile: so
nobody is paged after an acknowledgement. Its deliveries' ids follow from incident, round, step and recipient, and its
deadline is settled in the same transaction: told once, whoever dies when.

After an outage several steps of one clock may be due at once. They are told as one: everybody any of them names, each
once, as the highest of them (`together` is what the lower ones come to). Nothing is put off by the length of the
outage: she waited through it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from core.actions import dispatches, jurisdictions
from core.actions.escalation import note_progress, policy_of
from core.actions.reach import Group, Message, facts_of, people_to_tell, tell_group
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.escalation import (
    DESK,
    LATE,
    OF_A_UNIT,
    UNACKNOWLEDGED,
    Deadline,
    Policy,
    Step,
    Target,
    applies,
    repeats_of,
    unit_entry,
)
from core.ids import derived_id
from core.metrics import ESCALATIONS
from core.postgres import agencies, board, shares, user_channels
from core.postgres import escalation as store
from core.postgres import incidents as incident_store
from core.postgres.incidents import Row

EVENT: Final = "incident.escalated"
"""Type of the webhook, and kind of nothing else: the feed says `incident.updated`."""
TEMPLATES: Final = {"supervisor": "escalation_supervisor"}
"""By target; everybody else reads `escalation_dispatcher`."""


async def fire(unit: Unit, incident_ids: Sequence[uuid.UUID]) -> int:
    """Do what is due of these incidents; how many steps were told. What somebody works on just now waits for the next
    look."""
    told = 0
    for row in await store.lock_free(unit.connection, incident_ids):
        told += await _fire_one(unit, row)
    return told


async def _fire_one(unit: Unit, row: Row) -> int:
    clocks = await store.clocks(unit.connection, row)
    due = [one for one in clocks.pending if one.due_at <= unit.now]
    live = [one for one in due if applies(row, one) and not row["exercise"]]
    outcomes = [(one, "stopped") for one in due if one not in live]
    policy = policy_of(clocks, row["severity"])
    firings = _together(live)
    before = row["next_deadline_at"]
    for firing in firings:
        count = await _tell(unit, row, policy, firing)
        outcome = "told" if count else "nobody"
        outcomes += [(one, outcome if one is firing.top else "together") for one in firing.deadlines]
        if firing.top.kind not in OF_A_UNIT:
            again = repeats_of(_steps(policy, firing.top), firing.deadlines, unit.now)
            await store.add(unit.connection, row, again)
        unit.after_commit(ESCALATIONS.labels(firing.top.kind, outcome).inc)
    await store.settle(unit.connection, row["id"], outcomes, unit.now)
    await note_progress(unit, row)
    if firings or row["next_deadline_at"] != before:
        if firings:
            row["updated_at"] = unit.now
        await incident_store.update_many(unit.connection, [row])
        unit.emit(row["agency_id"], "incident.updated", incident_store.incident_json(row))
    return len(firings)


@dataclass(frozen=True, slots=True)
class _Firing:
    """Deadlines of one clock that are told together."""

    deadlines: list[Deadline]

    @property
    def top(self) -> Deadline:
        """The one it is told as."""
        return max(self.deadlines, key=lambda one: (one.step, one.turn))


def _together(live: Sequence[Deadline]) -> list[_Firing]:
    found: dict[tuple[str, uuid.UUID, int], list[Deadline]] = {}
    for one in live:
        found.setdefault((one.kind, one.unit_id, one.round), []).append(one)
    return [_Firing(deadlines) for deadlines in found.values()]


async def _tell(unit: Unit, row: Row, policy: Policy, firing: _Firing) -> int:
    """Tell a step, write its line, and raise the incident's step; how many messages."""
    top = firing.top
    cause = derived_id("escalation", row["id"], top.round, top.kind, top.unit_id, top.step, top.turn, top.due_at)
    said: dict[str, Any] = {"why": top.kind, "step": top.step}
    before = {delivery.id for delivery in unit.queued}
    if top.kind in OF_A_UNIT:
        said |= await _tell_of_unit(unit, row, policy, top, cause)
    else:
        steps = _steps(policy, top)
        numbers = sorted({one.step for one in firing.deadlines}, reverse=True)
        chosen = [steps[number - 1] for number in numbers if number <= len(steps)]
        for step in chosen:
            await _tell_step(unit, row, policy, step, cause, top)
        said["to"] = list(dict.fromkeys(_name(target) for step in chosen for target in step.to))
        said |= {"turn": top.turn} if top.turn else {}
        if skipped := [number for number in numbers if number != top.step]:
            said["together_with"] = sorted(skipped)
    told = len({delivery.id for delivery in unit.queued} - before)
    said["told"] = told
    _raise(row, top)
    await incident_store.add_lines(
        unit.later, [(derived_id("timeline", cause), row["id"], unit.now, "escalated", None, said)]
    )
    return told


def _steps(policy: Policy, top: Deadline) -> Sequence[Step]:
    return policy.unacknowledged if top.kind == UNACKNOWLEDGED else policy.undispatched


def _raise(row: Row, top: Deadline) -> None:
    """The incident's step: that of its acknowledgement's clock, and one more for each new step of any other."""
    if top.kind == UNACKNOWLEDGED:
        row["escalation_step"] = max(row["escalation_step"], top.step)
    elif not top.turn:
        row["escalation_step"] += 1


async def _tell_step(unit: Unit, row: Row, policy: Policy, step: Step, cause: uuid.UUID, top: Deadline) -> None:
    facts = _facts(unit, row, top)
    for target in step.to:
        if target == "neighbour":
            await _tell_neighbour(unit, row, policy, cause, top, step.channels)
            continue
        template = TEMPLATES.get(str(target), "escalation_dispatcher")
        await _tell_target(unit, row, target, Message(cause, top.step, template, "dispatcher", facts), step.channels)


async def _tell_target(
    unit: Unit, row: Row, target: str | Target, message: Message, channels: Sequence[str] = ()
) -> None:
    group = await people_to_tell(unit, row, row["agency_id"], [target])
    await tell_group(unit, row, row["agency_id"], group, message, channels)


async def _tell_neighbour(
    unit: Unit, row: Row, policy: Policy, cause: uuid.UUID, top: Deadline, channels: Sequence[str]
) -> None:
    """Ask the neighbouring agency: it is told that there is something, and sees it among others' incidents."""
    asked = row["detail"].get("neighbour_agency_id")
    neighbour = uuid.UUID(asked) if asked else policy.neighbour_agency_id
    neighbour = neighbour or await jurisdictions.neighbour_of(unit, row)
    if neighbour is None or neighbour == row["agency_id"]:
        return
    await shares.share(unit.connection, row["id"], row["agency_id"], neighbour, "neighbour", unit.now)
    shared = [*row["detail"].get("shared_with", ()), str(neighbour)]
    row["detail"] = {
        **row["detail"], "shared_with": list(dict.fromkeys(shared)), "neighbour_agency_id": str(neighbour),
    }  # fmt: skip
    agency = await unit.once(("agency", row["agency_id"]), lambda: agencies.get(unit.connection, row["agency_id"]))
    group = await people_to_tell(unit, row, neighbour, ["dispatchers", "duty_officer"])
    facts = {**_facts(unit, row, top), "agency": agency["name"]}
    await tell_group(
        unit, row, neighbour, group, Message(cause, top.step, "neighbour_dispatcher", "dispatcher", facts), channels
    )


async def _tell_of_unit(unit: Unit, row: Row, policy: Policy, top: Deadline, cause: uuid.UUID) -> dict[str, Any]:
    entry = unit_entry(row, top.unit_id)
    assert entry is not None
    said = {"unit_id": entry["unit_id"], "callsign": entry["callsign"]}
    if top.kind == LATE:
        return said | await _tell_late(unit, row, policy, top, cause, entry)
    return said | await _tell_unaccepted(unit, row, top, cause, entry)


async def _tell_late(
    unit: Unit, row: Row, policy: Policy, top: Deadline, cause: uuid.UUID, entry: dict[str, Any]
) -> dict[str, Any]:
    told_at = datetime.fromisoformat(entry.get("eta_told_at") or entry["dispatched_at"])
    eta_at = datetime.fromtimestamp(told_at.timestamp() + entry["eta_s"], told_at.tzinfo)
    facts = {
        **_facts(unit, row, top), "callsign": entry["callsign"], "eta_at": rfc3339(eta_at),
        "late_s": (unit.now - eta_at).total_seconds(),
    }  # fmt: skip
    for target in policy.late_to:
        if target == "neighbour":
            await _tell_neighbour(unit, row, policy, cause, top, ())
        else:
            await _tell_target(
                unit, row, target, Message(cause, top.step, "eta_missed_dispatcher", "dispatcher", facts)
            )
    return {"to": [_name(target) for target in policy.late_to], "eta_at": rfc3339(eta_at)}


async def _tell_unaccepted(
    unit: Unit, row: Row, top: Deadline, cause: uuid.UUID, entry: dict[str, Any]
) -> dict[str, Any]:
    """Ask the unit once more and send the next one, or tell the desk where there is none, or where the unit has nobody
    who could have been asked: then it is the desk that has to find out."""
    crew = await _crew(unit, row, top.unit_id)
    facts = {**_facts(unit, row, top), "callsign": entry["callsign"]}
    sent = None
    if crew.users:
        await tell_group(unit, row, row["agency_id"], crew, Message(cause, 0, "asked_officer", "officer", facts))
        sent = await dispatches.send_next(unit, row)
    if sent is None:
        for target in DESK:
            await _tell_target(
                unit, row, target, Message(cause, top.step, "escalation_dispatcher", "dispatcher", facts)
            )
    return {"to": [] if sent else list(DESK), "next_unit_id": sent["unit_id"] if sent else None}


async def _crew(unit: Unit, row: Row, unit_id: uuid.UUID) -> Group:
    found = [one for one in await board.units(unit.connection, row["agency_id"]) if one["id"] == unit_id]
    named = [person for person in (row["victim_id"], row["aggressor_id"]) if person is not None]
    staff = await user_channels.staff(unit.connection, row["agency_id"], named, row["case_id"])
    group = Group()
    group.take([staff[user] for one in found for user in one["user_ids"] if user in staff])
    return group


def _facts(unit: Unit, row: Row, top: Deadline) -> dict[str, Any]:
    return {
        **facts_of(row),
        "event": EVENT,
        "why": top.kind,
        "step": row["escalation_step"] + 1 if top.kind != UNACKNOWLEDGED else top.step,
        "waited_s": (unit.now - row["opened_at"]).total_seconds(),
        "do_not_call": row["do_not_call"],
        "duress": bool(row["detail"].get("duress")),
    }


def _name(target: str | Target) -> str:
    if isinstance(target, str):
        return target
    return f"user:{target.user_id}" if target.user_id is not None else f"route:{target.route_id}"
