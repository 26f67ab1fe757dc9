"""Devices, gateways, what a victim's device is told, and readiness."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.deps import ApiContext
from core.ids import token_digest
from core.postgres.database import Database
from core.redis.client import connect


async def until_known(office: Any, token: str, *, gone: bool = False) -> Any:
    """The registry's identity for a token, as soon as it has heard of it (or of its end)."""
    registry = office.context.registry
    async with asyncio.timeout(10):
        while (registry.device_by_token(token) is None) is not gone:
            await asyncio.sleep(0.01)
    return registry.device_by_token(token)


async def test_a_device_is_enrolled_once_and_only_digests_are_kept(office: Any) -> None:
    registered = (await office.post("/v1/devices", {"kind": "bracelet", "external_id": "352"})).json()
    assert registered["status"] == "registered"
    code = registered["enrolment_code"]
    first = await office.client.post("/v1/devices/enrol", json={"code": f" {code.lower()} ", "model": "ignored"})
    assert first.status_code == 200
    body = first.json()
    assert body["device_id"] == registered["id"]
    assert body["api_url"] == "http://qorgan.test"
    assert body["stream_url"].endswith("/v1/pings/stream")
    second = await office.client.post("/v1/devices/enrol", json={"code": code})
    assert (second.status_code, second.json()["code"]) == (422, "enrolment_code_invalid")
    assert code not in second.text
    async with office.database.connection() as connection:
        digests = [row["digest"] for row in await connection.fetch("SELECT digest FROM bearer_token")]
        rows = [await connection.fetch(f"SELECT * FROM {table}") for table in ("enrolment", "audit")]
    text = str(rows)
    assert digests == [token_digest(body["token"])]
    assert code not in text
    assert body["token"] not in text
    assert (await office.get(f"/v1/devices/{registered['id']}")).json()["status"] == "active"


async def test_a_device_registered_for_somebody_has_the_part_of_its_wearer_at_once(office: Any) -> None:
    victim, aggressor = await office.person(), await office.person()
    await office.order(victim, aggressor)
    for person_id, role in ((victim, "victim"), (aggressor, "aggressor")):
        body = {"id": str(uuid.uuid4()), "kind": "bracelet", "person_id": person_id}
        made = await office.post("/v1/devices", body)
        assert (made.status_code, made.json()["role"], made.json()["status"]) == (201, role, "registered")
        again = await office.post("/v1/devices", body)
        assert (again.status_code, again.json()["role"]) == (200, role)


async def test_a_code_that_is_old_replaced_or_invented_does_not_hold(office: Any, hands: Any) -> None:
    device = (await office.post("/v1/devices", {"kind": "phone"})).json()
    renewed = (await office.post(f"/v1/devices/{device['id']}/enrolment-code", None)).json()
    for code in (device["enrolment_code"], "AAAA-AAAA-AAAA", "x"):
        answer = await office.client.post("/v1/devices/enrol", json={"code": code})
        assert answer.json()["code"] == "enrolment_code_invalid"
    hands.forward(seconds=86_401)
    late = await office.client.post("/v1/devices/enrol", json={"code": renewed["enrolment_code"]})
    assert late.json()["code"] == "enrolment_code_invalid"


async def test_guessing_codes_is_limited(office: Any) -> None:
    answers = [await office.client.post("/v1/devices/enrol", json={"code": "AAAA"}) for _ in range(11)]
    assert answers[-1].status_code == 429


async def test_a_repeat_of_a_registration_does_not_tell_the_code_again(office: Any) -> None:
    body = {"id": str(uuid.uuid4()), "kind": "phone"}
    assert (await office.post("/v1/devices", body)).json()["enrolment_code"]
    again = await office.post("/v1/devices", body)
    assert (again.status_code, again.json()["enrolment_code"]) == (200, None)


async def test_an_external_id_is_one_device_s(office: Any) -> None:
    await office.post("/v1/devices", {"kind": "bracelet", "external_id": "352"})
    twice = await office.post("/v1/devices", {"kind": "bracelet", "external_id": "352"})
    assert (twice.status_code, twice.json()["code"]) == (409, "already_exists")


async def test_a_revoked_device_s_token_ends_and_enrolling_anew_gives_another(office: Any) -> None:
    device = await office.enrolled("phone", await office.person())
    assert str((await until_known(office, device["token"])).id) == device["id"]
    assert (await office.post(f"/v1/devices/{device['id']}/revoke", None)).json()["status"] == "revoked"
    await until_known(office, device["token"], gone=True)
    answer = await office.client.get("/v1/me/protection", headers={"Authorization": f"Bearer {device['token']}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "token_revoked")
    renewed = (await office.post(f"/v1/devices/{device['id']}/enrolment-code", None)).json()
    again = await office.client.post("/v1/devices/enrol", json={"code": renewed["enrolment_code"]})
    assert again.json()["token"] != device["token"]
    await until_known(office, again.json()["token"])


async def test_a_device_goes_from_person_to_person_and_back_to_the_shelf(office: Any) -> None:
    first, second = await office.person(), await office.person()
    device = await office.enrolled("bracelet", first)
    moved = await office.post(f"/v1/devices/{device['id']}/fit", {"person_id": second})
    assert (moved.json()["person_id"], moved.json()["status"]) == (second, "active")
    async with office.database.connection() as connection:
        configs = {
            str(row["own_person_id"]): row["config"]["people"][0]["devices"]
            for row in await connection.fetch("SELECT own_person_id, config FROM protection_case")
        }
    assert configs[first] == []
    assert [one["id"] for one in configs[second]] == [device["id"]]
    back = await office.post(f"/v1/devices/{device['id']}/return", None)
    assert (back.json()["status"], back.json()["returned_at"] is None) == ("returned", False)
    no_code = await office.post(f"/v1/devices/{device['id']}/enrolment-code", None)
    assert no_code.json()["code"] == "state_forbids"
    async with office.database.connection() as connection:
        config = await connection.fetchval(
            "SELECT config FROM protection_case WHERE own_person_id = $1", uuid.UUID(second)
        )
    assert config["people"][0]["devices"] == []
    nobody = await office.post(f"/v1/devices/{device['id']}/fit", {"person_id": str(uuid.uuid4())})
    assert nobody.status_code == 404


async def test_a_gateway_s_token_is_told_once_and_ends_when_revoked(office: Any) -> None:
    made = await office.post("/v1/gateways", {"name": "telecom"}, "admin")
    token = made.json()["token"]
    assert made.status_code == 201
    twice = await office.post("/v1/gateways", {"name": "telecom"}, "admin")
    assert (twice.status_code, twice.json()["code"]) == (409, "already_exists")
    listed = await office.get("/v1/gateways", "admin")
    assert listed.json()["items"][0]["name"] == "telecom"
    assert token not in listed.text
    assert (await office.call("admin", "DELETE", "/v1/gateways/telecom")).status_code == 204
    assert (await office.call("admin", "DELETE", "/v1/gateways/telecom")).status_code == 404
    assert (await office.post("/v1/gateways", {"name": "telecom"}, "admin")).status_code == 201


async def seen(office: Any, *devices: dict[str, Any], battery_pct: float = 80.0) -> None:
    async with office.database.connection() as connection:
        for device in devices:
            await connection.execute(
                "UPDATE device SET last_seen_at = $2, battery_pct = $3 WHERE id = $1",
                uuid.UUID(device["id"]),
                office.context.clock(),
                battery_pct,
            )


async def test_a_victim_s_device_is_told_whether_she_is_protected_and_no_position(office: Any, hands: Any) -> None:
    victim, aggressor = await office.person(), await office.person()
    phone = await office.enrolled("phone", victim)
    await until_known(office, phone["token"])
    headers = {"Authorization": f"Bearer {phone['token']}"}

    async def ask() -> dict[str, Any]:
        answer = await office.client.get("/v1/me/protection", headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    assert (await ask())["reasons"] == ["no_order_in_force", "your_device_silent"]
    bracelet = await office.enrolled("bracelet", aggressor)
    await office.order(victim, aggressor)
    await seen(office, phone)
    told = await ask()
    assert (told["status"], told["reasons"]) == ("degraded", ["his_device_not_heard"])
    await seen(office, phone, bracelet)
    told = await ask()
    assert (told["status"], told["reasons"]) == ("protected", [])
    assert [device["id"] for device in told["devices"]] == [phone["id"]]
    assert not {"lat", "lon", "position"} & set(str(told).replace("'", " ").split())
    await seen(office, phone, battery_pct=10.0)
    assert (await ask())["reasons"] == ["battery_low"]
    hands.forward(minutes=10)
    assert (await ask())["status"] == "unprotected"


async def test_an_aggressor_s_device_has_no_such_page(office: Any) -> None:
    aggressor = await office.person()
    bracelet = await office.enrolled("bracelet", aggressor)
    await office.order(await office.person(), aggressor)
    async with asyncio.timeout(10):
        while (await until_known(office, bracelet["token"])).role != "aggressor":
            await asyncio.sleep(0.01)
    answer = await office.client.get("/v1/me/protection", headers={"Authorization": f"Bearer {bracelet['token']}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "device_forbidden")


@pytest.mark.parametrize("header", [None, "Bearer qd_unknown", "Basic x"])
async def test_a_device_nobody_knows_is_told_so(office: Any, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    answer = await office.client.get("/v1/me/protection", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (
        401,
        "device_unknown" if header and "qd" in header else "credentials_missing",
    )


async def test_readiness_says_which_part_is_not(office: Any, redis_client: Any, hands: Any) -> None:
    answer = await office.client.get("/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert "geo:0" in parts["postgres"]["shards_unowned"]
    async with office.database.connection() as connection:
        await connection.execute("UPDATE lease SET expires_at = $1::timestamptz + interval '1 hour'", hands())
    answer = await office.client.get("/readyz")
    assert (answer.status_code, answer.json()["ready"]) == (200, True)
    await redis_client.set("{s1}:cursor", f"{int(hands().timestamp() * 1000) - 60_000}-0")
    answer = await office.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["redis"]["shards_late"] == ["1"]


async def test_metrics_of_several_processes_are_told_together(
    office: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    alone = await office.client.get("/metrics")
    assert alone.headers["content-type"].startswith("text/plain")
    assert "qorgan_http_seconds" in alone.text
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    together = await office.client.get("/metrics")
    assert together.status_code == 200
    assert "python_gc" not in together.text


async def test_metrics_are_for_those_within(office: Any, context: ApiContext) -> None:
    assert (await office.client.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"})).status_code == 404
    for address, status in (("8.8.8.8", 404), ("2a00:1450::1", 404), ("10.0.0.7", 200), ("::1", 200)):
        transport = httpx.ASGITransport(create_app(context), client=(address, 1234))
        async with httpx.AsyncClient(transport=transport, base_url="http://qorgan.test") as stranger:
            assert (await stranger.get("/metrics")).status_code == status


async def test_readiness_does_not_wait_for_stores_that_are_away(office: Any, settings: Any, tmp_path: Any) -> None:
    context = ApiContext(
        settings, Database(f"postgresql:///none?host={tmp_path}"), connect(f"unix://{tmp_path}/none.sock")
    )
    transport = httpx.ASGITransport(create_app(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://qorgan.test") as client:
        answer = await client.get("/readyz")
        assert (await client.get("/healthz")).status_code == 200
    assert answer.status_code == 503
    away = {"ok": False, "reason": "does not answer"}
    assert answer.json()["parts"] == {"postgres": away, "redis": away}
    await context.redis.aclose()
