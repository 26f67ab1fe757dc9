"""Dead letters: somebody has one sent again, or says that it may stay dead. Both are written down."""

from __future__ import annotations

import uuid
from typing import Final

from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.domain.panic import is_quiet
from core.errors import Conflict, NotFound
from core.postgres import dead_letters

HERS: Final = frozenset({"victim", "contact"})


async def retry(unit: Unit, asker: Asker, delivery_id: uuid.UUID) -> None:
    """Queue it once more, under its own id. Raises NotFound; Conflict when its address is no longer kept, or nobody may
    be told any more: a contact she took back, or hers and her phone after duress."""
    letter = await dead_letters.lock(unit.connection, asker.agency_id, delivery_id)
    if letter is None:
        raise NotFound("There is no dead letter with this id.")
    if not letter["kept"]:
        raise Conflict("Where it was to go is no longer kept; it cannot be sent again.", code="state_forbids")
    if letter["taken_back"]:
        raise Conflict("She no longer wants this contact told.", code="state_forbids")
    if letter["audience"] in HERS and is_quiet(letter["incident_detail"] or {}):
        raise Conflict("Nothing may go to her phone or her contacts any more.", code="state_forbids")
    await dead_letters.retry(unit.connection, delivery_id, unit.now)
    await note(unit, asker, "delivery.retried", "delivery", delivery_id, channel=letter["channel"])


async def dismiss(unit: Unit, asker: Asker, delivery_id: uuid.UUID) -> None:
    """Leave it dead. Raises NotFound."""
    letter = await dead_letters.lock(unit.connection, asker.agency_id, delivery_id)
    if letter is None:
        raise NotFound("There is no dead letter with this id.")
    await dead_letters.dismiss(unit.connection, delivery_id, unit.now)
    await note(unit, asker, "delivery.dismissed", "delivery", delivery_id, channel=letter["channel"])
