"""`/v1/audit`: who did or saw what; reading it is itself audited."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from api.auth import Auditor
from api.deps import Context
from api.schemas.base import Moment, Page, PageQuery, View, page_of
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


class AuditQuery(PageQuery):
    """Lines about one subject, by one actor, in a span."""

    subject_id: uuid.UUID | None = None
    actor_id: uuid.UUID | None = None
    since: Moment | None = None
    until: Moment | None = None


@router.get("", response_model=Page[AuditView])
async def read_audit(actor: Auditor, context: Context, paging: Annotated[AuditQuery, Query()]) -> dict[str, Any]:
    """Your agency's audit, oldest first."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await audit.page(
            unit.connection,
            actor.agency_id,
            **paging.model_dump(),
        )
        await records.note(unit, actor, "audit.read", "audit", paging.subject_id, count=len(found))
    return page_of(found, paging.limit)
