"""Severities by what was so at the moment, tamper that stays, one page an episode, and levels after a resolve."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions.commands import By, Ending, reopen, resolve
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.domain.transition import Transition
from core.errors import Conflict
from core.ids import new_id
from core.postgres import incidents
from core.postgres.database import Database
from core.postgres.migrate import MIGRATIONS

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ZONE = uuid.UUID("0190f000-0000-7000-8000-000000000001")
OTHER_ZONE = uuid.UUID("0190f000-0000-7000-8000-000000000002")
Make = Callable[..., Transition]
Query = Callable[..., Any]


async def apply(database: Database, *transitions: Transition, now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await apply_transitions(unit, transitions)


async def end(database: Database, pair: Any, row: Any, outcome: str = "custody", now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await resolve(unit, By(pair.users["dispatcher"], pair.agency_id, row["id"], row["version"]), Ending(outcome))


async def pages(query: Query) -> list[tuple[str, str]]:
    """Type and severity of every message to the agency's desk, in order."""
    rows = await query("SELECT data FROM delivery WHERE audience = 'dispatcher' ORDER BY created_at, id")
    return [(row["data"]["type"], row["data"]["severity"]) for row in rows]


@pytest.mark.parametrize("signal", ["jump", "frozen"])
async def test_a_jump_or_a_frozen_position_is_for_the_operations_queue_and_pages_nobody(
    database: Database, transition: Make, query: Query, signal: str
) -> None:
    await apply(database, transition("proximity", "clear", "warning"), transition("device", "no", "yes", signal=signal))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["family"], row["severity"]) == (signal, "tamper", "low")
    assert await pages(query) == []


async def test_an_unknown_separation_is_high_and_names_the_silent_party(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(
        database,
        transition("assurance", "likely", "unknown", detail={"silent": "aggressor", "policy": {"grace_s": 300}}),
    )
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["severity"], row["assurance"]) == ("separation_unknown", "high", "unknown")
    assert row["detail"]["silent"] == "aggressor"
    assert "policy" not in row["detail"]
    [line] = await query("SELECT data FROM timeline")
    assert line["data"]["silent"] == "aggressor"
    await apply(database, transition("assurance", "unknown", "guaranteed"))
    [row] = await query("SELECT * FROM incident")
    assert (row["state"], row["assurance"], row["version"]) == ("open", "guaranteed", 1)
    assert [line["data"]["what"] for line in await query("SELECT data FROM timeline ORDER BY ordinal")] == [
        "opened", "eased",
    ]  # fmt: skip


async def test_an_approach_that_ended_inside_eases_nothing(database: Database, transition: Make, query: Query) -> None:
    await apply(database, transition("approach", "none", "predicted"))
    await apply(database, transition("proximity", "warning", "breach"))
    await apply(database, transition("approach", "predicted", "none", detail={"outcome": "entered"}))
    lines = await query("SELECT data FROM timeline ORDER BY ordinal")
    assert [line["data"]["what"] for line in lines] == ["opened", "escalated", "entered"]
    [row] = await query("SELECT inside FROM incident")
    assert row["inside"] is True


async def test_an_approach_that_turned_away_eases(database: Database, transition: Make, query: Query) -> None:
    await apply(database, transition("approach", "none", "predicted"))
    await apply(database, transition("approach", "predicted", "none", detail={"outcome": "turned_away"}))
    lines = await query("SELECT data FROM timeline ORDER BY ordinal")
    assert [line["data"]["what"] for line in lines] == ["opened", "eased"]


@pytest.mark.parametrize("near", [("proximity", "clear", "warning"), ("assurance", "likely", "unknown")])
async def test_a_strap_opened_while_he_was_far_is_critical_once_he_is_near_or_nobody_knows(
    database: Database, transition: Make, query: Query, near: Any
) -> None:
    await apply(database, transition("device", "closed", "open", signal="strap"))
    [row] = await query("SELECT severity, version FROM incident WHERE family = 'tamper'")
    assert (row["severity"], row["version"]) == ("high", 1)
    await apply(database, transition(*near))
    [row] = await query("SELECT type, severity, version FROM incident WHERE family = 'tamper'")
    assert (row["type"], row["severity"], row["version"]) == ("tamper", "critical", 2)


async def test_a_strap_that_was_closed_again_is_not_made_worse_by_his_coming(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("device", "closed", "open", signal="strap"))
    await apply(database, transition("device", "open", "closed", signal="strap"))
    await apply(database, transition("proximity", "clear", "warning"))
    [row] = await query("SELECT severity, version FROM incident WHERE family = 'tamper'")
    assert (row["severity"], row["version"]) == ("high", 1)


async def test_what_the_engine_saw_when_the_strap_opened_counts(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("device", "closed", "open", signal="strap", detail={"separation": "warning"}))
    [row] = await query("SELECT severity FROM incident")
    assert row["severity"] == "critical"


@pytest.mark.parametrize(
    ("signal", "on", "off", "kind"), [("strap", "open", "closed", "tamper"), ("jamming", "yes", "no", "jamming")]
)
async def test_tampering_never_clears_by_itself_and_says_so(
    database: Database, transition: Make, query: Query, pair: Any, signal: str, on: str, off: str, kind: str
) -> None:
    await apply(database, transition("device", off, on, signal=signal))
    [row] = await query("SELECT * FROM incident")
    assert (row["type"], row["detail"]["signals_on"]) == (kind, [signal])
    await apply(database, transition("device", on, off, signal=signal))
    [row] = await query("SELECT * FROM incident")
    assert (row["state"], row["detail"]["signals_on"], row["version"]) == ("open", [], 1)
    lines = await query("SELECT data FROM timeline ORDER BY ordinal")
    assert [line["data"]["what"] for line in lines] == ["opened", "stays_open"]
    await end(database, pair, row, "technical")
    [row] = await query("SELECT state, outcome FROM incident")
    assert (row["state"], row["outcome"]) == ("resolved", "technical")


async def test_a_victim_silent_already_is_urgent_once_an_incident_opens(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("device", "late", "silent", signal="silence", device_id=pair.phone_id))
    [row] = await query("SELECT severity FROM incident")
    assert row["severity"] == "medium"
    await apply(database, transition("proximity", "warning", "breach"))
    [row] = await query("SELECT severity, version FROM incident WHERE family = 'silence'")
    assert (row["severity"], row["version"]) == ("high", 2)


async def test_a_victim_silent_already_is_urgent_once_he_comes_though_the_trouble_began_with_a_panic(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("device", "late", "silent", signal="silence", device_id=pair.phone_id))
    panic_id = new_id()
    row = incidents.new_row(
        id=panic_id, type="panic", family="panic", severity="critical", episode_id=panic_id, agency_id=pair.agency_id,
        case_id=pair.case_id, victim_id=pair.victim_id, subject="elsewhere", occurred_at=NOW, opened_at=NOW,
        updated_at=NOW,
    )  # fmt: skip
    async with database.transaction() as connection:
        assert await incidents.insert_open(connection, row)
    await apply(database, transition("approach", "none", "predicted"))
    [row] = await query("SELECT severity FROM incident WHERE family = 'silence'")
    assert row["severity"] == "high"


@pytest.mark.parametrize(("after", "severity"), [("unknown", "high"), ("likely", "low")])
async def test_an_unknown_separation_of_the_operations_queue_is_urgent_once_an_incident_opens_and_it_still_is_unknown(
    database: Database, transition: Make, query: Query, after: str, severity: str
) -> None:
    await apply(database, transition("assurance", "likely", "unknown"))
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET severity = 'low'")
    if after != "unknown":
        await apply(database, transition("assurance", "unknown", after))
    await apply(database, transition("device", "closed", "open", signal="casing"))
    [row] = await query("SELECT severity FROM incident WHERE type = 'separation_unknown'")
    assert row["severity"] == severity


async def test_that_he_falls_silent_too_makes_her_announced_silence_urgent(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    announced = {"silent": "victim", "reason": "silence", "battery": "low"}
    await apply(database, transition("assurance", "likely", "unknown", detail=announced))
    assert await pages(query) == []
    await apply(database, transition("device", "late", "silent", signal="silence", device_id=pair.bracelet_id))
    rows = {row["type"]: row["severity"] for row in await query("SELECT type, severity FROM incident")}
    assert rows == {"separation_unknown": "high", "silence": "medium"}
    assert await pages(query) == [("separation_unknown", "high")]


async def test_late_and_back_again_opens_and_eases_nothing(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    late = ("reporting", "late"), ("late", "reporting")
    await apply(database, *(transition("device", a, b, signal="silence", device_id=pair.phone_id) for a, b in late))
    assert await query("SELECT 1 FROM incident") == []
    assert await query("SELECT 1 FROM silence") == []


async def test_an_episode_pages_once_and_again_only_when_it_becomes_worse(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(database, transition("device", "closed", "open", signal="strap"))
    await apply(database, transition("assurance", "likely", "guaranteed"))
    await apply(database, transition("approach", "none", "predicted"), now=NOW + timedelta(minutes=1))
    assert await pages(query) == [("tamper", "high")]
    her = await query("SELECT data FROM delivery WHERE audience = 'victim'")
    assert [row["data"]["type"] for row in her] == ["approach"], "her phone has heard of no danger yet"
    await apply(database, transition("proximity", "warning", "breach"), now=NOW + timedelta(minutes=2))
    assert await pages(query) == [("tamper", "high"), ("proximity", "critical")]
    await apply(database, transition("zone", "clear", "breach", zone_id=ZONE), now=NOW + timedelta(minutes=3))
    assert len(await pages(query)) == 2
    rows = await query("SELECT DISTINCT episode_id FROM incident")
    assert len(rows) == 1
    kinds = [row["kind"] for row in await query("SELECT kind FROM feed")]
    assert kinds.count("incident.opened") == 3, "every incident is on every screen, paged or not"


async def test_two_families_in_one_batch_page_once(database: Database, transition: Make, query: Query) -> None:
    await apply(
        database, transition("zone", "clear", "breach", zone_id=ZONE), transition("proximity", "clear", "breach")
    )
    assert await pages(query) == [("zone", "critical")]


async def test_after_a_resolve_the_next_family_of_the_episode_pages_again(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("proximity", "warning", "breach"))
    [row] = await query("SELECT * FROM incident")
    await end(database, pair, row)
    await apply(database, transition("zone", "clear", "breach", zone_id=ZONE), now=NOW + timedelta(minutes=1))
    assert await pages(query) == [("proximity", "critical"), ("zone", "critical")]
    assert len(await query("SELECT DISTINCT episode_id FROM incident")) == 1


async def test_while_he_is_in_a_zone_only_custody_or_a_suspension_ends_it_and_leaving_it_frees_the_outcome(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("zone", "clear", "breach", zone_id=ZONE))
    [row] = await query("SELECT * FROM incident")
    assert row["inside_since"] is not None
    with pytest.raises(Conflict, match="still inside"):
        await end(database, pair, row, "warned")
    await apply(database, transition("zone", "breach", "clear", zone_id=ZONE))
    await end(database, pair, row, "warned")


async def test_a_breach_resolved_by_custody_does_not_hide_his_coming_again(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("proximity", "warning", "breach"))
    [first] = await query("SELECT * FROM incident")
    await end(database, pair, first)
    later = NOW + timedelta(hours=2)
    await apply(database, transition("proximity", "breach", "clear"), now=later)
    assert len(await query("SELECT 1 FROM incident")) == 1
    await apply(database, transition("proximity", "clear", "breach"), now=later)
    [_, second] = await query("SELECT * FROM incident ORDER BY opened_at")
    assert (second["state"], second["severity"], second["inside"]) == ("open", "critical", True)
    assert second["episode_id"] != first["episode_id"]
    assert len(await pages(query)) == 2


async def test_a_second_zone_entered_after_a_resolve_knows_of_the_first(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("zone", "clear", "breach", zone_id=ZONE))
    [row] = await query("SELECT * FROM incident")
    await end(database, pair, row)
    await apply(database, transition("zone", "clear", "breach", zone_id=OTHER_ZONE))
    await apply(database, transition("zone", "breach", "clear", zone_id=OTHER_ZONE))
    [row] = await query("SELECT * FROM incident WHERE state = 'open'")
    assert (row["inside"], row["detail"]["zones_inside"]) == (True, [str(ZONE)])


async def test_a_reopened_incident_knows_whether_he_left_meanwhile(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("proximity", "warning", "breach"))
    [row] = await query("SELECT * FROM incident")
    await end(database, pair, row)
    await apply(database, transition("proximity", "breach", "clear"))
    async with act(database, NOW) as unit:
        by = By(pair.users["dispatcher"], pair.agency_id, row["id"], row["version"] + 1)
        answer = await reopen(unit, by)
    assert (answer["inside"], answer["inside_since"]) == (False, None)


async def test_the_version_grows_with_type_and_severity_never_with_a_distance(
    database: Database, transition: Make, query: Query
) -> None:
    async def version() -> int:
        [row] = await query("SELECT version FROM incident WHERE family = 'proximity'")
        found: int = row["version"]
        return found

    await apply(database, transition("approach", "none", "predicted", distance_m=1400.0))
    assert await version() == 1
    await apply(database, transition("proximity", "warning", "breach", distance_m=490.0))
    assert await version() == 2
    for metres in (300.0, 200.0):
        await apply(database, transition("proximity", "breach", "warning", distance_m=600.0))
        await apply(database, transition("proximity", "warning", "breach", distance_m=metres))
    assert await version() == 2
    [row] = await query("SELECT distance_m FROM incident")
    assert row["distance_m"] == 200.0


async def test_a_false_alarm_is_resolved_with_its_cause(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("device", "closed", "open", signal="casing"))
    [row] = await query("SELECT * FROM incident")
    by = By(pair.users["dispatcher"], pair.agency_id, row["id"], row["version"])
    async with act(database, NOW) as unit:
        answer = await resolve(unit, by, Ending("false_alarm", false_alarm_cause="charging"))
    assert (answer["outcome"], answer["false_alarm_cause"]) == ("false_alarm", "charging")


async def test_a_false_alarm_of_which_nobody_says_the_cause_is_counted_as_such(
    database: Database, transition: Make, query: Query, pair: Any
) -> None:
    await apply(database, transition("device", "closed", "open", signal="casing"))
    [row] = await query("SELECT * FROM incident")
    await end(database, pair, row, "false_alarm")
    [row] = await query("SELECT false_alarm_cause FROM incident")
    assert row["false_alarm_cause"] == "unstated"


async def test_the_migration_finds_the_separations_of_before_as_they_stand(
    database: Database, transition: Make, query: Query
) -> None:
    await apply(
        database,
        transition("proximity", "clear", "warning", distance_m=900.0, closing_mps=1.5),
        transition("proximity", "warning", "breach", distance_m=400.0),
        transition("zone", "clear", "breach", zone_id=ZONE),
        transition("zone", "clear", "warning", zone_id=OTHER_ZONE),
        transition("assurance", "likely", "unknown"),
        transition("proximity", "clear", "breach", retrospective=True),
        transition("device", "closed", "open", signal="strap"),
    )
    kept = await query("SELECT * FROM separation ORDER BY order_id, kind, zone_id")
    script = (MIGRATIONS / "0003_incident_folding.sql").read_text()
    filling = script[script.index("INSERT INTO separation") :].split(";")[0]
    async with database.transaction() as connection:
        await connection.execute("TRUNCATE separation")
        await connection.execute(filling)
        await connection.execute("UPDATE incident SET inside_since = NULL")
        await connection.execute(script[script.index("UPDATE incident") :].split(";")[0])
    assert await query("SELECT * FROM separation ORDER BY order_id, kind, zone_id") == kept
    assert len(kept) == 4
    assert all(row["inside"] == (row["inside_since"] is not None) for row in await query("SELECT * FROM incident"))
