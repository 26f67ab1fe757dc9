"""Who hears which event of the feed: kind → roles. What stands in no row goes to nobody.

The same table is in docs/event-flow.md, for who reads the feed; a test compares them. What of an event its hearer may
see is a second question (api.live.sight).
"""

from __future__ import annotations

from typing import Final

import msgspec

from core.domain.scope import Scope
from core.postgres.feed import FeedRow

Roles = frozenset[str]

EVERYBODY: Final[Roles] = frozenset({"dispatcher", "supervisor", "admin", "officer"})
"""Every role that may listen."""
SENDERS: Final[Roles] = frozenset({"dispatcher", "supervisor", "admin"})
"""Who sends help, and keeps the live queue."""
SUPERVISORS: Final[Roles] = frozenset({"supervisor", "admin"})
"""Who sees to what users do, and to what caseworkers have to do."""
NOBODY: Final[Roles] = frozenset()

AUDIENCE: Final[dict[str, Roles]] = {
    "incident.opened": EVERYBODY,
    "incident.updated": EVERYBODY,
    "incident.acknowledged": EVERYBODY,
    "incident.dispatched": EVERYBODY,
    "incident.resolved": EVERYBODY,
    "incident.reopened": EVERYBODY,
    "incident.sealed": SENDERS,
    "access.break_glass": SUPERVISORS,
    "access.break_glass_reviewed": SUPERVISORS,
    "access.look": SUPERVISORS,
    "access.look_reviewed": SUPERVISORS,
    "access.changed": NOBODY,
    "unit.updated": EVERYBODY,
    "suspension.started": EVERYBODY,
    "suspension.extended": EVERYBODY,
    "suspension.ended": EVERYBODY,
    "order.expired": EVERYBODY,
    "order.served": EVERYBODY,
    "order.extended": EVERYBODY,
    "order.revoked": EVERYBODY,
    "order.protected": EVERYBODY,
    "task.opened": SUPERVISORS,
    "task.done": SUPERVISORS,
    "shared.incident": SENDERS,
    "notice.welfare_check": EVERYBODY,
    "notice.warning": SENDERS,
    "notice.probing": SENDERS,
    "notice.maintenance": SENDERS,
    "notice.sign_in_attempts": SUPERVISORS,
    "notice.token_reused": SUPERVISORS,
    "device.late": SENDERS,
    "drill.pressed": SUPERVISORS,
    "drill.proved": SUPERVISORS,
    "drill.server": SENDERS,
    "outage.started": EVERYBODY,
    "outage.ended": EVERYBODY,
    "outage.acknowledged": EVERYBODY,
    "delivery.updated": EVERYBODY,
}
"""Events of the feed's table; `position`, `provisional`, `health` and `reset` are the socket's own."""

HERS: Final = frozenset({"notice.sign_in_attempts", "notice.token_reused"})
"""Events that the user they are about (`user_id`) hears too, whatever her role."""


class _About(msgspec.Struct):
    user_id: str | None = None


def hears(scope: Scope, row: FeedRow) -> bool:
    """Whether an event is for a user's role, or about herself."""
    if scope.role in AUDIENCE.get(row.kind, NOBODY):
        return True
    return row.kind in HERS and msgspec.json.decode(row.data, type=_About).user_id == str(scope.user_id)
