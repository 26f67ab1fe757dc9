"""An order's life over the API and the clock: service, terms, extension, versions, tasks, gaps, a poison order."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from core.actions.order_clock import OrderClock
from core.clock import rfc3339
from core.domain.ping import SHIFT_MOCK, YES


async def pair(office: Any, **more: Any) -> dict[str, Any]:
    order: dict[str, Any] = await office.order(await office.person(), await office.person(), **more)
    return order


async def tasks_of(office: Any, done: bool = False) -> list[tuple[str, str | None]]:
    found = (await office.get(f"/v1/tasks?done={str(done).lower()}", "caseworker")).json()["tasks"]
    return [(task["kind"], task["outcome"] or task["detail"].get("step")) for task in found]


async def kinds(office: Any) -> list[str]:
    async with office.database.connection() as connection:
        return [row["kind"] for row in await connection.fetch("SELECT kind FROM feed ORDER BY id")]


async def test_a_protective_order_of_the_police_lasts_thirty_days_from_service(office: Any, hands: Any) -> None:
    order = await pair(office, legal_ground="kz.protective_order", status="issued", issued_at=rfc3339(hands()))
    assert (order["status"], order["valid_until"]) == ("issued", None)
    assert (order["term"]["length"], order["issuer"]) == (30, "internal affairs body")
    assert "no_contact" in order["restraints"]
    hands.forward(hours=5)
    served = await office.post(f"/v1/orders/{order['id']}/serve", {"version": 1})
    assert served.status_code == 200, served.text
    body = served.json()
    assert (body["status"], body["version"]) == ("in_force", 2)
    assert body["valid_until"] == (hands() + timedelta(days=30)).isoformat().replace("+00:00", "Z")
    assert (body["gap"]["from_issue_s"], body["gap"]["from_service_s"]) == (5 * 3600, 0)
    again = await office.post(f"/v1/orders/{order['id']}/serve", {"served_at": body["served_at"]})
    assert (again.status_code, again.json()["version"]) == (200, 2)
    other = await office.post(f"/v1/orders/{order['id']}/serve", {"served_at": rfc3339(hands() - timedelta(hours=1))})
    assert (other.status_code, other.json()["code"]) == (409, "state_forbids")
    moved = await office.patch(f"/v1/orders/{order['id']}", {"served_at": rfc3339(hands() - timedelta(hours=1))})
    assert moved.json()["valid_until"] == (hands() + timedelta(days=30, hours=-1)).isoformat().replace("+00:00", "Z")
    assert "order.served" in await kinds(office)


async def test_what_an_order_was_is_kept_with_who_changed_it_and_by_which_paper(office: Any, hands: Any) -> None:
    until = hands() + timedelta(days=20)
    order = await pair(office, valid_until=rfc3339(until))
    path = f"/v1/orders/{order['id']}"
    await office.patch(path, {"alert_m": 700})
    body = {"term": {"length": 1, "unit": "month"}, "reference": "2026/17-2", "version": 2}
    extended = await office.post(f"{path}/extend", body, "supervisor")
    assert extended.status_code == 200, extended.text
    assert extended.json()["valid_until"] > order["valid_until"]
    earlier = await office.post(f"{path}/extend", {"valid_until": rfc3339(until)})
    assert (earlier.status_code, earlier.json()["code"]) == (422, "order_dates_invalid")
    stale = await office.post(f"{path}/revoke", {"reason": "court", "version": 2})
    assert (stale.status_code, stale.json()["code"]) == (409, "version_stale")
    revoked = await office.post(f"{path}/revoke", {"reason": "court", "reference": "2-114"})
    assert (revoked.json()["status"], revoked.json()["version"]) == ("revoked", 4)
    for late in ("serve", "extend"):
        answer = await office.post(f"{path}/{late}", {"valid_until": rfc3339(until)} if late == "extend" else {})
        assert (answer.status_code, answer.json()["code"]) == (409, "state_forbids")
    versions = (await office.get(f"{path}/versions")).json()["versions"]
    assert [(one["version"], one["action"]) for one in versions] == [
        (1, "entered"), (2, "changed"), (3, "extended"), (4, "revoked"),
    ]  # fmt: skip
    assert [one["actor_id"] for one in versions] == [
        str(office.users[role]["id"]) for role in ("caseworker", "caseworker", "supervisor", "caseworker")
    ]
    assert [one["body"]["alert_m"] for one in versions] == [1000, 700, 700, 700]
    assert versions[2]["detail"]["reference"] == "2026/17-2"
    assert versions[3]["detail"] == {"reason": "court", "reference": "2-114"}


async def test_an_order_in_force_is_not_withheld_again(office: Any) -> None:
    order = await pair(office)
    answer = await office.patch(f"/v1/orders/{order['id']}", {"status": "issued"})
    assert (answer.status_code, answer.json()["code"]) == (409, "state_forbids")


async def test_the_end_of_an_order_is_told_three_times_and_then_aloud_over_restarts(office: Any, hands: Any) -> None:
    order = await pair(office, valid_until=rfc3339(hands() + timedelta(days=10)))
    await set_protected(office, order)

    async def at(**left: float) -> list[tuple[str, str | None]]:
        now = hands.now
        hands.now = now + timedelta(days=10) - timedelta(**left)
        await OrderClock(office.context.device_database, hands).step()  # a new one each time: its deadlines are rows
        found = await tasks_of(office)
        hands.now = now
        return found

    assert await at(days=7, minutes=1) == []
    assert await at(days=6, hours=23) == [("order_expiring", "7d")]
    assert await at(hours=72) == [("order_expiring", "72h")]
    assert await at(hours=23) == [("order_expiring", "24h")]
    assert await at(hours=22) == [("order_expiring", "24h")]
    assert await at(hours=0) == [("order_expired", None)]
    assert sorted(await tasks_of(office, done=True)) == [
        ("order_expiring", "order_over"), ("order_expiring", "superseded"), ("order_expiring", "superseded"),
    ]  # fmt: skip
    said = await kinds(office)
    assert (said.count("task.opened"), said.count("order.expired")) == (4, 1)
    async with office.database.connection() as connection:
        version = await connection.fetchrow("SELECT * FROM order_version ORDER BY version DESC LIMIT 1")
    assert (version["action"], version["actor_id"], version["body"]["status"]) == ("expired", None, "expired")


async def test_an_extension_plans_anew_and_a_late_entry_tells_the_most_urgent_at_once(office: Any, hands: Any) -> None:
    order = await pair(office, valid_until=rfc3339(hands() + timedelta(hours=30)))
    await set_protected(office, order)
    assert await tasks_of(office) == [("order_expiring", "72h")]
    until = rfc3339(hands() + timedelta(days=30))
    await office.post(f"/v1/orders/{order['id']}/extend", {"valid_until": until})
    assert await tasks_of(office) == []
    assert await tasks_of(office, done=True) == [("order_expiring", "order_changed")]
    hands.forward(days=23, hours=1)
    await OrderClock(office.context.device_database, hands).step()
    assert await tasks_of(office) == [("order_expiring", "7d")]


async def test_a_task_is_done_once_by_one_with_what_was_done(office: Any, elsewhere: Any, hands: Any) -> None:
    await pair(office, valid_until=rfc3339(hands() + timedelta(hours=30)))
    [task] = (await office.get("/v1/tasks?kind=order_expiring", "caseworker")).json()["tasks"]
    path = f"/v1/tasks/{task['id']}/done"
    stranger = await elsewhere.post(path, {"outcome": "other"})
    assert stranger.status_code == 404
    assert (await office.post(path, {"outcome": "superseded"})).status_code == 422
    done = await office.post(path, {"outcome": "extended"})
    assert (done.json()["done_by"], done.json()["outcome"]) == (str(office.users["caseworker"]["id"]), "extended")
    assert (await office.post(path, {"outcome": "extended"})).status_code == 200
    assert (await office.post(path, {"outcome": "other"}, "supervisor")).json()["code"] == "state_forbids"
    assert (await office.get("/v1/tasks", "officer")).status_code == 403
    assert (await elsewhere.get("/v1/tasks?done=true", "caseworker")).json()["tasks"] == []


async def test_one_poison_order_delays_no_other(office: Any, hands: Any, monkeypatch: Any) -> None:
    until = rfc3339(hands() + timedelta(hours=1))
    bad = await pair(office, valid_until=until)
    good = [await pair(office, valid_until=until) for _ in range(3)]
    from core.postgres import cases

    compile_people = cases.compile_people

    async def stumble(connection: Any, people: Any, now: Any) -> None:
        if uuid.UUID(bad["victim_id"]) in set(people):
            raise ValueError("a case nobody expected")
        await compile_people(connection, people, now)

    monkeypatch.setattr(cases, "compile_people", stumble)
    hands.forward(hours=1)
    clock = OrderClock(office.context.device_database, hands)
    await clock.step()
    states = [(await office.get(f"/v1/orders/{order['id']}")).json()["status"] for order in (*good, bad)]
    assert states == ["expired", "expired", "expired", "in_force"]
    async with office.database.connection() as connection:
        [aside] = await connection.fetch("SELECT source, entry, reason FROM poison")
    assert tuple(aside) == ("order_clock", f"order_expires:{bad['id']}", "ValueError")
    monkeypatch.setattr(cases, "compile_people", compile_people)
    await clock.step()
    assert (await office.get(f"/v1/orders/{bad['id']}")).json()["status"] == "in_force", "it is left alone for a while"
    hands.forward(minutes=6)
    await clock.step()
    assert (await office.get(f"/v1/orders/{bad['id']}")).json()["status"] == "expired"


async def set_protected(office: Any, order: dict[str, Any]) -> None:
    async with office.database.transaction() as connection:
        await connection.execute(
            "UPDATE protection_order SET protected_at = valid_from WHERE id = $1", uuid.UUID(order["id"])
        )
        await connection.execute("DELETE FROM task WHERE kind = 'unprotected_gap'")


async def heard(office: Any, device: dict[str, Any], at: Any, *, mock: bool = False, lat: float = 43.2) -> None:
    """A ping as the historian leaves it."""
    async with office.database.transaction() as connection:
        number = await connection.fetchval(
            "UPDATE device SET last_seen_at = greatest(last_seen_at, $2) WHERE id = $1 RETURNING number",
            uuid.UUID(device["id"]), at,
        )  # fmt: skip
        day = f"{at:%Y%m%d}"
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS ping_other_{day} PARTITION OF ping_other"
            f" FOR VALUES FROM ('{at:%Y-%m-%d} 00:00:00+00') TO ('{at + timedelta(days=1):%Y-%m-%d} 00:00:00+00')"
        )
        flags = YES << SHIFT_MOCK if mock else 0
        await connection.execute(
            "INSERT INTO ping VALUES (0, $1, $2, -1, $1, $1, $3, $4, 76.9, 5, 'NaN', 'NaN', 'NaN', 'NaN')".replace(
                "$1, $2, -1, $1, $1, $3, $4", "$2, $1, -1, $2, $2, $3, $4"
            ),
            number, at, flags, lat,
        )  # fmt: skip


async def test_a_gap_lasts_until_the_first_true_fix_of_both_and_is_a_task_when_it_lasts_too_long(
    office: Any, hands: Any
) -> None:
    hands.now = hands.now.replace(hour=1)
    victim, aggressor = await office.person(), await office.person()
    phone, bracelet = await office.enrolled("phone", victim), await office.enrolled("bracelet", aggressor)
    issued = hands()
    order = await office.order(victim, aggressor, issued_at=rfc3339(issued), reference="A-1")
    clock = OrderClock(office.context.device_database, hands)
    await heard(office, phone, issued + timedelta(hours=1))
    await heard(office, bracelet, issued + timedelta(hours=2), mock=True)
    await heard(office, bracelet, issued + timedelta(hours=3), lat=float("nan"))
    hands.forward(hours=25)
    await clock.step()
    assert await tasks_of(office) == [("unprotected_gap", None)]
    gap = (await office.get(f"/v1/orders/{order['id']}")).json()["gap"]
    assert (gap["protected_at"], gap["from_issue_s"], gap["from_service_s"]) == (None, 25 * 3600, None)
    assert gap["victim_fix_at"] is not None
    assert gap["aggressor_fix_at"] is None, "a forged fix and a heartbeat are no fixes"
    report = (await office.get("/v1/reports/gaps")).json()
    assert (report["all"]["orders"], report["all"]["unprotected"], report["all"]["over_limit"]) == (1, 1, 1)
    assert (report["orders"][0]["reference"], report["orders"][0]["over_limit"]) == ("A-1", True)
    await heard(office, bracelet, issued + timedelta(hours=26))
    hands.forward(hours=2)
    await clock.step()
    assert await tasks_of(office) == []
    assert await tasks_of(office, done=True) == [("unprotected_gap", "protected")]
    line = (await office.get("/v1/reports/gaps")).json()
    assert (line["all"]["protected"], line["all"]["median_s"]) == (1, 26 * 3600)
    assert line["orders"][0]["from_issue_s"] == 26 * 3600
    assert "order.protected" in await kinds(office)
    assert (await office.get(f"/v1/orders/{order['id']}")).json()["version"] == 1


async def test_a_gap_that_ended_unseen_is_no_task(office: Any, hands: Any) -> None:
    hands.now = hands.now.replace(hour=1)
    victim, aggressor = await office.person(), await office.person()
    phone, bracelet = await office.enrolled("phone", victim), await office.enrolled("bracelet", aggressor)
    promised = hands() - timedelta(days=1)
    for device in (phone, bracelet):
        await heard(office, device, promised + timedelta(hours=2))
    order = await office.order(victim, aggressor, issued_at=rfc3339(promised))
    await OrderClock(office.context.device_database, hands).step()
    assert await tasks_of(office) == []
    assert (await office.get(f"/v1/orders/{order['id']}")).json()["gap"]["from_issue_s"] == 2 * 3600


async def test_the_catalogue_of_grounds_is_shown_by_country(office: Any) -> None:
    shown = (await office.get("/v1/legal-grounds?country=KZ", "officer")).json()
    assert {ground["code"] for ground in shown["grounds"]} >= {"kz.protective_order", "kz.special_requirements"}
    assert (await office.get("/v1/legal-grounds?country=DE")).json()["grounds"] == []
    refused = await office.post(
        "/v1/orders",
        {
            "victim_id": await office.person(), "aggressor_id": await office.person(),
            "legal_ground": "kz.special_requirements", "term": {"length": 2, "unit": "month"},
        },
    )  # fmt: skip
    assert refused.json()["code"] == "order_dates_invalid"
