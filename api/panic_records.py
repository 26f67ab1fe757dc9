"""A panic as it waits for PostgreSQL, in the journal and in Redis: sealed, so that neither a disk nor a dump tells;
and what the button is told."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from api.panic_index import Record
from core.vault import Traveller, Unsealable

PLAIN: Final = b"{"
"""How a record begins that an earlier version wrote, plain; no sealed one does."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


@dataclass(frozen=True, slots=True)
class PanicAnswer:
    """What the button is told."""

    panic_id: uuid.UUID
    incident_id: uuid.UUID | None
    state: str
    received_at: datetime
    created: bool


class PanicRecords:
    """Seals and opens records with a key of this process, which travels with them, wrapped."""

    def __init__(self, traveller: Traveller) -> None:
        self._traveller = traveller

    async def prepare(self) -> None:
        """Have the key; a second call does nothing. Raises StoreUnavailable when the key service is away."""
        await self._traveller.prepare()

    async def seal(self, record: Record) -> bytes:
        """The record as it waits: within microseconds, once there is a key."""
        await self._traveller.prepare()
        return self._traveller.seal(_encode(record))

    async def open(self, payload: bytes) -> Record:
        """The record. Raises DecodeError, Unsealable; KeyLost when its key is not here (it may be put back)."""
        plain = payload if payload.startswith(PLAIN) else await self._traveller.open(payload)
        record: Record = _decode(plain)
        return record

    def key_of(self, payload: bytes) -> bytes:
        """What stands for the key it is sealed with; nothing for one that is plain, or nothing sealed."""
        try:
            return b"" if payload.startswith(PLAIN) else self._traveller.key_of(payload)
        except Unsealable:
            return b""

    def sealed(self, payload: bytes) -> bytes:
        """What is kept of a payload that is no record: never plain."""
        return self._traveller.seal(payload) if payload.startswith(PLAIN) else payload
