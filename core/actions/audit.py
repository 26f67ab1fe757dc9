"""What may be done about the audit: cut it by the rule of retention, and hold back what a victim is told of it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.records import Asker, check_people, note
from core.actions.unit_of_work import Unit
from core.clock import rfc3339
from core.domain.cut import make_cut
from core.errors import Conflict, InvalidInput
from core.ids import new_id
from core.postgres import audit, chain
from core.postgres.audit import HOLDS
from core.postgres.database import Database
from core.postgres.table import Record
from core.postgres.users import USERS
from core.signing import Signer

CUT_ROWS: Final = 100_000
"""Rows cut off in one transaction."""
LONGEST_HOLD: Final = timedelta(days=90)


async def cut_before(
    database: Database, agency_id: uuid.UUID, before: datetime, *, rule: str, signer: Signer, now: datetime
) -> int:
    """Remove the beginning of an agency's audit, as far as every row of it is older than `before`.

    Only a whole prefix goes, never the newest link; the cut is signed, and is itself a row of the audit, so that a
    removal by any other hand shows. `database` is the owner's; `core.domain.chain.NO_AGENCY` names the rows of no
    agency. Returns how many rows went. Raises StoreUnavailable.
    """
    total = 0
    while True:
        async with database.transaction() as connection:
            head = await chain.prefix_end(connection, agency_id, before, CUT_ROWS)
            if head is None:
                return total
            line = make_cut(
                agency_id, head.position, head.chain_hash,
                before=before, rule=rule, at=now, key_id=signer.key_id, sign=signer.sign,
            )  # fmt: skip
            rows = await chain.cut(connection, head, line, now)
            await audit.write(
                connection, now, agency_id=agency_id if agency_id.int else None, actor_kind="service", actor_id=None,
                action="audit.cut", subject_kind="agency", subject_id=agency_id if agency_id.int else None,
                detail={"before": rfc3339(before), "position": head.position, "rows": rows, "rule": rule},
            )  # fmt: skip
        total += rows


async def place_hold(unit: Unit, asker: Asker, values: Mapping[str, Any]) -> Record:
    """Defer what a person is told of who looked at her data (of one user, or of all), for a reason and a while.

    Raises NotFound for a person or user not of the agency, InvalidInput when it would last too long.
    """
    await check_people(unit, asker.agency_id, [values["person_id"]])
    if values.get("user_id") is not None:
        await USERS.get(unit.connection, asker.agency_id, values["user_id"])
    if not unit.now < values["ends_at"] <= unit.now + LONGEST_HOLD:
        raise InvalidInput(f"ends_at must be ahead, by at most {LONGEST_HOLD.days} days.", code="time_invalid")
    hold = await HOLDS.insert(
        unit.connection,
        {
            "id": new_id(),
            "agency_id": asker.agency_id,
            "since": unit.now,
            **values,
            "placed_by": asker.user_id,
            "placed_at": unit.now,
        },
    )
    await note(
        unit, asker, "audit_hold.placed", "audit_hold", hold["id"],
        people=[hold["person_id"]], reason=hold["reason"], ends_at=rfc3339(hold["ends_at"]),
    )  # fmt: skip
    return hold


async def release_hold(unit: Unit, asker: Asker, hold_id: uuid.UUID) -> Record:
    """Let the person be told now. Raises NotFound; Conflict when it was released before."""
    hold = await HOLDS.get(unit.connection, asker.agency_id, hold_id, lock=True)
    if hold["released_at"] is not None:
        raise Conflict("This hold was released before.")
    hold = await HOLDS.update(
        unit.connection, asker.agency_id, hold_id, {"released_by": asker.user_id, "released_at": unit.now}
    )
    await note(unit, asker, "audit_hold.released", "audit_hold", hold_id, people=[hold["person_id"]])
    return hold
