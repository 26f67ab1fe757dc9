"""`/v1/audit`: who did or saw what; reading it is itself audited."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from fastapi import APIRouter

from api.auth import Auditor
from api.deps import Context
from api.schemas.base import Moment, Page, Paging, View, page_of
from core.actions import records
from core.actions.unit_of_work import act
from core.postgres import audit

router = APIRouter(prefix="/v1/audit", tags=["audit"])


class AuditView(View):
    """One thing done or seen."""

    id: uuid.UUID
    at: datetime
    actor_kind: str
    actor_id: str | None
    action: str
    subject_kind: str | None
    subject_id: uuid.UUID | None
    address: str | None
    detail: dict[str, Any]


@router.get("", response_model=Page[AuditView])
async def read_audit(
    actor: Auditor,
    context: Context,
    paging: Paging,
    subject_id: uuid.UUID | None = None,
    actor_id: uuid.UUID | None = None,
    since: Moment | None = None,
    until: Moment | None = None,
) -> dict[str, Any]:
    """Your agency's audit, oldest first."""
    async with act(context.database, context.clock()) as unit:
        found = await audit.page(
            unit.connection,
            actor.agency_id,
            after=paging.after,
            limit=paging.limit,
            subject_id=subject_id,
            actor_id=actor_id,
            since=since,
            until=until,
        )
        await records.note(unit, actor, "audit.read", "audit", subject_id, count=len(found))
    return page_of(found, paging.limit)
