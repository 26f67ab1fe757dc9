"""A delivery: one message to one recipient over one channel, the id that makes it unique for ever, and how far it got.

    queued ─► sending ─► sent ─► delivered ─► seen ─► acknowledged
       ▲         │         └──► failed        (the provider took it, and said later that it could not deliver)
       └─────────┴─► dead | cancelled

What comes after `sent` are receipts: each is noted once, and a delivery only ever gets further.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from core.ids import derived_id

PRIORITY_PANIC: Final = 0
PRIORITY_ALARM: Final = 1
PRIORITY_REST: Final = 2

CHANNELS: Final = ("fcm", "webpush", "email", "sms", "webhook", "apprise", "log", "device")
RECEIPTS: Final = ("delivered", "seen", "acknowledged", "failed")
"""States that come from outside: a provider's callback, the app, a link."""
REACHED: Final = frozenset({"sent", "delivered", "seen", "acknowledged"})
"""States of what has left, as far as is known."""
SEEN: Final = frozenset({"seen", "acknowledged"})
SEEN_LINK_LIFE: Final = timedelta(hours=24)
"""How long "I have seen it" may be said by the link in a message."""
SEEN_LINK_OF_CONTACTS: Final = frozenset({"panic_contact", "panic_all_clear_contact", "drill_contact"})
"""Messages that bear such a link, by whatever channel they go: to contacts who agreed."""
SEEN_LINK_OF_STAFF: Final = frozenset(
    {"dispatch_officer", "asked_officer", "escalation_dispatcher", "escalation_supervisor"}
)
"""Messages to those who are called out or woken, who may have nothing but a telephone at hand."""
OF_A_TELEPHONE: Final = frozenset({"sms", "email"})
"""Channels by which these bear it; what comes by the others is confirmed in the app or the console."""

_RANK: Final = {
    "queued": 0,
    "sending": 0,
    "dead": 0,
    "sent": 1,
    "failed": 2,
    "delivered": 3,
    "seen": 4,
    "acknowledged": 5,
}


def bears_seen_link(template: str, channel: str) -> bool:
    """Whether a message bears a link by which its reader confirms it."""
    return template in SEEN_LINK_OF_CONTACTS or (template in SEEN_LINK_OF_STAFF and channel in OF_A_TELEPHONE)


def state_after(state: str, receipt: str) -> str:
    """The state a delivery takes when a receipt comes: further, never back.

    Failure counts only while nothing better is known; what was cancelled stays so, for nobody waits for it any more.
    """
    if state == "cancelled":
        return state
    return receipt if _RANK[receipt] > _RANK[state] else state


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
    """dispatcher | officer | victim | contact | operator | aggressor"""
    recipient: str
    """route:<id>, device:<id>, contact:<id> or user:<id>"""
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
