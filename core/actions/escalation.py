"""The clocks of an incident: begun when it opens or becomes more severe, moved on by whatever somebody does.

Both functions are called inside the transaction that changes the incident, with its row held: so no step is told after
an acknowledgement, and no clock is left running behind one. What a deadline does when it is over is `escalating`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions import jurisdictions
from core.actions.unit_of_work import Unit
from core.domain.escalation import DEFAULTS, UNACKNOWLEDGED, Deadline, Policy, applies, changes, plan_of, read_policy
from core.postgres import escalation as store
from core.postgres import shares
from core.postgres.incidents import Row

WAITED_MAX: Final = timedelta(hours=1)
"""How long a panic may have waited for its clocks to run from when it was taken."""
PLANS: Final[dict[str, Any]] = {severity: plan_of(policy.unacknowledged) for severity, policy in DEFAULTS.items()}


async def start(unit: Unit, rows: Sequence[Row], *, placing: bool = True) -> None:
    """Run the clocks of incidents that were just opened, opened again or became more severe.

    Sets `next_deadline_at`, `escalation_step` and, by the place, `jurisdiction_agency_id`, in the rows given and in
    their tables, in one statement. An exercise has no clocks: nobody is woken by it. `placing`: whether to look whose
    ground it is on; a user's scope sees her own agency's alone.
    """
    live = [row for row in rows if row["state"] != "resolved"]
    for row in live if placing else ():
        row["jurisdiction_agency_id"] = await jurisdictions.agency_of(unit, row)
    begun = [row for row in live if row["state"] == "open" and not row["exercise"]]
    if begun:
        due = await store.start(unit.connection, begun, [_since(row, unit.now) for row in begun], PLANS, unit.now)
        for row in begun:
            row["escalation_step"] = 0
            row["next_deadline_at"] = due.get(row["id"])
    for row in live:
        if row["state"] != "open":
            await note_progress(unit, row)


async def plan_of_agency(unit: Unit, agency_id: uuid.UUID, type_: str, severity: str) -> list[Any] | None:
    """The plan of an agency's own policy for a type of incident and a severity; None: it has none."""
    return await store.plan(unit.connection, agency_id, type_, severity)


async def wind(unit: Unit, row: Row, plan: Sequence[Any] | None) -> list[Deadline]:
    """Set in the row of an incident that is yet to be inserted what `start` would, and return its deadlines.

    `plan` as its agency has it, None: the default's. So an opening that must not wait writes its clocks with the rest
    (`run`), and asks nothing for them.
    """
    row["jurisdiction_agency_id"] = await jurisdictions.agency_of(unit, row)
    since = _since(row, unit.now)
    deadlines = [
        Deadline(UNACKNOWLEDGED, int(step), since + timedelta(seconds=float(delay_s)), int(turn), round=row["version"])
        for step, turn, delay_s in (PLANS[row["severity"]] if plan is None else plan)
    ]
    row["escalation_step"] = 0
    row["next_deadline_at"] = min((one.due_at for one in deadlines), default=None)
    return deadlines


async def run(unit: Unit, row: Row, deadlines: Sequence[Deadline]) -> None:
    """Write the clocks of an incident that was inserted as `wind` left it."""
    await store.add(unit.later, [(row, one) for one in deadlines])
    if row["jurisdiction_agency_id"] not in (None, row["agency_id"]):
        theirs = row["jurisdiction_agency_id"]
        await shares.share(unit.later, row["id"], row["agency_id"], theirs, "jurisdiction", unit.now)


def _since(row: Row, now: datetime) -> datetime:
    """From when the clocks of an incident run: of a panic that waited for PostgreSQL, from when it was taken."""
    if row["type"] == "panic" and row["opened_at"] == now:
        taken_at: datetime = row["occurred_at"]
        return max(now - WAITED_MAX, min(taken_at, now))
    return now


async def note_progress(unit: Unit, row: Row) -> None:
    """Stop and begin clocks as an incident's state now wants it, and set `next_deadline_at` of `row`.

    What a step queued and nobody has been sent yet is taken back where its reason is gone. The caller holds the
    incident's row and writes it.
    """
    if row["exercise"]:
        row["next_deadline_at"] = None
    else:
        await move_on(unit, [row], await store.clocks_of(unit.connection, [row]))


async def move_on(unit: Unit, rows: Sequence[Row], clocks_of: Mapping[uuid.UUID, store.Clocks]) -> None:
    """The same of many incidents whose clocks were read, with few statements however many they are."""
    stopped: list[store.Outcome] = []
    added: list[tuple[Row, Deadline]] = []
    gone: list[store.Gone] = []
    for row in rows:
        if row["exercise"]:
            row["next_deadline_at"] = None
            continue
        clocks = clocks_of[row["id"]]
        policy = policy_of(clocks, row["severity"])
        stop, add = changes(row, policy, clocks.pending, clocks.over, unit.now)
        stopped += [(row["id"], one, "stopped") for one in stop]
        added += [(row, one) for one in add]
        shared = bool(row["detail"].get("shared_with"))
        gone += [
            store.Gone(row["id"], kind, shared)
            for kind in sorted({one.kind for one in clocks.over if not applies(row, one)})
        ]
        row["next_deadline_at"] = min((one.due_at for one in [*clocks.pending, *add] if one not in stop), default=None)
    await store.settle(unit.connection, stopped, unit.now)
    await store.add(unit.connection, added)
    await store.cancel_told(unit.connection, gone, unit.now)


def policy_of(clocks: store.Clocks, severity: str) -> Policy:
    """The policy in force for an incident of this severity."""
    return read_policy(clocks.policy) if clocks.policy is not None else DEFAULTS[severity]
