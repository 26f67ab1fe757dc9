"""A panic that is cancelled: what her phone is told is the same under duress and not; what dispatchers see is not."""

from __future__ import annotations

import asyncio
import functools
import json
import math
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api import even_time
from core.actions.unit_of_work import act
from core.clock import to_ms, utc_now
from core.domain.panic import CancelIn, is_quiet
from core.pin_hashes import PinHasher
from core.postgres import pins
from core.postgres.asking import people_in_panic
from core.postgres.routing import push_devices

Query = Callable[..., Any]
PIN, DURESS_PIN, WRONG_PIN = "2580", "911911", "7777"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come after a hundredth of a second, or a multiple of it."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)


@pytest.fixture
async def phone(api: Any, pair: Any) -> Any:
    """Her phone, whose wearer has set her PINs."""
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as client:
        answer = await client.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})
        assert answer.status_code == 204, answer.text
        yield client


async def press(client: httpx.AsyncClient, **body: Any) -> str:
    """A panic's id."""
    panic_id = str(uuid.uuid4())
    answer = await client.post("/v1/panic", json={"id": panic_id, **body})
    assert (answer.status_code, answer.json()["state"]) == (201, "open"), answer.text
    return panic_id


async def cancel(client: httpx.AsyncClient, panic_id: str, pin: str | None) -> httpx.Response:
    """The answer to a PIN."""
    return await client.post(f"/v1/panic/{panic_id}/cancel", json={"pin": pin} if pin is not None else {})


def told(answer: httpx.Response) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """All of an answer but the time of day."""
    return answer.status_code, [one for one in answer.headers.raw if one[0].lower() != b"date"], answer.content


async def test_a_right_pin_asks_a_dispatcher_to_close_and_ends_nothing(phone: Any, query: Query) -> None:
    panic_id = await press(phone, mode="silent")
    answer = await cancel(phone, panic_id, PIN)
    assert (answer.status_code, answer.json()) == (200, {"state": "cancelled"})
    [row] = await query("SELECT state, severity, do_not_call, detail FROM incident")
    assert (row["state"], row["do_not_call"], row["detail"]["cancel_pin"]) == ("open", False, "right")
    assert row["detail"]["close_by"] == ["call_back_safe_word", "officer_on_scene"]
    assert "duress" not in row["detail"]
    [last] = await query("SELECT kind, data FROM timeline ORDER BY ordinal DESC LIMIT 1")
    assert (last["kind"], last["data"]["pin"]) == ("cancel_asked", "right")
    again = await phone.post("/v1/panic", json={"id": panic_id})
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")


async def test_a_duress_pin_keeps_the_incident_alive_for_dispatchers_alone(
    api: Any, pair: Any, phone: Any, query: Query, receive: Any
) -> None:
    desk_token = api.token(pair.agency_id, pair.users["dispatcher"])
    async with api.feed(desk_token) as feed:
        panic_id = await press(phone, mode="audible")
        opened = await receive(feed, "incident.opened")
        assert opened["data"]["do_not_call"] is False
        assert told(await cancel(phone, panic_id, DURESS_PIN))[2] == b'{"state":"cancelled"}'
        seen = (await receive(feed, "incident.updated"))["data"]
    assert (seen["state"], seen["severity"], seen["do_not_call"], seen["detail"]["duress"]) == (
        "open", "critical", True, True,
    )  # fmt: skip
    assert seen["detail"]["duress_by"] == "duress_pin"
    states = await query("SELECT audience, state, data FROM delivery ORDER BY created_at, id")
    assert {row["state"] for row in states if row["audience"] in ("contact", "victim")} == {"cancelled"}
    pages = [row for row in states if row["audience"] == "dispatcher"]
    assert [row["state"] for row in pages] == ["queued"] * len(pages)
    assert any(row["data"].get("duress") and row["data"]["do_not_call"] for row in pages)
    assert not [row for row in await query("SELECT detail FROM audit WHERE action LIKE 'panic%'") if row["detail"]]


async def test_who_only_reads_sees_that_nobody_may_call_and_not_why(api: Any, pair: Any, phone: Any) -> None:
    panic_id = await press(phone)
    await cancel(phone, panic_id, WRONG_PIN)
    await cancel(phone, panic_id, DURESS_PIN)
    incident_id = (await phone.get(f"/v1/panic/{panic_id}")).json()["incident_id"]
    for role, is_told in (("dispatcher", True), ("officer", True), ("auditor", False), ("caseworker", False)):
        async with api.client(api.token(pair.agency_id, pair.users[role], role)) as desk:
            one = (await desk.get(f"/v1/incidents/{incident_id}")).json()
            [listed] = (await desk.get("/v1/incidents")).json()["items"]
        assert one["do_not_call"] is True
        assert ("duress" in one["detail"], "duress" in listed["detail"], "duress" in str(one)) == (is_told,) * 3


async def test_the_appearance_is_kept_up_whatever_happens_later(
    api: Any, pair: Any, phone: Any, another_pair: Any, database: Any
) -> None:
    """Two women, the same presses; one is forced. Their phones are told the same, but for ids and times."""
    forced, free = pair, await another_pair()
    await api.context.registry.refresh()
    shown: dict[str, list[Any]] = {}
    for one, pin in ((forced, DURESS_PIN), (free, PIN)):
        async with api.client(one.phone_token) as client, api.own_news(one.phone_token) as socket:
            if one is free:
                await client.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})
            panic_id = str(uuid.uuid4())
            answers = [await client.post("/v1/panic", json={"id": panic_id, "lat": 43.2, "lon": 76.9})]
            incident_id = answers[0].json()["incident_id"]
            answers.append(await cancel(client, panic_id, pin))
            async with database.transaction() as connection:  # dispatch goes on, and what was sent is seen
                await connection.execute(
                    "UPDATE incident SET state = 'dispatched', version = 3, acknowledged_at = now(),"
                    " dispatched_at = now() WHERE id = $1", uuid.UUID(incident_id),
                )  # fmt: skip
                await connection.execute(
                    "UPDATE delivery SET state = 'sent', sent_at = now() WHERE state = 'queued' AND incident_id = $1",
                    uuid.UUID(incident_id),
                )
            answers += [
                await client.get(f"/v1/panic/{panic_id}"),
                await client.post("/v1/panic", json={"id": panic_id, "lat": 43.2, "lon": 76.9}),
                await cancel(client, panic_id, WRONG_PIN),
                await client.get("/v1/me/protection"),
            ]
            news = []
            async with asyncio.timeout(10):
                while not news or news[-1]["data"].get("state") != "cancelled":
                    frame = json.loads(await socket.recv())
                    news += [frame] if frame["kind"] == "panic" else []
            second = str(uuid.uuid4())
            answers += [
                await client.post("/v1/panic", json={"id": second}), await client.get(f"/v1/panic/{second}"),
                await client.get(f"/v1/panic/{panic_id}"), await client.get("/v1/panic/timers"),
            ]  # fmt: skip
            known = {panic_id: "first", second: "second", incident_id: "incident", str(one.phone_id): "phone"}
            shown[pin] = [_without_names(answer, known) for answer in answers] + [
                {**frame["data"], "panic_id": "", "incident_id": "", "received_at": ""} for frame in news[-1:]
            ]
    assert shown[PIN] == shown[DURESS_PIN]


def _without_names(answer: httpx.Response, known: dict[str, str]) -> Any:
    text = answer.text
    for name, stands in known.items():
        text = text.replace(name, stands)
    said = json.loads(re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "some id", text))
    for key in ("received_at", "acknowledged_at", "dispatched_at", "told_at", "seen_at"):
        if isinstance(said, dict) and said.get(key) is not None:
            said[key] = "some time"
    return answer.status_code, said


async def test_the_third_wrong_pin_is_answered_as_cancelled_and_is_duress(phone: Any, query: Query) -> None:
    panic_id = await press(phone)
    first, second, third = [await cancel(phone, panic_id, WRONG_PIN) for _ in range(3)]
    assert (first.status_code, first.json()["code"]) == (403, "wrong_pin")
    assert told(second) == told(first), "how many tries are left is not told"
    fourth = await cancel(phone, panic_id, WRONG_PIN)
    assert (third.status_code, third.json(), told(fourth)) == (200, {"state": "cancelled"}, told(third))
    [row] = await query("SELECT state, do_not_call, detail FROM incident")
    assert (row["state"], row["do_not_call"], row["detail"]["duress_by"]) == ("open", True, "third_wrong_pin")


async def test_no_pin_at_all_is_wrong_and_costs_no_try(phone: Any, query: Query) -> None:
    panic_id = await press(phone)
    answers = [await cancel(phone, panic_id, None) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {403}
    assert (await cancel(phone, panic_id, PIN)).status_code == 200
    [row] = await query("SELECT detail FROM incident")
    assert "duress" not in row["detail"]


async def test_without_pins_it_is_answered_as_cancelled_and_marked_unverified(
    api: Any, pair: Any, query: Query
) -> None:
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as client:
        panic_id = await press(client, mode="audible")
        answer = await cancel(client, panic_id, "1234")
        assert (answer.status_code, answer.json()) == (200, {"state": "cancelled"})
        assert (await client.get(f"/v1/panic/{panic_id}")).json()["state"] == "cancelled"
    [row] = await query("SELECT state, do_not_call, detail FROM incident")
    assert (row["state"], row["do_not_call"], row["detail"]["cancel_unverified"]) == ("open", True, True)


async def test_hashes_that_nobody_can_read_are_answered_as_cancelled(
    phone: Any, query: Query, database: Any, pair: Any
) -> None:
    panic_id = await press(phone)
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE person_pin SET hashes_sealed = set_byte(hashes_sealed, 40, get_byte(hashes_sealed, 40) # 1)"
        )
    assert (await cancel(phone, panic_id, WRONG_PIN)).json() == {"state": "cancelled"}
    [row] = await query("SELECT detail FROM incident")
    assert row["detail"]["cancel_unverified"] is True


async def test_a_new_press_after_a_right_pin_is_a_panic_like_any_other(phone: Any, query: Query, pair: Any) -> None:
    first = await press(phone, mode="silent")
    await cancel(phone, first, PIN)
    second = await press(phone, mode="silent", lat=43.25, lon=76.95)
    [row] = await query("SELECT place, do_not_call, detail FROM incident")
    assert (row["detail"]["presses"], row["do_not_call"], row["place"]["lat"]) == (2, True, 43.25)
    assert "cancel_asked_at" not in row["detail"]
    assert (await phone.get(f"/v1/panic/{second}")).json()["state"] == "open"
    assert (await phone.get(f"/v1/panic/{first}")).json()["state"] == "cancelled"
    pages = await query("SELECT template, data FROM delivery WHERE audience = 'dispatcher' ORDER BY created_at, id")
    assert [(page["template"], page["data"].get("presses")) for page in pages] == [
        ("incident_dispatcher", None), ("cancel_asked_dispatcher", None), ("panic_again_dispatcher", 2),
    ]  # fmt: skip


async def test_a_press_after_a_pin_that_nobody_could_read_ends_no_quiet_before_one_is_read(
    phone: Any, query: Query, database: Any
) -> None:
    """It may have been the duress PIN, and the press may be his."""
    flip = "UPDATE person_pin SET hashes_sealed = set_byte(hashes_sealed, 40, get_byte(hashes_sealed, 40) # 1)"
    first = await press(phone, mode="audible")
    await query(flip)
    await cancel(phone, first, DURESS_PIN)
    second = await press(phone, mode="audible")
    [row] = await query("SELECT do_not_call, detail FROM incident")
    assert (row["do_not_call"], is_quiet(row["detail"]), row["detail"].get("cancel_asked_at")) == (True, True, None)
    async with database.connection() as connection:
        person_id = await connection.fetchval("SELECT victim_id FROM incident")
        assert await push_devices(connection, [person_id]) == []
    assert (await phone.get(f"/v1/panic/{second}")).json()["state"] == "open"
    await query(flip)
    await cancel(phone, second, PIN)
    [row] = await query("SELECT do_not_call, detail FROM incident")
    assert (row["do_not_call"], is_quiet(row["detail"]), row["detail"]["cancel_pin"]) == (False, False, "right")


async def test_who_has_no_pins_is_written_to_again_after_a_press(api: Any, pair: Any, query: Query) -> None:
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as client:
        await cancel(client, await press(client), "1234")
        await press(client)
    [row] = await query("SELECT detail FROM incident")
    assert not is_quiet(row["detail"])


async def test_a_duress_pin_for_a_panic_that_is_over_opens_one_she_never_hears_of(
    api: Any, pair: Any, phone: Any, query: Query
) -> None:
    panic_id = await press(phone)
    async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk:
        [row] = await query("SELECT id FROM incident")
        ended = await desk.post(f"/v1/incidents/{row['id']}/resolve", json={"version": 1, "outcome": "victim_safe"})
        assert ended.status_code == 200, ended.text
    before = (await phone.get(f"/v1/panic/{panic_id}")).json()
    assert (await cancel(phone, panic_id, DURESS_PIN)).json() == {"state": "cancelled"}
    rows = await query("SELECT state, detail, do_not_call FROM incident ORDER BY opened_at")
    assert [(row["state"], row["detail"].get("duress")) for row in rows] == [("resolved", None), ("open", True)]
    [hidden] = await query("SELECT id, unshown FROM panic WHERE unshown")
    assert (await phone.get(f"/v1/panic/{hidden['id']}")).status_code == 404
    assert (await phone.get(f"/v1/panic/{panic_id}")).json() == {
        **before, "state": "cancelled", "told": [],  # nothing had gone out yet
    }  # fmt: skip
    assert await query("SELECT 1 FROM delivery WHERE audience = 'contact' AND incident_id <> $1", row["id"]) == []


async def test_a_press_that_folds_into_a_hidden_panic_tells_nothing_of_it(
    api: Any, pair: Any, phone: Any, query: Query, database: Any
) -> None:
    assert (await cancel(phone, str(uuid.uuid4()), DURESS_PIN)).json() == {"state": "cancelled"}
    async with database.transaction() as connection:
        await connection.execute("UPDATE delivery SET state = 'sent', sent_at = now()")
        await connection.execute("UPDATE incident SET state = 'acknowledged', version = 2, acknowledged_at = now()")
    panic_id = await press(phone)
    status = (await phone.get(f"/v1/panic/{panic_id}")).json()
    assert (status["state"], status["acknowledged_at"], status["told_at"]) == ("open", None, None)
    assert len(await query("SELECT 1 FROM incident")) == 1


async def test_a_hidden_panic_hurries_no_device_of_hers_until_she_presses(phone: Any, pair: Any, database: Any) -> None:
    assert (await cancel(phone, str(uuid.uuid4()), DURESS_PIN)).json() == {"state": "cancelled"}
    async with database.connection() as connection:
        assert await people_in_panic(connection) == frozenset()
    await press(phone)
    async with database.connection() as connection:
        assert pair.victim_id in await people_in_panic(connection)


async def test_a_drill_goes_its_way_under_duress_as_without(phone: Any, pair: Any, query: Query) -> None:
    """Whoever holds her phone could press it to learn what the PIN was."""
    await cancel(phone, await press(phone), DURESS_PIN)
    drill = await phone.post("/v1/panic/drill")
    assert (drill.status_code, drill.json()["proved_at"]) == (201, None)
    [sent] = await query("SELECT recipient, state FROM delivery WHERE template = 'drill_device'")
    assert (sent["recipient"], sent["state"]) == (f"device:{pair.phone_id}", "queued")


async def test_the_same_wish_brought_twice_counts_once(api: Any, pair: Any, phone: Any, query: Query) -> None:
    panic_id = await press(phone)
    wish = CancelIn(
        id=uuid.uuid4(), panic_id=panic_id, device_id=pair.phone_id, received_ms=to_ms(utc_now()), pin=WRONG_PIN
    )
    rows = api.context.panic_desk._rows
    for answered in (False, False, True):
        assert await rows.commit_cancel(wish, functools.partial(bool, answered)) is False
    [kept] = await query("SELECT wrong_tries FROM person_pin")
    [row] = await query("SELECT detail FROM incident")
    assert (kept["wrong_tries"], row["detail"]["wrong_pins"], row["detail"].get("cancel_asked_at")) == (1, 1, None)


async def test_pins_are_changed_by_who_knows_them_and_reset_by_a_caseworker(
    api: Any, pair: Any, phone: Any, query: Query
) -> None:
    new = {"pin": "1111", "duress_pin": "2222"}
    for old in ({}, {"old_pin": WRONG_PIN}):
        refused = await phone.put("/v1/me/pins", json={**new, **old})
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong_pin")
    assert (await phone.put("/v1/me/pins", json={**new, "old_pin": PIN})).status_code == 204
    same = await phone.put("/v1/me/pins", json={"pin": "1111", "duress_pin": "1111", "old_pin": "1111"})
    assert (same.status_code, same.json()["code"]) == (422, "pin_invalid")
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as desk:
        assert (await desk.delete(f"/v1/people/{pair.victim_id}/pins")).status_code == 204
        assert (await desk.delete(f"/v1/people/{uuid.uuid4()}/pins")).status_code == 404
    assert (await phone.get("/v1/me/pins")).json() == {"set": False}
    assert (await phone.put("/v1/me/pins", json=new)).status_code == 204
    assert [row["action"] for row in await query("SELECT action FROM audit WHERE action = 'person.pins_reset'")]


async def test_pins_set_with_the_duress_pin_are_duress_both(phone: Any, query: Query) -> None:
    his = {"pin": "1111", "duress_pin": "2222"}
    by_her = await phone.put("/v1/me/pins", json={**his, "old_pin": DURESS_PIN})
    assert (by_her.status_code, by_her.content) == (204, b"")
    [row] = await query("SELECT state, detail, do_not_call FROM incident")
    assert (row["state"], row["detail"]["duress"], row["do_not_call"]) == ("open", True, True)
    assert row["detail"]["presses"] == 0
    panic_id = await press(phone)
    assert (await cancel(phone, panic_id, "1111")).json() == {"state": "cancelled"}
    [row] = await query("SELECT detail FROM incident")
    assert (row["detail"]["duress"], row["detail"].get("cancel_pin")) == (True, None)


async def test_pins_are_nowhere_in_plain(phone: Any, query: Query) -> None:
    panic_id = await press(phone)
    await cancel(phone, panic_id, PIN)
    [row] = await query("SELECT person_pin::text AS t, hashes_sealed FROM person_pin")
    assert b"argon2" not in row["hashes_sealed"]
    for table in ("incident", "panic", "timeline", "feed", "audit", "poison", "person_pin"):
        for found in await query(f"SELECT {table}::text AS t FROM {table}"):
            assert PIN not in found["t"].replace(panic_id, "").split("{")[-1] or PIN not in _words(found["t"])


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalnum() else " " for letter in text).split())


async def test_an_aggressor_has_no_pins_and_cancels_nothing(api: Any, pair: Any, phone: Any, query: Query) -> None:
    panic_id = await press(phone)
    async with api.client(pair.bracelet_token) as bracelet:
        assert (await bracelet.put("/v1/me/pins", json={"pin": "1111", "duress_pin": "2222"})).status_code == 403
        assert (await bracelet.get("/v1/me/pins")).status_code == 403
        answer = await cancel(bracelet, panic_id, PIN)
    assert (answer.status_code, answer.json()) == (200, {"state": "cancelled"})
    [row] = await query("SELECT detail FROM incident")
    assert "cancel_asked_at" not in row["detail"]


async def test_the_right_pin_and_the_duress_pin_are_answered_alike_to_the_byte_and_in_time(
    dear_pins: None, api: Any, another_pair: Any, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty-four women, every second one forced, one after the other over real HTTP; a rank test of their times."""
    monkeypatch.setattr(even_time, "STEP_S", 0.2)
    people = [await another_pair() for _ in range(24)]
    hasher = PinHasher()
    hashes = await hasher.hash(PIN, DURESS_PIN)
    hasher.close()
    async with act(database, utc_now()) as unit:
        for one in people:
            await pins.put(unit.connection, one.victim_id, one.agency_id, hashes, unit.now)
    await api.context.registry.refresh()
    answers: dict[str, set[Any]] = {PIN: set(), DURESS_PIN: set()}
    times: dict[str, list[float]] = {PIN: [], DURESS_PIN: []}
    for number, one in enumerate(people):
        pin = (PIN, DURESS_PIN)[number % 2]
        async with api.client(one.phone_token) as client:
            panic_id = await press(client)
            began = time.perf_counter()
            answer = await cancel(client, panic_id, pin)
            times[pin].append(time.perf_counter() - began)
            status, headers, body = told(answer)
            answers[pin].add((status, tuple(headers), body))
    assert answers[PIN] == answers[DURESS_PIN]
    assert len(answers[PIN]) == 1
    assert abs(rank_z(times[PIN], times[DURESS_PIN])) < 4.0, "one in some fifteen thousand runs by chance"


def rank_z(one: list[float], other: list[float]) -> float:
    """How far the rank sum of two samples is from chance, standard deviations (Mann and Whitney 1947)."""
    above = sum((a > b) + 0.5 * (a == b) for a in one for b in other)
    n, m = len(one), len(other)
    return (above - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
