"""What another agency is told of an incident that is its concern: that it is there, how urgent, and no person in it.

Where she is stands in no event: it is asked for, and answered only while a panic, a breach or an approach of hers is
open (`shared_incidents` in the schema).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

SHARED: Final = "shared.incident"
"""Kind of the event in the other agency's feed."""
TOLD: Final = (
    "id", "agency_id", "type", "severity", "state", "opened_at", "exercise", "do_not_call",
)  # fmt: skip
"""Of an incident (core.postgres.incidents.incident_json) what another agency's feed tells."""


def concerned(agency_id: uuid.UUID, incident: Mapping[str, Any]) -> list[uuid.UUID]:
    """The other agencies that have to know of an incident: on whose ground it is, and neighbours that were asked."""
    named = [incident.get("jurisdiction_agency_id"), *(incident.get("detail") or {}).get("shared_with", ())]
    found = dict.fromkeys(uuid.UUID(str(one)) for one in named if one is not None)
    return [one for one in found if one != agency_id]


def shared_json(incident: Mapping[str, Any]) -> dict[str, Any]:
    """What they are told."""
    return {name: incident[name] for name in TOLD}
