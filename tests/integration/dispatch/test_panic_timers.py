"""Timers that press for her: given once, put off and ended by her PIN, and by her duress PIN in show only."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from api import even_time
from core.actions import panic_timers, subject_export
from core.actions.panic_timers import KEPT, RUNNING_MAX, TimerClock
from core.actions.unit_of_work import act
from core.clock import rfc3339, utc_now
from core.errors import KeyUnavailable

Query = Callable[..., Any]
PIN, DURESS_PIN, WRONG_PIN = "2580", "911911", "7777"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come after a hundredth of a second, or a multiple of it."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)


@pytest.fixture
async def phone(api: Any, pair: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Her phone, whose wearer has set her PINs."""
    await api.context.registry.refresh()
    async with api.client(pair.phone_token) as client:
        answer = await client.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})
        assert answer.status_code == 204, answer.text
        yield client


@pytest.fixture
def clock_at(posts: Any) -> Callable[..., TimerClock]:
    """A timer clock that reads a time so many minutes from now."""
    return lambda minutes=0.0: TimerClock(posts.device, lambda: utc_now() + timedelta(minutes=minutes))


async def start(phone: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    """A timer that was set."""
    answer = await phone.post("/v1/panic/timers", json={"id": str(uuid.uuid4()), "minutes": 20, **body})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_a_timer_nobody_ends_is_a_panic_once_whoever_looks(
    phone: httpx.AsyncClient, pair: Any, query: Query, clock_at: Any
) -> None:
    timer = await start(phone, note="By the bridge", lat=43.2, lon=76.9, accuracy_m=20, mode="silent")
    assert timer["state"] == "running"
    await clock_at(19).step()
    assert await query("SELECT 1 FROM incident") == []
    await asyncio.gather(*(clock_at(21).step() for _ in range(4)))
    [row] = await query("SELECT state, place, detail, victim_id FROM incident")
    assert (row["state"], row["victim_id"], row["detail"]["trigger"], row["detail"]["verified"]) == (
        "open", pair.victim_id, "timer", True,
    )  # fmt: skip
    assert (row["place"]["lat"], row["detail"]["place_doubts"]) == (43.2, ["stale"])
    assert len(await query("SELECT 1 FROM panic")) == 1
    assert (await phone.get(f"/v1/panic/timers/{timer['id']}")).json()["state"] == "fired"
    assert (await phone.get(f"/v1/panic/{timer['id']}")).json()["state"] == "open"
    assert (await phone.post(f"/v1/panic/{timer['id']}/cancel", json={"pin": PIN})).json() == {"state": "cancelled"}
    [kept] = await query("SELECT lat, note_sealed, state FROM panic_timer")
    assert tuple(kept) == (None, None, "fired"), "where she was is the panic's now"
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'contact'")) == 1


async def test_the_right_pin_puts_a_timer_off_and_ends_it(
    phone: httpx.AsyncClient, query: Query, clock_at: Any
) -> None:
    timer = await start(phone)
    later = await phone.post(f"/v1/panic/timers/{timer['id']}/extend", json={"pin": PIN, "minutes": 60})
    assert (later.status_code, later.json()["state"]) == (200, "running")
    assert later.json()["due_at"] > timer["due_at"]
    await clock_at(30).step()
    ended = await phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": PIN})
    assert (ended.status_code, ended.json()["state"]) == (200, "cancelled")
    await clock_at(90).step()
    assert await query("SELECT 1 FROM incident") == []
    assert (await phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": PIN})).json() == ended.json()
    over = await phone.post(f"/v1/panic/timers/{timer['id']}/extend", json={"pin": PIN, "minutes": 60})
    assert (over.status_code, over.json()["code"]) == (409, "state_forbids")


@pytest.mark.parametrize("deed", ["cancel", "extend"])
async def test_the_duress_pin_does_so_in_show_and_gives_a_panic_her_phone_never_hears_of(
    api: Any, pair: Any, another_pair: Any, phone: httpx.AsyncClient, query: Query, deed: str
) -> None:
    other = await another_pair()
    await api.context.registry.refresh()
    shown = []
    due_at = rfc3339(utc_now() + timedelta(minutes=45))
    async with api.client(other.phone_token) as free:
        await free.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})
        for client, pin in ((phone, DURESS_PIN), (free, PIN)):
            timer = await start(client)
            answer = await client.post(f"/v1/panic/timers/{timer['id']}/{deed}", json={"pin": pin, "due_at": due_at})
            look, listed = await client.get(f"/v1/panic/timers/{timer['id']}"), await client.get("/v1/panic/timers")
            panic = await client.get(f"/v1/panic/{timer['id']}")
            shown.append(
                [
                    (one.status_code, one.text.replace(timer["id"], "").replace(timer["started_at"], ""))
                    for one in (answer, look, listed, panic)
                ]
            )
    if deed == "cancel":  # each was set a moment apart
        shown = [[(status, text.split('"due_at"')[0]) for status, text in each] for each in shown]
    assert shown[0] == shown[1]
    [row] = await query("SELECT victim_id, detail, do_not_call FROM incident")
    assert (row["victim_id"], row["detail"]["duress"], row["do_not_call"]) == (pair.victim_id, True, True)
    assert await query("SELECT 1 FROM delivery WHERE audience <> 'dispatcher'") == []


async def test_a_timer_put_off_under_duress_is_given_at_the_time_that_was_shown(
    phone: httpx.AsyncClient, query: Query, clock_at: Any
) -> None:
    timer = await start(phone)
    await phone.post(f"/v1/panic/timers/{timer['id']}/extend", json={"pin": DURESS_PIN, "minutes": 60})
    await clock_at(61).step()
    assert [row["unshown"] for row in await query("SELECT unshown FROM panic ORDER BY created_at")] == [True, False]
    assert len(await query("SELECT 1 FROM incident")) == 1
    seen = (await phone.get(f"/v1/panic/{timer['id']}")).json()
    assert (seen["state"], seen["acknowledged_at"]) == ("open", None)


async def test_the_third_wrong_pin_ends_it_in_show(phone: httpx.AsyncClient, query: Query) -> None:
    timer = await start(phone)
    answers = [await phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": WRONG_PIN}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403, 403, 200]
    assert {answer.json()["code"] for answer in answers[:2]} == {"wrong_pin"}
    [row] = await query("SELECT detail FROM incident")
    assert row["detail"]["duress_by"] == "third_wrong_pin"


async def test_a_pin_nobody_can_check_changes_nothing(phone: httpx.AsyncClient, query: Query, database: Any) -> None:
    timer = await start(phone)
    async with database.transaction() as connection:
        await connection.execute(
            "UPDATE person_pin SET hashes_sealed = set_byte(hashes_sealed, 40, get_byte(hashes_sealed, 40) # 1)"
        )
    for pin in (PIN, DURESS_PIN, WRONG_PIN):
        answer = await phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": pin})
        assert answer.status_code == 503
    assert (await phone.get(f"/v1/panic/timers/{timer['id']}")).json()["state"] == "running"
    assert await query("SELECT 1 FROM incident") == []


async def test_a_timer_is_set_once_and_only_within_bounds(
    api: Any, phone: httpx.AsyncClient, pair: Any, another_pair: Any
) -> None:
    timer = await start(phone)
    again = await phone.post("/v1/panic/timers", json={"id": timer["id"], "minutes": 5})
    assert (again.status_code, again.json()) == (200, timer)
    for body in ({"minutes": 0.5}, {"minutes": 2_000}, {}, {"minutes": 5, "due_at": rfc3339(utc_now())}):
        refused = await phone.post("/v1/panic/timers", json={"id": str(uuid.uuid4()), **body})
        assert refused.status_code == 422, refused.text
    other = await another_pair()
    await api.context.registry.refresh()
    async with api.client(other.phone_token) as stranger, api.client(pair.bracelet_token) as bracelet:
        assert (await stranger.get(f"/v1/panic/timers/{timer['id']}")).status_code == 404
        unset = await stranger.post("/v1/panic/timers", json={"id": str(uuid.uuid4()), "minutes": 5})
        assert (unset.status_code, unset.json()["code"]) == (409, "pins_not_set")
        assert (
            await bracelet.post("/v1/panic/timers", json={"id": str(uuid.uuid4()), "minutes": 5})
        ).status_code == 403
    for _ in range(RUNNING_MAX - 1):
        await start(phone)
    many = await phone.post("/v1/panic/timers", json={"id": str(uuid.uuid4()), "minutes": 5})
    assert (many.status_code, many.json()["code"]) == (409, "state_forbids")


async def test_a_timer_without_keys_is_a_panic_and_its_words_follow(
    phone: httpx.AsyncClient, query: Query, clock_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = await start(phone, note="By the bridge")
    clock = clock_at(21)

    async def away(*_: Any, **__: Any) -> Any:
        raise KeyUnavailable("away")

    with monkeypatch.context() as gone:
        gone.setattr("core.actions.panic_timers.store.note_of", away)
        await clock.step()
    assert [row["detail"].get("untold") for row in await query("SELECT detail FROM incident")] == [True]
    assert (await phone.get(f"/v1/panic/timers/{timer['id']}")).json()["state"] == "fired"
    await clock.step()
    [row] = await query("SELECT detail FROM incident")
    assert "untold" not in row["detail"]
    assert [row["state"] for row in await query("SELECT state FROM panic_timer")] == ["fired"]
    [panic] = await query("SELECT note_sealed FROM panic")
    assert panic["note_sealed"] is not None


async def test_one_timer_that_cannot_be_given_delays_no_other(
    phone: httpx.AsyncClient, query: Query, clock_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned, good = await start(phone), await start(phone)
    take = panic_timers.take_panic

    async def stumble(unit: Any, panic: Any, **values: Any) -> Any:
        if panic.client_id == poisoned["id"]:
            raise RuntimeError("poison")
        return await take(unit, panic, **values)

    monkeypatch.setattr(panic_timers, "take_panic", stumble)
    await clock_at(21).step()
    assert [row["client_id"] for row in await query("SELECT client_id FROM panic")] == [good["id"]]
    assert [row["entry"] for row in await query("SELECT entry FROM poison")] == [poisoned["id"]]
    monkeypatch.setattr(panic_timers, "take_panic", take)
    await clock_at(23).step()
    assert len(await query("SELECT 1 FROM panic")) == 2


@pytest.mark.parametrize("how", ["resolved", "cancelled"])
async def test_a_press_under_a_timer_s_id_that_is_over_swallows_no_panic_of_the_timer(
    phone: httpx.AsyncClient, query: Query, clock_at: Any, how: str
) -> None:
    timer = await start(phone)
    await phone.post("/v1/panic", json={"id": timer["id"]})
    if how == "cancelled":
        assert (await phone.post(f"/v1/panic/{timer['id']}/cancel", json={"pin": PIN})).status_code == 200
    else:
        await query("UPDATE incident SET state = 'resolved', resolved_at = now()")
    await clock_at(21).step()
    [row] = await query("SELECT detail FROM incident WHERE state = 'open'")
    assert (row["detail"]["presses"], "cancel_asked_at" in row["detail"]) == (1 if how == "resolved" else 2, False)
    assert (await phone.get(f"/v1/panic/{timer['id']}")).json()["state"] == "open", "the newest of that id"


@pytest.mark.parametrize("has_another", [True, False])
async def test_a_timer_is_given_for_who_set_it_and_never_for_who_wears_the_device_by_now(
    api: Any, phone: httpx.AsyncClient, pair: Any, another_pair: Any, query: Query, clock_at: Any, has_another: bool
) -> None:
    timer = await start(phone, note="By the bridge", lat=43.2, lon=76.9)
    other = await another_pair()
    await query("UPDATE device SET person_id = $2 WHERE id = $1", pair.phone_id, other.victim_id)
    if has_another:
        await query("UPDATE device SET person_id = $2 WHERE id = $1", other.phone_id, pair.victim_id)
    await api.context.registry.refresh()
    assert (await phone.get("/v1/panic/timers")).json() == {"items": []}, "who wears it now hears of none"
    assert (await phone.get(f"/v1/panic/timers/{timer['id']}")).status_code == 404
    await clock_at(21).step()
    [row] = await query("SELECT victim_id, device_id, place, detail FROM incident")
    assert (row["victim_id"], row["place"]["lat"]) == (pair.victim_id, 43.2)
    assert (row["device_id"] is not None) == has_another
    assert row["detail"].get("doubt") == (None if has_another else "revoked_token")
    told = {row["recipient"] for row in await query("SELECT recipient FROM delivery WHERE audience <> 'dispatcher'")}
    assert f"device:{pair.phone_id}" not in told
    assert (await phone.get(f"/v1/panic/{timer['id']}")).status_code == 404


async def test_her_timers_are_in_what_she_is_handed_of_what_is_held_on_her(
    posts: Any, phone: httpx.AsyncClient, pair: Any, another_pair: Any
) -> None:
    timer = await start(phone, note="By the bridge", lat=43.2, lon=76.9)
    ended = await start(phone)
    await phone.post(f"/v1/panic/timers/{ended['id']}/cancel", json={"pin": DURESS_PIN})
    async with act(posts.device, utc_now()) as unit:
        held = await subject_export.read(unit, pair.agency_id, pair.victim_id, None, consents=False)
    first, second = held.parts["timers"]
    assert (str(first["id"]), first["state"], first["note"], first["lat"]) == (
        timer["id"],
        "running",
        "By the bridge",
        43.2,
    )
    assert (str(second["id"]), second["state"], second["note"]) == (ended["id"], "cancelled", None)
    assert not {"note_sealed", "person_id"} & set(first)


async def test_ended_timers_are_forgotten_in_time(phone: httpx.AsyncClient, query: Query, clock_at: Any) -> None:
    timer = await start(phone)
    await phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": PIN})
    await clock_at(60).step()
    assert len(await query("SELECT 1 FROM panic_timer")) == 1
    await clock_at(KEPT.total_seconds() / 60 + 1).step()
    assert await query("SELECT 1 FROM panic_timer") == []


async def test_who_is_erased_has_no_pin_and_no_timer(
    phone: httpx.AsyncClient, pair: Any, query: Query, database: Any
) -> None:
    await start(phone, lat=43.2, lon=76.9)
    async with database.transaction() as connection:
        await connection.execute("SELECT erase_person($1, now())", pair.victim_id)
    assert await query("SELECT 1 FROM person_pin UNION ALL SELECT 1 FROM panic_timer") == []


async def test_pins_come_with_enrolment_where_she_has_none(api: Any, pair: Any, phone: httpx.AsyncClient) -> None:
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as desk:

        async def enrol(pin: str) -> dict[str, Any]:
            made = await desk.post(f"/v1/devices/{pair.phone_id}/enrolment-code")
            assert made.status_code == 201, made.text
            body = {"code": made.json()["enrolment_code"], "pins": {"pin": pin, "duress_pin": "4444"}}
            answer = await phone.post("/v1/devices/enrol", json=body)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        assert (await enrol("1111"))["pins_set"] is True
        assert (await desk.delete(f"/v1/people/{pair.victim_id}/pins")).status_code == 204
        token = (await enrol("3333"))["token"]
    async with api.client(token) as again:
        changed = await again.put("/v1/me/pins", json={"pin": "5555", "duress_pin": "6666", "old_pin": "1111"})
        assert changed.status_code == 403, "what she had was reset"
        changed = await again.put("/v1/me/pins", json={"pin": "5555", "duress_pin": "6666", "old_pin": "3333"})
        assert changed.status_code == 204
