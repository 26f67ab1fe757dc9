"""A report says *violation* only where he was within the legal distance, surely, of an order that had been served."""

from __future__ import annotations

import typing
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.routes.reports import Reason
from core.actions.incidents import apply_transitions
from core.actions.order_clock import OrderClock
from core.actions.unit_of_work import act
from core.clock import rfc3339
from core.domain.transition import Transition
from core.domain.violation import VIOLATION_OF_REASON
from core.postgres.database import Database

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
"""Transitions of these tests are some milliseconds after it."""
LONG_AGO, LATER = NOW - timedelta(days=10), NOW + timedelta(hours=1)
Make = Callable[..., Transition]
Query = Callable[..., Any]


async def apply(database: Database, *transitions: Transition) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(unit, transitions)


async def report(api: Any, pair: Any, query: Query, role: str = "auditor") -> dict[str, Any]:
    [row] = await query("SELECT id FROM incident")
    token = api.token(pair.agency_id, pair.users[role], role)
    async with api.client(token) as client:
        answer = await client.get(f"/v1/reports/incidents/{row['id']}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def set_order(database: Database, pair: Any, legal_m: float, served_at: datetime | None) -> None:
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE protection_order SET legal_m = $2, served_at = $3 WHERE id = $1", pair.order_id, legal_m, served_at
        )


def told(p_legal: float | None, legal_m: float | None = None, at: datetime | None = None) -> dict[str, Any]:
    """A transition's detail as the engine writes it."""
    detail: dict[str, Any] = {} if p_legal is None else {"p_legal": p_legal}
    if legal_m is not None:
        detail["policy"] = {"legal_m": legal_m, "alert_m": 500.0}
    if at is not None:
        detail["p_legal_at"] = rfc3339(at)
    return detail


def test_the_api_describes_every_reason_there_is() -> None:
    assert set(typing.get_args(Reason)) == VIOLATION_OF_REASON.keys()


@pytest.mark.parametrize(
    ("legal_m", "served_at", "p_legal", "violation", "reason"),
    [
        (100.0, LONG_AGO, 0.99, True, "proved"),
        (100.0, LONG_AGO, 0.9899, False, "probability"),
        (100.0, LONG_AGO, 0.0, False, "probability"),
        (100.0, LONG_AGO, None, None, "probability_unknown"),
        (0.0, LONG_AGO, 0.999, None, "radius_unknown"),
        (0.0, LONG_AGO, None, None, "radius_unknown"),
        (100.0, None, 0.999, False, "not_served"),
        (100.0, LATER, 0.999, None, "probability_unknown"),  # he has not gone yet
        (0.0, None, None, False, "not_served"),
    ],
)
async def test_a_breach_is_a_violation_by_probability_distance_and_service(
    database: Database, transition: Make, query: Query, pair: Any, api: Any,
    legal_m: float, served_at: datetime | None, p_legal: float | None, violation: bool | None, reason: str,
) -> None:  # fmt: skip
    await set_order(database, pair, legal_m, served_at)
    await apply(database, transition("proximity", "warning", "breach", detail=told(p_legal)))
    found = await report(api, pair, query)
    assert (found["violation"], found["reason"]) == (violation, reason)
    assert (found["legal_m"], found["p_least"], found["order_reference"]) == (legal_m, 0.99, "O-1")
    assert found["p_legal"] == (p_legal if served_at == LONG_AGO and legal_m else None)


async def test_coming_within_the_legal_distance_after_the_alert_is_told_on_the_way_back(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    await apply(database, transition("proximity", "warning", "breach", detail=told(0.01, 100.0)))
    assert (await report(api, pair, query))["reason"] == "probability"
    moment = NOW + timedelta(milliseconds=250)
    await apply(database, transition("proximity", "breach", "clear", detail=told(0.999, 100.0, moment)))
    found = await report(api, pair, query)
    assert (found["violation"], found["p_legal"], found["p_legal_at"]) == (True, 0.999, "2026-05-01T12:00:00.250000Z")
    assert (found["rule_version"], found["policy"]) == ("2026.4", {"legal_m": 100.0, "alert_m": 500.0})


async def test_the_legal_distance_is_the_one_that_held_then(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    await apply(database, transition("proximity", "warning", "breach", detail=told(0.999, 100.0)))
    await set_order(database, pair, 0.0, LONG_AGO)
    found = await report(api, pair, query)
    assert (found["violation"], found["legal_m"]) == (True, 100.0)


async def test_service_within_a_stay_counts_only_from_then_on(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    enter = transition("proximity", "warning", "breach", detail=told(0.02, 100.0))
    leave = transition("proximity", "breach", "clear", detail=told(0.999, 100.0))
    await set_order(database, pair, 100.0, NOW + timedelta(milliseconds=enter.at_ms % 1000, microseconds=500))
    await apply(database, enter, leave)
    unsaid = await report(api, pair, query)
    assert (unsaid["violation"], unsaid["reason"]) == (None, "probability_unknown"), "it may have been before service"
    await set_order(database, pair, 100.0, LATER)
    gone = await report(api, pair, query)
    assert (gone["violation"], gone["reason"]) == (False, "not_served"), "he had gone by then"


async def test_a_moment_before_service_is_none_however_long_he_stayed(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, NOW - timedelta(minutes=5))
    early, served = NOW - timedelta(minutes=9), NOW - timedelta(minutes=1)
    await apply(database, transition("proximity", "warning", "breach", detail=told(0.999, 100.0, early)))
    assert (await report(api, pair, query))["violation"] is None
    await apply(database, transition("proximity", "breach", "clear", detail=told(0.9995, 100.0, served)))
    assert (await report(api, pair, query))["violation"] is True


async def test_a_breach_found_in_hindsight_is_judged_by_its_own_time_and_apart_from_what_is_seen_now(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    hour_ago = NOW - timedelta(hours=1)
    detail = {**told(0.4, 100.0, hour_ago), "until": rfc3339(hour_ago + timedelta(minutes=5))}
    await apply(database, transition("proximity", "clear", "breach", retrospective=True, detail=detail))
    await apply(database, transition("proximity", "clear", "warning", detail=told(1.0, 100.0)))
    found = await report(api, pair, query)
    assert (found["retrospective"], found["violation"], found["p_legal"]) == (True, False, 0.4)
    await set_order(database, pair, 100.0, NOW - timedelta(minutes=30))
    assert (await report(api, pair, query))["reason"] == "not_served"


async def test_a_breach_that_ends_after_its_incident_was_resolved_is_still_told(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    await apply(database, transition("proximity", "warning", "breach", detail=told(0.1)))
    async with database.transaction() as connection:
        await connection.execute("UPDATE incident SET state = 'resolved', outcome = 'custody'")
    await apply(database, transition("proximity", "breach", "clear", detail=told(0.995)))
    await apply(database, transition("proximity", "clear", "warning", detail=told(1.0)))
    found = await report(api, pair, query)
    assert (found["violation"], found["p_legal"]) == (True, 0.995)


async def test_what_is_not_of_an_orders_distance_is_none_of_it(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    await apply(database, transition("device", "closed", "open", signal="strap"))
    found = await report(api, pair, query)
    assert (found["type"], found["violation"], found["reason"]) == ("tamper", None, "not_proximity")


async def test_a_predicted_approach_alone_is_no_violation(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    await apply(database, transition("approach", "none", "predicted"))
    assert (await report(api, pair, query))["violation"] is None


async def test_the_report_of_many_counts_violations_and_exercises_are_left_out(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    await apply(
        database,
        transition("proximity", "warning", "breach", detail=told(0.999)),
        transition("device", "closed", "open", signal="strap"),
    )
    span = {"since": rfc3339(NOW - timedelta(days=1)), "until": rfc3339(NOW + timedelta(days=1))}
    async with api.client(api.token(pair.agency_id, pair.users["auditor"], "auditor")) as client:
        lines = (await client.get("/v1/reports/incidents", params=span)).json()["lines"]
    assert {(line["type"], line["count"], line["violations"]) for line in lines} == {
        ("proximity", 1, 1),
        ("tamper", 1, 0),
    }


async def test_a_finding_is_for_those_who_report_of_their_own_agency_and_is_audited(
    database: Database, transition: Make, query: Query, pair: Any, api: Any, another_pair: Any
) -> None:
    await apply(database, transition("proximity", "warning", "breach"))
    await report(api, pair, query, "supervisor")
    audited = await query("SELECT subject_id FROM audit WHERE action = 'incident.reported'")
    [incident] = await query("SELECT id FROM incident")
    assert [row["subject_id"] for row in audited] == [incident["id"]]
    other = await another_pair()
    for who, role, status in ((other, "auditor", 404), (pair, "dispatcher", 403), (pair, "officer", 403)):
        async with api.client(api.token(who.agency_id, who.users[role], role)) as client:
            assert (await client.get(f"/v1/reports/incidents/{incident['id']}")).status_code == status


async def test_a_second_violation_by_the_same_man_is_a_task_and_is_shown_on_order_and_incident(
    database: Database, transition: Make, query: Query, pair: Any, api: Any
) -> None:
    await set_order(database, pair, 100.0, LONG_AGO)
    clock = OrderClock(database, lambda: NOW + timedelta(minutes=1))
    for count in (1, 2):
        await apply(database, transition("proximity", "warning", "breach", detail=told(0.999, 100.0)))
        await apply(database, transition("proximity", "breach", "clear", detail=told(0.999, 100.0)))
        async with database.transaction() as connection:
            await connection.execute(
                "UPDATE incident SET state = 'resolved', outcome = 'custody', resolved_at = $1", NOW
            )
        await apply(database, transition("device", "closed", "open", signal="strap"))
        await OrderClock(database, lambda: NOW + timedelta(minutes=1)).step()
        await clock.step()
        tasks = await query("SELECT detail, order_id FROM task WHERE kind = 'repeat_violation'")
        assert [task["detail"] for task in tasks] == [{"violations": 2}] * (count - 1)
    [incident, *_] = await query("SELECT id FROM incident WHERE family = 'proximity' ORDER BY id")
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as client:
        shown = (await client.get(f"/v1/incidents/{incident['id']}")).json()["violations"]
        order = (await client.get(f"/v1/orders/{pair.order_id}")).json()["violations"]
    assert (shown["order"], shown["aggressor"]) == (order["order"], order["aggressor"]) == (2, 2)
