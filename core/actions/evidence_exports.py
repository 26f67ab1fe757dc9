"""Exports as rows: asked for, claimed, made, kept sealed for some days, fetched.

Model: asking is a row; `ExportClock`, in every API process, claims one by a lease, reads the incident in the scope of
who asked, makes all editions in a thread and keeps them sealed in the row. The window is judged again first, by the geo
workers (`geo.evidence_keeper`); after `WAIT_FOR_REPLAY` the export is made without, and says so.

Failure: a process that dies leaves a lease that ends; after `ATTEMPTS` the export has failed and says why.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from core.actions import evidence, records
from core.actions.records import Asker
from core.actions.unit_of_work import Unit, act
from core.clock import Clock
from core.domain.scope import Scope
from core.errors import Conflict, NotFound, QorganError, StoreUnavailable
from core.evidence.bundle import EDITIONS, Signing
from core.ids import new_id
from core.postgres import audit, evidence_exports
from core.postgres import evidence as store
from core.postgres.database import Database
from core.service import Loop

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 1.0
WAIT_FOR_REPLAY: Final = timedelta(minutes=2)
LEASE: Final = timedelta(minutes=10)
ATTEMPTS: Final = 3
WAITING_MAX: Final = 5
"""Exports of an agency that may wait or be made at a time."""
PROGRESS_S: Final = 0.5

Json = dict[str, Any]


async def ask(unit: Unit, asker: Asker, incident_id: uuid.UUID, reason: str) -> Json:
    """Ask for an incident's evidence. Raises NotFound, and Conflict when too many wait already."""
    about = await store.parties_of(unit.connection, incident_id, unit.now)
    if about is None:
        raise NotFound("There is no such incident.")
    if await evidence_exports.waiting(unit.connection, asker.agency_id) >= WAITING_MAX:
        raise Conflict("Several exports are being made already; wait for one of them.")
    export_id = new_id()
    await evidence_exports.insert(
        unit.connection, export_id, about.agency_id, incident_id, reason, asker.user_id, asker.role, unit.now
    )
    people = (about.victim_id, about.aggressor_id)
    await records.note(unit, asker, "evidence.asked", "incident", incident_id, people=people, export_id=str(export_id))
    return await evidence_exports.get(unit.connection, asker.agency_id, export_id)


async def fetch(unit: Unit, asker: Asker, export_id: uuid.UUID, edition: str) -> bytes:
    """A finished export's edition. Raises NotFound; Conflict while it is not finished."""
    row = await evidence_exports.get(unit.connection, asker.agency_id, export_id)
    if row["state"] != "done":
        raise Conflict("The export is not finished; look at its state.", state=row["state"])
    kept = await evidence_exports.bundles_of(unit.connection, export_id, unit.now)
    if kept is None:
        raise NotFound("The export is kept no longer; ask for it again.")
    about = await store.parties_of(unit.connection, row["incident_id"], unit.now)
    if about is None:
        raise NotFound("There is no such export.")
    people = (about.victim_id, about.aggressor_id)
    told = {"export_id": str(export_id), "edition": edition}
    await records.note(unit, asker, "evidence.fetched", "incident", row["incident_id"], people=people, **told)
    return (await evidence.opened(unit.connection, export_id, kept))[edition]


async def latest(database: Database, incident_id: uuid.UUID, now: datetime) -> tuple[str, dict[str, bytes]] | None:
    """(root, editions) of the newest finished export of an incident that is still kept."""
    async with database.connection() as connection:
        row = await evidence_exports.latest(connection, incident_id, now)
        return None if row is None else (row["root"], await evidence.opened(connection, row["id"], row["bundles"]))


async def make_now(
    database: Database, incident_id: uuid.UUID, reason: str, signer: Signing, now: datetime
) -> tuple[str, dict[str, bytes]]:
    """Make an export at once, for who runs the machine: audited as the service's, and kept as any other."""
    export_id = new_id()
    async with act(database, now) as unit:
        about = await store.parties_of(unit.connection, incident_id, now)
        if about is None:
            raise NotFound("There is no such incident.")
        await evidence_exports.insert(
            unit.connection, export_id, about.agency_id, incident_id, reason, None, None, now, state="running"
        )
        await audit.write(
            unit.connection, now, agency_id=about.agency_id, actor_kind="service", actor_id="command line",
            action="evidence.made", subject_kind="incident", subject_id=incident_id,
            detail={"export_id": str(export_id)}, person_ids=(about.victim_id, about.aggressor_id),
        )  # fmt: skip
    async with database.transaction() as connection:
        material = await evidence.read(connection, incident_id, now)
    root, editions = await evidence.make_apart(material, signer, lambda _: None)
    async with database.transaction() as connection:
        kept = await evidence.sealed(connection, about, export_id, editions, now)
        await evidence_exports.finish(connection, export_id, now, root, kept, now + evidence.KEPT_FOR)
    return root, editions


class ExportClock(Loop):
    """Makes the exports that are asked for, one at a time in a process."""

    def __init__(
        self,
        device_database: Database,
        database: Database,
        load_signer: Callable[[], Signing],
        clock: Clock,
        interval_s: float = INTERVAL_S,
    ) -> None:
        super().__init__("export_clock", self.step, interval_s)
        self._upkeep = device_database
        """Sees every agency's exports, and nothing of an incident."""
        self._database = database
        """Reads in the scope of who asked."""
        self._load_signer = load_signer
        """Called when there is something to sign: a process that never exports needs no key."""
        self._clock = clock

    async def step(self) -> None:
        """Make one export, if one waits; forget those that were kept long enough."""
        now = self._clock()
        try:
            async with self._upkeep.transaction() as connection:
                await evidence_exports.forget(connection, now)
                row = await evidence_exports.claim(connection, now, now + LEASE, now - WAIT_FOR_REPLAY)
            if row is not None:
                await self._make(row)
        except StoreUnavailable:
            return

    async def _make(self, row: Json) -> None:
        export_id = row["id"]
        scope = Scope(row["agency_id"], row["asked_by"], row["asked_role"], purpose="evidence")
        try:
            async with self._database.transaction(scope) as connection:
                material = await evidence.read(connection, row["incident_id"], self._clock())
            root, editions = await self._with_progress(material, export_id)
            async with self._upkeep.transaction() as connection:
                now = self._clock()
                kept = await evidence.sealed(connection, material.about, export_id, editions, now)
                await evidence_exports.finish(connection, export_id, now, root, kept, now + evidence.KEPT_FOR)
        except StoreUnavailable:
            raise
        except Exception as error:  # one export must not hold up the others
            log.error("export_failed", export=str(export_id), error=type(error).__name__)
            why = error.detail if isinstance(error, QorganError) else "It could not be made; the log says why."
            async with self._upkeep.transaction() as connection:
                await evidence_exports.fail(connection, export_id, self._clock(), why, ATTEMPTS)

    async def _with_progress(self, material: evidence.Material, export_id: uuid.UUID) -> tuple[str, dict[str, bytes]]:
        """Make it, writing down now and then how far it is."""
        signer = await asyncio.to_thread(self._load_signer)
        reached = [0.0]

        def note(share: float) -> None:
            reached[0] = share

        making = asyncio.create_task(evidence.make_apart(material, signer, note))
        while not (await asyncio.wait({making}, timeout=PROGRESS_S))[0]:
            async with self._upkeep.connection() as connection:
                await evidence_exports.progress(connection, export_id, reached[0])
        return making.result()


__all__ = ["EDITIONS", "ExportClock", "ask", "fetch", "latest", "make_now"]
