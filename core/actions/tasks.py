"""Tasks of caseworkers: made when their deadline is known, told when it comes, done by somebody or by what happened.

A deadline is a row from the start, so a restart, or an hour without PostgreSQL, makes a reminder late and nothing else.
What a later event makes moot is closed with the reason; a task is never removed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.domain.order import FINAL, Status, expiry_reminders, gap_from
from core.domain.policy import Policy
from core.errors import Conflict, NotFound
from core.ids import derived_id
from core.postgres import tasks as store
from core.postgres.table import Record
from core.postgres.tasks import NewTask, task_json

AFTER_EXPIRY: Final = timedelta(days=1)
"""By when somebody should have seen to an order that has ended."""
REPEAT_WITHIN: Final = timedelta(days=1)
"""By when somebody should have seen to another violation."""
MAINTENANCE_WITHIN: Final = timedelta(days=7)
"""By when somebody should have looked at the devices of a pair whose incidents keep being false."""
ONE_AT_A_TIME: Final = frozenset({"order_expiring", "repeat_violation", "probing"})
"""Kinds of which an order, or a case, has one on the list: the next takes the place of the last."""


async def plan_order(unit: Unit, order: Mapping[str, Any], policy: Policy) -> None:
    """Make the tasks that an order's time calls for, in place of those planned before."""
    order_ids = [order["id"]]
    live = Status(order["status"]) not in FINAL
    why = "order_changed" if live else "order_over"
    await _close(unit, why, kind="order_expiring", order_ids=order_ids)
    if not live:
        await _close(unit, why, kind="unprotected_gap", order_ids=order_ids)
        return
    if order["valid_until"] is not None and order["valid_until"] > unit.now:
        await store.add(unit.connection, _reminders(unit, order), unit.now)
    if order["protected_at"] is None:
        await store.add(unit.connection, [_gap_task(order, policy)], unit.now)
    await open_tasks(unit, await store.due_to_open_of(unit.connection, unit.now, order["id"]))


def _reminders(unit: Unit, order: Mapping[str, Any]) -> list[NewTask]:
    # The version is part of the id: an end that was changed away and back is told of again.
    return [
        NewTask(
            derived_id("task", "order_expiring", order["id"], order["version"], step.name),
            order["agency_id"],
            "order_expiring",
            order["case_id"],
            order["id"],
            opens_at,
            order["valid_until"],
            {"step": step.name},
        )
        for step, opens_at in expiry_reminders(order["valid_until"], unit.now)
    ]


def _gap_task(order: Mapping[str, Any], policy: Policy) -> NewTask:
    opens_at = gap_from(order) + timedelta(seconds=policy.gap_limit_s)
    return NewTask(
        derived_id("task", "unprotected_gap", order["id"]),
        order["agency_id"],
        "unprotected_gap",
        order["case_id"],
        order["id"],
        opens_at,
        opens_at,
        {"limit_s": policy.gap_limit_s},
    )


async def tell_expired(unit: Unit, orders: Sequence[Record]) -> None:
    """Put orders that have just ended on the list."""
    made = [
        NewTask(
            derived_id("task", "order_expired", order["id"]),
            order["agency_id"],
            "order_expired",
            order["case_id"],
            order["id"],
            unit.now,
            unit.now + AFTER_EXPIRY,
        )
        for order in orders
    ]
    for kind in ("order_expiring", "unprotected_gap"):
        await _close(unit, "order_over", kind=kind, order_ids=[order["id"] for order in orders])
    await open_tasks(unit, await store.add(unit.connection, made, unit.now))


async def tell_repeat(
    unit: Unit, agency_id: uuid.UUID, case_id: uuid.UUID, order_id: uuid.UUID | None, count: int
) -> int:
    """Put a man's violation that is one too many on the list, once a count; returns how many tasks it made."""
    task = NewTask(
        derived_id("task", "repeat_violation", case_id, count),
        agency_id,
        "repeat_violation",
        case_id,
        order_id,
        unit.now,
        unit.now + REPEAT_WITHIN,
        {"violations": count},
    )
    return await open_tasks(unit, await store.add(unit.connection, [task], unit.now))


async def tell_probing(
    unit: Unit,
    agency_id: uuid.UUID,
    case_id: uuid.UUID,
    order_id: uuid.UUID,
    cause: uuid.UUID,
    said: Mapping[str, Any],
) -> int:
    """Put it on the list that the edge of an order is being tested, once a turn; returns how many tasks it made."""
    task = NewTask(
        derived_id("task", "probing", cause), agency_id, "probing", case_id, order_id, unit.now,
        unit.now + REPEAT_WITHIN, said,
    )  # fmt: skip
    return await open_tasks(unit, await store.add(unit.connection, [task], unit.now))


async def tell_maintenance(unit: Unit, found: Sequence[Record]) -> None:
    """Put pairs whose incidents keep being false on the list; a task has the id of what tells which."""
    made = [
        NewTask(
            one["id"],
            one["agency_id"],
            "maintenance",
            one["case_id"],
            one["order_id"],
            one["opened_at"],
            one["opened_at"] + MAINTENANCE_WITHIN,
            {"causes": one["causes"]},
        )
        for one in found
    ]
    await open_tasks(unit, await store.add(unit.connection, made, unit.now))


async def tell_copied(
    unit: Unit, agency_id: uuid.UUID, digest: str, detail: Mapping[str, Any], due_at: datetime
) -> None:
    """Put a device whose token somebody else holds too on the list, once a token."""
    made = NewTask(
        derived_id("task", "token_copied", digest), agency_id, "token_copied", None, None, unit.now, due_at, detail
    )
    await open_tasks(unit, await store.add(unit.connection, [made], unit.now))


async def close_gaps(unit: Unit, order_ids: Sequence[uuid.UUID]) -> None:
    """Close what asked for the devices of orders whose devices work now."""
    await _close(unit, "protected", kind="unprotected_gap", order_ids=order_ids)


async def close_proved(unit: Unit, task_ids: Sequence[uuid.UUID]) -> None:
    """Close what asked for a proof that has come."""
    for task in await store.close_ids(unit.connection, unit.now, "proved", task_ids):
        unit.emit(task["agency_id"], "task.done", task_json(task))


async def open_tasks(unit: Unit, task_ids: Sequence[uuid.UUID]) -> int:
    """Put waiting tasks on the list and tell of them; returns how many."""
    opened = await store.open_now(unit.connection, unit.now, task_ids)
    for task in opened:
        if task["kind"] in ONE_AT_A_TIME:
            own = (
                {"order_ids": [task["order_id"]]}
                if task["kind"] == "order_expiring"
                else {"case_ids": [task["case_id"]]}
            )
            await _close(unit, "superseded", kind=task["kind"], before=task, **own)
        unit.emit(task["agency_id"], "task.opened", task_json(task))
    return len(opened)


async def finish(unit: Unit, asker: Asker, task_id: uuid.UUID, outcome: str) -> Record:
    """Mark a task as done; the same said again changes nothing. Raises NotFound, Conflict `state_forbids`."""
    task = await store.get(unit.connection, asker.agency_id, task_id)
    if task is None:
        raise NotFound("There is no task with this id.")
    if task["done_at"] is not None:
        if (task["done_by"], task["outcome"]) == (asker.user_id, outcome):
            return task
        raise Conflict("The task is done already; load the list again.", code="state_forbids")
    done = await store.set_done(unit.connection, task_id, unit.now, asker.user_id, outcome)
    await note(unit, asker, "task.done", "task", task_id, kind=task["kind"], outcome=outcome)
    unit.emit(asker.agency_id, "task.done", task_json(done))
    return done


async def _close(unit: Unit, outcome: str, **about: Any) -> None:
    for task in await store.close(unit.connection, unit.now, outcome, **about):
        unit.emit(task["agency_id"], "task.done", task_json(task))
