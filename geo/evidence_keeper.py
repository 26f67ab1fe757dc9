"""Keeps evidence from being forgotten: incidents' fixes are copied while history has them, and windows judged again.

Model: now and then, the incidents that are due (`core.postgres.evidence_keep.due`) are claimed one by one, both
parties' fixes of the window are copied to `incident_fix`, and, once the window is over or somebody asked for an export,
the window is judged again in a child process (`geo.evidence_replay`), so that detection beside it never waits. Those of
lower severity are judged only when asked for.

Failure: a process that dies leaves a lease that ends; PostgreSQL away: later. Copying again adds only what is new. One
incident that cannot be judged is copied all the same, and its result says why.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
import zlib
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
import structlog

from core.clock import Clock, to_ms
from core.errors import StoreUnavailable
from core.postgres import case_log, evidence, evidence_keep
from core.postgres.database import Database
from core.postgres.evidence import Parties
from core.service import Loop
from geo.evidence_replay import COLD_STARTS_MS, Judged, Kept, judge

log = structlog.get_logger(__name__)

INTERVAL_S: Final = 5.0
BATCH: Final = 10
"""Incidents taken by one step."""
JUDGED: Final = frozenset({"critical", "high"})
"""Severities whose window is judged again without being asked."""
JUDGE_S: Final = 300.0
"""Longest a child may judge."""
RETRY_AFTER: Final = timedelta(minutes=10)
NICE: Final = 10


class EvidenceKeeper(Loop):
    """Copies and judges incidents that are due; beside the geo workers, any number of them."""

    def __init__(self, database: Database, clock: Clock, interval_s: float = INTERVAL_S) -> None:
        super().__init__("evidence_keeper", self.step, interval_s)
        self._database = database
        self._clock = clock

    async def step(self) -> None:
        """Take what is due, one incident after the other."""
        try:
            async with self._database.connection() as connection:
                wanted = await evidence_keep.due(connection, self._clock(), BATCH)
            for incident_id in wanted:
                if self.stopping.is_set():
                    return
                await self._keep_one(incident_id)
        except StoreUnavailable:
            return

    async def _keep_one(self, incident_id: uuid.UUID) -> None:
        try:
            await keep(self._database, incident_id, self._clock())
        except StoreUnavailable:
            raise
        except Exception as error:  # one incident must not hold up the others
            log.error("evidence_not_kept", incident=str(incident_id), error=type(error).__name__)
            async with self._database.connection() as connection:
                await evidence_keep.give_back(connection, incident_id, self._clock() + RETRY_AFTER)


async def keep(database: Database, incident_id: uuid.UUID, now: datetime, *, asked: bool = False) -> bool:
    """Copy an incident's fixes and, where it is time or `asked`, judge its window; False: another process has it."""
    async with database.transaction() as connection:
        about = await evidence.parties_of(connection, incident_id, now)
        if about is None or about.case_id is None or not await evidence_keep.claim(connection, about, now):
            return False
    async with database.transaction() as connection:
        numbers = await evidence.device_numbers(connection, about)
        await evidence.copy_fixes(connection, about, numbers)
        before = await evidence_keep.snapshot_of(connection, incident_id)
        severity = await evidence_keep.severity_of(connection, incident_id)
        wanted = (
            asked
            or await evidence_keep.is_asked(connection, incident_id)
            or (severity in JUDGED and evidence_keep.next_copy(about, now) is None)
        )
        kept = await _kept(connection, about, numbers, now) if wanted else None
    judged = None if kept is None else await in_child(kept)
    async with database.transaction() as connection:
        await evidence_keep.finish(
            connection,
            about,
            now,
            None if judged is None or not judged.log else zlib.compress(judged.log, 9),
            _result(judged, before),
        )
    return True


def _result(judged: Judged | None, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is kept of judging: never worse than what an earlier, fuller history showed."""
    if judged is None:
        return None
    earlier = (before or {}).get("replay")
    if earlier and earlier.get("state") == "done" and judged.result["state"] != "done":
        return None
    return judged.result


async def _kept(connection: Any, about: Parties, numbers: dict[int, str], now: datetime) -> Kept:
    """What there is to judge a window by."""
    assert about.case_id is not None
    first = about.window.since - timedelta(milliseconds=max(COLD_STARTS_MS))
    until = min(about.window.until, now)
    history = await evidence.history_of(connection, numbers, first, until)
    copied = await evidence.fixes_of(connection, about)
    seen = {(fix.device, fix.live_ms, fix.seq, fix.received_ms) for fix in history}
    fixes = history + [fix for fix in copied if (fix.device, fix.live_ms, fix.seq, fix.received_ms) not in seen]
    configurations = await case_log.configurations_of(connection, about.case_id)
    ticks = await case_log.ticks_between(connection, int(about.shard or 0), first, until)
    devices = await evidence.ids_of(connection, list(numbers))
    return Kept(
        shard=int(about.shard or 0),
        case_id=str(about.case_id),
        people=frozenset(str(each) for each in (about.victim_id, about.aggressor_id) if each is not None),
        orders=frozenset(str(each) for each in about.order_ids),
        devices=frozenset(devices),
        since_ms=about.window.since_ms,
        until_ms=to_ms(until),
        fixes=fixes,
        configurations=[(each.ms, each.n, each.index, each.config) for each in configurations],
        ticks=ticks,
        answers=await case_log.answers_between(connection, about.case_id, first, until),
        recorded=await evidence_keep.recorded_of(connection, about, devices),
    )


async def in_child(kept: Kept) -> Judged:
    """Judge in a process of its own; a result that says `failed` when it cannot."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "geo.evidence_keeper",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(child.communicate(msgspec.msgpack.encode(kept)), JUDGE_S)
        if child.returncode == 0:
            return msgspec.msgpack.decode(out, type=Judged)
        reason = "the judging process failed"
    except TimeoutError:
        reason = "judging took too long"
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    log.error("evidence_not_judged", case=kept.case_id, reason=reason)
    return Judged(b"", {"state": "failed", "reason": reason})


def main() -> int:
    """The child: what is kept on standard input, what was judged on standard output."""
    os.nice(NICE)
    kept = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Kept)
    sys.stdout.buffer.write(msgspec.msgpack.encode(judge(kept)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
