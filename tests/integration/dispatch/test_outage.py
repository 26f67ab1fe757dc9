"""Mass silence: one incident, its pairs in the order of danger; danger is never hidden in it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions import outages
from core.actions.commands import By, Ending, dispatch, resolve
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.clock import to_ms
from core.domain.outage import HOLD, PAIRS_MAX, cell_of
from core.domain.transition import Position, Transition, transition_id
from core.ids import new_id
from core.postgres.database import Database

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
ALMATY = (43.24, 76.90)
ASTANA = (51.13, 71.43)
Query = Callable[..., Any]


@dataclass(frozen=True)
class Person:
    """Somebody under one order of a crowd, and what is carried."""

    case_id: uuid.UUID
    order_id: uuid.UUID
    person_id: uuid.UUID
    device_id: uuid.UUID
    role: str


async def make_crowd(database: Database, agency_id: uuid.UUID, pairs: int, seen_at: datetime = NOW) -> list[Person]:
    """Pairs of an agency, each with two devices that were heard at `seen_at`; victims at the even places."""
    crowd: list[Person] = []
    people, cases, orders, devices = [], [], [], []
    for _ in range(pairs):
        case_id, order_id, victim, aggressor = new_id(), new_id(), new_id(), new_id()
        people += [(one, agency_id, NOW) for one in (victim, aggressor)]
        cases.append((case_id, agency_id, aggressor, NOW))
        orders.append((order_id, agency_id, case_id, victim, aggressor, NOW))
        for person_id, kind, role in ((victim, "phone", "victim"), (aggressor, "bracelet", "aggressor")):
            device_id = new_id()
            devices.append((device_id, agency_id, kind, role, person_id, seen_at))
            crowd.append(Person(case_id, order_id, person_id, device_id, role))
    async with database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)", people
        )
        await connection.executemany(
            "INSERT INTO protection_case (id, agency_id, aggressor_id, shard, created_at) VALUES ($1, $2, $3, 0, $4)",
            cases,
        )
        await connection.executemany(
            "INSERT INTO protection_order (id, agency_id, case_id, victim_id, aggressor_id, valid_from, alert_m,"
            " warning_m, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, 500, 1500, $6, $6)",
            orders,
        )
        await connection.executemany(
            "INSERT INTO device (id, agency_id, kind, role, person_id, status, routes, last_seen_at, created_at,"
            " updated_at) VALUES ($1, $2, $3, $4, $5, 'active', '{0}', $6, $6, $6)",
            devices,
        )
    return crowd


def told(
    one: Person, agency_id: uuid.UUID, before: str, after: str, place: tuple[float, float] = ALMATY, at: datetime = NOW
) -> Transition:
    """One's device fell silent, or is heard again."""
    moment_ms = to_ms(at)
    position = Position(*place, 10.0, moment_ms - 120_000)
    return Transition(
        id=transition_id(0, f"{moment_ms}-0", 0, f"{one.device_id}:silence", "device"),
        shard=0, entry=f"{moment_ms}-0", kind="device", from_state=before, to_state=after, at_ms=moment_ms,
        evaluated_ms=moment_ms, agency_id=agency_id, case_id=one.case_id, device_id=one.device_id,
        victim_id=one.person_id if one.role == "victim" else None,
        aggressor_id=one.person_id if one.role == "aggressor" else None,
        victim_position=position if one.role == "victim" else None,
        aggressor_position=position if one.role == "aggressor" else None,
        detail={"signal": "silence"},
    )  # fmt: skip


def unknown(one: Person, agency_id: uuid.UUID, **values: Any) -> Transition:
    """The separation of one's order became unknown."""
    moment_ms = to_ms(NOW)
    return Transition(
        id=transition_id(0, f"{moment_ms}-1", 0, one.order_id, "assurance"),
        shard=0, entry=f"{moment_ms}-1", kind="assurance", from_state="likely", to_state="unknown", at_ms=moment_ms,
        evaluated_ms=moment_ms, agency_id=agency_id, case_id=one.case_id, order_id=one.order_id,
        detail={"silent": "both", "warning_m": 1500.0}, **values,
    )  # fmt: skip


def near(one: Person, agency_id: uuid.UUID) -> Transition:
    """The order's pair came into the warning ring, a minute before."""
    moment_ms = to_ms(NOW) - 60_000
    return Transition(
        id=transition_id(0, f"{moment_ms}-2", 0, one.order_id, "proximity"),
        shard=0, entry=f"{moment_ms}-2", kind="proximity", from_state="clear", to_state="warning", at_ms=moment_ms,
        evaluated_ms=moment_ms, agency_id=agency_id, case_id=one.case_id, order_id=one.order_id, distance_m=900.0,
    )  # fmt: skip


async def apply(database: Database, transitions: Sequence[Transition], now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await apply_transitions(unit, transitions)


async def look(database: Database, now: datetime = NOW) -> None:
    async with act(database, now) as unit:
        await outages.look(unit)


async def test_fewer_than_twenty_stand_alone_at_once(database: Database, agency: Any, query: Query) -> None:
    crowd = await make_crowd(database, agency[0], 10)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd[:19]])
    await look(database)
    rows = await query("SELECT type, severity, state FROM incident")
    assert {tuple(row) for row in rows} == {("silence", "medium", "open")}
    assert len(rows) == 19


async def test_a_mass_silence_is_one_outage_and_takes_the_singles_before_it(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd[:10]])
    assert len(await query("SELECT 1 FROM incident WHERE state = 'open'")) == 10
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd[10:]])
    assert len(await query("SELECT 1 FROM incident WHERE state = 'open'")) == 10, "the rest waits to be judged"

    await look(database)
    [outage] = await query("SELECT * FROM incident WHERE state <> 'resolved'")
    assert (outage["type"], outage["severity"]) == ("outage", "high")
    assert (outage["detail"]["taken"], outage["detail"]["live"]) == (30, 30)
    folded = await query("SELECT outcome, cause, detail FROM incident WHERE state = 'resolved'")
    assert [(row["outcome"], row["cause"]) for row in folded] == [("duplicate", "outage")] * 10
    assert {row["detail"]["outage_id"] for row in folded} == {str(outage["id"])}
    told_desk = await query("SELECT data FROM delivery WHERE audience = 'dispatcher'")
    assert [row["data"]["type"] for row in told_desk] == ["outage"]
    links = await query("SELECT DISTINCT incident_id FROM transition")
    assert [row["incident_id"] for row in links] == [outage["id"]]

    late_comer = await make_crowd(database, agency[0], 1)
    await apply(database, [told(late_comer[0], agency[0], "late", "silent")])
    assert len(await query("SELECT 1 FROM incident WHERE state <> 'resolved'")) == 1, "it is the outage's at once"


async def test_devices_that_are_late_together_are_an_outage_before_one_of_them_is_called_silent(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [told(one, agency[0], "reporting", "late") for one in crowd])
    assert await query("SELECT 1 FROM incident") == []
    await look(database)
    [outage] = await query("SELECT * FROM incident")
    assert (outage["type"], outage["detail"]["taken"]) == ("outage", 30)
    later = NOW + timedelta(minutes=5)
    await apply(database, [unknown(crowd[2], agency[0], distance_m=9_000.0, p_within=0.01)], now=later)
    await apply(database, [told(one, agency[0], "late", "silent", at=later) for one in crowd[4:8]], now=later)
    assert len(await query("SELECT 1 FROM incident")) == 1
    await apply(database, [unknown(crowd[10], agency[0], distance_m=9_000.0, p_within=0.3)], now=later)
    rows = await query("SELECT order_id FROM incident WHERE type = 'separation_unknown'")
    assert [row["order_id"] for row in rows] == [crowd[10].order_id], "he may be there by now"


async def test_a_moment_without_network_leaves_nothing_but_an_outage_that_ended(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [told(one, agency[0], "reporting", "late") for one in crowd])
    await look(database)
    later = NOW + timedelta(seconds=40)
    await apply(database, [told(one, agency[0], "late", "reporting", at=later) for one in crowd[:26]], now=later)
    await look(database, later)
    await look(database, later + HOLD)
    [outage] = await query("SELECT state FROM incident")
    assert outage["state"] == "resolved"
    rows = await query("SELECT state, outage_id FROM silence")
    assert [tuple(row) for row in rows] == [("late", None)] * 4


async def test_many_silent_of_very_many_live_are_no_outage_and_are_told_when_the_wait_is_over(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 50)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd[:25]])
    await look(database)
    assert await query("SELECT 1 FROM incident") == []
    await look(database, NOW + HOLD)
    rows = await query("SELECT type, severity FROM incident")
    assert [tuple(row) for row in rows] == [("silence", "medium")] * 25
    await look(database, NOW + HOLD)
    assert len(await query("SELECT 1 FROM incident")) == 25


async def test_who_is_heard_again_while_waiting_never_was_an_incident(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 50)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd[:25]])
    heard = NOW + timedelta(seconds=5)
    await apply(database, [told(one, agency[0], "silent", "reporting", at=heard) for one in crowd[:25]], now=heard)
    await look(database, NOW + HOLD)
    assert await query("SELECT 1 FROM incident") == []
    assert await query("SELECT 1 FROM silence") == []


async def test_one_district_of_an_agency_falls_silent(database: Database, agency: Any, query: Query) -> None:
    crowd = await make_crowd(database, agency[0], 60)
    there, here = crowd[:90], crowd[90:]
    day = NOW.replace(hour=0, minute=0)
    async with database.transaction() as connection:
        for role in ("victim", "aggressor"):
            await connection.execute(
                f"CREATE TABLE ping_{role}_test PARTITION OF ping_{role} FOR VALUES FROM ('{day.isoformat()}')"
                f" TO ('{(day + timedelta(days=1)).isoformat()}')"
            )
        await put_pings(connection, [(one, ASTANA) for one in there] + [(one, ALMATY) for one in here])
    await apply(database, [told(one, agency[0], "late", "silent", ALMATY) for one in here])
    await look(database)
    [outage] = await query("SELECT * FROM incident")
    assert outage["subject"] == f"outage:{agency[0]}:{cell_of(*ALMATY)}"
    assert (outage["detail"]["taken"], outage["detail"]["live"]) == (30, 30)
    box = outage["detail"]["district"]
    assert box["south"] <= ALMATY[0] < box["north"]


async def put_pings(connection: Any, places: Sequence[tuple[Person, tuple[float, float]]]) -> None:
    """A fix of each a minute ago."""
    at = NOW - timedelta(minutes=1)
    await connection.executemany(
        "INSERT INTO ping SELECT CASE d.role WHEN 'victim' THEN 1 ELSE 2 END, $2, d.number, 1, $2, $2, 0, $3, $4, 10,"
        " 'NaN', 'NaN', 'NaN', 'NaN' FROM device d WHERE d.id = $1",
        [(one.device_id, at, *place) for one, place in places],
    )


async def test_danger_is_not_hidden_by_an_outage(database: Database, agency: Any, query: Query) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [near(crowd[0], agency[0])])
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd])
    await look(database)
    far, coming = crowd[2], crowd[4]
    await apply(
        database,
        [
            unknown(crowd[0], agency[0]),
            unknown(far, agency[0], distance_m=9_000.0, closing_mps=0.0),
            unknown(coming, agency[0], distance_m=9_000.0, closing_mps=12.0),
        ],
    )
    rows = await query("SELECT order_id, severity FROM incident WHERE type = 'separation_unknown' ORDER BY order_id")
    assert {row["order_id"] for row in rows} == {crowd[0].order_id, coming.order_id}
    assert {row["severity"] for row in rows} == {"high"}
    [outage] = await query("SELECT * FROM incident WHERE type = 'outage'")
    [of_far] = await query("SELECT incident_id FROM transition WHERE order_id = $1", far.order_id)
    assert of_far["incident_id"] == outage["id"]
    assert outage["detail"]["pairs"][0]["order_id"] == str(crowd[0].order_id), "who was near stands first"


async def test_pairs_stand_by_the_time_he_would_take(database: Database, agency: Any, query: Query) -> None:
    crowd = await make_crowd(database, agency[0], 12)
    day = NOW.replace(hour=0, minute=0)
    async with database.transaction() as connection:
        for role in ("victim", "aggressor"):
            await connection.execute(
                f"CREATE TABLE ping_{role}_test PARTITION OF ping_{role} FOR VALUES FROM ('{day.isoformat()}')"
                f" TO ('{(day + timedelta(days=1)).isoformat()}')"
            )
        south = [(one, (ALMATY[0] - 0.01 * (12 - k // 2), ALMATY[1])) for k, one in enumerate(crowd) if k % 2]
        await put_pings(connection, [(one, ALMATY) for one in crowd[::2]] + south)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd])
    await look(database)
    [outage] = await query("SELECT detail FROM incident")
    pairs = outage["detail"]["pairs"]
    assert [pair["order_id"] for pair in pairs] == [str(one.order_id) for one in reversed(crowd[::2])]
    assert pairs[0]["distance_m"] == pytest.approx(1112, abs=5)
    assert pairs[0]["time_to_reach_s"] == pytest.approx((1112 - 500) / 15, abs=1)
    assert {pair["silent"] for pair in pairs} == {"both"}


async def test_an_outage_ends_when_most_are_heard_and_who_is_not_stands_alone(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd])
    await look(database)
    await apply(database, [unknown(crowd[2], agency[0], distance_m=9_000.0)])
    later = NOW + timedelta(minutes=9)
    await apply(
        database,
        [told(one, agency[0], "silent", "reporting", at=later) for one in crowd if one not in (crowd[2], crowd[5])],
        now=later,
    )
    await look(database, later)
    [outage] = await query("SELECT * FROM incident WHERE type = 'outage'")
    assert (outage["state"], outage["outcome"], outage["cause"]) == ("resolved", "technical", "heard_again")
    rows = await query("SELECT type, device_id, order_id, state FROM incident WHERE type <> 'outage' ORDER BY type")
    assert {(row["type"], row["device_id"] or row["order_id"]) for row in rows} == {
        ("silence", crowd[2].device_id), ("silence", crowd[5].device_id), ("separation_unknown", crowd[2].order_id),
    }  # fmt: skip
    await look(database, later + timedelta(minutes=1))
    assert len(await query("SELECT 1 FROM incident")) == 4


async def test_an_outage_that_ends_by_itself_gives_back_the_units_sent_to_it(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd])
    await look(database)
    [outage] = await query("SELECT * FROM incident")
    unit_id = new_id()
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO unit (id, agency_id, callsign, created_at, updated_at) VALUES ($1, $2, 'A-7', $3, $3)",
            unit_id, agency[0], NOW,
        )  # fmt: skip
    async with act(database, NOW) as unit:
        by = By(agency[1]["dispatcher"], agency[0], outage["id"], outage["version"])
        await dispatch(unit, by, [unit_id])
    assert [row["status"] for row in await query("SELECT status FROM unit")] == ["dispatched"]
    later = NOW + timedelta(minutes=9)
    await apply(database, [told(one, agency[0], "silent", "reporting", at=later) for one in crowd], now=later)
    await look(database, later)
    assert [row["status"] for row in await query("SELECT status FROM unit")] == ["available"]


@pytest.mark.parametrize(("after_min", "alone"), [(50, False), (70, True)])
async def test_an_outage_that_lasts_takes_nobody_who_falls_silent_long_after_it_began(
    database: Database, agency: Any, query: Query, after_min: int, alone: bool
) -> None:
    crowd = await make_crowd(database, agency[0], 16)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd[:30]])
    await look(database)
    later = NOW + timedelta(minutes=after_min)
    await apply(database, [told(crowd[30], agency[0], "late", "silent", at=later)], now=later)
    assert bool(await query("SELECT 1 FROM incident WHERE type = 'silence'")) is alone


async def test_who_resolves_an_outage_by_hand_hides_nobody(database: Database, agency: Any, query: Query) -> None:
    crowd = await make_crowd(database, agency[0], 15)
    await apply(database, [told(one, agency[0], "late", "silent") for one in crowd])
    await look(database)
    [outage] = await query("SELECT * FROM incident")
    async with act(database, NOW) as unit:
        by = By(agency[1]["dispatcher"], agency[0], outage["id"], outage["version"])
        await resolve(unit, by, Ending("technical"))
    await look(database, NOW + timedelta(minutes=5))
    rows = await query("SELECT type, state FROM incident WHERE type <> 'outage'")
    assert [tuple(row) for row in rows] == [("silence", "open")] * 30


async def test_five_thousand_silences_at_once_from_eight_recorders_are_one_outage(
    database: Database, agency: Any, query: Query
) -> None:
    crowd = await make_crowd(database, agency[0], 2_500)
    silences = [told(one, agency[0], "late", "silent") for one in crowd]
    for start in range(0, 5_000, 1_600):  # eight batches of the recorder's size at the same time
        step = silences[start : start + 1_600]
        await asyncio.gather(*(apply(database, step[k : k + 200]) for k in range(0, len(step), 200)))
    assert await query("SELECT 1 FROM incident") == []
    await look(database)
    [outage] = await query("SELECT * FROM incident")
    assert (outage["type"], outage["detail"]["taken"]) == ("outage", 5_000)
    assert len(outage["detail"]["pairs"]) == PAIRS_MAX
    assert outage["detail"]["pairs_unlisted"] > 0
    assert len(await query("SELECT 1 FROM delivery")) == 1
    assert len(await query("SELECT 1 FROM feed")) == 1
