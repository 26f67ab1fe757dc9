"""The recorder: what the engine decided, taken into PostgreSQL in order and exactly once.

Model: it runs apart from the engine, whose batches would hold up each of its statements, under leases of its own
(`recorder`). For each owned shard it reads the transitions stream after its cursor and applies a bounded batch, the
incidents, timeline, deliveries and feed it makes, and the cursor's step, in one transaction. The cursor is
claimed with the shard's lease token first, and moves only under that token and from the place it was expected
at: two recorders may run, never both commit. Behind it the stream is trimmed.

Failure: PostgreSQL or Redis away: wait, claim again, go on from the cursor. A batch that cannot be applied is
taken one by one; a transition that fails `ATTEMPTS` times alone becomes a row of `poison`, and the rest flows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec
import structlog

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import Unit, act
from core.clock import Clock, utc_now
from core.domain.transition import Transition, decode_many, encode
from core.errors import LeaseLost, StoreUnavailable
from core.metrics import POISON
from core.postgres import cursors, poison
from core.postgres.cursors import Move
from core.postgres.database import Database
from core.postgres.leases import lease_name
from core.redis import keys
from core.redis.client import Client
from core.redis.shard_log import ShardLog
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

READ_ENTRIES_MAX: Final = 20
"""Entries of the transitions stream asked for at once."""
BATCH_TRANSITIONS_MAX: Final = 200
"""Transitions applied in one transaction, unless one entry carries more."""
COMMITS_AT_ONCE: Final = 3
"""Shards that may write at the same moment."""
ATTEMPTS: Final = 3
"""Attempts at one transition before it is poison."""
RETRY_S: Final = 0.25
BLOCK_MS: Final = 500
LEASES: Final = "recorder"
"""Kind of the leases by which recorders share out the shards."""
LOOK_S: Final = 0.1
"""How often it looks which shards are its own."""

Apply = Callable[[Unit, Sequence[Transition]], Awaitable[None]]


class Owner(Protocol):
    """Who says which shards are ours, under which tokens."""

    def owned(self) -> Mapping[int, int]: ...


@dataclass(frozen=True)
class _Hold:
    """One shard under one token, and where its cursor stands."""

    shard: int
    token: int
    place: str
    leases: str

    def move(self, entry: str) -> Move:
        return Move(cursor_name(self.shard), lease_name(self.leases, self.shard), self.token, self.place, entry)


def cursor_name(shard: int) -> str:
    """Name of a shard's recorder cursor."""
    return f"recorder:{shard}"


class Recorder(Service):
    """Applies the transitions of the shards its owner holds."""

    name = "recorder"

    def __init__(
        self,
        settings: Settings,
        database: Database,
        client: Client,
        owner: Owner,
        clock: Clock = utc_now,
        *,
        apply: Apply = apply_transitions,
        leases: str = LEASES,
    ) -> None:
        """`leases`: the kind of the leases whose tokens `owner` holds."""
        super().__init__()
        self._leases = leases
        self._settings = settings
        self._database = database
        self._log = ShardLog(client)
        self._owner = owner
        self._clock = clock
        self._apply = apply
        self._writing = asyncio.Semaphore(COMMITS_AT_ONCE)
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}

    async def run(self) -> None:
        while not self.stopping.is_set():
            wanted = set(self._owner.owned().items())
            for key in wanted - self._tasks.keys():
                self._tasks[key] = asyncio.create_task(self._follow(*key), name=f"recorder-{key[0]}")
            for key in self._tasks.keys() - wanted:
                await self._end(key)
            for key in [key for key, task in self._tasks.items() if task.done()]:
                self._tasks.pop(key).result()  # an unforeseen error ends the recorder, and its supervisor sees it
            await self.pause(LOOK_S)

    async def close(self) -> None:
        for key in list(self._tasks):
            await self._end(key)

    async def _end(self, key: tuple[int, int]) -> None:
        task = self._tasks.pop(key)
        task.cancel()
        await asyncio.wait({task})

    async def _follow(self, shard: int, token: int) -> None:
        """Apply one shard's transitions until cancelled, or until another owner has claimed the cursor."""
        while True:
            try:
                hold = await self._claim(shard, token)
                while True:
                    hold = await self._step(hold)
            except LeaseLost:
                log.warning("recorder_replaced", shard=shard, token=token)
                await asyncio.sleep(RETRY_S)
            except StoreUnavailable:
                log.warning("recorder_waits", shard=shard)
                await asyncio.sleep(RETRY_S)

    async def _claim(self, shard: int, token: int) -> _Hold:
        async with self._database.connection() as connection:
            places = await cursors.claim(connection, {cursor_name(shard): token}, self._clock())
        if cursor_name(shard) not in places:
            raise LeaseLost("Another recorder has claimed the cursor.")
        return _Hold(shard, token, places[cursor_name(shard)], self._leases)

    async def _step(self, hold: _Hold) -> _Hold:
        """Apply what the stream has next; waits for it a bounded time."""
        rows = await self._log.read_raw(keys.transitions(hold.shard), hold.place, READ_ENTRIES_MAX, BLOCK_MS)
        if not rows:
            return hold
        before = hold.place
        batch: list[Transition] = []
        upto = hold.place
        for entry, fields in rows:
            body = fields.get(b"t", b"")
            try:
                decided = decode_many(body)
            except msgspec.DecodeError as error:  # a ValidationError is one too
                hold = await self._record(hold, upto, batch) if batch else hold
                hold, batch = await self._set_aside(hold, entry, entry, body, f"undecodable: {error}"), []
                upto = entry
                continue
            if batch and len(batch) + len(decided) > BATCH_TRANSITIONS_MAX:
                hold, batch = await self._record(hold, upto, batch), []
            batch += decided
            upto = entry
        if upto != hold.place:
            hold = await self._record(hold, upto, batch)
        if hold.place != before:
            await self._log.trim_transitions(hold.shard, hold.place)
        return hold

    async def _record(self, hold: _Hold, upto: str, batch: Sequence[Transition]) -> _Hold:
        """Apply a batch and move the cursor; when it cannot be applied, one by one."""
        try:
            return await self._commit(hold, upto, batch)
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception as error:
            log.warning("batch_refused", shard=hold.shard, transitions=len(batch), error=type(error).__name__)
        for transition in batch:
            await self._record_one(hold, transition)
        return await self._commit(hold, upto, [])

    async def _record_one(self, hold: _Hold, transition: Transition) -> None:
        """Apply one transition without moving the cursor (its id makes a repeat harmless), or set it aside."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._commit(hold, hold.place, [transition])
                return
            except (LeaseLost, StoreUnavailable):
                raise
            except Exception as error:
                log.warning("transition_refused", shard=hold.shard, attempt=attempt, error=type(error).__name__)
                reason = f"{type(error).__name__}: {error}"
                await asyncio.sleep(RETRY_S * (attempt - 1))
        await self._set_aside(hold, hold.place, str(transition.id), encode(transition), reason)

    async def _commit(self, hold: _Hold, upto: str, batch: Sequence[Transition]) -> _Hold:
        """One transaction: the cursor's step (which fences and locks), and what the batch makes."""
        now = self._clock()
        async with self._writing, act(self._database, now) as unit:
            if await cursors.advance(unit.connection, [hold.move(upto)], now):
                raise LeaseLost("Another recorder owns the shard, or has gone further.")
            if batch:
                await self._apply(unit, batch)
        return replace(hold, place=upto)

    async def _set_aside(self, hold: _Hold, upto: str, entry: str, body: bytes, reason: str) -> _Hold:
        """Keep a message that cannot be applied, and move the cursor past it, in one transaction."""
        now = self._clock()
        async with self._writing, act(self._database, now) as unit:
            if await cursors.advance(unit.connection, [hold.move(upto)], now):
                raise LeaseLost("Another recorder owns the shard, or has gone further.")
            await poison.set_aside(unit.connection, f"recorder:{hold.shard}", entry, reason, body, now)
        POISON.labels("recorder").inc()
        log.error("transition_set_aside", shard=hold.shard, entry=entry, reason=reason[:120])
        return replace(hold, place=upto)
