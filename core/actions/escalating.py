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
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from core.actions import dispatches, jurisdictions
from core.actions.escalation import move_on, policy_of
from core.actions.reach import Group, Message, facts_of, know_staff, people_to_tell, staff_of, tell_group
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
from core.postgres import agencies, board, shares
from core.postgres import escalation as store
from core.postgres import incidents as incident_store
from core.postgres.incidents import Row

EVENT: Final = "incident.escalated"
"""Type of the webhook, and kind of nothing else: the feed says `incident.updated`."""
TEMPLATES: Final = {"supervisor": "escalation_supervisor"}
"""By target; everybody else reads `escalation_dispatcher`."""


async def fire(unit: Unit, incident_ids: Sequence[uuid.UUID]) -> int:
    """Do what is due of these incidents; how many steps were told. What somebody works on just now waits for the next
    look.

    What they need is read at once and what they come to is written at once: the statements of a batch are the same
    for one incident and for a hundred, but for units that do not come.
    """
    rows = await store.lock_free(unit.connection, incident_ids)
    if not rows:
        return 0
    batch = _Batch(unit, await store.clocks_of(unit.connection, rows))
    await know_staff(unit, rows)
    told = 0
    for row in rows:
        told += await _fire_one(batch, row)
    await batch.write()
    return told


@dataclass
class _Batch:
    """Incidents that are told of together: what was read of them, and what is to be written."""

    unit: Unit
    clocks: dict[uuid.UUID, store.Clocks]
    settled: list[store.Outcome] = field(default_factory=list)
    again: list[tuple[Row, Deadline]] = field(default_factory=list)
    lines: list[incident_store.Line] = field(default_factory=list)
    shared: list[shares.Share] = field(default_factory=list)
    looked_at: list[tuple[Row, bool, datetime | None]] = field(default_factory=list)
    """Each incident, whether a step of it was told, and what its next deadline had been."""

    def settle(self, row: Row, outcomes: Sequence[tuple[Deadline, str]], again: Sequence[Deadline]) -> None:
        """Deadlines of an incident are over, and others run, here as they will in the tables."""
        clocks = self.clocks[row["id"]]
        ended = [one for one, _ in outcomes]
        known = {*clocks.pending, *clocks.over}
        new = [one for one in again if one not in known]
        self.clocks[row["id"]] = store.Clocks(
            clocks.policy, [*(one for one in clocks.pending if one not in ended), *new], [*clocks.over, *ended]
        )
        self.settled += [(row["id"], one, outcome) for one, outcome in outcomes]
        self.again += [(row, one) for one in new]

    async def write(self) -> None:
        """Write all of it, move the clocks on, and have who watches hear of it."""
        unit = self.unit
        await shares.share_all(unit.connection, self.shared, unit.now)
        await store.settle(unit.connection, self.settled, unit.now)
        await store.add(unit.connection, self.again)
        await move_on(unit, [row for row, _, _ in self.looked_at], self.clocks)
        changed = [row for row, told, before in self.looked_at if told or row["next_deadline_at"] != before]
        await incident_store.update_many(unit.connection, changed)
        await incident_store.add_lines(unit.later, self.lines)
        for row in changed:
            unit.emit(row["agency_id"], "incident.updated", incident_store.incident_json(row))


async def _fire_one(batch: _Batch, row: Row) -> int:
    unit, clocks = batch.unit, batch.clocks[row["id"]]
    due = [one for one in clocks.pending if one.due_at <= unit.now]
    live = [one for one in due if applies(row, one) and not row["exercise"]]
    outcomes = [(one, "stopped") for one in due if one not in live]
    again: list[Deadline] = []
    policy = policy_of(clocks, row["severity"])
    firings = _together(live)
    for firing in firings:
        count = await _tell(batch, row, policy, firing)
        outcome = "told" if count else "nobody"
        outcomes += [(one, outcome if one is firing.top else "together") for one in firing.deadlines]
        if firing.top.kind not in OF_A_UNIT:
            again += repeats_of(_steps(policy, firing.top), firing.deadlines, unit.now)
        unit.after_commit(ESCALATIONS.labels(firing.top.kind, outcome).inc)
    batch.settle(row, outcomes, again)
    batch.looked_at.append((row, bool(firings), row["next_deadline_at"]))
    if firings:
        row["updated_at"] = unit.now
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


async def _tell(batch: _Batch, row: Row, policy: Policy, firing: _Firing) -> int:
    """Tell a step, write its line, and raise the incident's step; how many messages."""
    unit, top = batch.unit, firing.top
    cause = derived_id("escalation", row["id"], top.round, top.kind, top.unit_id, top.step, top.turn, top.due_at)
    said: dict[str, Any] = {"why": top.kind, "step": top.step}
    before = len(unit.queued)
    if top.kind in OF_A_UNIT:
        said |= await _tell_of_unit(batch, row, policy, top, cause)
    else:
        steps = _steps(policy, top)
        numbers = sorted({one.step for one in firing.deadlines}, reverse=True)
        chosen = [steps[number - 1] for number in numbers if number <= len(steps)]
        for step in chosen:
            await _tell_step(batch, row, policy, step, cause, top)
        said["to"] = list(dict.fromkeys(_name(target) for step in chosen for target in step.to))
        said |= {"turn": top.turn} if top.turn else {}
        if skipped := [number for number in numbers if number != top.step]:
            said["together_with"] = sorted(skipped)
    told = len({delivery.id for delivery in unit.queued[before:]})
    said["told"] = told
    _raise(row, top)
    batch.lines.append((derived_id("timeline", cause), row["id"], unit.now, "escalated", None, said))
    return told


def _steps(policy: Policy, top: Deadline) -> Sequence[Step]:
    return policy.unacknowledged if top.kind == UNACKNOWLEDGED else policy.undispatched


def _raise(row: Row, top: Deadline) -> None:
    """The incident's step: that of its acknowledgement's clock, and one more for each new step of any other."""
    if top.kind == UNACKNOWLEDGED:
        row["escalation_step"] = max(row["escalation_step"], top.step)
    elif not top.turn:
        row["escalation_step"] += 1


async def _tell_step(batch: _Batch, row: Row, policy: Policy, step: Step, cause: uuid.UUID, top: Deadline) -> None:
    unit = batch.unit
    facts = _facts(unit, row, top)
    for target in step.to:
        if target == "neighbour":
            await _tell_neighbour(batch, row, policy, cause, top, step.channels)
            continue
        template = TEMPLATES.get(str(target), "escalation_dispatcher")
        await _tell_target(unit, row, target, Message(cause, top.step, template, "dispatcher", facts), step.channels)


async def _tell_target(
    unit: Unit, row: Row, target: str | Target, message: Message, channels: Sequence[str] = ()
) -> None:
    group = await people_to_tell(unit, row, row["agency_id"], [target])
    await tell_group(unit, row, row["agency_id"], group, message, channels)


async def _tell_neighbour(
    batch: _Batch, row: Row, policy: Policy, cause: uuid.UUID, top: Deadline, channels: Sequence[str]
) -> None:
    """Ask the neighbouring agency: it is told that there is something, and sees it among others' incidents."""
    unit = batch.unit
    asked = row["detail"].get("neighbour_agency_id")
    neighbour = uuid.UUID(asked) if asked else policy.neighbour_agency_id
    neighbour = neighbour or await jurisdictions.neighbour_of(unit, row)
    if neighbour is None or neighbour == row["agency_id"]:
        return
    batch.shared.append(shares.Share(row["id"], row["agency_id"], neighbour, "neighbour"))
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


async def _tell_of_unit(batch: _Batch, row: Row, policy: Policy, top: Deadline, cause: uuid.UUID) -> dict[str, Any]:
    entry = unit_entry(row, top.unit_id)
    assert entry is not None
    said = {"unit_id": entry["unit_id"], "callsign": entry["callsign"]}
    if top.kind == LATE:
        return said | await _tell_late(batch, row, policy, top, cause, entry)
    return said | await _tell_unaccepted(batch.unit, row, top, cause, entry)


async def _tell_late(
    batch: _Batch, row: Row, policy: Policy, top: Deadline, cause: uuid.UUID, entry: dict[str, Any]
) -> dict[str, Any]:
    unit = batch.unit
    told_at = datetime.fromisoformat(entry.get("eta_told_at") or entry["dispatched_at"])
    eta_at = datetime.fromtimestamp(told_at.timestamp() + entry["eta_s"], told_at.tzinfo)
    facts = {
        **_facts(unit, row, top), "callsign": entry["callsign"], "eta_at": rfc3339(eta_at),
        "late_s": (unit.now - eta_at).total_seconds(),
    }  # fmt: skip
    for target in policy.late_to:
        if target == "neighbour":
            await _tell_neighbour(batch, row, policy, cause, top, ())
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
    units = await unit.once(("units", row["agency_id"]), lambda: board.units(unit.connection, row["agency_id"]))
    found = [one for one in units if one["id"] == unit_id]
    staff = await staff_of(unit, row, row["agency_id"])
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
