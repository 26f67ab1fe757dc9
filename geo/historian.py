"""The historian: pings from the shards' logs into PostgreSQL, exactly once, and the logs trimmed behind.

Model: one loop over all owned shards: read what every log has, turn it into arrays, and copy it in bounded
batches; the cursors (claimed with the lease's token) move in the same transaction. Commits are asynchronous:
a batch counts as passed only when the write-ahead log is on disk beyond it *and* its cursor is still there, and
only then is the log trimmed, never beyond what the engine has committed. Of a ping that went to two shards
only the primary copy becomes history.

Beside pings the log tells time, configurations and answers of history: they are kept too (`geo.log_beside`), in the
same transactions, so that what was decided can be judged again from what is kept.

Failure: killed at any moment, or PostgreSQL lost the last commits in a crash: the cursor says where to go on,
and the log still has it. A damaged entry becomes a row of `poison`. Pings older than an
installation keeps are passed over; days that are over go by `core.actions.retention`. `device.last_seen_at` is best
effort: bounded a round, the longest unwritten first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import structlog

from core.clock import Clock, to_ms, utc_now
from core.domain.log import PINGS, Entry
from core.domain.ping import RECORD_BYTES, Role
from core.errors import InvalidInput, StoreUnavailable
from core.metrics import HISTORY_LAG_SECONDS, HISTORY_ROWS, POISON
from core.postgres import cursors, pings, poison
from core.postgres.cursors import Move
from core.postgres.database import Database
from core.postgres.leases import lease_name
from core.redis.client import Client
from core.redis.shard_log import ShardLog, id_key
from core.service import Service
from core.settings import Settings
from geo.history_rows import RowMaker, heard_in
from geo.log_beside import Beside, is_beside
from geo.ownership import Ownership

log = structlog.get_logger(__name__)

READ_ENTRIES_MAX: Final = 128
"""Entries asked of each shard's log a round."""
QUIET_MOVE_S: Final = 2.0
"""How long a cursor that only passed ticks may wait to be moved."""
LAST_SEEN_S: Final = 5.0
LAST_SEEN_MAX: Final = 5_000
"""Devices whose `last_seen_at` is written a round."""
UNFLUSHED_MAX: Final = 10_000
"""Commits not yet seen on disk; beyond it the oldest merge into the next."""
RETRY_S: Final = 0.25
TRIM_S: Final = 1.0
TRIM_CHANGED_S: Final = 0.2
"""How often a log is trimmed, when nothing and when something new is on disk."""
FUTURE_DAYS: Final = 1
"""Partitions made ahead."""


@dataclass
class _Shard:
    """One owned shard: where its cursor stands, what was read beyond, and what is surely on disk."""

    shard: int
    token: int
    stored: str
    """The cursor as last committed."""
    read: str
    """Id of the newest entry read into `pending` (or passed over)."""
    on_disk: str
    """Cursor that is flushed: the log may go below it."""
    pending: list[Entry] = field(default_factory=list)
    beside: list[Entry] = field(default_factory=list)
    """Entries read that are no pings and that the cursor has not passed."""
    unflushed: list[tuple[int, str]] = field(default_factory=list)
    """(write-ahead log position, cursor) of commits not yet known to be on disk."""
    trimmed: tuple[str, float] = ("", 0.0)
    quiet_since: float = 0.0

    @property
    def cursor_name(self) -> str:
        return cursor_name(self.shard)

    def beside_until(self, entry: str) -> list[Entry]:
        """What stands beside the pings up to and including an entry."""
        last = id_key(entry)
        return [one for one in self.beside if (one.ms, one.n) <= last]

    def move(self, entry: str) -> Move:
        return Move(self.cursor_name, lease_name("historian", self.shard), self.token, self.stored, entry)


class _Moved(Exception):  # noqa: N818 - a sign to claim again
    """Some cursors are not where they were left."""


def cursor_name(shard: int) -> str:
    """Name of a shard's history cursor."""
    return f"historian:{shard}"


class Historian(Service):
    """Copies the logs of the shards whose `historian` leases it holds."""

    name = "historian"

    def __init__(
        self, settings: Settings, database: Database, client: Client, instance: str, clock: Clock = utc_now
    ) -> None:
        super().__init__()
        self._settings = settings
        self._database = database
        self._log = ShardLog(client)
        self._clock = clock
        self._shards: dict[int, _Shard] = {}
        self._maker = RowMaker(settings, database, clock)
        self._partitions: set[str] = set()
        self._last_seen_due = 0.0
        self._round = asyncio.Lock()
        self._ownership = Ownership(
            "historian",
            instance,
            database,
            clock,
            shard_count=settings.shard_count,
            ttl_s=settings.lease_ttl_s,
            hold=self._hold,
            drop=self._drop,
        )

    def owned(self) -> dict[int, int]:
        """{shard: lease token} this historian copies now."""
        return dict(self._ownership.owned())

    async def open(self) -> None:
        await self._ownership.start()

    async def run(self) -> None:
        interval_s = self._settings.history_interval_ms / 1000
        while not self.stopping.is_set():
            started = time.monotonic()
            more = False
            try:
                async with self._round:
                    more = await self._copy_round()
                await self._upkeep()
            except StoreUnavailable:
                log.warning("historian_waits", shards=sorted(self._shards))
                self._forget_places()
                await self.pause(RETRY_S)
            except _Moved:
                self._forget_places()
            if not more:
                await self.pause(max(0.001, interval_s - (time.monotonic() - started)))

    async def close(self) -> None:
        await self._ownership.stop()

    async def _hold(self, shard: int, token: int) -> None:
        self._shards[shard] = _Shard(shard, token, "", "", "")

    async def _drop(self, shard: int) -> None:
        async with self._round:  # what is being committed is; then the shard is another's
            self._shards.pop(shard, None)

    def _forget_places(self) -> None:
        """Claim every cursor anew before going on: what was committed last may not have survived."""
        self._partitions.clear()
        for shard, held in self._shards.items():
            self._shards[shard] = _Shard(shard, held.token, "", "", "")

    async def _claim_places(self) -> None:
        unplaced = {cursor_name(held.shard): held for held in self._shards.values() if not held.stored}
        if not unplaced:
            return
        async with self._database.connection() as connection:
            tokens = {name: held.token for name, held in unplaced.items()}
            places = await cursors.claim(connection, tokens, self._clock())
            written, _ = await pings.wal_positions(connection)
        for name, held in unplaced.items():
            if name in places:
                held.stored = held.read = places[name]
                held.unflushed = [(written, held.stored)]  # who stored it may not have waited for the disk
            else:
                self._shards.pop(held.shard, None)
                self._ownership.lose(held.shard, held.token)

    # one round ---------------------------------------------------------------------------------------------

    async def _copy_round(self) -> bool:
        """Read every shard once, copy all of it, trim; True when some log had more than was read."""
        await self._claim_places()
        held = list(self._shards.values())
        if not held:
            return False
        found = await self._log.read_many({one.shard: one.read for one in held}, READ_ENTRIES_MAX)
        for one in held:
            entries = found[one.shard]
            if entries:
                one.read = entries[-1].id
                one.pending = [entry for entry in entries if entry.kind == PINGS]
                one.beside += filter(is_beside, entries)
        batch: list[tuple[_Shard, Entry]] = []
        rows = 0
        for one in held:
            for entry in one.pending:
                size = len(entry.payload) // RECORD_BYTES
                if batch and rows + size > self._settings.history_batch_rows:
                    await self._copy(batch)
                    batch, rows = [], 0
                batch.append((one, entry))
                rows += size
            one.pending = []
        if batch:
            await self._copy(batch)
        await self._move_quiet(held)
        await self._trim(held)
        return any(len(entries) == READ_ENTRIES_MAX for entries in found.values())

    async def _copy(self, batch: Sequence[tuple[_Shard, Entry]]) -> None:
        """Copy a batch; when PostgreSQL refuses it for what it says, entry by entry, and the bad one set aside."""
        try:
            await self._copy_at_once(batch)
        except InvalidInput as error:
            self._partitions.clear()
            for one, entry in batch:
                try:
                    await self._copy_at_once([(one, entry)])
                except InvalidInput:
                    await self._pass_over(one, entry, error.detail)

    async def _pass_over(self, one: _Shard, entry: Entry, reason: str) -> None:
        async with self._database.transaction() as connection:
            await self._advance(connection, [(one, entry.id)], self._clock())
            await poison.set_aside(connection, one.cursor_name, entry.id, reason, entry.payload, self._clock())
        await self._committed([(one, entry.id)])
        POISON.labels("historian").inc()

    async def _copy_at_once(self, batch: Sequence[tuple[_Shard, Entry]]) -> None:
        """One transaction: the cursors' steps, the rows, what was heard, what is damaged."""
        sound = [(one, entry) for one, entry in batch if len(entry.payload) % RECORD_BYTES == 0]
        damaged = [(one, entry) for one, entry in batch if len(entry.payload) % RECORD_BYTES]
        rows = await self._maker.rows([entry for _, entry in sound])
        heard = [part for _, entry in sound if entry.extras for part in heard_in(entry)]
        await self._make_partitions(rows.days())
        upto = {one.shard: (one, entry.id) for one, entry in batch}
        now = self._clock()
        async with self._database.transaction() as connection:
            await pings.commit_asynchronously(connection)
            await self._advance(connection, [(one, entry) for one, entry in upto.values()], now)
            added = await pings.copy(connection, rows)
            if heard:
                await pings.add_heard(connection, heard)
            for one, entry in damaged:
                reason = "not a whole number of records"
                await poison.set_aside(connection, one.cursor_name, entry.id, reason, entry.payload, now)
        await self._committed(list(upto.values()))
        HISTORY_ROWS.inc(added)
        POISON.labels("historian").inc(len(damaged))
        for one, entry_id in upto.values():
            lag_s = to_ms(self._clock()) / 1000 - id_key(entry_id)[0] / 1000
            HISTORY_LAG_SECONDS.labels(str(one.shard)).set(max(0.0, lag_s))

    async def _advance(self, connection: Any, moves: Sequence[tuple[_Shard, str]], now: datetime) -> None:
        """Move cursors inside a transaction, and keep what they pass beside pings; one that does not move undoes it."""
        stuck = await cursors.advance(connection, [one.move(entry) for one, entry in moves], now)
        if stuck:
            log.warning("history_cursor_moved", cursors=sorted(stuck))
            raise _Moved
        beside = Beside()
        for one, entry in moves:
            beside.add(one.shard, one.beside_until(entry))
        await beside.write(connection)

    async def _committed(self, moved: Sequence[tuple[_Shard, str]]) -> None:
        """Note where commits stand in the write-ahead log, to know later that they are on disk."""
        async with self._database.connection() as connection:
            written, flushed = await pings.wal_positions(connection)
        for one, entry in moved:
            one.stored = entry
            one.beside = [left for left in one.beside if (left.ms, left.n) > id_key(entry)]
            one.quiet_since = time.monotonic()
            if len(one.unflushed) >= UNFLUSHED_MAX:
                one.unflushed.pop(0)
            one.unflushed.append((written, entry))
        self._settle(moved, flushed)

    @staticmethod
    def _settle(moved: Sequence[tuple[_Shard, str]], flushed: int) -> None:
        for one, _ in moved:
            while one.unflushed and one.unflushed[0][0] <= flushed:
                one.on_disk = one.unflushed.pop(0)[1]

    async def _move_quiet(self, held: Sequence[_Shard]) -> None:
        """Move cursors that passed only ticks and configuration, so that the log can be trimmed behind them."""
        moment = time.monotonic()
        moves = [(one, one.read) for one in held if one.read != one.stored and moment - one.quiet_since > QUIET_MOVE_S]
        if not moves:
            return
        async with self._database.transaction() as connection:
            await pings.commit_asynchronously(connection)
            await self._advance(connection, moves, self._clock())
        await self._committed(moves)

    async def _trim(self, held: Sequence[_Shard]) -> None:
        """Tell the logs what is surely in PostgreSQL, a bounded number of times a second."""
        moment = time.monotonic()
        if any(one.unflushed for one in held):
            await self._check_flushed(held)
        for one in held:
            what, when = one.trimmed
            if one.on_disk and moment - when >= (TRIM_S if what == one.on_disk else TRIM_CHANGED_S):
                await self._log.trim(one.shard, one.on_disk)
                one.trimmed = (one.on_disk, moment)

    async def _check_flushed(self, held: Sequence[_Shard]) -> None:
        """Learn what got to disk; a cursor that is behind what we committed means a crash took it back."""
        async with self._database.connection() as connection:
            places = await cursors.places(connection, [one.cursor_name for one in held])
            _, flushed = await pings.wal_positions(connection)
        if any(places.get(one.cursor_name) != one.stored for one in held):
            raise _Moved
        self._settle([(one, one.stored) for one in held], flushed)

    async def _make_partitions(self, days: set[tuple[int, date]]) -> None:
        today = self._clock().astimezone(UTC).date()
        ahead = {(int(role), today + timedelta(days=day)) for role in Role for day in range(FUTURE_DAYS + 1)}
        wanted = {pair for pair in days | ahead if pings.partition_name(*pair) not in self._partitions}
        if not wanted:
            return
        async with self._database.transaction() as connection:
            await pings.make_partitions(connection, wanted)
        self._partitions |= {pings.partition_name(*pair) for pair in wanted}

    async def _upkeep(self) -> None:
        """What is done now and then: last-seen times."""
        moment = time.monotonic()
        if moment >= self._last_seen_due:
            self._last_seen_due = moment + LAST_SEEN_S
            numbers, seen_ms, battery_pct, strap = self._maker.last_seen.due(LAST_SEEN_MAX)
            if numbers:
                async with self._database.transaction() as connection:
                    await pings.commit_asynchronously(connection)
                    await pings.update_last_seen(connection, numbers, seen_ms, battery_pct, strap)
                self._maker.last_seen.wrote(numbers, seen_ms)
