"""`/v1/tasks`: what caseworkers have to see to by some time. A task suppresses no alarm and closes no incident."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Manager
from api.deps import Context
from api.schemas.base import Body, View
from core.actions import tasks
from core.actions.unit_of_work import act
from core.domain.task import KINDS, OUTCOMES
from core.postgres import tasks as store
from core.postgres.table import Record

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

Kind = Literal[
    "order_expiring",
    "order_expired",
    "unprotected_gap",
    "repeat_violation",
    "probing",
    "device_unproved",
    "contact_unproved",
    "token_copied",
    "maintenance",
]
Outcome = Literal[
    "extended", "new_order", "no_longer_needed", "devices_fitted", "prosecutor_told", "risk_raised", "referred",
    "repaired", "nothing_wrong", "other",
]  # fmt: skip
EXAMPLE: Final[dict[str, Any]] = {
    "id": "01980000-0000-7000-8000-000000000003",
    "kind": "order_expiring",
    "case_id": "01980000-0000-7000-8000-000000000001",
    "order_id": "01980000-0000-7000-8000-000000000002",
    "opened_at": "2026-05-01T12:00:00Z",
    "due_at": "2026-05-04T12:00:00Z",
    "detail": {"step": "72h"},
    "done_at": None,
    "done_by": None,
    "outcome": None,
}


class TaskView(View):
    """One task."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    id: uuid.UUID
    kind: Kind
    case_id: uuid.UUID | None
    order_id: uuid.UUID | None
    opened_at: datetime
    due_at: datetime
    detail: dict[str, Any] = Field(description="`step` before an order's end, `violations`, `limit_s`.")
    done_at: datetime | None
    done_by: uuid.UUID | None = Field(description="null of a task that is done: closed by what happened.")
    outcome: str | None


class TaskList(View):
    """Tasks; open ones the most urgent first, done ones the latest first."""

    tasks: list[TaskView]


class TaskQuery(BaseModel):
    """Which tasks."""

    model_config = ConfigDict(extra="forbid")

    done: bool = False
    kind: Kind | None = None
    order_id: uuid.UUID | None = None
    limit: int = Field(200, ge=1, le=store.MAX_OPEN)


class Done(Body):
    """What was done."""

    outcome: Outcome


assert set(Kind.__args__) == KINDS.keys()  # type: ignore[attr-defined]
assert set(Outcome.__args__) == OUTCOMES.keys()  # type: ignore[attr-defined]


@router.get("", response_model=TaskList)
async def list_tasks(actor: Manager, context: Context, query: Annotated[TaskQuery, Query()]) -> dict[str, Any]:
    """Your agency's tasks that are open, or those done."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await store.listing(
            unit.connection,
            actor.agency_id,
            done=query.done,
            kind=query.kind,
            order_id=query.order_id,
            limit=query.limit,
        )
    return {"tasks": found}


@router.post("/{task_id}/done", response_model=TaskView)
async def finish_task(task_id: uuid.UUID, body: Done, actor: Manager, context: Context) -> Record:
    """Mark a task as done, with what was done."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await tasks.finish(unit, actor, task_id, body.outcome)
