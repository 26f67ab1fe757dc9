"""A policy or a rota that would reach nobody is refused when it is saved, in a sentence that says who is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
STEPS: dict[str, Any] = {"unacknowledged": [{"delay_s": 20, "to": ["supervisor"]}]}


@pytest.fixture
async def desk(api: Any, pair: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A supervisor of the pair's agency, where e-mail is set up."""
    api.context.settings = api.context.settings.model_copy(update={"smtp_host": "127.0.0.1"})
    async with api.client(api.token(pair.agency_id, pair.users["supervisor"], "supervisor")) as client:
        yield client


async def give(desk: httpx.AsyncClient, user_id: Any, channel: str = "email", address: str = "a@example.org") -> None:
    answer = await desk.put(f"/v1/users/{user_id}/channels/{channel}", json={"address": address, "language": "en"})
    assert answer.status_code == 200, answer.text


async def test_a_policy_to_a_role_without_a_channel_is_refused(desk: Any, pair: Any) -> None:
    answer = await desk.put("/v1/escalation-policies/critical", json=STEPS)
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_reaches_nobody")
    assert "no supervisor can be told" in answer.json()["detail"]
    await give(desk, pair.users["supervisor"])
    answer = await desk.put("/v1/escalation-policies/critical", json=STEPS)
    assert answer.status_code == 200, answer.text
    [critical] = [one for one in (await desk.get("/v1/escalation-policies")).json()["items"] if one["set_at"]]
    assert (critical["severity"], critical["type"], critical["problems"]) == ("critical", "any", [])


async def test_a_step_to_a_neighbour_alone_needs_one(desk: Any, pair: Any, another_pair: Any, database: Any) -> None:
    await give(desk, pair.users["supervisor"])
    body = {"unacknowledged": [{"delay_s": 20, "to": ["neighbour"]}]}
    answer = await desk.put("/v1/escalation-policies/high", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_reaches_nobody")
    assert "no other police agency has a jurisdiction" in answer.json()["detail"]
    other = await another_pair()
    ring = [[76.0, 43.0], [77.0, 43.0], [77.0, 44.0], [76.0, 43.0]]
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE agency SET jurisdiction = $2 WHERE id = $1",
            other.agency_id, {"type": "Polygon", "coordinates": [ring]},
        )  # fmt: skip
    assert (await desk.put("/v1/escalation-policies/high", json=body)).status_code == 200
    named = {**body, "neighbour_agency_id": str(pair.agency_id)}
    assert (await desk.put("/v1/escalation-policies/high", json=named)).status_code == 422


async def test_a_policy_by_a_channel_that_is_not_set_up_is_refused(desk: Any, pair: Any) -> None:
    await give(desk, pair.users["supervisor"])
    body = {"unacknowledged": [{"delay_s": 20, "to": ["supervisor"], "channels": ["sms"]}]}
    answer = await desk.put("/v1/escalation-policies/high", json=body)
    assert answer.status_code == 422
    assert "none of the channels sms is set up" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"unacknowledged": []}, "at least 1"),
        ({"unacknowledged": [{"delay_s": 60, "to": ["supervisor"]}, {"delay_s": 30, "to": ["supervisor"]}]}, "grow"),
        ({"unacknowledged": [{"delay_s": 1, "to": ["supervisor"]}]}, "greater than or equal"),
        ({"unacknowledged": [{"delay_s": 60, "to": []}]}, "at least 1"),
        ({"unacknowledged": [{"delay_s": 60, "to": [{}]}]}, "neither one user_id nor one route_id"),
        ({"unacknowledged": [{"delay_s": 60, "to": ["supervisor"], "repeats": 2}]}, "both repeat_every_s"),
    ],
)
async def test_a_policy_that_is_none_is_refused(desk: Any, pair: Any, change: Any, words: str) -> None:
    await give(desk, pair.users["supervisor"])
    answer = await desk.put("/v1/escalation-policies/high", json=change)
    assert answer.status_code == 422
    assert words in answer.text


async def test_a_policy_of_a_type_comes_before_the_one_for_any(
    desk: Any, pair: Any, database: Any, transition: Any, query: Any
) -> None:
    await give(desk, pair.users["supervisor"])
    assert (await desk.put("/v1/escalation-policies/critical", json=STEPS)).status_code == 200
    own = {"unacknowledged": [{"delay_s": 10, "to": ["supervisor"]}]}
    assert (await desk.put("/v1/escalation-policies/critical?type=proximity", json=own)).status_code == 200
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "warning", "breach", distance_m=100.0)])
    assert [(r["due_at"] - NOW).total_seconds() for r in await query("SELECT due_at FROM escalation_deadline")] == [10]
    assert (await desk.delete("/v1/escalation-policies/critical?type=proximity")).status_code == 204
    assert (await desk.delete("/v1/escalation-policies/critical?type=proximity")).status_code == 404


def rota(pair: Any, **change: Any) -> dict[str, Any]:
    user = str(pair.users["officer"])
    shifts = [{"day": 0, "starts": "08:00", "ends": "20:00", "user_ids": [user]}]
    shifts.append({"day": 0, "starts": "20:00", "ends": "08:00", "user_ids": [user]})
    return {"time_zone": "Asia/Almaty", "starts_on": "2026-01-05", "cycle_days": 1, "shifts": shifts, **change}


async def test_a_rota_with_a_gap_says_when_nobody_is_there(desk: Any, pair: Any) -> None:
    await give(desk, pair.users["officer"])
    whole = rota(pair)
    answer = await desk.put("/v1/on-call/duty_officer", json={**whole, "shifts": whole["shifts"][:1]})
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_reaches_nobody")
    assert "day 0 00:00 to day 0 08:00; day 0 20:00 to day 1 00:00" in answer.json()["detail"]


async def test_a_rota_with_somebody_who_cannot_be_told_is_refused(desk: Any, pair: Any) -> None:
    answer = await desk.put("/v1/on-call/duty_officer", json=rota(pair))
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_reaches_nobody")
    assert str(pair.users["officer"]) in answer.json()["detail"]


async def test_who_is_on_call_and_who_stands_in(desk: Any, pair: Any) -> None:
    for role in ("officer", "dispatcher"):
        await give(desk, pair.users[role])
    assert (await desk.put("/v1/on-call/duty_officer", json=rota(pair))).status_code == 200
    stand_in = {
        "user_id": str(pair.users["dispatcher"]), "instead_of": str(pair.users["officer"]),
        "from_at": "2099-01-01T00:00:00Z", "until_at": "2099-01-02T00:00:00Z",
    }  # fmt: skip
    made = await desk.post("/v1/on-call/duty_officer/stand-ins", json=stand_in)
    assert made.status_code == 201, made.text

    async def on_call(at: str) -> list[str]:
        items = (await desk.get("/v1/on-call", params={"at": at})).json()["items"]
        return next(one["on_call"] for one in items if one["duty"] == "duty_officer")

    assert await on_call("2099-01-01T12:00:00Z") == [str(pair.users["dispatcher"])]
    assert await on_call("2099-01-02T00:00:00Z") == [str(pair.users["officer"])]
    assert (await desk.delete(f"/v1/on-call/stand-ins/{made.json()['id']}")).status_code == 204
    assert await on_call("2099-01-01T12:00:00Z") == [str(pair.users["officer"])]
    [supervisor] = [one for one in (await desk.get("/v1/on-call")).json()["items"] if one["duty"] == "supervisor"]
    assert supervisor["on_call"] == [str(pair.users["supervisor"])], "without a rota every supervisor"


async def test_the_last_way_to_somebody_a_policy_needs_is_not_taken_away(desk: Any, pair: Any) -> None:
    await give(desk, pair.users["supervisor"])
    assert (await desk.put("/v1/escalation-policies/critical", json=STEPS)).status_code == 200
    answer = await desk.delete(f"/v1/users/{pair.users['supervisor']}/channels/email")
    assert (answer.status_code, answer.json()["code"]) == (422, "policy_reaches_nobody")
    await give(desk, pair.users["supervisor"], address="another@example.org")
    listed = (await desk.get(f"/v1/users/{pair.users['supervisor']}/channels")).json()["items"]
    assert [one["address"] for one in listed] == ["another@example.org"]


async def test_an_address_is_sealed(desk: Any, pair: Any, query: Any) -> None:
    await give(desk, pair.users["supervisor"], address="somebody@example.org")
    [row] = await query("SELECT t::text AS whole FROM user_channel t")
    assert "somebody" not in row["whole"]
