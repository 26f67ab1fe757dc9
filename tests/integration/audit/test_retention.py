"""Cutting by rule leaves an audit that holds; a removal by any other hand does not."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
import pytest

from core.actions.audit import cut_before
from core.domain.chain import NO_AGENCY
from core.signing import new_signer
from tests.integration.audit.audit_world import World


async def test_a_cut_by_the_rule_holds_and_says_so(world: World) -> None:
    await world.write(5)
    await world.sign()
    world.now += timedelta(days=400)
    await world.write(5)
    await world.sign()
    before = world.now - timedelta(days=365)
    cut = await cut_before(
        world.database, world.agency_id, before, rule="audit_days", signer=world.signer, now=world.now
    )
    assert cut == 5
    await world.sign()
    report = await world.check()
    assert report.holds, report.findings
    assert report.rows == 6  # five young ones, and the one that tells of the cut
    assert any("audit_days" in note for note in report.notes)
    again = await cut_before(
        world.database, world.agency_id, before, rule="audit_days", signer=world.signer, now=world.now
    )
    assert again == 0


async def test_the_newest_link_always_stays(world: World) -> None:
    await world.write(3)
    await world.write(3, agency_id=None)
    await world.sign()
    later = world.now + timedelta(days=1)
    for agency_id in (world.agency_id, NO_AGENCY):
        assert await cut_before(world.database, agency_id, later, rule="r", signer=world.signer, now=later) == 2
    await world.write(1)
    await world.sign()
    assert (await world.check()).holds


async def test_a_long_prefix_goes_in_steps(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.actions.audit.CUT_ROWS", 2)
    await world.write(7)
    await world.sign()
    later = world.now + timedelta(days=1)
    assert await cut_before(world.database, world.agency_id, later, rule="r", signer=world.signer, now=later) == 6
    await world.sign()
    assert (await world.check()).holds


async def test_a_cut_by_somebody_without_the_key_is_found(world: World, attacker: asyncpg.Connection) -> None:
    await world.write(6)
    await world.sign()
    later = world.now + timedelta(days=1)
    await cut_before(world.database, world.agency_id, later, rule="r", signer=new_signer(), now=world.now)
    await world.sign()
    assert {finding.kind for finding in (await world.check()).findings} == {"bad_cut"}
    await attacker.execute("DELETE FROM audit_cut")
    assert "missing_link" in {finding.kind for finding in (await world.check()).findings}
