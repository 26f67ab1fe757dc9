"""The sealer: links the audit's rows within a second of their commit and signs checkpoints each minute there is news.

One of an installation works (a lease), under a role of its own that may add links and nothing else. Nobody waits for
it: while it is away rows wait unlinked, which a metric shows, and are linked in the order of their transactions when
it is back. Without its signing key or its directory it still links, and says each minute that nothing is signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from core.actions.sealing import PASS_ROWS, Notary, seal
from core.checkpoints import CheckpointFiles, checkpoint_directory
from core.clock import Clock
from core.errors import Misconfigured, StoreUnavailable
from core.metrics import AUDIT_CHECKPOINT_AGE, AUDIT_CONTRADICTED, AUDIT_LAG, AUDIT_SEALED, AUDIT_UNSEALED
from core.postgres import chain, leases
from core.postgres.database import Database
from core.service import Service
from core.settings import Settings
from core.signing import load_signer

log = structlog.get_logger(__name__)

SEAL_S: Final = 0.25
"""Time between two looks for rows."""
SIGN_S: Final = 60.0
MEASURE_S: Final = 5.0
LEASE_KIND: Final = "sealer"


class Sealer(Service):
    """Links and signs while it has the lease; others wait for it."""

    name = "sealer"

    def __init__(
        self,
        settings: Settings,
        database: Database,
        clock: Clock,
        holder: str,
        *,
        observe: Callable[[int], object] = lambda _: None,
    ) -> None:
        """`database` is the sealer's own pool, which it closes; `observe` is told how many rows were just linked."""
        super().__init__()
        self._settings = settings
        self._database = database
        self._clock = clock
        self._holder = holder
        self._observe = observe
        self._held: dict[str, int] = {}
        self._renew_at = clock()
        self._notary: Notary | None = None
        self._signed_s = -SIGN_S
        self._measured_s = -MEASURE_S

    @property
    def holds(self) -> bool:
        """Whether it is the one that works."""
        return bool(self._held)

    async def run(self) -> None:
        """Work until stopped, then link and sign once more and give the lease back."""
        while not await self.pause(SEAL_S):
            await self._step()
        self._signed_s = -SIGN_S
        await self._step()
        if self._held:
            try:
                async with self._database.connection() as connection:
                    await leases.give_back(connection, self._holder, self._held)
            except StoreUnavailable:
                pass  # it runs out by itself
            self._held = {}

    async def close(self) -> None:
        """Close the pool."""
        await self._database.close()

    async def _step(self) -> None:
        try:
            if not await self._own():
                return
            while (linked := await seal(self._database, self._clock())) > 0:
                AUDIT_SEALED.inc(linked)
                self._observe(linked)
                if linked < PASS_ROWS or not await self._own():
                    break
            await self._measure()
            await self._sign()
        except StoreUnavailable:
            return  # rows wait; PostgreSQL being away is told by others

    async def _own(self) -> bool:
        """Hold the lease, or try to take it."""
        now = self._clock()
        if self._held and now < self._renew_at:
            return True
        life = timedelta(seconds=self._settings.lease_ttl_s)
        async with self._database.connection() as connection:
            if self._held and await leases.renew(connection, self._holder, self._held, now + life):
                self._held = {}
            if not self._held:
                self._held = await leases.take(connection, LEASE_KIND, self._holder, 1, now, now + life)
        self._renew_at = now + life / 3
        return bool(self._held)

    async def _measure(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._measured_s < MEASURE_S:
            return
        self._measured_s = now_s
        async with self._database.connection() as connection:
            rows, oldest = await chain.waiting(connection)
        now = self._clock()
        AUDIT_UNSEALED.set(rows)
        AUDIT_LAG.set(0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()))
        if self._notary is not None and self._notary.newest_at is not None:
            AUDIT_CHECKPOINT_AGE.set((now - self._notary.newest_at).total_seconds())

    async def _sign(self) -> None:
        now_s = asyncio.get_running_loop().time()
        if now_s - self._signed_s < SIGN_S:
            return
        self._signed_s = now_s
        try:
            if self._notary is None:
                signer = await asyncio.to_thread(load_signer, self._settings)
                files = CheckpointFiles(checkpoint_directory(self._settings))
                self._notary = Notary(self._database, files, signer, self._clock)
            await self._notary.sign()
        except Misconfigured as error:
            log.error("audit_not_signed", error=error.detail)
            return
        AUDIT_CONTRADICTED.set(len(self._notary.contradicted))
