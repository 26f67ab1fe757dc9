"""Policies: what an agency sets, what an order overrides, and how both reach the case the engine works from."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import msgspec
import pytest

from core.actions.policies import set_policy
from core.actions.unit_of_work import act
from core.domain.case import CaseOrder, decode_case
from core.domain.policy import BOUNDS, OVERRIDES, Policy, read_order_policy, read_policy, used_by, values_of
from geo.replay_files import read_policy as read_policy_file


async def judged_by(office: Any, order: dict[str, Any]) -> CaseOrder:
    """The order as the engine has it."""
    async with office.database.connection() as connection:
        config = await connection.fetchval(
            "SELECT config FROM protection_case WHERE id = $1", uuid.UUID(order["case_id"])
        )
    case = decode_case(msgspec.json.encode(config))
    return next(each for each in case.orders if str(each.id) == order["id"])


async def put(office: Any, **values: Any) -> Any:
    return await office.call("supervisor", "PUT", "/v1/policies", json=values)


async def entered(office: Any, **values: Any) -> dict[str, Any]:
    order: dict[str, Any] = await office.order(await office.person(), await office.person(), **values)
    return order


AGENCYS = {
    "p_enter": 0.6, "p_enter_high_risk": 0.4, "p_exit": 0.04, "exit_margin_m": 150.0, "hold_s": 90.0,
    "horizon_s": 240.0, "p_approach": 0.6, "p_unknown": 0.3,
}  # fmt: skip
ORDERS_OWN = {
    "p_enter": 0.2, "p_exit": 0.02, "exit_margin_m": 50.0, "hold_s": 30.0, "horizon_s": 600.0, "p_approach": 0.4,
    "p_unknown": 0.1,
}  # fmt: skip


@pytest.mark.parametrize("risk_level", ["standard", "high", "extreme"])
@pytest.mark.parametrize("agencys", [{}, AGENCYS])
@pytest.mark.parametrize("own", [{}, {"p_enter": 0.25}, {"hold_s": 0.0, "p_exit": 0.01}, ORDERS_OWN])
async def test_a_case_has_the_orders_own_values_else_the_agencys_else_the_defaults(
    office: Any, risk_level: str, agencys: dict[str, float], own: dict[str, float]
) -> None:
    await put(office, **agencys)
    order = await entered(office, risk_level=risk_level, policy=own)
    assert order["policy"] == own
    compiled = await judged_by(office, order)
    expected = values_of(read_policy(agencys), read_order_policy(own), risk_level)
    assert {name: getattr(compiled, name) for name in OVERRIDES} == expected


async def test_high_and_extreme_risk_take_their_own_probability_unless_the_order_names_one(office: Any) -> None:
    for risk_level, own, seen in (
        ("standard", {}, 0.5),
        ("high", {}, 0.3),
        ("extreme", {}, 0.3),
        ("extreme", {"p_enter": 0.45}, 0.45),
    ):
        order = await entered(office, risk_level=risk_level, policy=own)
        assert (await judged_by(office, order)).p_enter == seen, risk_level


async def test_a_change_of_policy_reaches_every_case_but_not_what_an_order_overrides(office: Any) -> None:
    plain, own = await entered(office), await entered(office, policy={"hold_s": 30})
    before = await judged_by(office, plain)
    await put(office, hold_s=120, alert_m=700, grace_s=60)
    after = await judged_by(office, plain)
    assert (before.hold_s, after.hold_s) == (60.0, 120.0)
    assert (after.alert_m, after.grace_s) == (1000.0, 300.0), "radii and grace stay as they were entered"
    assert (await judged_by(office, own)).hold_s == 30.0


async def test_an_override_is_changed_whole_and_taken_back(office: Any) -> None:
    order = await entered(office, policy={"hold_s": 30, "p_exit": 0.01})
    changed = await office.patch(f"/v1/orders/{order['id']}", {"policy": {"p_exit": 0.03, "hold_s": None}})
    assert changed.json()["policy"] == {"p_exit": 0.03}
    assert used_by(await judged_by(office, order))["hold_s"] == 60.0
    cleared = await office.patch(f"/v1/orders/{order['id']}", {"policy": {}})
    assert cleared.json()["policy"] == {}
    assert (await judged_by(office, order)).p_exit == 0.05


@pytest.mark.parametrize(
    ("wrong", "code", "words"),
    [
        ({"policy": {"p_exit": 0.9}}, "validation_failed", "p_exit"),
        ({"policy": {"hold_s": -1}}, "validation_failed", "hold_s"),
        ({"policy": {"horizon_s": "long"}}, "validation_failed", "horizon_s"),
        ({"policy": {"p_entre": 0.4}}, "unknown_field", "p_entre"),
        ({"policy": {"alert_m": 400}}, "unknown_field", "alert_m"),
        ({"policy": {"p_enter": 0.1, "p_exit": 0.2}}, "validation_failed", "p_exit is 0.2 and p_enter is 0.1"),
        ({"policy": {"p_exit": 0.4}, "risk_level": "high"}, "validation_failed", "p_exit is 0.4 and p_enter is 0.3"),
        ({"alert_m": 200_000}, "validation_failed", "alert_m"),
        ({"grace_s": 100_000}, "validation_failed", "grace_s"),
        ({"legal_m": 150_000}, "validation_failed", "alert_m is 150000; it has to be between 10 and 100000"),
        ({"legal_m": 500, "alert_m": 400}, "validation_failed", "alert_m is 400 and legal_m is 500"),
        ({"alert_m": 500, "warning_m": 400}, "validation_failed", "warning_m is 400 and alert_m is 500"),
    ],
)
async def test_an_order_whose_values_cannot_be_is_refused_by_name(
    office: Any, wrong: dict[str, Any], code: str, words: str
) -> None:
    body = {"victim_id": await office.person(), "aggressor_id": await office.person(), **wrong}
    answer = await office.post("/v1/orders", body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert words in answer.json()["detail"]
    order = await entered(office)
    changed = await office.patch(f"/v1/orders/{order['id']}", wrong)
    assert (changed.status_code, changed.json()["code"]) == (422, code), changed.text
    assert used_by(await judged_by(office, order)) == used_by(CaseOrder(1, uuid.uuid4(), 1, 2, 1000.0, 2000.0))


async def test_a_rise_of_risk_is_held_against_the_override(office: Any) -> None:
    order = await entered(office, policy={"p_exit": 0.4})
    answer = await office.patch(f"/v1/orders/{order['id']}", {"risk_level": "high"})
    assert answer.status_code == 422
    assert "p_exit is 0.4 and p_enter is 0.3" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"p_exit": 0.4}, "p_exit is 0.4 and p_enter_high_risk is 0.3"),
        ({"p_enter": 0.05}, "p_exit is 0.05 and p_enter is 0.05"),
        ({"alert_m": 3000, "warning_m": 2000}, "warning_m is 2000 and alert_m is 3000"),
        ({"preset": "rural", "warning_m": 1500}, "warning_m is 1500 and alert_m is 2000"),
        *(({name: most * 2 + 1}, name) for name, (_, most) in BOUNDS.items()),
        *(({name: least - 1}, name) for name, (least, _) in BOUNDS.items()),
    ],
)
async def test_a_policy_that_cannot_be_is_refused_by_name_and_changes_nothing(
    office: Any, values: dict[str, Any], words: str
) -> None:
    answer = await put(office, **values)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert words in answer.json()["detail"]
    assert (await office.get("/v1/policies")).json()["set"] == {}


async def test_a_policy_that_contradicts_an_orders_override_is_refused_and_names_the_order(office: Any) -> None:
    order = await entered(office, policy={"p_exit": 0.2})
    answer = await put(office, p_enter=0.15)
    assert answer.status_code == 422
    assert order["id"] in answer.json()["detail"]
    await office.patch(f"/v1/orders/{order['id']}", {"status": "revoked"})
    assert (await put(office, p_enter=0.15)).status_code == 200


async def test_a_policy_is_shown_with_what_was_set_its_defaults_and_bounds(office: Any, tmp_path: Any) -> None:
    await put(office, preset="dense_city", hold_s=120)
    shown = (await office.get("/v1/policies")).json()
    assert (shown["alert_m"], shown["hold_s"], shown["p_exit"], shown["warning_m"]) == (500.0, 120.0, 0.05, None)
    assert shown["set"] == {"alert_m": 500.0, "hold_s": 120.0}
    assert shown["defaults"] == msgspec.structs.asdict(Policy())
    assert shown["bounds"]["hold_s"] == {"least": 0.0, "most": 3600.0}
    assert shown["bounds"].keys() == BOUNDS.keys()
    assert shown["reached_all_cases"] is True
    (tmp_path / "policy.json").write_text(msgspec.json.encode(shown["set"]).decode())
    assert read_policy_file(tmp_path / "policy.json").hold_s == 120.0, "what is set is a file for a replay"


async def test_a_change_of_policy_is_audited_with_what_was_before_and_no_change_is_not(office: Any) -> None:
    for values in ({"hold_s": 90}, {"hold_s": 90}, {"p_exit": 0.01}):
        await put(office, **values)
    async with office.database.connection() as connection:
        rows = await connection.fetch(
            "SELECT actor_id, detail FROM audit WHERE action = 'policy.set' AND agency_id = $1 ORDER BY id",
            office.agency_id,
        )
    assert [row["detail"] for row in rows] == [
        {"before": {}, "values": {"hold_s": 90.0}},
        {"before": {"hold_s": 90.0}, "values": {"p_exit": 0.01}},
    ]
    assert {row["actor_id"] for row in rows} == {str(office.users["supervisor"]["id"])}


async def test_an_order_entered_while_a_policy_is_being_set_goes_by_the_new_one(office: Any) -> None:
    victim, aggressor = await office.person(), await office.person()

    class Supervisor:
        user_id = office.users["supervisor"]["id"]
        agency_id = office.agency_id
        role = "supervisor"
        address = ""
        session_id = None
        purpose = ""

    async with act(office.database, office.context.clock()) as unit:
        await set_policy(unit, Supervisor(), {"hold_s": 240.0})
        entering = asyncio.create_task(office.order(victim, aggressor))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        while not entering.done() and not await unit.connection.fetchval(waiting):
            pass  # each question gives the other side time
        assert not entering.done()
    assert (await judged_by(office, await entering)).hold_s == 240.0
