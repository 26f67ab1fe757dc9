"""Escalation policies, rotas and stand-ins: set only as long as they reach somebody.

Whoever saves one is told at once who is missing, in a sentence; nobody finds it out at three in the morning. The same
is looked at when a way to tell somebody is taken away.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from core.actions.reach import unreached
from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.domain.escalation import (
    ANY_TYPE,
    DEFAULTS,
    Policy,
    Target,
    check_kind,
    plan_of,
    policy_json,
    read_policy,
)
from core.domain.on_call import DUTIES, Rota, check_whole, on_call, people_of, read_rota
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id
from core.postgres import escalation as store
from core.postgres import on_call as rotas
from core.postgres import user_channels
from core.postgres.table import Record

REACHES_NOBODY: Final = "policy_reaches_nobody"
OVERRIDE_DAYS_MAX: Final = 62

Where = tuple[str, Sequence[str | Target], Sequence[str], str]


async def set_policy(
    unit: Unit, asker: Asker, kind: str, severity: str, values: Mapping[str, Any], working: frozenset[str]
) -> Record:
    """Set what the agency does for a type and severity; raises InvalidInput, also when a step reaches nobody."""
    check_kind(kind, severity)
    policy = read_policy(values)
    if policy.neighbour_agency_id == asker.agency_id:
        raise InvalidInput("neighbour_agency_id is your own agency; name another, or none.")
    missing = await unreached(unit, asker.agency_id, wheres(policy, severity), working)
    if missing:
        raise InvalidInput("This policy could reach nobody. " + " ".join(missing), code=REACHES_NOBODY)
    row = await store.put_policy(
        unit.connection,
        {
            "id": new_id(), "agency_id": asker.agency_id, "type": kind, "severity": severity,
            "body": policy_json(policy), "plan": plan_of(policy.unacknowledged), "now": unit.now,
            "user_id": asker.user_id,
        },
    )  # fmt: skip
    await note(
        unit, asker, "escalation_policy.set", "escalation_policy", row["id"], type=kind, severity=severity,
        values=policy_json(policy),
    )  # fmt: skip
    return row


async def drop_policy(unit: Unit, asker: Asker, kind: str, severity: str) -> None:
    """Take a policy back, so that the default stands; raises NotFound."""
    check_kind(kind, severity)
    found = await store.drop_policy(unit.connection, asker.agency_id, kind, severity)
    if found is None:
        raise NotFound("There is no such policy; the default stands.")
    await note(unit, asker, "escalation_policy.dropped", "escalation_policy", found, type=kind, severity=severity)


async def policies_view(unit: Unit, agency_id: uuid.UUID, working: frozenset[str]) -> list[dict[str, Any]]:
    """Every policy in force: the agency's own, and the defaults for severities without one; whom each would miss."""
    own = await store.policies(unit.connection, agency_id)
    found = [(row["type"], row["severity"], read_policy(row["body"]), row["updated_at"]) for row in own]
    plain = {severity for kind, severity, _, __ in found if kind == ANY_TYPE}
    found += [(ANY_TYPE, severity, policy, None) for severity, policy in DEFAULTS.items() if severity not in plain]
    return [
        {
            "type": kind, "severity": severity, "set_at": set_at, "policy": policy_json(policy),
            "problems": await unreached(unit, agency_id, wheres(policy, severity), working),
        }
        for kind, severity, policy, set_at in found
    ]  # fmt: skip


def wheres(policy: Policy, severity: str) -> list[Where]:
    """Everything of a policy that tells somebody, by the name it is called in an error."""
    found: list[Where] = []
    for name, steps in (("unacknowledged", policy.unacknowledged), ("undispatched", policy.undispatched)):
        found += [
            (f"{name}, step {number}", step.to, step.channels, severity) for number, step in enumerate(steps, start=1)
        ]
    if policy.late_s is not None:
        found.append(("late_to", policy.late_to, (), severity))
    return found


# who is on call -----------------------------------------------------------------------------------------------------


def check_duty(duty: str) -> str:
    """Raise NotFound for a duty there is not."""
    if duty not in DUTIES:
        raise NotFound(f"There is no such duty; there are {' and '.join(DUTIES)}.")
    return duty


async def set_rota(unit: Unit, asker: Asker, duty: str, values: dict[str, Any], working: frozenset[str]) -> Record:
    """Set a rota; raises InvalidInput for a gap, and for somebody on it who cannot be told."""
    rota = read_rota(values)
    check_whole(rota, check_duty(duty))
    await _check_people(unit, asker.agency_id, duty, people_of(rota), working)
    row = await rotas.put_rota(
        unit.connection,
        {
            "id": new_id(), "agency_id": asker.agency_id, "duty": duty, "body": values, "now": unit.now,
            "user_id": asker.user_id,
        },
    )  # fmt: skip
    await note(unit, asker, "on_call_rota.set", "on_call_rota", row["id"], duty=duty)
    return row


async def drop_rota(unit: Unit, asker: Asker, duty: str, working: frozenset[str]) -> None:
    """Take a rota back: every supervisor is on call then. Raises NotFound; Conflict when they cannot be told."""
    before = await problems(unit, asker.agency_id, working)
    found = await rotas.drop_rota(unit.connection, asker.agency_id, check_duty(duty))
    if found is None:
        raise NotFound("There is no rota of this duty.")
    await check_still_reached(unit, asker.agency_id, working, before)
    await note(unit, asker, "on_call_rota.dropped", "on_call_rota", found, duty=duty)


async def stand_in(unit: Unit, asker: Asker, duty: str, values: Record, working: frozenset[str]) -> Record:
    """Have somebody stand in for who is on call, or for one of them; raises InvalidInput."""
    check_duty(duty)
    if not values["from_at"] < values["until_at"] or values["until_at"] <= unit.now:
        raise InvalidInput("A stand-in ends after it begins, and not in the past.")
    if (values["until_at"] - values["from_at"]).days >= OVERRIDE_DAYS_MAX:
        raise InvalidInput(f"A stand-in is for less than {OVERRIDE_DAYS_MAX} days; change the rota.")
    await _check_people(unit, asker.agency_id, duty, [values["user_id"]], working)
    if values["instead_of"] is not None:
        await check_users(unit, asker.agency_id, [values["instead_of"]])
    row = await rotas.add_override(
        unit.connection,
        {
            **values, "id": new_id(), "agency_id": asker.agency_id, "duty": duty, "created_by": asker.user_id,
            "created_at": unit.now,
        },
    )  # fmt: skip
    await note(
        unit, asker, "on_call_override.set", "on_call_override", row["id"], duty=duty, user_id=str(row["user_id"])
    )
    return row


async def end_stand_in(unit: Unit, asker: Asker, override_id: uuid.UUID) -> None:
    """Take a stand-in back; raises NotFound."""
    if not await rotas.drop_override(unit.connection, asker.agency_id, override_id):
        raise NotFound("There is no stand-in with this id.")
    await note(unit, asker, "on_call_override.dropped", "on_call_override", override_id)


async def on_call_view(unit: Unit, agency_id: uuid.UUID, moment: datetime) -> list[dict[str, Any]]:
    """By duty: the rota, who stands in from now on, and who is on call at a moment; no rota: every supervisor is."""
    made = {row["duty"]: row for row in await rotas.rotas(unit.connection, [agency_id])}
    overrides = await rotas.overrides(unit.connection, [agency_id], min(unit.now, moment))
    staff = await user_channels.staff(unit.connection, agency_id, [], None)
    supervisors = [user for user, one in staff.items() if one.role == "supervisor"]
    found = []
    for duty in DUTIES:
        rota: Rota | None = read_rota(made[duty]["body"]) if duty in made else None
        standing_in = [one for one in overrides if one["duty"] == duty]
        present = on_call(rota, [rotas.as_override(one) for one in standing_in], moment) if rota is not None else ()
        found.append(
            {
                "duty": duty, "rota": made[duty]["body"] if rota is not None else None, "stand_ins": standing_in,
                "at": moment, "on_call": [user for user in present if user in staff] or supervisors,
            }
        )  # fmt: skip
    return found


async def check_users(unit: Unit, agency_id: uuid.UUID, user_ids: Sequence[uuid.UUID]) -> None:
    """Raise NotFound unless all are users of the agency who are not disabled."""
    staff = await user_channels.staff(unit.connection, agency_id, [], None)
    if set(user_ids) - staff.keys():
        raise NotFound("There is no user with one of these ids.")


async def _check_people(
    unit: Unit, agency_id: uuid.UUID, duty: str, user_ids: Sequence[uuid.UUID], working: frozenset[str]
) -> None:
    await check_users(unit, agency_id, user_ids)
    ways = await user_channels.channels_of_users(unit.connection, user_ids)
    lost = [str(user) for user in user_ids if not ways.get(user, set()) & working]
    if lost:
        raise InvalidInput(
            f"Nobody could tell the {DUTIES[duty]}: {', '.join(lost)} has no channel that works here"
            f" ({', '.join(sorted(working))}).",
            code=REACHES_NOBODY,
        )


async def problems(unit: Unit, agency_id: uuid.UUID, working: frozenset[str]) -> set[str]:
    """Whom the agency's own policies would miss now."""
    return {
        problem
        for row in await store.policies(unit.connection, agency_id)
        for problem in await unreached(unit, agency_id, wheres(read_policy(row["body"]), row["severity"]), working)
    }


async def check_still_reached(unit: Unit, agency_id: uuid.UUID, working: frozenset[str], before: set[str]) -> None:
    """Raise Conflict when the agency's policies would miss somebody whom they did not miss before."""
    if lost := sorted(await problems(unit, agency_id, working) - before):
        raise Conflict("A policy would reach nobody. " + " ".join(lost), code=REACHES_NOBODY)
