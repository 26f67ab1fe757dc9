"""One transaction with everything it must tell: rows, deliveries and feed events commit together or not at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any, Final

from core.domain.delivery import Delivery
from core.domain.scope import Scope
from core.domain.sharing import SHARED, concerned, shared_json
from core.postgres import feed
from core.postgres.database import CONNECT_TIMEOUT_S, Database
from core.postgres.deliveries_write import insert_deliveries
from core.postgres.later import Later

INCIDENT: Final = "incident."
"""How the kinds of events begin that bear a whole incident."""


class Unit:
    """What an action works with: a connection inside a transaction, the present, and who is to hear of it."""

    def __init__(self, connection: Any, now: datetime) -> None:
        self.connection = connection
        self.later: Any = Later(connection)
        """For what is only written, and not read again in this unit: it goes in one statement, last but the feed."""
        self.now = now
        self._seen: dict[Any, Any] = {}
        self._events: list[feed.Event] = []
        self._deliveries: list[Delivery] = []
        self._after: list[Callable[[], object]] = []

    def emit(self, agency_id: uuid.UUID, kind: str, data: dict[str, Any]) -> None:
        """Have an event in the agency's feed when this commits; of an incident, also in those of whom it concerns."""
        self._events.append(feed.Event(agency_id, kind, data))
        if kind.startswith(INCIDENT):
            told = [feed.Event(other, SHARED, shared_json(data)) for other in concerned(agency_id, data)]
            self._events += told

    def queue(self, delivery: Delivery) -> None:
        """Have a message sent once this has committed."""
        self._deliveries.append(delivery)

    async def once(self, name: Any, read: Callable[[], Awaitable[Any]]) -> Any:
        """What `read` gives, asked once in this unit by its name: for what it changes nowhere, and needs for many."""
        if name not in self._seen:
            self._seen[name] = await read()
        return self._seen[name]

    def know(self, name: Any, value: Any) -> None:
        """What `once` would read by this name, where it was read with others."""
        self._seen[name] = value

    @property
    def queued(self) -> tuple[Delivery, ...]:
        """What is queued and not yet written."""
        return tuple(self._deliveries)

    def after_commit(self, step: Callable[[], object]) -> None:
        """Call `step` once this has committed; for counters, never for what must not be lost."""
        self._after.append(step)

    async def write_deliveries(self) -> None:
        """Write what is queued so far, and what else waits, for an action that goes on with the rows."""
        deliveries, self._deliveries = self._deliveries, []
        if deliveries:
            await insert_deliveries(self.later, deliveries, self.now)
        await self.later.send()

    async def flush(self) -> None:
        """Write deliveries, what else waited, and events, which the commit then puts into their feeds."""
        events, self._events = self._events, []
        deliveries, self._deliveries = self._deliveries, []
        if deliveries:
            await insert_deliveries(self.later, deliveries, self.now)
        if events:
            await feed.append(self.later, events, self.now)
        await self.later.send()

    def committed(self) -> None:
        """Run what waited for the commit."""
        for step in self._after:
            step()


@contextlib.asynccontextmanager
async def act(
    database: Database, now: datetime, scope: Scope | None = None, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> AsyncIterator[Unit]:
    """A unit of work, committed when the block ends and rolled back when it raises.

    It acts for `scope`, whose rows are all it sees; without one, for the service itself, under its own role's policies.
    `timeout_s` bounds the wait for a connection. Raises StoreUnavailable when PostgreSQL is away.
    """
    async with database.transaction(scope, timeout_s=timeout_s) as connection:
        unit = Unit(connection, now)
        yield unit
        await unit.flush()
    unit.committed()
