"""What people do to incidents: acknowledge, dispatch, note, resolve, reopen.

Every command names the version it was decided on; a stale one is refused with the current version, so that two
dispatchers never overrule each other unseen. A command with a client-made id happens once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from core.actions import all_clear, dispatches
from core.actions.escalation import note_progress, start
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.escalation import unit_entry
from core.domain.incident import OUTCOMES, OUTCOMES_WHILE_INSIDE, State, next_state
from core.errors import Conflict, InvalidInput, NotAllowed, NotFound
from core.ids import derived_id, new_id
from core.postgres import audit, board, separations
from core.postgres import incidents as store
from core.postgres.incidents import Row

UNITS_PER_INCIDENT: Final = 50
UNVERSIONED: Final = frozenset({"note", "accept", "decline"})
"""Commands that overrule nobody: they take any version that ever was, and make none."""
SENDERS: Final = frozenset({"dispatcher", "supervisor", "admin"})
"""Who may answer for a unit she does not go with."""
OVERRIDERS: Final = frozenset({"supervisor", "admin"})
"""Who may send a unit that is in conflict with a party."""
UNSTATED: Final = "unstated"
"""The cause of a false alarm of which nobody gave one: it is counted, so that the question is asked."""


@dataclass(frozen=True, slots=True)
class By:
    """Who gives a command, about which incident, on which version; `command_id` makes it happen once."""

    user_id: uuid.UUID
    agency_id: uuid.UUID
    incident_id: uuid.UUID
    version: int
    command_id: uuid.UUID | None = None
    note: str | None = None
    address: str = ""
    """Where the request came from, for the audit."""
    role: str = ""
    session_id: uuid.UUID | None = None
    purpose: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an incident ended."""

    outcome: str
    cause: str | None = None
    false_alarm_cause: str | None = None


@dataclass
class _Deed:
    """A command being carried out: the locked row, and what its line will say."""

    name: str
    row: Row
    line_id: uuid.UUID
    data: dict[str, Any] = field(default_factory=dict)
    audited: dict[str, Any] = field(default_factory=dict)
    """What the audit says of it beside the version."""


async def acknowledge(unit: Unit, by: By) -> dict[str, Any]:
    """Take an incident in hand; who acknowledges owns it. Returns the incident as it is now."""
    deed = await _begin(unit, by, "acknowledge", {})
    if deed is None:
        return await _as_is(unit, by)
    deed.row["owner_id"] = by.user_id
    deed.row["acknowledged_at"] = unit.now
    return await _finish(unit, by, deed, "incident.acknowledged")


async def dispatch(
    unit: Unit,
    by: By,
    unit_ids: Sequence[uuid.UUID] = (),
    eta_s: float | None = None,
    override_reason: str | None = None,
) -> dict[str, Any]:
    """Send units; also again, to send more. Raises NotFound for a unit that is not the agency's.

    A unit in conflict with a party goes only by a supervisor's `override_reason`: Conflict `unit_in_conflict`,
    NotAllowed `role_forbidden`.
    """
    wanted = list(dict.fromkeys(unit_ids))
    data = {"unit_ids": [str(unit_id) for unit_id in wanted], "eta_s": eta_s, "override_reason": override_reason}
    deed = await _begin(unit, by, "dispatch", data)
    if deed is None:
        return await _as_is(unit, by)
    sent = await board.send_units(unit.connection, by.agency_id, wanted, unit.now) if wanted else []
    if len(sent) < len(wanted):
        raise NotFound("One of the units is not there; load the units again.")
    _check_conflicts(by, deed, sent, override_reason)
    by_id = {entry["unit_id"]: entry for entry in deed.row["units"]}
    for row in sorted(sent, key=lambda row: wanted.index(row["id"])):
        entry = by_id.get(str(row["id"]))
        if entry is None or entry.get("declined"):
            by_id[str(row["id"])] = entry = dispatches.entry_of(row, unit.now)
        entry |= {"eta_s": eta_s, "eta_told_at": rfc3339(unit.now) if eta_s is not None else None}
    if len(by_id) > UNITS_PER_INCIDENT:
        raise InvalidInput(f"An incident takes at most {UNITS_PER_INCIDENT} units.")
    deed.row["units"] = list(by_id.values())
    deed.row["owner_id"] = deed.row["owner_id"] or by.user_id
    deed.row["acknowledged_at"] = deed.row["acknowledged_at"] or unit.now
    deed.row["dispatched_at"] = deed.row["dispatched_at"] or unit.now
    answer = await _finish(unit, by, deed, "incident.dispatched")
    await dispatches.tell_crews(unit, deed.row, sent)
    for row in sent:
        unit.emit(by.agency_id, "unit.updated", board.unit_json(row))
    return answer


def _check_conflicts(by: By, deed: _Deed, sent: Sequence[Any], override_reason: str | None) -> None:
    parties = {deed.row["victim_id"], deed.row["aggressor_id"]}
    in_conflict = [row for row in sent if parties & set(row["conflicts"])]
    if not in_conflict:
        return
    if override_reason is None:
        raise Conflict(
            "One of the units is in conflict with somebody in this incident; a supervisor may send it for a reason.",
            code="unit_in_conflict", unit_ids=[str(row["id"]) for row in in_conflict],
        )  # fmt: skip
    if by.role not in OVERRIDERS:
        raise NotAllowed("Only a supervisor sends a unit that is in conflict.")
    deed.audited["units_in_conflict"] = [str(row["id"]) for row in in_conflict]


async def accept(unit: Unit, by: By, unit_id: uuid.UUID, eta_s: float | None = None) -> dict[str, Any]:
    """A unit that was sent says that it goes, and when it will be there; also again, with another time.

    Raises NotFound for a unit that was not sent, NotAllowed for who neither goes with it nor sends.
    """
    deed = await _begin(unit, by, "accept", {"unit_id": str(unit_id), "eta_s": eta_s})
    if deed is None:
        return await _as_is(unit, by)
    entry = await _answered(unit, by, deed, unit_id)
    entry["accepted"] = entry["accepted"] or rfc3339(unit.now)
    if eta_s is not None:
        entry |= {"eta_s": eta_s, "eta_told_at": rfc3339(unit.now)}
    return await _finish(unit, by, deed, "incident.updated")


async def decline(unit: Unit, by: By, unit_id: uuid.UUID) -> dict[str, Any]:
    """A unit that was sent cannot go: the next nearest is sent at once, where there is one."""
    deed = await _begin(unit, by, "decline", {"unit_id": str(unit_id)})
    if deed is None:
        return await _as_is(unit, by)
    entry = await _answered(unit, by, deed, unit_id)
    entry["declined"] = rfc3339(unit.now)
    sent = await dispatches.send_next(unit, deed.row)
    deed.data["next_unit_id"] = sent["unit_id"] if sent is not None else None
    answer = await _finish(unit, by, deed, "incident.updated")
    for row in await board.free_units(unit.connection, by.agency_id, [unit_id], unit.now):
        unit.emit(by.agency_id, "unit.updated", board.unit_json(row))
    return answer


async def _answered(unit: Unit, by: By, deed: _Deed, unit_id: uuid.UUID) -> dict[str, Any]:
    """What the incident says of the unit that answers."""
    entry = unit_entry(deed.row, unit_id)
    if entry is None:
        raise NotFound("This unit was not sent to the incident; load it again.")
    if by.role not in SENDERS and not await dispatches.may_answer_for(unit, deed.row, unit_id, by.user_id):
        raise NotAllowed("Only who goes with the unit, or who sends units, answers for it.")
    if entry.get("declined"):
        raise Conflict("The unit said that it cannot go; send it again if it can.")
    return entry


async def note(unit: Unit, by: By) -> dict[str, Any]:
    """Write a line into the timeline; changes no state and no version, and takes any version that ever was."""
    if not by.note:
        raise InvalidInput("A note needs words; send note.")
    deed = await _begin(unit, by, "note", {})
    if deed is None:
        return await _as_is(unit, by)
    return await _finish(unit, by, deed, "incident.updated")


async def resolve(unit: Unit, by: By, ending: Ending) -> dict[str, Any]:
    """End an incident. While he is still inside only custody or a suspension ends it (409 `still_inside`)."""
    if ending.outcome not in OUTCOMES:
        raise InvalidInput(f"outcome must be one of {', '.join(OUTCOMES)}.", code="outcome_required")
    false_alarm_cause = ending.false_alarm_cause
    if ending.outcome == "false_alarm":
        false_alarm_cause = false_alarm_cause or ending.cause or UNSTATED
    data = {"outcome": ending.outcome, "cause": ending.cause, "false_alarm_cause": false_alarm_cause}
    deed = await _begin(unit, by, "resolve", data)
    if deed is None:
        return await _as_is(unit, by)
    if deed.row["inside"] and ending.outcome not in OUTCOMES_WHILE_INSIDE:
        raise Conflict(
            "He is still inside; resolve with outcome custody or suspension, or when he has left.", code="still_inside"
        )
    deed.row |= data
    deed.row["resolved_at"] = unit.now
    answer = await _finish(unit, by, deed, "incident.resolved")
    await all_clear.tell(unit, deed.row)
    sent = [uuid.UUID(entry["unit_id"]) for entry in deed.row["units"]]
    for row in await board.free_units(unit.connection, by.agency_id, sent, unit.now) if sent else ():
        unit.emit(by.agency_id, "unit.updated", board.unit_json(row))
    return answer


async def reopen(unit: Unit, by: By) -> dict[str, Any]:
    """Open a resolved incident again, unless a newer one of its subject is open."""
    deed = await _begin(unit, by, "reopen", {})
    if deed is None:
        return await _as_is(unit, by)
    rivals = await store.lock_open(unit.connection, [(deed.row["subject"], deed.row["family"])])
    for rival in rivals.values():
        raise Conflict(
            "A newer incident of the same kind is open already; work on that one.",
            code="state_forbids", incident_id=str(rival["id"]),
        )  # fmt: skip
    for name in (
        "outcome",
        "cause",
        "false_alarm_cause",
        "resolved_at",
        "acknowledged_at",
        "dispatched_at",
        "owner_id",
    ):
        deed.row[name] = None
    deed.row["units"] = []
    await _look_inside(unit, deed.row)
    return await _finish(unit, by, deed, "incident.updated")


async def _look_inside(unit: Unit, row: Row) -> None:
    """While it was resolved nobody told the incident whether he is inside."""
    if row["retrospective"] or row["order_id"] is None or row["family"] not in {"proximity", "zone"}:
        return
    inside = (await separations.inside_of_order(unit.connection, row["order_id"]))[row["family"]]
    row["inside"] = bool(inside)
    row["inside_since"] = (row["inside_since"] or unit.now) if inside else None
    if row["family"] == "zone":
        row["detail"] = {**row["detail"], "zones_inside": list(inside)}


async def _begin(unit: Unit, by: By, name: str, data: dict[str, Any]) -> _Deed | None:
    """Lock the incident and check version and state; None when this very command was carried out before."""
    row = await store.lock(unit.connection, by.agency_id, by.incident_id)
    if row is None:
        raise NotFound("There is no such incident.")
    said = {key: value for key, value in {**data, "note": by.note}.items() if value is not None}
    line_id = derived_id("command", by.incident_id, by.command_id) if by.command_id is not None else new_id()
    if by.command_id is not None:
        done = await store.line_exists(unit.connection, line_id)
        if done is not None:
            if done["kind"] != name or {k: v for k, v in done["data"].items() if k != "version"} != said:
                raise Conflict("This id was used for another command; make a new one.", code="id_reused")
            return None
    stale = by.version > row["version"] if name in UNVERSIONED else by.version != row["version"]
    if stale:
        raise Conflict(
            f"The incident is at version {row['version']}; load it again and decide anew.",
            code="version_stale",
            version=row["version"],
        )
    row["state"] = str(next_state(State(row["state"]), name))
    return _Deed(name, row, line_id, said)


async def _finish(unit: Unit, by: By, deed: _Deed, kind: str) -> dict[str, Any]:
    if deed.name not in UNVERSIONED:
        deed.row["version"] += 1
    if deed.name != "note":
        await _move_clocks(unit, deed)
    deed.row["updated_at"] = unit.now
    await store.update_many(unit.connection, [deed.row])
    data = {**deed.data, "version": deed.row["version"]}
    await store.add_lines(
        unit.connection,
        [(deed.line_id, deed.row["id"], unit.now, deed.name, by.user_id, data)],
        {deed.row["id"]: (deed.row["victim_id"], deed.row["agency_id"])},
    )
    await audit.write(
        unit.connection, unit.now, agency_id=by.agency_id, actor_kind="user", actor_id=by.user_id,
        action=f"incident.{deed.name}", subject_kind="incident", subject_id=by.incident_id,
        address=by.address or None, detail={"version": deed.row["version"], **deed.audited},
        role=by.role or None, session_id=by.session_id, purpose=by.purpose or None,
        person_ids=[deed.row["victim_id"], deed.row["aggressor_id"]],
    )  # fmt: skip
    answer = store.incident_json(deed.row)
    unit.emit(by.agency_id, kind, answer)
    return answer


async def _move_clocks(unit: Unit, deed: _Deed) -> None:
    if deed.name == "reopen":
        await start(unit, [deed.row], placing=False)
    else:
        await note_progress(unit, deed.row)


async def _as_is(unit: Unit, by: By) -> dict[str, Any]:
    row = await store.find(unit.connection, by.agency_id, by.incident_id)
    assert row is not None
    return store.incident_json(row)
