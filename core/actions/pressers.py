"""Who pressed: the device, its wearer, whose agency it is, and what is doubtful about it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

from core.actions import escalation, jurisdictions
from core.actions.unit_of_work import Unit
from core.domain.panic import TOKEN_DOUBTS, PanicIn
from core.errors import NotAllowed, Unavailable
from core.postgres import panics
from core.postgres.incidents import EPISODE_GAP

CLOSED: Final = "closed_case"
"""Doubt about a device whose wearer no order protects any more."""


@dataclass(frozen=True, slots=True)
class Presser:
    """Who pressed, as far as PostgreSQL knows."""

    agency_id: uuid.UUID
    device_id: uuid.UUID | None
    person: dict[str, Any]
    subject: str
    doubts: tuple[str, ...]

    @property
    def sealer_id(self) -> uuid.UUID | None:
        """Whose key seals what she sent; None: her agency's."""
        return None if self.person.get("erased") else self.person.get("person_id")

    @property
    def is_nobody(self) -> bool:
        """Whether it is known by its address alone: the next such press may be somebody else's."""
        return self.device_id is None and self.person.get("person_id") is None

    @property
    def known(self) -> bool:
        """Whether the token holds: then her contacts may be told."""
        return not TOKEN_DOUBTS & set(self.doubts)


async def who_pressed(unit: Unit, panic: PanicIn) -> Presser:
    """Whose press it is, with the panic's lock taken. Raises NotAllowed for an aggressor's device, Unavailable without
    an agency."""
    digest = bytes.fromhex(panic.token_digest) if panic.token_digest else None
    since = unit.now - EPISODE_GAP
    row = await panics.presser(unit.connection, panic.device_id, digest, unit.now, panic.id, since, panic.person_id)
    if row is None:
        agency_id = panic.agency_id or await jurisdictions.agency_at(unit, panic.lat, panic.lon)
        if agency_id is None:
            raise Unavailable("There is no agency yet to take a panic; it is kept.")
        # By where it came from, not by what it called itself: a flood of made-up tokens is one incident. One an agency:
        # a telephone network may show everybody under one address.
        plan = await escalation.plan_of_agency(unit, agency_id, "panic", "critical")
        return Presser(agency_id, None, {"plan": plan}, f"unknown:{agency_id}:{panic.source}", tuple(panic.doubts))
    if row["role"] == "aggressor":
        raise NotAllowed("This device has no panic button.", code="device_forbidden")
    doubts = [doubt for doubt in panic.doubts if not (row["holds"] and doubt in TOKEN_DOUBTS)]
    if row["revoked"] and not TOKEN_DOUBTS & set(doubts) and digest is not None:
        doubts.insert(0, "revoked_token")
    if doubts[:1] == ["unknown_token"]:
        doubts[0] = "revoked_token" if row["revoked"] else "expired_token"
    if row["closed"]:
        doubts.append(CLOSED)
    subject = f"person:{row['person_id']}" if row["person_id"] else f"device:{row['id']}"
    return Presser(row["agency_id"], row["id"], row, subject, tuple(doubts))
