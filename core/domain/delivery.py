"""A delivery: one message to one recipient over one channel, and the id that makes it unique for ever."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Final

from core.ids import derived_id

PRIORITY_PANIC: Final = 0
PRIORITY_ALARM: Final = 1
PRIORITY_REST: Final = 2


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is to be told to whom; becomes a row in the transaction that caused it.

    `cause` is the id of the transition, panic or command it tells of; the id follows from cause, recipient, channel
    and step, so the same cause queued twice is told once.
    """

    agency_id: uuid.UUID
    incident_id: uuid.UUID | None
    cause: uuid.UUID
    audience: str
    """dispatcher | officer | victim | contact | operator"""
    recipient: str
    """route:<id>, device:<id> or contact:<id>"""
    channel: str
    address: str
    template: str
    language: str = "ru"
    secret: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    private: dict[str, Any] = field(default_factory=dict, repr=False)
    """Facts of `data` that are nobody's but the recipient's: sealed beside the address."""
    person_id: uuid.UUID | None = None
    """Whose key seals address, secret and private facts; None: the agency's."""
    priority: int = PRIORITY_ALARM
    step: int = 0

    @property
    def id(self) -> uuid.UUID:
        """Derived from cause, recipient, channel and step; also the provider's idempotency key."""
        return derived_id("delivery", self.cause, self.recipient, self.channel, self.step)
