"""Checks the audit from first to last: rows against links, links against each other and against checkpoints.

It trusts nothing that the database could have been made to say: rows are hashed here, signatures are checked here, and
the checkpoints come from files, best from copies that somebody else has kept.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from core.checkpoints import CheckpointFiles
from core.clock import rfc3339
from core.domain.chain import Checkpoint, Finding, Follower, check_checkpoints, genesis, read_checkpoint, still_bound
from core.domain.cut import read_cut
from core.postgres import chain
from core.postgres.database import Database
from core.signing import KeyRing

MOST_FINDINGS: Final = 100
"""Findings of an agency told one by one; more are counted."""
SEALING_S: Final = 60.0
"""How long a row may wait for its link while the sealer works."""
COPYING_S: Final = 120.0
"""How much newer than the file the database's copy of the checkpoints may be."""


@dataclass
class Report:
    """What came out of it."""

    findings: list[Finding] = field(default_factory=list)
    more: int = 0
    """Findings beyond those told."""
    rows: int = 0
    agencies: int = 0
    checkpoints: int = 0
    notes: list[str] = field(default_factory=list)
    """What is no fault but should be known."""

    @property
    def holds(self) -> bool:
        """Whether everything is as it was written."""
        return not self.findings and not self.more


async def verify(
    database: Database,
    now: datetime,
    files: CheckpointFiles | None,
    keys: KeyRing,
    *,
    agency_id: uuid.UUID | None = None,
    on_rows: Callable[[int, int], object] = lambda _, __: None,
) -> Report:
    """Check one agency's chain, or all; `on_rows` is told how many rows were just checked, and of how many.

    Raises StoreUnavailable.
    """
    report = Report()
    # Read before the database: whatever a file tells of is committed by then.
    kept: dict[uuid.UUID, list[Checkpoint]] = {}
    whose = [] if files is None else [one for one in files.agencies() if agency_id in (None, one)]
    for one in whose:
        assert files is not None
        lines = await asyncio.to_thread(lambda one=one: list(files.lines(one)))  # type: ignore[misc]
        kept[one], wrong = await asyncio.to_thread(check_checkpoints, one, lines, keys.verify)
        report.findings += wrong
        report.checkpoints += len(kept[one])
    if files is not None and not whose:
        report.notes.append(f"there are no checkpoints in {files.directory}: only the chain itself was checked")
    async with database.connection() as connection:
        total = await chain.links(connection, agency_id)
        everyone = [agency_id] if agency_id is not None else sorted({*await chain.agencies(connection), *kept})
    for one in everyone:
        async with database.transaction(isolation="repeatable_read", readonly=True) as connection:
            await _verify_agency(connection, one, kept.get(one), keys, now, report, lambda n: on_rows(n, total))
    return report


async def _verify_agency(
    connection: Any,
    agency_id: uuid.UUID,
    checkpoints: Sequence[Checkpoint] | None,
    keys: KeyRing,
    now: datetime,
    report: Report,
    on_rows: Callable[[int], object],
) -> None:
    report.agencies += 1
    start, begin = 0, genesis(agency_id)
    cut = await chain.last_cut(connection, agency_id)
    if cut is not None:
        start, begin = cut["position"], cut["chain_hash"]
        found = read_cut(cut["line"], keys.verify)
        if found is None or (found.agency_id, found.position, found.chain_hash) != (agency_id, start, begin):
            report.findings.append(
                Finding("bad_cut", agency_id, "no trusted key signed that rows were cut off here by the rule", start)
            )
        else:
            report.notes.append(
                f"agency {agency_id}: {start:,} rows were cut off by the rule {found.rule!r} on {found.at}"
            )
    bound = still_bound(checkpoints or ())
    for one in checkpoints or ():
        if one.kept is not None:
            report.notes.append(
                f"agency {agency_id}: on {one.at} it was signed that a backup was restored; rows after position"
                f" {one.kept:,} that were signed before are lost"
            )
    follower = Follower(agency_id, start, begin, bound, MOST_FINDINGS)
    rest = b""

    async def take(data: bytes) -> None:
        nonlocal rest
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        if lines:
            before = follower.position
            # Hashing beside the event loop would gain nothing: the interpreter does one of the two at a time.
            follower.take(lines)
            on_rows(follower.position - before)

    await chain.stream(connection, agency_id, start, take)
    follower.end()
    report.rows += follower.taken
    report.findings += follower.findings
    report.more += follower.found - len(follower.findings)
    rows, links = await chain.counts(connection, agency_id)
    if rows != links or follower.found:
        await _find_unlinked(connection, agency_id, report)
    if checkpoints:
        await _compare_copies(connection, agency_id, checkpoints, now, report)


async def _find_unlinked(connection: Any, agency_id: uuid.UUID, report: Report) -> None:
    """Rows that no link names: put in behind the sealer's back, or not linked yet."""
    fresh = 0
    for row in await chain.without_link(connection, agency_id, MOST_FINDINGS):
        if row["passed"]:
            text = "no link names this row: it was put in afterwards, or its link was taken away"
            report.findings.append(Finding("unlinked", agency_id, text, audit_id=row["id"]))
        elif row["sealed_at"] is not None and row["sealed_at"] - row["at"] > timedelta(seconds=SEALING_S):
            text = "the row waits for its link though later ones have theirs"
            report.findings.append(Finding("unsealed", agency_id, text, audit_id=row["id"]))
        else:
            fresh += 1
    if fresh:
        report.notes.append(f"agency {agency_id}: {fresh} rows are not linked yet (is the sealer running?)")


async def _compare_copies(
    connection: Any, agency_id: uuid.UUID, checkpoints: Sequence[Checkpoint], now: datetime, report: Report
) -> None:
    """The database's copies of the checkpoints against the files: what one lacks the other has to explain."""
    by_number = {one.number: one for one in checkpoints}
    oldest = rfc3339(now - timedelta(seconds=COPYING_S))
    for line in await chain.checkpoint_lines(connection, agency_id):
        try:
            copy = read_checkpoint(line)
        except ValueError:
            report.findings.append(Finding("checkpoint_edited", agency_id, "a copy in the database is no checkpoint"))
            continue
        own = by_number.get(copy.number)
        if own is not None and own.line != line:
            text = f"checkpoint {copy.number} in the database is not the file's"
            report.findings.append(Finding("checkpoint_edited", agency_id, text, copy.position))
        elif own is None and copy.at < oldest:
            text = f"checkpoint {copy.number} of {copy.at} is in the database and not in the file"
            report.findings.append(Finding("checkpoint_missing", agency_id, text, copy.position))
