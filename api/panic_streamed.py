"""The panic stream of Redis as this process sees it: what other processes took, and PostgreSQL has not.

While PostgreSQL is away it only grows, so a look reads what is new; whoever drains reads it whole, page by page, and
so sees what others have brought in. A record is opened once. What does not open, as its key is away or lost, stays
where it is, is asked for again later, and keeps nobody from what is behind it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from api.panic_index import PanicIndex, Record
from api.panic_records import PanicRecords
from core.domain.panic import CancelIn
from core.metrics import PANICS_STREAMED
from core.redis import panics as panic_stream
from core.redis.client import Client

log = structlog.get_logger(__name__)

REDIS_WAIT_S: Final = 0.5
PAGE_LEAST: Final = 10
"""Entries of the smallest page: of the largest records these arrive in time."""
UNREAD_S: Final = 30.0
"""Time between two tries to open what did not open."""

Opened = Record | bool | None
"""What came of opening a payload: None when its key is not there; True when it was no record, and may be dropped; False
when it is none, and has to stay for the moment."""


class Streamed:
    """What waits in the stream, opened."""

    def __init__(
        self,
        client: Client,
        records: PanicRecords,
        index: PanicIndex,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`index` is kept up with what waits there."""
        self._client = client
        self._records = records
        self._index = index
        self._monotonic = monotonic
        self._looking = asyncio.Lock()
        self._after = "0-0"
        self._page_entries = panic_stream.PENDING_BOUND
        """Half as many after a page that did not arrive in time, twice as many after a whole look."""
        self._unread: dict[str, float] = {}
        """Entry that did not open → when it is tried again."""
        self.entries: dict[str, Record] = {}
        """By entry, oldest first."""
        self._new: list[str] = []

    def take_new(self) -> list[Record]:
        """What was not asked for by this before, and waits still."""
        new, self._new = self._new, []
        return [self.entries[entry] for entry in new if entry in self.entries]

    async def push(self, *payloads: bytes, copies: bool) -> bool:
        """Add records for every process to see; False: they are not there. `copies`: they are on a disk as well, so
        that Redis need not hold each of them."""
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                if copies and await panic_stream.length(self._client) >= panic_stream.COPIES_BOUND:
                    log.error("panic_stream_full", entries=panic_stream.COPIES_BOUND)
                    return False
                for payload in payloads:
                    await panic_stream.push(self._client, payload)
        except Exception as error:  # any failure means: the journal has to do
            log.warning("panic_stream_refused", error=type(error).__name__)
            return False
        return True

    async def look(self, open_: Callable[[bytes], Awaitable[Opened]], *, whole: bool = False) -> None:
        """Read what is new, or all of it. With Redis away what was seen before stands: the journals have the rest.

        Raises what `open_` raises.
        """
        async with self._looking:
            seen: set[str] = set()
            lost_keys: set[bytes] = set()
            after = "0-0" if whole else self._after
            while page := await self._page(after):
                for entry, payload in page:
                    seen.add(entry)
                    if entry not in self.entries:
                        await self._meet(entry, payload, open_, lost_keys)
                after = self._after = page[-1][0]
            if whole and page is not None:
                self._page_entries = min(panic_stream.PENDING_BOUND, 2 * self._page_entries)
                for entry in [one for one in (*self.entries, *self._unread) if one not in seen]:
                    self._forget(entry)
            PANICS_STREAMED.labels("yes").set(len(self.entries))
            PANICS_STREAMED.labels("no").set(len(self._unread))

    async def _page(self, after: str) -> list[tuple[str, bytes]] | None:
        """The next entries; None when Redis does not answer. Of what did not arrive in time half is asked for next."""
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                return await panic_stream.read(self._client, after, self._page_entries)
        except TimeoutError:
            self._page_entries = max(PAGE_LEAST, self._page_entries // 2)
            return None
        except Exception:  # Redis away: the journals have what it has
            return None

    async def _meet(
        self, entry: str, payload: bytes, open_: Callable[[bytes], Awaitable[Opened]], lost_keys: set[bytes]
    ) -> None:
        """An entry that is not opened yet. One key is asked for once a look."""
        now = self._monotonic()
        if now < self._unread.get(entry, now):
            return
        key = self._records.key_of(payload)
        record = await open_(payload) if key not in lost_keys else None
        if record is True:
            await self.drop(entry)
        elif record is None or record is False:
            if record is None:
                lost_keys.add(key)
            self._unread[entry] = now + UNREAD_S
        else:
            self._unread.pop(entry, None)
            self.entries[entry] = record
            self._new.append(entry)
            self._index.note(entry, record)
            if isinstance(record, CancelIn):
                for surplus in self._index.surplus(record.device_id, str):
                    await self.drop(str(surplus))

    async def drop(self, entry: str) -> None:
        """Be done with an entry, there and here. With Redis away it is met again, and is the same once more."""
        self._forget(entry)
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                await panic_stream.drop(self._client, entry)
        except Exception as error:
            log.warning("panic_stream_refused", error=type(error).__name__)

    def _forget(self, entry: str) -> None:
        self.entries.pop(entry, None)
        self._unread.pop(entry, None)
        self._index.drop(entry)
