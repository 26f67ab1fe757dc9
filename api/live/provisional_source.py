"""What waits in Redis for PostgreSQL, read so that consoles see it meanwhile."""

from __future__ import annotations

import uuid
from typing import Any, Final

import msgspec

from api.live.provisional import provisional_panic, provisional_transition
from core.domain import panic as panic_domain
from core.domain import transition as transition_domain
from core.domain.panic import PanicIn
from core.errors import StoreUnavailable
from core.key_rings import KeyLost
from core.redis import keys
from core.redis import panics as panic_stream
from core.redis.client import Client
from core.vault import Traveller, Unsealable

ENTRIES_BOUND: Final = 200
"""Entries of one shard's transitions read at once."""


class ProvisionalSource:
    """Reads the transitions and panics that came since it was last asked."""

    def __init__(self, client: Client, shard_count: int, traveller: Traveller) -> None:
        self._client = client
        self._traveller = traveller
        self._shard_count = shard_count
        self._panic_after = "0-0"
        self._after = ["0-0"] * shard_count

    def rewind(self) -> None:
        """Read all that waits anew: what PostgreSQL has is trimmed from the streams."""
        self._panic_after = "0-0"
        self._after = ["0-0"] * self._shard_count

    async def read(self) -> list[tuple[uuid.UUID, dict[str, Any]]]:
        """(agency, incident) of what is new."""
        found: list[tuple[uuid.UUID, dict[str, Any]]] = []
        for entry, payload in await panic_stream.read(self._client, self._panic_after):
            self._panic_after = entry
            record = await self._decoded(payload)
            if record is not None and record.agency_id is not None:
                found.append((record.agency_id, provisional_panic(record, record.agency_id)))
        for shard in range(self._shard_count):
            found += await self._read_shard(shard)
        return found

    async def _decoded(self, payload: bytes) -> PanicIn | None:
        try:
            record = panic_domain.decode(await self._traveller.open(payload))
        except (msgspec.DecodeError, Unsealable, KeyLost, StoreUnavailable):
            return None  # the drain sets it aside as poison, or waits for its key
        return record if isinstance(record, PanicIn) else None

    async def _read_shard(self, shard: int) -> list[tuple[uuid.UUID, dict[str, Any]]]:
        entries = await self._client.xrange(
            keys.transitions(shard), min=f"({self._after[shard]}", max="+", count=ENTRIES_BOUND
        )
        found = []
        for entry, fields in entries:
            self._after[shard] = entry.decode()
            try:
                items = transition_domain.decode_many(fields[b"t"])
            except (KeyError, msgspec.DecodeError):
                continue  # the recorder sets it aside as poison
            for item in items:
                incident = provisional_transition(item)
                if incident is not None:
                    found.append((item.agency_id, incident))
        return found
