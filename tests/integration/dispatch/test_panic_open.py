"""While a panic is open: presses count, places are noted and followed, and floods fold."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.actions import panic_places, panics
from core.actions.panic_places import PanicPlaces
from core.actions.panics import take_panic
from core.actions.unit_of_work import act
from core.clock import rfc3339, to_ms, utc_now
from core.domain.panic import PanicIn
from core.ids import new_id, new_token
from core.redis import keys
from core.redis.live import LiveFix

Query = Callable[..., Any]


@pytest.fixture(autouse=True)
async def _known(api: Any, pair: Any) -> None:
    """The pair's tokens are known to the API."""
    del pair
    await api.context.registry.refresh()


async def press(client: Any, **body: Any) -> dict[str, Any]:
    """The answer to a press."""
    answer = await client.post("/v1/panic", json={"id": str(uuid.uuid4()), **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


@pytest.mark.parametrize(
    ("sent", "doubts", "place"),
    [
        ({}, ["missing"], None),
        ({"lat": 43.2, "lon": 76.9, "accuracy_m": 5_000}, ["wide"], 5_000.0),
        ({"lat": 43.2, "lon": 76.9, "accuracy_m": 9, "at": rfc3339(utc_now() - timedelta(hours=3))}, ["stale"], 9.0),
    ],
)
async def test_a_doubtful_place_is_noted_and_refuses_nothing(
    api: Any, pair: Any, query: Query, sent: dict[str, Any], doubts: list[str], place: float | None
) -> None:
    async with api.client(pair.phone_token) as phone:
        await press(phone, **sent)
    [row] = await query("SELECT place, fix_age_s, detail FROM incident")
    assert row["detail"]["place_doubts"] == doubts
    assert row["detail"]["verified"] is True, "where she is says nothing about who she is"
    assert (row["place"] or {}).get("accuracy_m") == place
    if "stale" in doubts:
        assert row["fix_age_s"]["victim"] > 3_599
    [line] = await query("SELECT data FROM timeline WHERE kind = 'panic'")
    assert line["data"]["place_doubts"] == doubts


async def test_a_new_press_raises_the_incident_and_pages_again_but_not_for_every_one(
    api: Any, pair: Any, another_pair: Any, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await another_pair((pair.agency_id, pair.users))
    await api.context.registry.refresh()
    async with (
        api.client(pair.phone_token) as phone, api.client(other.phone_token) as another,
        api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk,
    ):  # fmt: skip
        mine = (await press(phone))["incident_id"]
        newer = (await press(another))["incident_id"]
        board = (await desk.get("/v1/board")).json()["incidents"]
        assert [one["id"] for one in board] == [newer, mine]
        for _ in range(3):
            await press(phone)
        board = (await desk.get("/v1/board")).json()["incidents"]
        assert [(one["id"], one["detail"]["presses"]) for one in board] == [(mine, 4), (newer, 1)]
        pages = (
            "SELECT data FROM delivery WHERE audience = 'dispatcher' AND data->>'incident_id' = $1 ORDER BY created_at"
        )
        assert [row["data"].get("presses") for row in await query(pages, mine)] == [None, 2]
        monkeypatch.setattr(panics, "AGAIN_AFTER", timedelta(0))
        await press(phone)
        assert [row["data"].get("presses") for row in await query(pages, mine)] == [None, 2, 5]


async def test_a_flood_of_made_up_tokens_is_one_incident_and_two_pages(pair: Any, posts: Any, query: Query) -> None:
    now = utc_now()
    assert pair.agency_id

    async def one() -> None:
        panic = PanicIn(
            id=new_id(), client_id=None, received_ms=to_ms(now), token_digest=uuid.uuid4().hex * 2, source="elsewhere",
            doubts=["unknown_token"],
        )  # fmt: skip
        async with act(posts.device, now) as unit:
            await take_panic(unit, panic)

    for _ in range(25):
        await asyncio.gather(*(one() for _ in range(8)))
    [row] = await query("SELECT detail FROM incident")
    assert (row["detail"]["presses"], row["detail"]["unverified_device"]) == (200, True)
    assert (await query("SELECT count(*) AS n FROM timeline WHERE kind = 'panic'"))[0]["n"] == 200
    assert (await query("SELECT count(DISTINCT cause) AS n FROM delivery"))[0]["n"] == 2


async def test_strangers_behind_one_address_are_each_heard_by_the_agency_that_answers_them(
    pair: Any, another_pair: Any, posts: Any, query: Query
) -> None:
    """A telephone network shows many of its phones under one address."""
    other = await another_pair()
    for agency_id in (pair.agency_id, other.agency_id, other.agency_id):
        async with act(posts.device, utc_now()) as unit:
            await take_panic(
                unit,
                PanicIn(
                    id=new_id(), client_id=None, received_ms=to_ms(utc_now()), token_digest=None, source="one address",
                    doubts=["no_token"], agency_id=agency_id,
                ),
            )  # fmt: skip
    rows = await query("SELECT agency_id, detail FROM incident")
    assert {row["agency_id"]: row["detail"]["presses"] for row in rows} == {pair.agency_id: 1, other.agency_id: 2}


async def test_a_stranger_far_away_sends_nobody_away_from_the_one_before_her(
    pair: Any, posts: Any, query: Query
) -> None:
    """Two phones of nobody known behind one address: each is somewhere else."""
    agency_id = pair.agency_id

    async def one(lat: float | None, lon: float | None = 76.9) -> None:
        async with act(posts.device, utc_now()) as unit:
            await take_panic(
                unit,
                PanicIn(
                    id=new_id(), client_id=None, received_ms=to_ms(utc_now()), token_digest=None, source="one address",
                    doubts=["no_token"], agency_id=agency_id, lat=lat, lon=lon if lat is not None else None,
                ),
            )  # fmt: skip

    async def places() -> tuple[float, list[float]]:
        [row] = await query("SELECT place, detail FROM incident")
        return row["place"]["lat"], [place["lat"] for place in row["detail"].get("other_places", ())]

    await one(None)
    await one(43.2000)
    assert await places() == (43.2, []), "a place where there was none"
    await one(43.2500)
    assert await places() == (43.2, [43.25])
    await one(43.2040)
    assert await places() == (43.204, [43.25]), "who moves on is followed"
    await one(43.2540)
    await one(43.3000)
    await one(None)
    assert await places() == (43.204, [43.254, 43.3])
    lines = await query("SELECT data->>'lat' AS lat FROM timeline WHERE kind = 'panic' ORDER BY ordinal")
    assert [line["lat"] for line in lines] == [None, "43.2", "43.25", "43.204", "43.254", "43.3", None]


async def test_a_known_woman_s_own_press_moves_her_incident_however_far(api: Any, pair: Any, query: Query) -> None:
    async with api.client(pair.phone_token) as phone:
        await press(phone, lat=43.2, lon=76.9)
        await press(phone, lat=44.2, lon=76.9)
    [row] = await query("SELECT place, detail FROM incident")
    assert (row["place"]["lat"], "other_places" in row["detail"]) == (44.2, False)


async def test_who_wears_the_device_next_is_heard_under_the_same_id(
    api: Any, pair: Any, another_pair: Any, posts: Any, query: Query
) -> None:
    """Some buttons send one id for ever; and what a journal brings again after the change is the first one's still."""
    other, panic_id = await another_pair(), uuid.uuid4()
    async with api.client(pair.phone_token) as phone:
        first = (await phone.post("/v1/panic", json={"id": str(panic_id)})).json()
        await query("UPDATE device SET person_id = $2 WHERE id = $1", pair.phone_id, other.victim_id)
        await api.context.registry.refresh()
        answers = [await phone.post("/v1/panic", json={"id": str(panic_id)}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [201, 200]
        assert (await phone.get(f"/v1/panic/{panic_id}")).json()["panic_id"] == answers[0].json()["panic_id"]
    assert answers[0].json()["incident_id"] == answers[1].json()["incident_id"] != first["incident_id"]
    received_ms = to_ms(datetime.fromisoformat(first["received_at"]))
    async with act(posts.device, utc_now()) as unit:
        brought = PanicIn(
            id=panic_id, client_id=str(panic_id), received_ms=received_ms, token_digest=None, source="journal",
            device_id=pair.phone_id, person_id=pair.victim_id, agency_id=pair.agency_id, body={"id": str(panic_id)},
        )  # fmt: skip
        result = await take_panic(unit, brought)
    assert (result.created, str(result.incident_id)) == (False, first["incident_id"])
    rows = await query("SELECT victim_id FROM incident ORDER BY opened_at, id")
    assert [row["victim_id"] for row in rows] == [pair.victim_id, other.victim_id]


async def test_no_rate_limit_answers_a_panic_or_a_timer(api: Any, pair: Any) -> None:
    async with api.client(new_token("qd")) as stranger:
        answers = await asyncio.gather(
            *(stranger.post("/v1/panic", json={"id": str(uuid.uuid4())}) for _ in range(150))
        )
    assert {answer.status_code for answer in answers} == {201}


async def test_a_press_of_a_closed_case_is_taken_unverified_and_her_contacts_are_told(
    api: Any, pair: Any, query: Query, database: Any
) -> None:
    async with database.transaction() as connection:
        await connection.execute("UPDATE protection_order SET status = 'expired'")
    async with api.client(pair.phone_token) as phone:
        await press(phone)
    [row] = await query("SELECT detail, order_id, victim_id FROM incident")
    assert (row["detail"]["doubt"], row["detail"]["unverified_device"], row["order_id"]) == ("closed_case", True, None)
    assert row["victim_id"] == pair.victim_id
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'contact'")) == 1


async def keep(redis_client: Any, query: Query, pair: Any, device_id: uuid.UUID, **values: Any) -> None:
    """Have a device's last fix be this."""
    [device] = await query("SELECT number FROM device WHERE id = $1", device_id)
    fields = {
        "lat": 43.30, "lon": 76.95, "accuracy_m": 6.0, "speed_mps": math.nan, "heading_deg": math.nan,
        "battery_pct": math.nan, "at_ms": to_ms(utc_now()), "received_ms": to_ms(utc_now()), "flags": 0, **values,
    }  # fmt: skip
    await redis_client.hset(keys.live(pair.shard), str(device["number"]), LiveFix(**fields).pack())


async def test_an_open_panic_s_place_follows_her_and_never_him(
    api: Any, pair: Any, posts: Any, redis_client: Any, query: Query, receive: Any
) -> None:
    places = PanicPlaces(posts.device, redis_client, utc_now)
    began = utc_now() - timedelta(seconds=10)
    async with (
        api.client(pair.phone_token) as phone, api.feed(api.token(pair.agency_id, pair.users["dispatcher"])) as feed,
    ):  # fmt: skip
        await press(phone)
        opened = await receive(feed, "incident.opened")
        assert (opened["data"]["place"], opened["data"]["detail"]["place_doubts"]) == (None, ["missing"])
        await places.step()
        await keep(redis_client, query, pair, pair.bracelet_id)
        await places.step()
        assert (await query("SELECT place FROM incident"))[0]["place"] is None
        await keep(redis_client, query, pair, pair.phone_id, at_ms=to_ms(began))
        await places.step()
        told = (await receive(feed, "incident.updated"))["data"]
        assert (told["place"]["lat"], told["place"]["accuracy_m"]) == (43.30, 6.0)
        assert "place_doubts" not in told["detail"]
        for s, lat in ((1, 43.31), (6, 43.32)):
            await keep(redis_client, query, pair, pair.phone_id, at_ms=to_ms(began) + s * 1000, lat=lat)
            await places.step()
            await places.step()
        assert (await receive(feed, "incident.updated"))["data"]["place"]["lat"] == 43.32
    [row] = await query("SELECT id, version FROM incident")
    assert row["version"] == 1
    assert [line["kind"] for line in await query("SELECT kind FROM timeline")] == ["panic"]
    updates = await query("SELECT 1 FROM feed WHERE kind = 'incident.updated'")
    assert len(updates) == 2


async def test_where_they_are_too_many_for_one_look_each_has_her_turn(
    api: Any, pair: Any, another_pair: Any, posts: Any, redis_client: Any, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(panic_places, "DEVICES_MAX", 1)
    pairs = [pair, await another_pair(), await another_pair()]
    await api.context.registry.refresh()
    for one in pairs:
        async with api.client(one.phone_token) as phone:
            await press(phone)
    places = PanicPlaces(posts.device, redis_client, utc_now)
    for lat, ago_s in ((43.30, 10), (43.40, 0)):
        for one in pairs:
            at_ms = to_ms(utc_now() - timedelta(seconds=ago_s))
            await keep(redis_client, query, one, one.phone_id, at_ms=at_ms, lat=lat)
        for _ in range(len(pairs) + 1):
            await places.step()
        assert [row["place"]["lat"] for row in await query("SELECT place FROM incident")] == [lat] * len(pairs)


async def test_a_resolved_panic_follows_nobody(
    api: Any, pair: Any, posts: Any, redis_client: Any, query: Query
) -> None:
    async with (
        api.client(pair.phone_token) as phone, api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk,
    ):  # fmt: skip
        incident_id = (await press(phone))["incident_id"]
        ended = await desk.post(f"/v1/incidents/{incident_id}/resolve", json={"version": 1, "outcome": "victim_safe"})
        assert ended.status_code == 200, ended.text
    await keep(redis_client, query, pair, pair.phone_id)
    await PanicPlaces(posts.device, redis_client, utc_now).step()
    assert (await query("SELECT place FROM incident"))[0]["place"] is None
