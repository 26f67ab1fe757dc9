"""The panic button over HTTP: taken whatever is sent, once, and seen by dispatchers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from core.actions.devices import note_used, rotate_token
from core.actions.unit_of_work import act
from core.clock import utc_now
from core.errors import Misconfigured
from core.ids import new_token, token_digest
from core.postgres import last_known
from core.postgres import panics as panic_store
from infra.opening import open_database

Query = Callable[..., Any]


async def test_a_panic_is_an_incident_a_frame_and_messages_before_it_is_answered(
    api: Any, pair: Any, query: Query, receive: Any
) -> None:
    token = api.token(pair.agency_id, pair.users["dispatcher"])
    async with api.feed(token) as socket, api.client(pair.phone_token) as phone:
        panic_id = str(uuid.uuid4())
        answer = await phone.post(
            "/v1/panic",
            json={"id": panic_id, "lat": 43.24, "lon": 76.95, "accuracy_m": 9, "mode": "silent", "trigger": "widget"},
        )
        assert answer.status_code == 201, answer.text
        body = answer.json()
        assert body["panic_id"] == panic_id
        assert body["state"] == "open"
        frame = await receive(socket, "incident.opened")
    incident = frame["data"]
    assert incident["id"] == body["incident_id"]
    assert (incident["type"], incident["severity"], incident["do_not_call"]) == ("panic", "critical", True)
    assert (incident["victim_id"], incident["aggressor_id"]) == (str(pair.victim_id), str(pair.aggressor_id))
    assert (incident["order_id"], incident["case_id"]) == (str(pair.order_id), str(pair.case_id))
    assert incident["place"]["lat"] == 43.24
    assert incident["detail"]["verified"] is True
    told = {(r["audience"], r["channel"], r["priority"]) for r in await query("SELECT * FROM delivery")}
    assert told == {("dispatcher", "log", 0), ("contact", "email", 0)}, "never to her own phone"


async def test_the_same_panic_twice_is_one_and_what_differs_is_a_line(api: Any, pair: Any, query: Query) -> None:
    panic_id = str(uuid.uuid4())
    async with api.client(pair.phone_token) as phone:
        first = await phone.post("/v1/panic", json={"id": panic_id})
        again = await phone.post("/v1/panic", json={"id": panic_id})
        third = await phone.post("/v1/panic", json={"id": panic_id, "lat": 43.3, "lon": 76.9})
        fourth = await phone.post("/v1/panic", json={"id": panic_id, "lat": 43.3, "lon": 76.9})
    assert [a.status_code for a in (first, again, third, fourth)] == [201, 200, 200, 200]
    assert len({a.json()["incident_id"] for a in (first, again, third, fourth)}) == 1
    assert [r["kind"] for r in await query("SELECT kind FROM timeline ORDER BY ordinal")] == ["panic", "panic_again"]
    [row] = await query("SELECT place FROM incident")
    assert row["place"]["lat"] == 43.3
    assert len(await query("SELECT 1 FROM panic")) == 1


async def test_twenty_of_the_same_panic_at_once_are_one(api: Any, pair: Any, query: Query) -> None:
    panic_id = str(uuid.uuid4())
    async with api.client(pair.phone_token) as phone:
        answers = await asyncio.gather(*(phone.post("/v1/panic", json={"id": panic_id}) for _ in range(20)))
    assert sorted(a.status_code for a in answers) == [200] * 19 + [201]
    assert len(await query("SELECT 1 FROM panic")) == 1
    assert len(await query("SELECT 1 FROM feed")) == 1


async def test_pressing_again_is_a_new_line_on_the_same_incident(api: Any, pair: Any, query: Query) -> None:
    async with api.client(pair.phone_token) as phone:
        answers = [await phone.post("/v1/panic", json={"id": str(uuid.uuid4())}) for _ in range(3)]
    assert [a.status_code for a in answers] == [201] * 3
    assert len({a.json()["incident_id"] for a in answers}) == 1
    [row] = await query("SELECT version, detail FROM incident")
    assert (row["version"], row["detail"]["presses"]) == (1, 3)
    assert len(await query("SELECT 1 FROM timeline WHERE kind = 'panic'")) == 3
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'contact'")) == 1


@pytest.mark.parametrize(
    ("body", "doubt"),
    [
        (b"", "malformed_body"),
        (b"\xff\xfe{not json", "malformed_body"),
        (b"[1, 2]", "malformed_body"),
        (b"[" * 100_000, "malformed_body"),
        (b"{}", "id_missing"),
        (b'{"id": "my first panic"}', "id_not_uuid"),
        (b'{"id": 7, "lat": NaN, "lon": 1e999, "note": "\\u0000 \\ud800", "at": "yesterday"}', "id_not_uuid"),
        (b'{"id": "x", "big": 123456789012345678901234567890, "deep": {"a": {"b": {"c": {"d": 1}}}}}', "id_not_uuid"),
    ],
)
async def test_a_panic_is_never_refused_for_its_content(
    api: Any, pair: Any, query: Query, body: bytes, doubt: str
) -> None:
    async with api.client(pair.phone_token) as phone:
        answer = await phone.post("/v1/panic", content=body)
    assert answer.status_code == 201, answer.text
    assert answer.json()["incident_id"] is not None
    [row] = await query("SELECT * FROM panic")
    assert (row["verified"], row["doubt"], row["device_id"]) == (False, doubt, pair.phone_id)


async def test_a_panic_is_not_refused_for_its_size(api: Any, pair: Any) -> None:
    async with api.client(pair.phone_token) as phone:
        answer = await phone.post("/v1/panic", content=b'{"id": "' + b"x" * 3_000_000 + b'"}')
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("panic_id", ["17", "0d0e0f10-1112-4314-9516-171819202122"])
async def test_an_id_of_a_panic_that_was_over_long_ago_is_a_new_press(
    api: Any, pair: Any, query: Query, panic_id: str
) -> None:
    """Some buttons count from 1 again, or send one id for ever."""
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as phone:
        first = (await phone.post("/v1/panic", json={"id": panic_id})).json()
        await query("UPDATE panic SET received_at = received_at - interval '2 hours'")
        assert (await phone.post("/v1/panic", json={"id": panic_id})).status_code == 200, "it is open still"
        await query("UPDATE incident SET state = 'resolved', outcome = 'victim_safe', resolved_at = now()")
        second = await phone.post("/v1/panic", json={"id": panic_id})
        again = await phone.post("/v1/panic", json={"id": panic_id})
        status = (await phone.get(f"/v1/panic/{panic_id}")).json()
    assert (second.status_code, second.json()["state"], again.status_code) == (201, "open", 200)
    assert second.json()["incident_id"] != first["incident_id"]
    assert second.json()["panic_id"] == again.json()["panic_id"] == status["panic_id"]
    [row] = await query("SELECT id FROM incident WHERE state = 'open'")
    audiences = await query("SELECT DISTINCT audience FROM delivery WHERE incident_id = $1", row["id"])
    assert {one["audience"] for one in audiences} == {"contact", "dispatcher"}


async def test_an_id_that_is_no_uuid_still_makes_a_repeat_one_panic(api: Any, pair: Any, query: Query) -> None:
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as phone:
        first = await phone.post("/v1/panic", json={"id": "17"})
        again = await phone.post("/v1/panic", json={"id": "17"})
        status = await phone.get("/v1/panic/17")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["panic_id"] == again.json()["panic_id"] == status.json()["panic_id"]
    assert len(await query("SELECT 1 FROM panic")) == 1


@pytest.mark.parametrize("token", [None, "unknown"])
async def test_a_stranger_s_panic_is_taken_as_unverified_by_the_first_agency(
    api: Any, pair: Any, query: Query, token: str | None
) -> None:
    async with api.client(new_token("qd") if token else None) as phone:
        answer = await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
    assert answer.status_code == 201, answer.text
    [row] = await query("SELECT p.*, i.detail FROM panic p JOIN incident i ON i.id = p.incident_id")
    assert (row["agency_id"], row["verified"], row["doubt"]) == (
        pair.agency_id, False, "unknown_token" if token else "no_token",
    )  # fmt: skip
    assert row["detail"]["unverified_device"] is True
    assert await query("SELECT 1 FROM delivery WHERE audience = 'contact'") == []


async def test_a_stranger_s_panic_goes_to_the_agency_that_the_operator_named(
    api: Any, pair: Any, another_pair: Any, query: Query, database: Any, settings: Any
) -> None:
    other = await another_pair()
    await open_database(settings.model_copy(update={"default_agency": other.agency_id}))
    async with api.client(None) as phone:
        assert (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
    assert [row["agency_id"] for row in await query("SELECT agency_id FROM panic")] == [other.agency_id]
    async with database.connection() as connection:
        assert (await last_known.agency_ids(connection))[0] == other.agency_id, "in an outage too"
        assert await panic_store.default_agency(connection) == other.agency_id
    with pytest.raises(Misconfigured, match="QORGAN_DEFAULT_AGENCY"):
        await open_database(settings.model_copy(update={"default_agency": uuid.uuid4()}))
    await open_database(settings)
    async with database.connection() as connection:
        assert await panic_store.default_agency(connection) == pair.agency_id, "the first again"


async def test_a_revoked_token_s_panic_goes_to_its_own_agency_unverified(
    api: Any, pair: Any, another_pair: Any, query: Query, database: Any
) -> None:
    other = await another_pair()
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE bearer_token SET revoked_at = now(), changed_xid = pg_current_xact_id() WHERE device_id = $1",
            other.phone_id,
        )
    await api.context.registry.refresh()
    async with api.client(other.phone_token) as phone:
        answer = await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
    assert answer.status_code == 201, answer.text
    [row] = await query("SELECT * FROM panic")
    assert (row["agency_id"], row["person_id"], row["verified"], row["doubt"]) == (
        other.agency_id, other.victim_id, False, "revoked_token",
    )  # fmt: skip


@pytest.mark.parametrize("used", [False, True])
async def test_a_phone_that_never_got_its_new_token_presses_verified_with_the_one_it_has(
    api: Any, pair: Any, query: Query, *, used: bool
) -> None:
    device_database, yesterday = api.context.device_database, utc_now() - timedelta(days=1)
    async with act(device_database, yesterday) as unit:
        newer, _ = await rotate_token(unit, pair.phone_id, pair.agency_id, None)
    if used:
        async with act(device_database, yesterday) as unit:
            await note_used(unit, [token_digest(newer)])
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as phone:
        assert (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
    [row] = await query("SELECT verified, doubt FROM panic")
    told = await query("SELECT 1 FROM delivery WHERE audience = 'contact'")
    assert (row["verified"], row["doubt"], bool(told)) == (
        (False, "revoked_token", False) if used else (True, None, True)
    )


async def test_a_token_the_registry_has_not_heard_of_yet_is_verified_by_the_database(
    api: Any, another_pair: Any, query: Query
) -> None:
    fresh = await another_pair()
    async with api.client(fresh.phone_token) as phone:
        assert (await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).status_code == 201
    [row] = await query("SELECT * FROM panic")
    assert (row["person_id"], row["verified"]) == (fresh.victim_id, True)


async def test_an_aggressor_s_device_has_no_panic(api: Any, pair: Any, query: Query) -> None:
    await api.context.registry.refresh()
    async with api.client(pair.bracelet_token) as bracelet:
        answer = await bracelet.post("/v1/panic", json={"id": str(uuid.uuid4())})
        assert answer.status_code == 403
        assert answer.json()["code"] == "device_forbidden"
    assert await query("SELECT 1 FROM incident") == []


async def test_one_id_from_two_devices_is_two_panics(api: Any, pair: Any, another_pair: Any, query: Query) -> None:
    other = await another_pair()
    await api.context.registry.refresh()
    panic_id = str(uuid.uuid4())
    for one in (pair, other):
        async with api.client(one.phone_token) as phone:
            answer = await phone.post("/v1/panic", json={"id": panic_id})
            assert answer.status_code == 201
            again = await phone.post("/v1/panic", json={"id": panic_id})
            assert again.status_code == 200
            assert again.json()["incident_id"] == answer.json()["incident_id"]
    assert len(await query("SELECT DISTINCT agency_id FROM panic")) == 2


async def test_the_answer_to_a_cancel_tells_nothing(api: Any, pair: Any, query: Query) -> None:
    await api.context.registry.refresh()
    panic_id = str(uuid.uuid4())
    async with api.client(pair.phone_token) as phone:
        await phone.post("/v1/panic", json={"id": panic_id})
        answers = [
            await phone.post(f"/v1/panic/{panic_id}/cancel", json={"pin": "1111"}),
            await phone.post(f"/v1/panic/{panic_id}/cancel", json={"pin": "9999"}),
            await phone.post(f"/v1/panic/{panic_id}/cancel", content=b"nonsense"),
            await phone.post(f"/v1/panic/{uuid.uuid4()}/cancel", json={"pin": "1111"}),
        ]
    assert {(a.status_code, a.content) for a in answers} == {(200, answers[0].content)}
    [row] = await query("SELECT state FROM incident")
    assert row["state"] == "open", "a cancel ends nothing"
    assert [r["kind"] for r in await query("SELECT kind FROM timeline ORDER BY ordinal")] == ["panic", "cancel_asked"]
    stored = await query("SELECT detail::text || panic::text AS t FROM panic JOIN incident ON true")
    assert "1111" not in stored[0]["t"]


async def test_only_the_device_that_pressed_may_ask_what_became_of_it(
    api: Any, pair: Any, another_pair: Any, database: Any
) -> None:
    other = await another_pair()
    await api.context.registry.refresh()
    panic_id = str(uuid.uuid4())
    async with api.client(pair.phone_token) as phone, api.client(other.phone_token) as stranger:
        incident_id = (await phone.post("/v1/panic", json={"id": panic_id})).json()["incident_id"]
        assert (await stranger.get(f"/v1/panic/{panic_id}")).status_code == 404
        before = (await phone.get(f"/v1/panic/{panic_id}")).json()
        assert before["acknowledged_at"] is None
        assert before["told_at"] is None
        assert {entry["audience"] for entry in before["told"]} == {"dispatcher", "contact"}
        assert "sister@example.org" not in str(before)
        async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk:
            assert (await desk.post(f"/v1/incidents/{incident_id}/acknowledge", json={"version": 1})).status_code == 200
        async with database.transaction() as connection:
            await connection.execute("UPDATE delivery SET state = 'sent', sent_at = now()")
        after = (await phone.get(f"/v1/panic/{panic_id}")).json()
    assert after["state"] == "acknowledged"
    assert after["acknowledged_at"] is not None
    assert after["told_at"] is not None


async def test_a_press_whose_connection_breaks_in_the_middle_is_taken(api: Any, pair: Any, query: Query) -> None:
    address = httpx.URL(api.url)
    _, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        f"POST /v1/panic HTTP/1.1\r\nHost: qorgan\r\nAuthorization: Bearer {pair.phone_token}\r\n"
        'Content-Length: 500\r\n\r\n{"id": "0197'.encode()
    )
    await writer.drain()
    writer.close()
    async with asyncio.timeout(10):
        while not (rows := await query("SELECT * FROM panic WHERE device_id = $1", pair.phone_id)):
            await asyncio.sleep(0.02)
    assert len(rows) == 1
