"""Transitions fold into incidents: once, escalating, never resolving by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.domain.transition import Transition
from core.postgres.database import Database

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Make = Callable[..., Transition]
Query = Callable[..., Any]


async def apply(database: Database, *transitions: Transition, now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await apply_transitions(unit, transitions)


async def test_a_breach_opens_one_critical_incident_with_all_that_a_dispatcher_needs(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    breach = transition("proximity", "warning", "breach", distance_m=312.5, p_within=0.93)
    await apply(database, breach)

    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["family"], row["severity"], row["state"]) == ("proximity", "proximity", "critical", "open")
    assert (row["order_id"], row["case_id"], row["victim_id"], row["aggressor_id"]) == (
        pair.order_id, pair.case_id, pair.victim_id, pair.aggressor_id,
    )  # fmt: skip
    assert (row["distance_m"], row["p_within"], row["inside"]) == (312.5, 0.93, True)
    assert row["place"]["lat"] == 43.2
    assert row["hazards"] == {"weapons": True}
    assert row["language"] == "kk"
    assert [r["incident_id"] for r in await query("SELECT incident_id FROM transition")] == [row["id"]]
    assert [r["kind"] for r in await query("SELECT kind FROM timeline")] == ["proximity"]
    [event] = await query("SELECT * FROM feed")
    assert event["kind"] == "incident.opened"
    assert event["data"]["id"] == str(row["id"])
    told = {(r["audience"], r["channel"]) for r in await query("SELECT audience, channel FROM delivery")}
    assert told == {("dispatcher", "log"), ("victim", "fcm")}


async def test_the_same_transitions_applied_again_change_nothing(
    database: Database, transition: Make, query: Query
) -> None:
    batch = [transition("approach", "none", "predicted"), transition("proximity", "warning", "breach")]
    await apply(database, *batch)
    before = [
        await query(f"SELECT * FROM {table} ORDER BY id") for table in ("incident", "timeline", "delivery", "feed")
    ]
    await apply(database, *batch, *batch)
    after = [
        await query(f"SELECT * FROM {table} ORDER BY id") for table in ("incident", "timeline", "delivery", "feed")
    ]
    assert before == after


async def test_a_warning_alone_opens_nothing_but_is_remembered(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("proximity", "clear", "warning"))
    assert await query("SELECT 1 FROM incident") == []
    assert len(await query("SELECT 1 FROM transition")) == 1


async def test_an_approach_escalates_to_a_breach_on_the_same_incident_and_grows_its_version(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("approach", "none", "predicted"))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["severity"], row["version"], row["inside"]) == ("approach", "high", 1, False)
    await apply(database, transition("proximity", "warning", "breach"))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["severity"], row["version"], row["inside"]) == ("proximity", "critical", 2, True)
    await apply(database, transition("approach", "predicted", "none", distance_m=99.0))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["severity"], row["version"], row["distance_m"]) == ("proximity", "critical", 2, 99.0)


async def test_the_end_of_a_breach_is_a_line_and_resolves_nothing(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("proximity", "warning", "breach"))
    await apply(database, transition("proximity", "breach", "clear"))
    [row] = await query("SELECT * FROM incident")
    assert (row["state"], row["inside"], row["version"]) == ("open", False, 1)
    assert [r["data"]["to"] for r in await query("SELECT data FROM timeline ORDER BY ordinal")] == ["breach", "clear"]


@pytest.mark.parametrize(
    ("before", "severity"),
    [
        ([], "high"),
        ([("proximity", "warning", "clear")], "high"),
        ([("proximity", "clear", "warning")], "critical"),
        ([("assurance", "likely", "unknown")], "critical"),
    ],
)
async def test_tampering_is_critical_when_the_separation_is_near_or_unknown(
    database: Database, transition: Make, query: Query, pair: Any, before: list[Any], severity: str
) -> None:
    await apply(database, *(transition(*arguments) for arguments in before))
    await apply(database, transition("device", "closed", "open", signal="strap"))
    [row] = await query("SELECT * FROM incident WHERE family = 'tamper'")
    assert (row["type"], row["severity"]) == ("tamper", severity)
    assert row["subject"] == f"device:{pair.bracelet_id}"
    assert (row["victim_id"], row["aggressor_id"]) == (pair.victim_id, pair.aggressor_id)


@pytest.mark.parametrize(
    ("signal", "to_state", "kind", "severity"),
    [
        ("casing", "open", "tamper", "high"),
        ("mock", "yes", "tamper", "high"),
        ("jamming", "yes", "jamming", "high"),
        ("silence", "silent", "silence", "medium"),
        ("battery", "low", "battery", "low"),
        ("battery", "critical", "battery", "low"),
    ],
)
async def test_every_signal_of_a_device_has_its_type_and_severity(
    database: Database, transition: Make, query: Query, signal: str, to_state: str, kind: str, severity: str
) -> None:
    await apply(database, transition("device", "ok", to_state, signal=signal))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["severity"]) == (kind, severity)


async def test_her_silence_is_urgent_while_an_incident_of_her_case_is_open(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(
        database,
        transition("proximity", "warning", "breach"),
        transition("device", "reporting", "silent", signal="silence", device_id=pair.phone_id),
    )
    rows = {r["type"]: r for r in await query("SELECT * FROM incident")}
    assert rows["silence"]["severity"] == "high"
    assert rows["silence"]["episode_id"] == rows["proximity"]["episode_id"]


async def test_incidents_of_a_case_long_apart_are_episodes_of_their_own(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("proximity", "warning", "breach"))
    await apply(database, transition("zone", "clear", "breach"), now=NOW + timedelta(minutes=14))
    await apply(database, transition("device", "closed", "open", signal="strap"), now=NOW + timedelta(minutes=30))
    rows = {r["type"]: r["episode_id"] for r in await query("SELECT * FROM incident")}
    assert rows["proximity"] == rows["zone"] != rows["tamper"]


async def test_twenty_transactions_at_once_open_one_incident(
    database: Database, transition: Make, query: Query
) -> None:
    breaches = [transition("proximity", "warning", "breach") for _ in range(20)]
    await asyncio.gather(*(apply(database, breach) for breach in breaches))
    [row] = await query("SELECT * FROM incident")
    assert row["version"] == 1
    assert len(await query("SELECT 1 FROM timeline")) == 20
    kinds = [r["kind"] for r in await query("SELECT kind FROM feed ORDER BY id")]
    assert kinds == ["incident.opened"] + ["incident.updated"] * 19
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'dispatcher'")) == 1


async def test_leaving_one_of_two_zones_leaves_him_inside(database: Database, transition: Make, query: Query) -> None:
    first, second = "0190f000-0000-7000-8000-000000000001", "0190f000-0000-7000-8000-000000000002"
    from uuid import UUID

    await apply(
        database,
        transition("zone", "clear", "breach", zone_id=UUID(first)),
        transition("zone", "clear", "breach", zone_id=UUID(second)),
        transition("zone", "breach", "clear", zone_id=UUID(first)),
    )
    [row] = await query("SELECT inside FROM incident")
    assert row["inside"] is True
    await apply(database, transition("zone", "breach", "clear", zone_id=UUID(second)))
    [row] = await query("SELECT inside FROM incident")
    assert row["inside"] is False
