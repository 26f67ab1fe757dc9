"""Linking the audit's rows into their agencies' chains, and signing checkpoints of them.

Rows are written unlinked, so that nobody waits for a chain; one sealer at a time links what has been committed. The
lock on the sealer's mark, held for a pass, is what makes it one: two may run, and only one links.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog

from core.checkpoints import CheckpointFiles
from core.clock import Clock
from core.domain.chain import NO_AGENCY, Checkpoint, chain_hash, genesis, make_checkpoint, read_checkpoint, row_hash
from core.postgres import chain
from core.postgres.chain import Head, Link
from core.postgres.database import Connection, Database
from core.signing import Signer

log = structlog.get_logger(__name__)

PASS_ROWS: Final = 20_000
"""Rows linked in one transaction."""
FOREIGN_ROWS: Final = 200_000
"""The same for a database just loaded from elsewhere, whose rows are looked for all over."""


async def seal(database: Database, now: datetime) -> int:
    """Link what has been committed, at most a pass of rows; returns how many. Raises StoreUnavailable."""
    async with database.transaction() as connection:
        if not await chain.is_waiting(connection):
            return 0
        mark = await chain.lock_mark(connection)
        if mark is None:
            return 0
        await chain.text_form(connection)
        below = await chain.ceiling(connection)
        most = PASS_ROWS if mark.same_cluster else FOREIGN_ROWS
        lines = await chain.unlinked(connection, mark, below, most)
        if lines:
            await chain.add_links(connection, await _links(connection, lines))
        if len(lines) == most:
            # There may be more of the last one's transaction; what of it has a link is not taken again.
            below = max(mark.floor_xid, int(lines[-1].rsplit(b"\t", 1)[1])) if mark.same_cluster else 0
        if mark.same_cluster or len(lines) < most:
            await chain.set_mark(connection, below, now)
    return len(lines)


async def _links(connection: Connection, lines: Iterable[bytes]) -> list[Link]:
    by_agency: dict[uuid.UUID, list[bytes]] = {}
    for line in lines:
        agency = line.split(b"\t", 2)[1]
        by_agency.setdefault(NO_AGENCY if agency == rb"\N" else uuid.UUID(agency.decode()), []).append(line)
    heads = await chain.heads(connection, list(by_agency))
    links = []
    for agency_id, rows in by_agency.items():
        head = heads.get(agency_id, Head(agency_id, 0, genesis(agency_id)))
        position, previous = head.position, head.chain_hash
        for line in rows:
            row = row_hash(line)
            position, previous = position + 1, chain_hash(previous, row)
            links.append(Link(agency_id, position, uuid.UUID(line[:36].decode()), row, previous))
    return links


@dataclass
class Notary:
    """Signs checkpoints and appends them to their files; one of an installation works at a time."""

    database: Database
    files: CheckpointFiles
    signer: Signer
    clock: Clock
    contradicted: set[uuid.UUID] = field(default_factory=set)
    """Agencies whose chain in the database is not what was signed before: nothing is signed for them."""
    newest_at: datetime | None = None
    """When the newest checkpoint was signed, or found that nothing is new."""

    async def sign(self) -> list[Checkpoint]:
        """Sign a checkpoint of each chain with news, and of every chain once after the end of a day (UTC).

        The file is written first: what the database has of a checkpoint is a copy of the file's. Raises
        StoreUnavailable, and Misconfigured when the directory cannot be written.
        """
        now = self.clock()
        yesterday = now.date() - timedelta(days=1)
        async with self.database.connection() as connection:
            heads = await chain.heads(connection)
            copies = await chain.last_checkpoints(connection)
            closed = await chain.closed_days(connection, yesterday)
            await chain.know_key(connection, self.signer.key_id, self.signer.public_key_bytes, now)
            made = []
            for agency_id, head in heads.items():
                last = await self._last(connection, agency_id, copies.get(agency_id))
                if not await self._agrees(connection, agency_id, head, last):
                    continue
                day = None if agency_id in closed or (last is not None and last.day == str(yesterday)) else yesterday
                if last is not None and last.position == head.position and day is None:
                    continue
                checkpoint = make_checkpoint(
                    agency_id, head.position, head.chain_hash, now,
                    after=last, day=day, key_id=self.signer.key_id, sign=self.signer.sign,
                )  # fmt: skip
                await asyncio.to_thread(self.files.append, agency_id, [checkpoint.line])
                await chain.add_checkpoint(connection, checkpoint)
                made.append(checkpoint)
        self.newest_at = now
        return made

    async def accept_restore(self, agency_id: uuid.UUID) -> Checkpoint | None:
        """Sign that the database was restored from an older backup, and from which position on what was signed is lost.

        None when the chain does agree with what was signed. Raises StoreUnavailable.
        """
        async with self.database.connection() as connection:
            head = (await chain.heads(connection, [agency_id])).get(agency_id, Head(agency_id, 0, genesis(agency_id)))
            lines = await asyncio.to_thread(lambda: list(self.files.lines(agency_id)))
            last = read_checkpoint(lines[-1]) if lines else None
            if last is None or await chain.hash_at(connection, agency_id, last.position) == last.chain_hash:
                return None
            kept = 0
            for line in reversed(lines):
                before = read_checkpoint(line)
                if await chain.hash_at(connection, agency_id, before.position) == before.chain_hash:
                    kept = before.position
                    break
            checkpoint = make_checkpoint(
                agency_id, head.position, head.chain_hash, self.clock(),
                after=last, day=None, key_id=self.signer.key_id, sign=self.signer.sign, kept=kept,
            )  # fmt: skip
            await asyncio.to_thread(self.files.append, agency_id, [checkpoint.line])
            for line in lines:
                await chain.add_checkpoint(connection, read_checkpoint(line))
            await chain.add_checkpoint(connection, checkpoint)
        self.contradicted.discard(agency_id)
        return checkpoint

    async def _last(self, connection: Connection, agency_id: uuid.UUID, copy: str | None) -> Checkpoint | None:
        """The newest checkpoint; the file and the database's copy are brought to the same."""
        line = await asyncio.to_thread(self.files.last, agency_id)
        last = read_checkpoint(line) if line is not None else None
        copied = read_checkpoint(copy) if copy is not None else None
        if copied is not None and (last is None or copied.number > last.number):
            # This machine has taken over from another: its file goes on where the other's ended.
            missing = await chain.checkpoint_lines(connection, agency_id, last.number if last is not None else 0)
            await asyncio.to_thread(self.files.append, agency_id, missing)
            return copied
        if last is not None and (copied is None or copied.number < last.number):
            for written in await asyncio.to_thread(lambda: list(self.files.lines(agency_id))):
                checkpoint = read_checkpoint(written)
                if copied is None or checkpoint.number > copied.number:
                    await chain.add_checkpoint(connection, checkpoint)
        return last

    async def _agrees(self, connection: Connection, agency_id: uuid.UUID, head: Head, last: Checkpoint | None) -> bool:
        """Whether the chain is still what was signed last; if not, nothing is signed that would hide it."""
        if last is None or head.position >= last.position:
            stored = None if last is None else await chain.hash_at(connection, agency_id, last.position)
            if last is None or stored == last.chain_hash:
                self.contradicted.discard(agency_id)
                return True
        if agency_id not in self.contradicted:
            self.contradicted.add(agency_id)
            log.error("audit_contradicts_checkpoint", agency=str(agency_id), position=head.position)
        return False
