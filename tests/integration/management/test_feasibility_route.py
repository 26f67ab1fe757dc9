"""The route studies a plan and keeps nothing of it."""

from __future__ import annotations

from typing import Any

from api.routes.feasibility import EXAMPLE


async def test_a_plan_is_studied_and_nothing_of_it_is_kept(office: Any) -> None:
    answer = await office.post("/v1/feasibility", EXAMPLE)
    assert answer.status_code == 200, answer.text
    assert answer.json()["overlaps"][0]["victim"] == "school"
    async with office.database.connection() as connection:
        lines = await connection.fetch("SELECT * FROM audit WHERE action = 'feasibility.studied'")
    assert len(lines) == 1
    assert "school" not in str(lines)
    assert (await office.post("/v1/feasibility", EXAMPLE, "officer")).status_code == 403
    wrong = {**EXAMPLE, "victim": {"places": [{"name": "x", "geometry": {"type": "Point", "coordinates": [0, 95]}}]}}
    assert (await office.post("/v1/feasibility", wrong)).json()["code"] == "geometry_invalid"
