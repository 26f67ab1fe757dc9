"""One owned shard: its log read, evaluated, and committed in one fenced step.

Model: claim the shard's token in Redis, load state and cursor, then: read what the log has, hand it to the
engine in slices, commit at once when there is a transition, else every `state_commit_ms`. Ticks and new
configurations of cases are appended here too, since only the owner may.

Failure: Redis away, or a commit whose end is not known: load again and go on from the cursor found; ids of
transitions are functions of the log, so what is evaluated twice is recorded once. A greater token: stop, the
shard is another's. An entry the engine cannot take is found by going one by one from the last commit, set
aside as poison, and passed over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from core.clock import Clock, to_ms
from core.domain.log import CONFIGURATION, PAST, PINGS, Entry
from core.domain.past import PAST_FIX, Want
from core.domain.ping import RECORD_BYTES
from core.domain.transition import Transition
from core.errors import LeaseLost, StoreUnavailable
from core.metrics import ENGINE_BATCH_SECONDS, ENGINE_LAG_SECONDS, ENGINE_RECORDS, TRANSITIONS
from core.redis.engine_store import EngineStore
from core.redis.shard_log import START, ShardLog, id_key
from core.service import Service
from core.settings import Settings
from geo.pace import Pace
from geo.turns import Spoiled, Turns

if TYPE_CHECKING:
    from geo.engine import EngineChanges

log = structlog.get_logger(__name__)

READ_ENTRIES_MAX: Final = 256
"""Entries of the log asked for at once."""
SLICE_RECORDS_MAX: Final = 2_000
"""Records of a shard handed to the engine at once: some tens of milliseconds where eight do so together."""
COMMIT_RECORDS_MAX: Final = 16_000
"""Records after which state is committed though its time has not come: bounds one step in Redis."""
CASE_RECORDS: Final = 40
"""What one case of a configuration entry counts for among records."""
PAST_RECORDS: Final = 2_000
"""What an answer of history counts for, beside its fixes: it has many parts."""
CASE_BYTES: Final = 700
"""About what one case takes in a configuration entry."""
IDLE_BLOCK_MS: Final = 250
"""Longest a read waits while nothing comes, and so longest a stop waits for it."""
RETRY_S: Final = (0.05, 0.1, 0.2, 0.5)
"""Waits between attempts while Redis is away; the last one repeats."""


class Evaluator(Protocol):
    """What a shard needs of `geo.engine.Engine`."""

    def process(self, entries: Sequence[Entry]) -> list[Transition]: ...
    def take_changes(self) -> EngineChanges: ...
    def restore(self, fields: Mapping[bytes, bytes]) -> None: ...
    def case_versions(self) -> dict[int, int]: ...
    def wants(self, limit: int) -> list[Want]: ...
    def close(self) -> None: ...
    @property
    def wants_dropped_total(self) -> int: ...


EngineFactory = Callable[[int], Evaluator]
SetAside = Callable[[str, str, str, bytes], None]
"""(source, entry id, reason, body): keep a message that could not be taken."""


def weight(entry: Entry) -> int:
    """How much work an entry is, in records."""
    if entry.kind == PINGS:
        return len(entry.payload) // RECORD_BYTES
    if entry.kind == CONFIGURATION:
        return (1 + len(entry.payload) // CASE_BYTES) * CASE_RECORDS
    if entry.kind == PAST:
        return PAST_RECORDS + len(entry.payload) // PAST_FIX.itemsize
    return 1


def sliced(entries: Sequence[Entry], limit: int) -> Iterator[Sequence[Entry]]:
    """The entries in order, cut so that a cut weighs at most `limit` (or is one entry)."""
    start = total = 0
    for index, entry in enumerate(entries):
        total += weight(entry)
        if total > limit and index > start:
            yield entries[start:index]
            start, total = index, weight(entry)
    if start < len(entries):
        yield entries[start:]


class ShardRunner(Service):
    """Evaluates one shard for as long as its lease holds."""

    def __init__(
        self,
        shard: int,
        token: int,
        settings: Settings,
        store: EngineStore,
        shard_log: ShardLog,
        clock: Clock,
        *,
        engine_factory: EngineFactory,
        lose: Callable[[int, int, int], None],
        set_aside: SetAside,
        pace: Pace | None = None,
        turns: Turns | None = None,
    ) -> None:
        """`turns`: what its batches are shared by; None: each is evaluated by itself, at this `pace`."""
        super().__init__()
        self._pace = pace or Pace(settings.engine_cycle_ms / 1000)
        self._turns = turns
        self.name = f"shard-{shard}"
        self.shard = shard
        self.token = token
        self.position = START
        """Id of the newest entry evaluated."""
        self.ready = asyncio.Event()
        """Set while state is loaded and the log's end has been seen: only then is configuration appended."""
        self.loads = 0
        """How often state was loaded: what was known of the engine before does not hold after."""
        self._committed = START
        self._settings = settings
        self._store = store
        self._log = shard_log
        self._clock = clock
        self._engine_factory = engine_factory
        self._lose = lose
        self._set_aside = set_aside
        self._engine = engine_factory(shard)
        self._claimed = False
        self._careful_until: str | None = None
        self._alone_until: str | None = None
        """Id of the entry up to which batches are shared with nobody: one of them failed."""
        self._poison: set[str] = set()
        self._dirty_since: float | None = None
        self._uncommitted_records = 0

    def case_versions(self) -> dict[int, int]:
        """{case number: configuration version} the engine knows."""
        return self._engine.case_versions()

    def wants(self, limit: int) -> list[Want]:
        """What the engine wants of history, the longest waiting first."""
        return self._engine.wants(limit)

    def wants_dropped_total(self) -> int:
        """Wants the engine gave up since it was loaded."""
        return self._engine.wants_dropped_total

    def was_set_aside(self, entry_id: str) -> bool:
        """Whether the engine could not take this entry."""
        return entry_id in self._poison

    def set_aside(self, name: str, reason: str, body: bytes) -> None:
        """Keep a configuration that cannot go into the log for people to look at."""
        self._set_aside(f"configuration:{self.shard}", name, reason, body)

    @property
    def claimed(self) -> bool:
        """Whether the shard's token is raised in Redis, so that its log may be written."""
        return self._claimed

    async def run(self) -> None:
        attempt = 0
        while not self.stopping.is_set():
            try:
                await self._load()
                attempt = 0
                await self._follow()
                return
            except LeaseLost:
                log.warning("lease_lost", shard=self.shard, token=self.token)
                self._claimed = False
                self._lose(self.shard, self.token, await self._seen_token())
                await self.stopping.wait()
            except StoreUnavailable:
                log.warning("shard_waits", shard=self.shard, reason="redis_away")
                await self.pause(RETRY_S[min(attempt, len(RETRY_S) - 1)])
                attempt += 1
            except Spoiled:
                continue

    async def _load(self) -> None:
        """Claim the shard and take up its state where the last commit left it."""
        self.ready.clear()
        await self._store.claim(self.shard, self.token)
        self.position, fields = await self._store.load(self.shard)
        self._engine.close()
        self._engine = self._engine_factory(self.shard)
        self._engine.restore(fields)
        self._committed = self.position
        self._claimed = True
        self.loads += 1
        self._clean()
        log.info("shard_loaded", shard=self.shard, token=self.token, cursor=self.position, fields=len(fields))

    async def _seen_token(self) -> int:
        try:
            return await self._store.seen_token(self.shard)
        except StoreUnavailable:
            return 0

    def _clean(self) -> None:
        self._dirty_since, self._uncommitted_records = None, 0

    async def _follow(self) -> None:
        """Evaluate the log as it grows; returns when asked to stop, with everything committed."""
        commit_s = self._settings.state_commit_ms / 1000
        while not self.stopping.is_set():
            started = time.monotonic()
            due_s = IDLE_BLOCK_MS / 1000
            if self._dirty_since is not None:
                due_s = min(due_s, max(0.001, self._dirty_since + commit_s - started))
            entries = await self._log.read(self.shard, self.position, READ_ENTRIES_MAX, int(due_s * 1000) or 1)
            await self._evaluate(entries)
            if self._dirty_since is not None and time.monotonic() - self._dirty_since >= commit_s:
                await self._commit([])
            if len(entries) < READ_ENTRIES_MAX:
                self.ready.set()
                await asyncio.sleep(self._rest_s(started))
        if self._dirty_since is not None:
            await self._commit([])

    async def close(self) -> None:
        self._engine.close()

    def _rest_s(self, started: float) -> float:
        if self._turns is not None:
            return self._turns.rest_s()
        return max(0.0, started + self._pace.cycle_s() - time.monotonic())

    async def _evaluate(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        careful = self._careful_until is not None
        behind = len(entries) >= READ_ENTRIES_MAX
        for part in [[entry] for entry in entries] if careful else sliced(entries, SLICE_RECORDS_MAX):
            started = time.monotonic()
            sound = [entry for entry in part if self._is_sound(entry)]
            try:
                transitions = await self._process(sound, careful=careful, behind=behind or part[-1] is not entries[-1])
            except Spoiled:
                log.warning("engine_spoiled_together", shard=self.shard, entries=len(part))
                self._alone_until = part[-1].id
                raise
            except Exception as error:
                self._blame(part, error)
                raise Spoiled from error
            self._note(part, started, len(transitions))
            if transitions or self._uncommitted_records >= COMMIT_RECORDS_MAX or careful:
                await self._commit(transitions)
            if self._careful_until == part[-1].id:
                self._careful_until = None
            if self._alone_until is not None and id_key(self._alone_until) <= id_key(part[-1].id):
                self._alone_until = None
            await asyncio.sleep(0)
            if self.stopping.is_set() and part[-1] is not entries[-1]:
                return

    async def _process(self, entries: Sequence[Entry], *, careful: bool, behind: bool) -> list[Transition]:
        if self._turns is None or careful or self._alone_until is not None:
            return self._engine.process(entries)
        return await self._turns.evaluate(self._engine, entries, behind=behind)

    def _note(self, part: Sequence[Entry], started: float, decided: int) -> None:
        """Move on past `part`, and measure."""
        self.position = part[-1].id
        if self._dirty_since is None:
            self._dirty_since = started
        self._uncommitted_records += sum(weight(entry) for entry in part)
        records = sum(len(entry.payload) // RECORD_BYTES for entry in part if entry.kind == PINGS)
        if records:
            ENGINE_RECORDS.labels(str(self.shard)).inc(records)
            ENGINE_BATCH_SECONDS.observe(time.monotonic() - started)
        lag_s = (to_ms(self._clock()) - part[-1].ms) / 1000
        ENGINE_LAG_SECONDS.labels(str(self.shard)).set(max(0.0, lag_s))
        if decided:
            log.debug("transitions_decided", shard=self.shard, count=decided)

    def _is_sound(self, entry: Entry) -> bool:
        """Whether the engine is to see the entry; a damaged one is set aside the first time it is met."""
        if entry.id in self._poison:
            return False
        if entry.kind == PINGS and len(entry.payload) % RECORD_BYTES:
            self._poison.add(entry.id)
            self._set_aside(f"engine:{self.shard}", entry.id, "not a whole number of records", entry.payload)
            return False
        return True

    def _blame(self, part: Sequence[Entry], error: Exception) -> None:
        """Remember what spoiled the engine: a single entry is poison, several are gone through one by one."""
        if len(part) == 1:
            entry = part[0]
            log.error("entry_set_aside", shard=self.shard, entry=entry.id, error=type(error).__name__)
            self._poison.add(entry.id)
            self._set_aside(f"engine:{self.shard}", entry.id, f"{type(error).__name__}: {error}", entry.payload)
        else:
            log.error("engine_spoiled", shard=self.shard, entries=len(part), exc_info=error)
            self._careful_until = part[-1].id

    async def _commit(self, transitions: Sequence[Transition]) -> None:
        """Write all that changed since the last commit, with these transitions, in one step."""
        changes = self._engine.take_changes()
        await self._store.commit(
            self.shard,
            self.token,
            self.position,
            state=changes.state,
            live=changes.live,
            places=changes.places,
            transitions=transitions,
            asks=changes.asks,
            expected=self._committed,
        )
        self._committed = self.position
        self._clean()
        for transition in transitions:
            TRANSITIONS.labels(transition.kind, transition.to_state).inc()
