"""`POST /v1/pings` on a real Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from api.app import create_app
from api.deps import ApiContext
from core.clock import utc_now
from core.domain.ping import FLAG_BACKLOG, FLAG_PRIMARY

Ping = Callable[..., dict[str, Any]]


class Client:
    """Posts pings to the application over `door`."""

    def __init__(self, http: httpx.AsyncClient, door: Any) -> None:
        self.http = http
        self.door = door

    async def post(self, sender: Any, pings: Any = None, *, body: bytes | None = None) -> httpx.Response:
        """Post `pings`, or a body as it is."""
        await self.door.registry.refresh()
        return await self.http.post(
            "/v1/pings",
            content=body if body is not None else msgspec.json.encode({"pings": pings}),
            headers={"Authorization": f"Bearer {sender if isinstance(sender, str) else sender.token}"},
        )


@pytest.fixture
def over(database: Any) -> Callable[[Any], Client]:
    """A client of the application over a way in."""

    def make(door: Any) -> Client:
        context = ApiContext(
            settings=door.settings, database=database, redis=door.redis, registry=door.registry, appender=door.appender
        )
        transport = httpx.ASGITransport(create_app(context))
        return Client(httpx.AsyncClient(transport=transport, base_url="http://test"), door)

    return make


@pytest.fixture
async def client(door: Any, over: Callable[[Any], Client]) -> AsyncIterator[Client]:
    """A client of the application."""
    made = over(door)
    yield made
    await made.http.aclose()


async def test_a_batch_is_answered_once_it_is_in_the_log(client: Client, fleet: Any, make_ping: Ping) -> None:
    device = await fleet.device((1, 2), interval_s=15)
    now = utc_now()
    response = await client.post(device, [make_ping(seq, at=now - timedelta(seconds=seq)) for seq in range(3)])
    assert response.status_code == 202
    assert response.json() == {"accepted": 3, "duplicates": 0, "rejected": [], "interval_s": 15.0, "commands": []}
    primary, copy = await client.door.records(1), await client.door.records(2)
    assert list(primary["flags"] & FLAG_BACKLOG != 0) == [False, True, True]
    assert list(primary["flags"] & FLAG_PRIMARY != 0) == [True] * 3
    assert list(copy["flags"] & FLAG_PRIMARY != 0) == [False] * 3


async def test_a_repeat_is_told_and_not_appended_again(client: Client, fleet: Any, make_ping: Ping) -> None:
    device = await fleet.device()
    pings = [make_ping(1), make_ping(2)]
    await client.post(device, pings)
    response = await client.post(device, [*pings, make_ping(3), make_ping(3, at=utc_now() + timedelta(seconds=1))])
    assert response.json()["duplicates"] == 2
    assert response.json()["accepted"] == 2
    assert len(await client.door.records(1)) == 4


async def test_bad_pings_are_rejected_by_index_and_the_rest_is_taken(
    client: Client, fleet: Any, make_ping: Ping, tomorrow: datetime
) -> None:
    device = await fleet.device()
    pings = [
        make_ping(1),
        make_ping(2, lat=91),
        make_ping(3, lon=None),
        make_ping(4, at=tomorrow),
        make_ping(5, at=utc_now() - timedelta(days=31)),
        {"lat": 1, "lon": 1},
        "a ping",
        make_ping(6, whatever="is ignored"),
    ]
    answer = (await client.post(device, pings)).json()
    assert answer["accepted"] == 2
    assert [(item["index"], item["code"]) for item in answer["rejected"]] == [
        (1, "position_invalid"),
        (2, "position_invalid"),
        (3, "time_in_future"),
        (4, "time_too_old"),
        (5, "time_invalid"),
        (6, "validation_failed"),
    ]
    assert [command["kind"] for command in answer["commands"]] == ["set_clock"]
    assert list((await client.door.records(1))["seq"]) == [1, 6]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed_json"),
        (b"{", 400, "malformed_json"),
        (b'{"pings":[{"at":"2026-05-01T00:00:00Z","lat":NaN', 400, "malformed_json"),
        (b"\xff\xfe", 400, "malformed_json"),
        (b"[" * 100_000, 400, "malformed_json"),
        (b"[]", 400, "malformed_request"),
        (b'{"ping":[]}', 400, "malformed_request"),
        (b'{"pings":{}}', 400, "malformed_request"),
        (b" " * 1_048_577, 413, "body_too_large"),
        (b'{"pings":[' + b"1," * 1000 + b"1]}", 413, "too_many_pings"),
    ],
    ids=["empty", "cut", "nan", "not utf-8", "deep", "list", "no pings", "no list", "large", "many"],
)
async def test_a_bad_body_is_refused_as_a_whole(
    client: Client, fleet: Any, body: bytes, status: int, code: str
) -> None:
    response = await client.post(await fleet.device(), body=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"


async def test_tokens_that_do_not_hold_are_refused(client: Client, fleet: Any, make_ping: Ping) -> None:
    expired = await fleet.device(expires_at=utc_now() - timedelta(seconds=1))
    revoked = await fleet.device()
    await fleet.revoke_token(revoked.token)
    for token, code in (
        (expired.token, "token_expired"),
        (revoked.token, "token_revoked"),
        ("qd_forged", "credentials_invalid"),
        ("", "credentials_missing"),
    ):
        response = await client.post(token, [make_ping(1)])
        assert (response.status_code, response.json()["code"]) == (401, code)
        assert response.headers["www-authenticate"] == "Bearer"
        assert not token or token not in response.text


async def test_a_gateway_posts_for_devices_of_its_agency(client: Client, fleet: Any, make_ping: Ping) -> None:
    device = await fleet.device((3,))
    stranger = await fleet.device(agency_id=await fleet.agency())
    answer = await client.post(
        await fleet.gateway(),
        [make_ping(1, device_id=str(device.id)), make_ping(2, device_id=str(stranger.id)), make_ping(3)],
    )
    assert [(item["index"], item["code"]) for item in answer.json()["rejected"]] == [
        (1, "device_unknown"),
        (2, "device_id_missing"),
    ]
    assert list((await client.door.records(3))["device"]) == [device.number]


async def test_a_gateway_s_ping_of_a_device_not_enrolled_is_refused_not_lost(
    client: Client, fleet: Any, make_ping: Ping
) -> None:
    tracker = await fleet.device(status="registered")
    answer = (await client.post(await fleet.gateway(), [make_ping(1, device_id=str(tracker.id))])).json()
    assert (answer["accepted"], answer["rejected"][0]["code"]) == (0, "device_forbidden")


async def test_a_device_nobody_carries_is_rejected(client: Client, fleet: Any, make_ping: Ping) -> None:
    answer = (await client.post(await fleet.device(()), [make_ping(1)])).json()
    assert answer["rejected"][0]["code"] == "device_forbidden"


async def test_too_many_pings_a_second_are_refused_with_a_time_to_wait(
    open_door: Any, over: Callable[[Any], Client], fleet: Any, make_ping: Ping
) -> None:
    client = over(await open_door(device_pings_per_second=0.1))
    device = await fleet.device()
    assert (await client.post(device, [make_ping(seq) for seq in range(6)])).status_code == 202
    response = await client.post(device, [make_ping(6)])
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert int(response.headers["retry-after"]) >= 1
    await client.http.aclose()


async def test_without_redis_the_answer_is_503_and_when_to_come_back(
    open_door: Any, own_valkey: Any, over: Callable[[Any], Client], fleet: Any, make_ping: Ping
) -> None:
    client = over(await open_door(own_valkey.redis_url))
    device = await fleet.device()
    assert (await client.post(device, [make_ping(1)])).status_code == 202
    own_valkey.valkey.kill()
    for _ in range(2):  # found out by the first call, known by the second
        response = await client.post(device, [make_ping(2)])
        assert (response.status_code, response.json()["code"]) == (503, "ingest_unavailable")
        assert int(response.headers["retry-after"]) >= 1
    own_valkey.valkey.start()
    while (await client.post(device, [make_ping(2)])).status_code != 202:
        pass
    assert set((await client.door.records(1))["seq"]) == {1, 2}
    await client.http.aclose()


async def test_the_route_is_described(client: Client) -> None:
    described = (await client.http.get("/openapi.json")).json()["paths"]["/v1/pings"]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert "accuracy_m" in schema["properties"]["pings"]["items"]["properties"]
    assert {"202", "400", "401", "413", "503"} <= set(described["responses"])
