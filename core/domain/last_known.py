"""Who is to be told of a panic, as it was known last: what a process keeps for the time when PostgreSQL is away.

An agency's messages are kept as patterns: what `core.actions.notices.tell` queues for a panic of nobody in particular.
A person's contacts are kept as their rows have them, the channels sealed with her key, and her key as it is wrapped: a
copy of this tells no more than the rows do.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from core.clock import from_ms, rfc3339
from core.domain.delivery import Delivery
from core.domain.panic import PanicIn, incident_id_of
from core.ids import derived_id

NOBODY: Final = uuid.UUID(int=0)
"""The cause and the incident of a pattern."""
CONTACT_BYTES: Final = 300
"""What a contact takes in memory beside its channels."""


class KeptContact(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One contact who may be told."""

    id: uuid.UUID
    agency_id: uuid.UUID
    language: str
    channels: bytes | None
    """Sealed."""
    plain: list[dict[str, Any]] | None
    """What an older version left plain."""

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return CONTACT_BYTES + len(self.channels or b"")


class KeptPerson(msgspec.Struct, frozen=True, array_like=True):
    """A person's contacts and her key, wrapped."""

    kek_id: str | None
    wrapped: bytes | None
    contacts: dict[uuid.UUID, KeptContact]

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return CONTACT_BYTES + sum(contact.size_bytes for contact in self.contacts.values())


@dataclass(slots=True)
class Agencies:
    """What is kept of agencies, and of who is pressing."""

    first: uuid.UUID | None = None
    """Whose a panic is of which nobody knows whose it is."""
    patterns: dict[uuid.UUID, list[Delivery]] = field(default_factory=dict)
    """What goes out at once."""
    staff: dict[uuid.UUID, list[Delivery]] = field(default_factory=dict)
    """What goes out to dispatchers and who is on duty, by their own channels, when nobody can acknowledge."""
    pressing: frozenset[uuid.UUID] = frozenset()
    """People with an open panic."""


def facts_of(panic: PanicIn) -> dict[str, Any]:
    """What a message may say of a panic, under the incident it will open."""
    return {
        "incident_id": str(incident_id_of(panic.id, panic.received_ms)),
        "type": "panic",
        "severity": "critical",
        "distance_m": None,
        "occurred_at": rfc3339(from_ms(panic.received_ms)),
        "order_id": None,
        "exercise": False,
        "do_not_call": panic.mode != "audible",
    }


def from_pattern(pattern: Delivery, panic: PanicIn) -> Delivery:
    """The agency's message about this panic, under the id that its row will have."""
    # Two browsers of one user are apart by their causes.
    cause = panic.id if pattern.cause == NOBODY else derived_id(panic.id, pattern.cause)
    return replace(
        pattern,
        cause=cause,
        incident_id=incident_id_of(panic.id, panic.received_ms),
        data={**pattern.data, **facts_of(panic)},
    )
