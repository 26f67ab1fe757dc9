"""The routes last known: whom a panic has to reach, at hand while PostgreSQL is away.

Model: each process that takes panics reads the agencies' messages and who is pressing every `LOOK_S`, contacts by what
changed (and whole each hour), and keeps them in memory and in two sealed files (`core.sealed_file`), which a process
reads that is started while PostgreSQL is away. A contact's channels stay sealed with her key, in memory too, and are
opened when she presses.

Failure: what is beyond `BYTES_MAX` is not kept, logged, and shown as `qorgan_last_known_missing`. With the key service
away as well, the agency hears and her contacts wait for either.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from core.actions.notices import Notice, contact_deliveries, tell
from core.actions.reach import Message, people_to_tell, tell_group
from core.actions.unit_of_work import Unit
from core.clock import Clock, from_ms, rfc3339
from core.domain.delivery import Delivery
from core.domain.last_known import (
    NOBODY,
    Agencies,
    KeptContact,
    KeptPerson,
    facts_of,
    from_pattern,
)
from core.domain.panic import PanicIn, incident_id_of
from core.domain.sealing import Spot, person
from core.errors import StoreUnavailable
from core.key_rings import KeyLost, Wrapped
from core.metrics import LAST_KNOWN_MISSING
from core.postgres import last_known as store
from core.postgres.database import Database
from core.postgres.keys import vault_of
from core.sealed_file import SealedFile, TooBig, Unreadable
from core.service import Service
from core.settings import Settings
from core.token_key import derived_key
from core.vault import Dek, Unsealable

log = structlog.get_logger(__name__)

FOLDER: Final = "last-known"
LOOK_S: Final = 15.0
STAFF_EVERY_S: Final = 60.0
WHOLE_EVERY_S: Final = 3600.0
OVERLAP: Final = timedelta(minutes=2)
"""How far a look goes back beyond the one before: what was committed late is seen all the same."""
BYTES_MAX: Final = 64 * 1024 * 1024
"""Of contacts in memory, and of a file: about 100,000 people."""
AGENCIES_EVERY_S: Final = 30.0
PEOPLE_EVERY_S: Final = 300.0
"""Least time between two writings of a file."""
BATCH: Final = 500
"""People encoded in one go."""


class AgenciesFrame(msgspec.Struct, array_like=True):
    """The agencies' file."""

    first: uuid.UUID | None
    patterns: list[Delivery]
    pressing: list[uuid.UUID]
    staff: list[Delivery] = []


PeopleFrame = dict[uuid.UUID, KeptPerson]
_encode = msgspec.msgpack.Encoder().encode
_decode_agencies = msgspec.msgpack.Decoder(AgenciesFrame).decode
_decode_people = msgspec.msgpack.Decoder(PeopleFrame).decode


class LastKnown(Service):
    """Keeps the routes."""

    name = "last-known"

    def __init__(
        self, settings: Settings, database: Database, clock: Clock, index: int = 0, *, look_s: float = LOOK_S
    ) -> None:
        """`database` as the device side. The first process of a machine writes the files for all."""
        super().__init__()
        self._database = database
        self._vault = vault_of(database)
        self._clock = clock
        self._writes = index == 0
        self._look_s = look_s
        folder, key = settings.data_dir / FOLDER, derived_key(settings, "last known")
        self._agencies_file = SealedFile(folder / "agencies.sealed", key, "agencies", bytes_max=BYTES_MAX)
        self._people_file = SealedFile(folder / "people.sealed", key, "people", bytes_max=2 * BYTES_MAX)
        self.agencies = Agencies()
        self._people: dict[uuid.UUID, KeptPerson] = {}
        self._size_bytes = 0
        self._staff_at = float("-inf")
        self._since: datetime | None = None
        self._whole_at = float("-inf")
        self._changed = {"agencies": False, "people": False}
        self._written_at = {"agencies": float("-inf"), "people": float("-inf")}

    # telling ----------------------------------------------------------------------------------------------------

    def to_agency(self, panic: PanicIn) -> list[Delivery]:
        """What goes out to the agency of whoever pressed."""
        agency_id = panic.agency_id or self.agencies.first
        patterns = self.agencies.patterns.get(agency_id, []) if agency_id is not None else []
        return [from_pattern(pattern, panic) for pattern in patterns]

    def to_staff(self, panic: PanicIn) -> list[Delivery]:
        """What goes out to the agency's dispatchers and who is on duty, by their own channels."""
        agency_id = panic.agency_id or self.agencies.first
        patterns = self.agencies.staff.get(agency_id, []) if agency_id is not None else []
        return [from_pattern(pattern, panic) for pattern in patterns]

    async def to_contacts(self, panic: PanicIn) -> list[Delivery]:
        """What goes out to her contacts; nobody while a panic of hers is open: they were told, or must not be.

        Raises StoreUnavailable while the key service is away.
        """
        kept = self._people.get(panic.person_id) if panic.person_id is not None else None
        if kept is None or panic.person_id is None or panic.person_id in self.agencies.pressing:
            return []
        facts = facts_of(panic)
        found: list[Delivery] = []
        for contact, channels in await self._opened(panic.person_id, kept):
            notice = Notice(
                cause=panic.id, incident_id=incident_id_of(panic.id, panic.received_ms),
                agency_id=panic.agency_id or contact.agency_id, type="panic", severity="critical",
                victim_id=panic.person_id, data=facts,
            )  # fmt: skip
            record = {"id": contact.id, "language": contact.language, "channels": channels}
            found += contact_deliveries(notice, record)
        return found

    async def _opened(self, person_id: uuid.UUID, kept: KeptPerson) -> list[tuple[KeptContact, list[dict[str, Any]]]]:
        """Her contacts with their channels; one that does not open keeps nobody else from hearing."""
        dek: Dek | None = None
        if kept.kek_id is not None and kept.wrapped is not None:
            owner = person(person_id)
            try:
                dek = (await self._vault.unwrap({owner: Wrapped(kept.kek_id, kept.wrapped)}))[owner]
            except KeyLost as error:
                log.error("last_known_key_lost", reason=str(error))
        opened = []
        for contact in kept.contacts.values():
            channels = contact.plain or []
            if contact.channels is not None and dek is not None:
                try:
                    channels = dek.open(Spot("contact", "channels", contact.id), contact.channels) or []
                except Unsealable:
                    log.error("last_known_spoilt", contact=str(contact.id))
            opened.append((contact, channels))
        return opened

    # keeping current --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Have what there is: from PostgreSQL, else from the files of the last run."""
        try:
            await self.look()
        except StoreUnavailable:
            self._read_files()

    async def run(self) -> None:
        """Look again and again."""
        await self._write(final=False)
        while not await self.pause(self._look_s):
            try:
                await self.look()
            except StoreUnavailable:
                continue
            except Exception as error:  # what was known stays; this process takes panics and must not end by it
                log.error("last_known_not_read", error=type(error).__name__)
                continue
            await self._write(final=False)

    async def close(self) -> None:
        """Have in the files what is known."""
        await self._write(final=True)

    async def look(self) -> None:
        """Read what changed. Raises StoreUnavailable; what was known stays then."""
        now, moment = time.monotonic(), self._clock()
        whole = self._since is None or now >= self._whole_at + WHOLE_EVERY_S
        await self._look_at_contacts(None if whole else self._since)
        self._since = moment - OVERLAP
        if whole:
            self._whole_at = now
        await self._look_at_agencies()  # last: it needs keys

    async def _look_at_agencies(self) -> None:
        found = Agencies()
        async with self._database.rehearsal() as connection:
            agency_ids = await store.agency_ids(connection)
            found.first = agency_ids[0] if agency_ids else None
            found.pressing = frozenset(await store.pressing(connection))
            unit = Unit(connection, self._clock())
            await tell(unit, [self._of_nobody(agency_id) for agency_id in agency_ids])
            for delivery in unit.queued:
                found.patterns.setdefault(delivery.agency_id, []).append(delivery)
            if (now := time.monotonic()) >= self._staff_at + STAFF_EVERY_S:
                found.staff, self._staff_at = await self._staff(connection, agency_ids), now
            else:
                found.staff = self.agencies.staff
        if found != self.agencies:
            self.agencies = found
            self._changed["agencies"] = True

    async def _staff(self, connection: Any, agency_ids: list[uuid.UUID]) -> dict[uuid.UUID, list[Delivery]]:
        related = await store.in_conflict(connection, agency_ids)
        found = {}
        for agency_id in agency_ids:
            unit = Unit(connection, self._clock())
            row = {
                "id": NOBODY, "type": "panic", "severity": "critical", "agency_id": agency_id, "victim_id": None,
                "aggressor_id": None, "case_id": None,
            }  # fmt: skip
            group = await people_to_tell(unit, row, agency_id, ["dispatchers", "duty_officer"])
            group.routes = []  # they hear at once
            group.users = {user_id: one for user_id, one in group.users.items() if user_id not in related}
            facts = self._of_nobody(agency_id).data
            await tell_group(
                unit, row, agency_id, group, Message(NOBODY, 0, "incident_dispatcher", "dispatcher", facts)
            )
            if unit.queued:
                found[agency_id] = list(unit.queued)
        return found

    @staticmethod
    def _of_nobody(agency_id: uuid.UUID) -> Notice:
        facts = {
            "incident_id": str(NOBODY), "type": "panic", "severity": "critical", "distance_m": None,
            "occurred_at": rfc3339(from_ms(0)), "order_id": None,
        }  # fmt: skip
        return Notice(
            cause=NOBODY, incident_id=NOBODY, agency_id=agency_id, type="panic", severity="critical", victim_id=None,
            data=facts,
        )  # fmt: skip

    async def _look_at_contacts(self, since: datetime | None) -> None:
        people = {} if since is None else self._people
        size = 0 if since is None else self._size_bytes
        missing = 0
        changed = since is None
        async with self._database.transaction() as connection:
            async for rows in store.contact_changes(connection, since):
                for row in rows:
                    before = people.get(row["person_id"])
                    after = _with(before, row)
                    if after == before:
                        continue
                    grown = (after.size_bytes if after else 0) - (before.size_bytes if before else 0)
                    if grown > 0 and size + grown > BYTES_MAX:
                        missing += 1
                        continue
                    size, changed = size + grown, True
                    if after is None:
                        people.pop(row["person_id"], None)
                    else:
                        people[row["person_id"]] = after
            for person_id in await store.erased_since(connection, since) if since is not None else ():
                if (gone := people.pop(person_id, None)) is not None:
                    size, changed = size - gone.size_bytes, True
                    self._written_at["people"] = float("-inf")  # at once: her key must be nowhere
        self._people, self._size_bytes = people, size
        self._changed["people"] |= changed
        if since is None or missing:
            LAST_KNOWN_MISSING.set(missing)
        if missing:
            log.error("last_known_full", contacts=missing)

    # files ------------------------------------------------------------------------------------------------------

    async def _write(self, *, final: bool) -> None:
        now = time.monotonic()
        every = {"agencies": AGENCIES_EVERY_S, "people": PEOPLE_EVERY_S}
        for name, file in (("agencies", self._agencies_file), ("people", self._people_file)):
            if not (self._writes and self._changed[name] and (final or now >= self._written_at[name] + every[name])):
                continue
            frames = (
                [self._agencies_frame()] if name == "agencies" else [frame async for frame in self._people_frames()]
            )
            self._changed[name], self._written_at[name] = False, now
            try:
                await asyncio.to_thread(file.write, frames)
            except (OSError, TooBig) as error:
                self._changed[name] = True
                log.error("last_known_not_kept", file=name, error=type(error).__name__)

    def _agencies_frame(self) -> bytes:
        patterns = [pattern for one in self.agencies.patterns.values() for pattern in one]
        staff = [pattern for one in self.agencies.staff.values() for pattern in one]
        return _encode(AgenciesFrame(self.agencies.first, patterns, list(self.agencies.pressing), staff))

    async def _people_frames(self) -> Any:
        for part in _parts(list(self._people.items())):
            yield _encode(dict(part))
            await asyncio.sleep(0)

    def _read_files(self) -> None:
        try:
            (frame,) = self._agencies_file.read()
            kept = _decode_agencies(frame)
            people: PeopleFrame = {}
            for part in self._people_file.read():
                people |= _decode_people(part) if part else {}
        except FileNotFoundError:
            return
        except (OSError, Unreadable, msgspec.DecodeError, ValueError) as error:
            log.error("last_known_not_read", error=type(error).__name__)
            return
        patterns, staff = _by_agency(kept.patterns), _by_agency(kept.staff)
        self.agencies = Agencies(kept.first, patterns, staff, frozenset(kept.pressing))
        if self._since is None:  # else PostgreSQL is there, and only keys are not
            self._people = people
            self._size_bytes = sum(one.size_bytes for one in people.values())
        log.info("last_known_from_files", agencies=len(patterns), people=len(people))


def _with(before: KeptPerson | None, row: Any) -> KeptPerson | None:
    """A person's contacts after one of them changed; None when nobody is left to tell."""
    contacts = dict(before.contacts) if before is not None else {}
    contacts.pop(row["id"], None)
    if row["is_told"]:
        sealed = row["channels_sealed"]
        contacts[row["id"]] = KeptContact(
            row["id"], row["agency_id"], row["language"], sealed, row["channels"] if sealed is None else None
        )
    return KeptPerson(row["kek_id"], row["wrapped"], contacts) if contacts else None


def _by_agency(patterns: list[Delivery]) -> dict[uuid.UUID, list[Delivery]]:
    found: dict[uuid.UUID, list[Delivery]] = {}
    for pattern in patterns:
        found.setdefault(pattern.agency_id, []).append(pattern)
    return found


def _parts(items: list[tuple[uuid.UUID, KeptPerson]]) -> Iterator[list[tuple[uuid.UUID, KeptPerson]]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
