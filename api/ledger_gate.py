"""What is read waits until the erasure ledger was applied; what saves a life does not.

Somebody may stand in the ledger and be in the database all the same: a backup was restored, or a process died between
the ledger and the commit. The second puts itself right (whoever asked is due, and is erased); after the first the owner
of the tables has to (`qorgan migrate`). Or the ledger is not whole (it lacks somebody who was erased in the database),
or is missing where one is required (`QORGAN_LEDGER`). Until all is right nothing of anybody is shown or changed here: a
restored database is closed, boards and sockets too. Panics, devices' pings and health are served from the first moment,
whatever the ledger or the stores are like; their messages go out, none of them about who was erased.
"""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum
from typing import Final

import structlog
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from api.errors import problem_response
from core.actions.erasure import carry_out_due, count_unapplied
from core.clock import Clock
from core.erasure_ledger import ledger_path, load_ledger
from core.errors import Misconfigured, StoreUnavailable
from core.postgres.database import Database
from core.redis.client import Client
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

FREE: Final = ("/v1/panic", "/v1/pings", "/v1/inbound", "/healthz", "/readyz", "/metrics", "/console")
"""Paths that show nothing of anybody, or that nobody may be kept waiting for, and what lies below them."""
LOOK_S: Final = 1.0
"""Between two looks while it is closed or not known."""
FIRST_LOOK_S: Final = 2.0
"""Longest a process waits with starting to know; it starts closed then."""
TRY_AGAIN: Final = 1013
"""The code that refuses a socket."""


class State(Enum):
    """How far what is read is open."""

    UNKNOWN = "unknown"
    """PostgreSQL has not answered yet. There is nothing to read either, but sockets hear what is provisional."""
    CLOSED = "closed"
    OPEN = "open"


class LedgerGate(Service):
    """Looks until the ledger is applied; afterwards open for as long as the process lives."""

    name = "ledger-gate"

    def __init__(self, settings: Settings, database: Database, client: Client, clock: Clock) -> None:
        """`database` as the device side, which may carry requests to be erased out."""
        super().__init__()
        self.state = State.UNKNOWN
        self.closed = asyncio.Event()
        """Set once it is found closed: who was let in while nothing was known has to go."""
        self._settings = settings
        self._database = database
        self._client = client
        self._clock = clock
        self._said = ""

    def is_open(self) -> bool:
        """Whether anything may be read for anybody to see."""
        return self.state is State.OPEN

    async def open(self) -> None:
        try:
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.look()
        except TimeoutError:
            return

    async def run(self) -> None:
        while self.state is not State.OPEN:
            if await self.pause(LOOK_S):
                return
            await self.look()
        await self.stopping.wait()

    async def look(self) -> None:
        """Find out, and carry out what is due if somebody is in the way."""
        try:
            count = await self._count()
        except StoreUnavailable:
            return
        except Misconfigured as error:
            self._close()
            self._say(error.detail)
            return
        if not count:
            self.state = State.OPEN
        else:
            self._close()
            self._say(f"{count:,} people who were erased are in this database again; run `qorgan migrate`.")

    async def _count(self) -> int:
        path = ledger_path(self._settings)
        if self._settings.ledger == "required" and not path.exists():
            raise Misconfigured(
                f"There is no erasure ledger {path} and QORGAN_LEDGER requires one; put it there, or, if there never"
                " was one or it is lost, say so: `qorgan erasure rebuild` (docs/encryption.md)."
            )
        ledger = load_ledger(self._settings)
        count = await count_unapplied(self._database, ledger)
        if count:
            self._close()
            await carry_out_due(self._database, self._client, ledger, self._clock())
            count = await count_unapplied(self._database, ledger)
        return count

    def _close(self) -> None:
        self.state = State.CLOSED
        self.closed.set()

    def _say(self, reason: str) -> None:
        if reason != self._said:
            log.error("closed_until_ledger_is_applied", reason=reason)
            self._said = reason


class ClosedDoor:
    """Wraps an application: while the gate is closed, only what lies under `FREE` is answered."""

    def __init__(self, app: ASGIApp, gate: LedgerGate) -> None:
        self.app = app
        self._gate = gate

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        state = self._gate.state
        if state is State.OPEN or scope["type"] == "lifespan" or self._free(scope["path"]):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            if state is State.UNKNOWN:
                await self._serve_until_closed(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": TRY_AGAIN})
        elif state is State.UNKNOWN:
            refusal = problem_response("store_unavailable", "PostgreSQL does not answer; try again shortly.")
            await refusal(scope, receive, send)
        else:
            refusal = problem_response(
                "ledger_unapplied", "What is kept here is closed until who was erased is erased again."
            )
            await refusal(scope, receive, send)

    async def _serve_until_closed(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """A socket opened before PostgreSQL answered; it ends when it turns out that nothing may be shown."""
        serving = asyncio.ensure_future(self.app(scope, receive, send))
        closing = asyncio.ensure_future(self._gate.closed.wait())
        try:
            await asyncio.wait({serving, closing}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
                return
            serving.cancel()
            await asyncio.wait({serving})
            with contextlib.suppress(Exception):  # it may have closed by itself
                await send({"type": "websocket.close", "code": TRY_AGAIN})
        finally:
            closing.cancel()
            serving.cancel()

    @staticmethod
    def _free(path: str) -> bool:
        return any(path == free or path.startswith(free + "/") for free in FREE)
