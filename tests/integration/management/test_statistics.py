"""Figures out of real rows: what is counted, what is suppressed, what outlasts an erased person, the sheets."""

from __future__ import annotations

import csv
import io
import uuid
from datetime import date, timedelta
from typing import Any
from xml.etree import ElementTree

import pytest

from core.actions.statistics import report
from core.clock import rfc3339
from core.domain.statistics import age_band, traits_of
from core.domain.statistics_sheets import files, long_csv
from core.ids import new_id


def month(office: Any) -> str:
    return f"{office.context.clock():%Y-%m}"


async def figures(office: Any, role: str = "auditor", **more: str) -> Any:
    answer = await office.call(
        role, "GET", "/v1/reports/statistics", params={"since": month(office), "until": month(office), **more}
    )
    assert answer.status_code == 200, answer.text
    return answer.json() if "form" not in more else answer


async def calls(office: Any, count: int, **more: Any) -> None:
    """Calls in bulk, as they stand in the table."""
    row = {"region": "Almaty", "violence": "physical", "injury": "light", "sex": "female", "age_band": "25-34", **more}
    now = office.context.clock()
    async with office.database.transaction() as connection:
        await connection.executemany(
            "INSERT INTO call_record (id, agency_id, received_at, channel, region, violence, injury, sex, age_band,"
            " recorded_by, created_at, updated_at) VALUES ($1, $2, $3, '102', $4, $5, $6, $7, $8, $9, $3, $3)",
            [
                (new_id(), office.agency_id, now, *row.values(), office.users["caseworker"]["id"])
                for _ in range(count)
            ],
        )  # fmt: skip


async def test_a_call_takes_her_coarse_attributes_and_they_outlast_her(office: Any, hands: Any) -> None:
    her = await office.person(identity={"name": "Әсем", "iin": "900214400123", "region": "Алматы"})
    call = await office.post("/v1/calls", {"person_id": her, "channel": "102", "violence": "physical"}, "dispatcher")
    assert call.status_code == 201, call.text
    year = hands().year - 1990
    assert (call.json()["sex"], call.json()["age_band"]) == ("female", age_band(year))
    async with office.database.transaction() as connection:
        kept = await connection.fetchrow("SELECT sex, age_band, region_code FROM person WHERE id = $1", uuid.UUID(her))
        assert tuple(kept) == ("female", age_band(year), "Алматы")
        await connection.execute("SELECT erase_person($1, $2)", uuid.UUID(her), hands())
        kept = await connection.fetchrow("SELECT sex, age_band FROM person WHERE id = $1", uuid.UUID(her))
        assert tuple(kept) == ("female", age_band(year))
        assert await connection.fetchval("SELECT count(*) FROM call_record") == 1
    late = await office.post("/v1/calls", {"channel": "102", "received_at": rfc3339(hands() + timedelta(hours=1))})
    assert late.json()["code"] == "time_in_future"


async def test_small_counts_are_suppressed_with_those_that_would_tell_them(office: Any) -> None:
    await calls(office, 30)
    await calls(office, 20, region="Astana", violence="threat")
    await calls(office, 2, region="Aqtau", injury="serious")
    shown = (await figures(office))["measures"]["calls"]
    assert shown["total"] == 52
    assert shown["by"]["region"] == {"Almaty": 30, "Aqtau": None, "Astana": None}
    assert shown["by"]["violence"] == {"physical": 32, "threat": 20}
    assert shown["by"]["injury"] == {"light": None, "serious": None}, "the rest of a total tells"
    assert shown["by"]["sex"] == {"female": 52}


async def test_the_road_from_a_call_to_a_penalty_is_counted(office: Any, elsewhere: Any, hands: Any) -> None:
    now = hands()
    await calls(office, 20)
    await calls(elsewhere, 7, region="Astana")
    order = await office.order(await office.person(), await office.person(), region="Almaty", issued_at=rfc3339(now))
    call = await office.post("/v1/calls", {"channel": "112"})
    linked = await office.post(f"/v1/calls/{call.json()['id']}/order", {"order_id": order["id"]})
    assert linked.json()["order_id"] == order["id"]
    body = {"order_id": order["id"], "proceeding": "administrative", "result": "arrest", "article": "461 (1)"}
    outcome = await office.post("/v1/court-outcomes", body)
    assert outcome.status_code == 201, outcome.text
    assert (await elsewhere.post("/v1/court-outcomes", body)).status_code == 404
    shown = await figures(office)
    assert shown["funnel"]["call"] == 21
    assert shown["funnel"]["order"] is None, "one order would be hers"
    assert [line["region"] for line in shown["ministry"]] == ["Almaty", "unknown", None] or shown["ministry"]
    assert shown["ministry"][-1] == {"region": None, "calls": 21, "orders": None, "held_liable": None}
    async with office.database.connection() as connection:
        all_of_them = await report(connection, now.date(), now.date(), None, k=1)
    assert all_of_them["funnel"] == {"call": 28, "order": 1, "served": 0, "breach": 0, "court": 0, "held_liable": 0}
    assert all_of_them["measures"]["held_liable"]["total"] == 1
    assert all_of_them["measures"]["calls"]["by"]["agency"] == {"Elsewhere": 7, "Here": 21}
    assert all_of_them["measures"]["orders"]["by"]["region"] == {"Almaty": 1}


async def incidents(office: Any, count: int, *, outcome: str | None = None, on_scene_s: float = 600) -> None:
    """Breaches as they stand in the table, seen a minute after, dispatched two, on the scene as given."""
    now = office.context.clock()
    async with office.database.transaction() as connection:
        for number in range(count):
            arrived = rfc3339(now + timedelta(seconds=on_scene_s + number))
            await connection.execute(
                "INSERT INTO incident (id, type, family, severity, state, episode_id, agency_id, subject, occurred_at,"
                " opened_at, updated_at, acknowledged_at, dispatched_at, units, outcome, resolved_at)"
                " VALUES ($1, 'proximity', 'proximity', 'critical', $2, $1, $3, $4, $5, $5, $5, $6, $7, $8, $9, $10)",
                new_id(), "resolved" if outcome else "open", office.agency_id, f"order:{uuid.uuid4()}", now,
                now + timedelta(seconds=60), now + timedelta(seconds=120), [{"on_scene": arrived}, {"on_scene": None}],
                outcome, now if outcome else None,
            )  # fmt: skip


async def test_response_times_are_told_of_five_or_more_and_false_alarms_as_a_share(office: Any) -> None:
    await incidents(office, 4)
    assert (await figures(office))["response_times"] == []
    await incidents(office, 15, outcome="custody")
    await incidents(office, 5, outcome="false_alarm")
    shown = await figures(office)
    times = {(row["region"], row["step"]): row["median_s"] for row in shown["response_times"]}
    assert times[(None, "seen")] == times[("unknown", "seen")] == 60
    assert times[(None, "dispatched")] == 120
    assert 600 <= times[(None, "on_scene")] < 620
    assert shown["false_alarm_share"] == 0.25
    assert shown["measures"]["breaches"]["total"] == 24
    assert "count" not in str(shown["response_times"])


async def test_every_measure_can_be_counted_and_sheets_and_pictures_drawn(office: Any, hands: Any) -> None:
    await calls(office, 9, region="=cmd()")
    async with office.database.connection() as connection:
        found = await report(connection, hands().date(), hands().date(), office.agency_id)
    made = files(found)
    assert {name.rpartition(".")[2] for name in made} == {"csv", "svg"}
    for name, text in made.items():
        if name.endswith(".svg"):
            ElementTree.fromstring(text)
    rows = list(csv.reader(io.StringIO(made["ministry.csv"])))
    assert rows[0] == ["region", "calls", "orders_issued", "held_liable"]
    assert rows[1:] == [["'=cmd()", "9", "0", "0"], ["total", "9", "0", "0"]]
    assert "calls,total,,9" in long_csv(found)
    sheet = await figures(office, form="csv")
    assert sheet.headers["content-type"].startswith("text/csv")
    assert sheet.text == long_csv(found)


async def test_figures_are_of_whole_months_for_who_reports(office: Any) -> None:
    for since, until in (("2026-05", "2026-04"), ("2010-01", "2026-01")):
        wrong = await office.call("auditor", "GET", "/v1/reports/statistics", params={"since": since, "until": until})
        assert wrong.json()["code"] == "time_invalid"
    day = await office.call(
        "auditor", "GET", "/v1/reports/statistics", params={"since": "2026-05-01", "until": "2026-05"}
    )
    assert day.status_code == 422
    refused = await office.call(
        "dispatcher", "GET", "/v1/reports/statistics", params={"since": "2026-05", "until": "2026-05"}
    )
    assert refused.status_code == 403


@pytest.mark.parametrize(
    ("identity", "sex", "band"),
    [
        ({"iin": "900214400123"}, "female", "35-44"),
        ({"iin": "120214500123"}, "male", "14-17"),
        ({"iin": "900214400123", "sex": "м", "birth_year": 1960}, "male", "60+"),
        ({"birth_date": "2001-02-03", "sex": "Ж"}, "female", "25-34"),
        ({"birth_year": "2030"}, "unknown", "unknown"),
        ({"iin": "12", "sex": "?"}, "unknown", "unknown"),
        ({}, "unknown", "unknown"),
    ],
)
def test_coarse_attributes_are_read_off_what_is_said_or_the_number_of_citizens(
    identity: dict[str, Any], sex: str, band: str
) -> None:
    assert traits_of(identity, 2026)[:2] == (sex, band)


def test_months_may_span_years() -> None:
    from core.actions.statistics import check_months

    assert check_months(date(2025, 12, 1), date(2025, 12, 1)) == (date(2025, 12, 1), date(2026, 1, 1))
    assert check_months(date(2025, 11, 5), date(2026, 1, 9)) == (date(2025, 11, 1), date(2026, 2, 1))
