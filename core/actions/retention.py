"""Applying the rules of retention: daily, in bounded steps, each with its record, none of what a court wants.

Model: for every agency its periods; for every rule over rows, steps of at most `retention_sweeps.BATCH` rows, each one
transaction that erases, counts into `retention_erased` and writes a line of the audit. Days of history are shared by
all agencies: one is dropped whole when its time is over for every agency, with what is held copied to `ping_held` in
the same transaction. The audit is cut last.

Failure: killed at any moment, a step is done or not; the next run goes on with what is still due. A rule that fails is
logged and told by its metric, and the others go on. Nothing here holds a lock that writing a ping waits for beyond
`retention.LOCK_WAIT`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import structlog

from core.actions.audit import cut_before
from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.clock import Clock, rfc3339
from core.domain.chain import NO_AGENCY
from core.domain.ping import Role
from core.domain.retention import Periods, before, check_room, first_day_of_hers, first_day_of_his, read_periods
from core.errors import Misconfigured, StoreUnavailable
from core.ids import new_id
from core.metrics import RETENTION_ERASED, RETENTION_FAILED, RETENTION_PROGRESS, RETENTION_RUN_AT
from core.postgres import audit, case_log, chain, leases, pings, retention, retention_sweeps
from core.postgres.database import Connection, Database
from core.postgres.retention_sweeps import STRIPPING, SWEEPS, Gone, Sweep
from core.service import Loop
from core.signing import Signer

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(days=1)
LOOK_S: Final = 60.0
"""How often it is looked whether a run is due."""
LEASE_LIFE: Final = timedelta(seconds=60)
STEPS_MAX: Final = 20_000
"""Steps of one rule in a run; what is left is the next run's."""
OWN_RULES: Final = {Role.OTHER: "victim_fix", Role.VICTIM: "victim_fix", Role.AGGRESSOR: "aggressor_fix"}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Room:
    """For how many days at most the installation keeps positions, whatever agencies set."""

    victim_days: int
    aggressor_days: int


@dataclass(slots=True)
class Run:
    """One run: for whom, when, and what it has erased so far."""

    id: uuid.UUID
    now: datetime
    agencies: Mapping[uuid.UUID, Periods]
    room: Room
    gone: list[Gone] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


async def set_periods(unit: Unit, asker: Asker, values: Json, room: Room) -> Periods:
    """Have the asker's agency keep things so long; audited. Raises InvalidInput for periods that cannot be."""
    periods = read_periods(values)
    check_room(periods, room.victim_days, room.aggressor_days)
    earlier = await retention.policy_of(unit.connection, asker.agency_id, lock=True)
    if earlier != values:
        await retention.set_policy(unit.connection, asker.agency_id, values, asker.user_id, unit.now)
        await note(unit, asker, "retention.set", "agency", asker.agency_id, before=earlier, values=values)
    return periods


def moments_of(sweep: Sweep, periods: Periods, now: datetime) -> list[datetime]:
    """Before which moments a sweep's rows are due."""
    names = [sweep.rule, *([sweep.second] if sweep.second else [])]
    return [before(now, getattr(periods, f"{name}_days")) for name in names]


async def first_days(connection: Connection, run: Run) -> dict[Role, date]:
    """The first day of each role's history that somebody still shows."""
    today = run.now.astimezone(UTC).date()
    hers = first_day_of_hers(today, run.agencies.values(), run.room.victim_days)
    his_days = {agency_id: periods.aggressor_fix_days for agency_id, periods in run.agencies.items()}
    oldest = await retention.oldest_order_from(connection, his_days, run.now)
    his = first_day_of_his(today, run.agencies.values(), oldest, run.room.aggressor_days)
    return {Role.OTHER: hers, Role.VICTIM: hers, Role.AGGRESSOR: his}


async def begin(connection: Connection, room: Room, now: datetime, started_by: str = "") -> Run:
    """A run over every agency; noted as begun when it is `started_by` somebody (service, command)."""
    agencies = {}
    for agency_id, values in (await retention.periods_of_all(connection)).items():
        agencies[agency_id] = read_periods(values)
    run = Run(new_id(), now, agencies, room)
    if started_by:
        await retention.begin(connection, run.id, list(agencies), started_by, now)
    return run


async def preview(database: Database, room: Room, now: datetime) -> list[Gone]:
    """What a run would erase now, by agency, rule and kind of row; nothing is changed."""
    found: list[Gone] = []
    async with database.transaction(isolation="repeatable_read", readonly=True) as connection:
        run = await begin(connection, room, now)
        for agency_id, periods in run.agencies.items():
            strip_moments = moments_of(STRIPPING, periods, now)
            for sweep in SWEEPS:
                moments = moments_of(sweep, periods, now)
                found += await retention_sweeps.count_due(connection, sweep, agency_id, moments, strip_moments)
        for role, first in (await first_days(connection, run)).items():
            for day in await retention.days_due(connection, role, first):
                found += _of_day(role, await retention.count_day(connection, role, day), {})
    return found


async def apply(
    database: Database,
    room: Room,
    clock: Clock,
    load_signer: Callable[[], Signer],
    *,
    started_by: str,
    go_on: Callable[[], Any] | None = None,
) -> Run:
    """One run over all rules and agencies. `go_on` is awaited between steps; when it says False the run ends there.

    Raises StoreUnavailable; what was done by then is done.
    """
    async with database.transaction() as connection:
        run = await begin(connection, room, clock(), started_by)
    work: list[tuple[str, Callable[[], Any]]] = []
    for agency_id, periods in run.agencies.items():
        work += [(s.rule, _sweeping(database, run, s, agency_id, moments_of(s, periods, run.now))) for s in SWEEPS]
    work += [
        ("held_fix", lambda: _sweep_unheld(database, run)),
        ("victim_fix", lambda: _drop_days(database, run)),
        ("audit", lambda: _cut_audits(database, run, load_signer)),
    ]
    for number, (rule, step) in enumerate(work):
        RETENTION_PROGRESS.set(number / len(work))
        for _ in range(STEPS_MAX):
            if go_on is not None and not await go_on():
                return run
            try:
                more = await step()
            except StoreUnavailable:
                raise
            except Exception as error:  # one rule must not hold up the others
                log.error("retention_failed", rule=rule, error=type(error).__name__)
                RETENTION_FAILED.labels(rule).inc()
                if rule not in run.failed:  # it may be carried out in several steps
                    run.failed.append(rule)
                break
            if not more:
                break
    RETENTION_PROGRESS.set(1)
    if not run.failed:
        async with database.transaction() as connection:
            await retention.finish(connection, run.id, clock())
    RETENTION_RUN_AT.set(run.now.timestamp())
    return run


def _sweeping(
    database: Database, run: Run, sweep: Sweep, agency_id: uuid.UUID, moments: Sequence[datetime]
) -> Callable[[], Any]:
    async def step() -> bool:
        async with database.transaction() as connection:
            gone = await retention_sweeps.sweep_once(connection, sweep, agency_id, moments)
            await _record(connection, run, gone)
        return bool(gone)

    return step


async def _sweep_unheld(database: Database, run: Run) -> bool:
    async with database.transaction() as connection:
        gone = await retention_sweeps.sweep_unheld(connection, run.now)
        await _record(connection, run, gone)
    return bool(gone)


def _of_day(role: Role, counts: Sequence[Json], held: Mapping[uuid.UUID, int]) -> list[Gone]:
    rule, kind = OWN_RULES[role], pings.TABLES[role]
    return [
        Gone(row["agency_id"], rule, kind, row["count"], row["from_at"], row["until_at"], held.get(row["agency_id"], 0))
        for row in counts
    ]


async def _drop_days(database: Database, run: Run) -> bool:
    """Drop the days that are over for everybody, and what stands beside them."""
    async with database.connection() as connection:
        first = await first_days(connection, run)
        due = [(role, day) for role in first for day in await retention.days_due(connection, role, first[role])]
    for role, day in due:
        async with database.connection() as connection:
            counts = await retention.count_day(connection, role, day)
        async with database.transaction() as connection:
            held = await retention.drop_day(connection, role, day, run.now)
            if held is None:
                log.info("day_in_use", role=role.name.lower(), day=day.isoformat())
                continue
            await _record(connection, run, _of_day(role, counts, held))
    hers, his = (datetime.combine(first[role], time.min, UTC) for role in (Role.VICTIM, Role.AGGRESSOR))
    async with database.transaction() as connection:
        await pings.forget_heard(connection, his, hers)
        await case_log.forget(connection, hers)
        await retention.forget_spent(connection, run.now, hers)
    return False


async def _cut_audits(database: Database, run: Run, load_signer: Callable[[], Signer]) -> bool:
    longest = max((periods.audit_days for periods in run.agencies.values()), default=Periods().audit_days)
    due = {agency_id: before(run.now, periods.audit_days) for agency_id, periods in run.agencies.items()}
    due[NO_AGENCY] = before(run.now, longest)
    async with database.connection() as connection:
        wanted = [
            agency_id for agency_id, moment in due.items() if await chain.prefix_end(connection, agency_id, moment, 1)
        ]
    if not wanted:
        return False
    signer = await asyncio.to_thread(load_signer)
    for agency_id in wanted:
        rows = await cut_before(database, agency_id, due[agency_id], rule="audit_days", signer=signer, now=run.now)
        if rows and agency_id != NO_AGENCY:
            async with database.transaction() as connection:
                await _record(connection, run, [Gone(agency_id, "audit", "audit", rows, None, due[agency_id])])
    return False


async def _record(connection: Connection, run: Run, gone: Sequence[Gone]) -> None:
    """Add what was erased to the record and to the audit, in the transaction that erased it."""
    if not gone:
        return
    await retention.record(connection, run.id, gone, run.now)
    for one in gone:
        if not one.count and not one.held:
            continue
        await audit.write(
            connection, run.now, agency_id=one.agency_id, actor_kind="service", actor_id="retention",
            action="retention.erased", subject_kind="agency", subject_id=one.agency_id,
            detail={
                "rule": one.rule, "kind": one.kind, "count": one.count, "run_id": str(run.id),
                "from": rfc3339(one.from_at) if one.from_at else None,
                "until": rfc3339(one.until_at) if one.until_at else None,
            },
        )  # fmt: skip
        RETENTION_ERASED.labels(one.kind).inc(one.count)
    run.gone += gone


class RetentionClock(Loop):
    """Applies the rules once a day, in one process at a time."""

    def __init__(
        self, database: Database, room: Room, load_signer: Callable[[], Signer], clock: Clock, holder: str
    ) -> None:
        """`database` is its own pool, as the role qorgan_retention; it closes it."""
        super().__init__("retention", self.step, LOOK_S)
        self._database = database
        self._room = room
        self._load_signer = load_signer
        self._clock = clock
        self._holder = holder
        self._held: dict[str, int] = {}

    async def step(self) -> None:
        """Run when a day has passed since the last run that went through, if nobody else does."""
        try:
            async with self._database.connection() as connection:
                last = await retention.last_finished(connection)
            if (last is not None and last + EVERY > self._clock()) or not await self._own():
                return
            try:
                await apply(
                    self._database, self._room, self._clock, self._load_signer, started_by="service", go_on=self._own
                )
            finally:
                await self._give_back()
        except StoreUnavailable:
            return
        except Misconfigured as error:
            log.error("retention_failed", error=error.detail)

    async def close(self) -> None:
        """Close the pool."""
        await self._database.close()

    async def _own(self) -> bool:
        """Hold the lease, or take it; False as well when the service is to stop."""
        if self.stopping.is_set():
            return False
        now = self._clock()
        async with self._database.connection() as connection:
            if self._held and await leases.renew(connection, self._holder, self._held, now + LEASE_LIFE):
                self._held = {}
                return False
            if not self._held:
                self._held = await leases.take(connection, retention.LEASE_KIND, self._holder, 1, now, now + LEASE_LIFE)
        return bool(self._held)

    async def _give_back(self) -> None:
        async with self._database.connection() as connection:
            await leases.give_back(connection, self._holder, self._held)
        self._held = {}
