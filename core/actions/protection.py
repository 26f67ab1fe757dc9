"""Whether orders protect: looks for the first fixes of devices, and for violations that are one too many.

Both are looked for again and again and found once: what was found is a column or a task with an id of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from core.actions import tasks
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.order import gap_from, gap_s
from core.domain.policy import read_policy
from core.postgres import agencies, protection
from core.postgres import tasks as task_store

LOOK_BACK: Final = timedelta(hours=26)
"""An incident may yet turn out a violation while he leaves within a day of its end; a little more, for a late look."""


async def find_protected(unit: Unit, order_ids: Sequence[uuid.UUID]) -> int:
    """Keep the first fixes under these orders, and tell of those whose devices both work now; returns how many."""
    found = await protection.find_first_fixes(unit.connection, order_ids)
    await tasks.close_gaps(unit, [order["id"] for order in found])
    for order in found:
        unit.emit(
            order["agency_id"],
            "order.protected",
            {
                "order_id": str(order["id"]),
                "at": rfc3339(order["protected_at"]),
                "gap_s": gap_s(gap_from(order), order["protected_at"], unit.now),
            },
        )
    return len(found)


async def open_due(unit: Unit, task_ids: Sequence[uuid.UUID]) -> int:
    """Put waiting tasks on the list, but for gaps that have ended without anybody having looked yet."""
    if gaps := await task_store.gaps_among(unit.connection, task_ids):
        await find_protected(unit, gaps)
    return await tasks.open_tasks(unit, task_ids)


async def count_violations(unit: Unit, case_ids: Sequence[uuid.UUID]) -> int:
    """Put violations that reach their agency's count, or go beyond it, on the list, once a count; returns how many."""
    told = 0
    for case in await protection.latest_orders(unit.connection, case_ids):
        policy = read_policy((await agencies.get(unit.connection, case["agency_id"]))["policy"])
        found = await protection.violations(unit.connection, case["agency_id"], case["case_id"], case["order_id"])
        if found["aggressor"] >= policy.repeat_count:
            told += await tasks.tell_repeat(
                unit, case["agency_id"], case["case_id"], case["order_id"], found["aggressor"]
            )
    return told
