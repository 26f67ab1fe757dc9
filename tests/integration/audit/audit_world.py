"""An audit with its sealer, its notary and its checkpoints."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from core.actions.sealing import Notary, seal
from core.actions.verification import Report, verify
from core.checkpoints import CheckpointFiles
from core.ids import new_id
from core.postgres import audit
from core.postgres.database import Database
from core.signing import KeyRing, Signer

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


@dataclass
class World:
    """What a test works with."""

    database: Database
    files: CheckpointFiles
    signer: Signer
    now: datetime
    agency_id: uuid.UUID

    @property
    def notary(self) -> Notary:
        """A notary as a fresh process has it."""
        return Notary(self.database, self.files, self.signer, lambda: self.now)

    async def write(self, count: int = 1, **values: Any) -> None:
        """Rows of the first agency unless another is given, each in a transaction of its own."""
        for number in range(count):
            row = {
                "agency_id": self.agency_id,
                "actor_kind": "user",
                "actor_id": new_id(),
                "action": "person.read",
                "detail": {"n": number, "text": "tab\t, line\n, қорған"},
                **values,
            }
            async with self.database.transaction() as connection:
                await audit.write(connection, self.now, **row)

    async def seal(self) -> int:
        """Link all there is to link."""
        total = 0
        while linked := await seal(self.database, self.now):
            total += linked
        return total

    async def sign(self, minutes: float = 1) -> None:
        """Link, and sign a checkpoint some minutes later."""
        await self.seal()
        self.now += timedelta(minutes=minutes)
        await self.notary.sign()

    async def check(self, *keys: bytes, files: CheckpointFiles | None = None) -> Report:
        """Verify everything, an hour later."""
        ring = KeyRing(keys or [self.signer.public_key_bytes])
        return await verify(self.database, self.now + timedelta(hours=1), files or self.files, ring)

    async def ids(self) -> list[uuid.UUID]:
        """The audit's rows in the order of the chain."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(
                "SELECT audit_id FROM audit_link WHERE agency_id = $1 ORDER BY position", self.agency_id
            )
        return [row["audit_id"] for row in rows]
