"""What was decided is decided again from what is kept."""

from __future__ import annotations

from typing import Any

from core.clock import utc_now
from core.postgres import evidence, evidence_keep
from geo import evidence_keeper


async def test_a_window_is_kept_and_judged_again_to_the_same(lived: Any) -> None:
    now = utc_now()
    assert await evidence_keeper.keep(lived.posts.worker, lived.incident_id, now, asked=True)
    async with lived.database.connection() as connection:
        about = await evidence.parties_of(connection, lived.incident_id, now)
        assert about is not None
        kept = await evidence_keep.snapshot_of(connection, lived.incident_id)
        fixes = await evidence.fixes_of(connection, about)
    assert kept is not None
    assert kept["replay"]["decisions"] >= 4, kept["replay"]
    assert kept["replay"]["differences"] == []
    assert kept["replay"]["identical"] is True
    assert kept["replay"]["ticks"] == kept["replay"]["configuration"] == "recorded"
    assert {fix.party for fix in fixes} == {"victim", "aggressor"}
    assert all(fix.place is not None for fix in fixes)
