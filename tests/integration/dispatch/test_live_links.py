"""Live links: shown to one browser of a contact who may see, while her panic appears open, and to nobody else."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from core.actions import live_links
from core.actions.unit_of_work import act
from core.clock import to_ms, utc_now
from core.domain import live_link as rules
from core.domain.live_link import ENDED, PATH
from core.postgres.contacts import CONTACTS
from core.redis import keys
from core.redis.live import LiveFix

Query = Callable[..., Any]
PLACE = {"lat": 43.238, "lon": 76.945, "accuracy_m": 12.0}


@pytest.fixture(autouse=True)
async def _known(api: Any, pair: Any, query: Query) -> None:
    """The pair's tokens are known to the API, and her sister may see where she is."""
    await query("UPDATE contact SET may_see = '{position}' WHERE person_id = $1", pair.victim_id)
    await api.context.registry.refresh()


@pytest.fixture
async def phone(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(pair.phone_token) as client:
        yield client


@pytest.fixture
async def desk(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as client:
        yield client


@pytest.fixture
async def page(api: Any) -> AsyncIterator[Any]:
    async with api.client(None) as client:
        yield client


async def press(phone: Any) -> uuid.UUID:
    """Her panic's incident."""
    return uuid.UUID((await phone.post("/v1/panic", json={"id": str(uuid.uuid4()), **PLACE})).json()["incident_id"])


async def make_link(api: Any, pair: Any, incident_id: uuid.UUID, channel: str = "email") -> str:
    """The token of a link to her sister."""
    async with act(api.context.device_database, utc_now()) as unit:
        rows = await unit.connection.fetch(
            f"SELECT {CONTACTS.selected} FROM contact WHERE person_id = $1", pair.victim_id
        )
        (contact,) = await CONTACTS.read(unit.connection, rows)
        (path,) = await live_links.make_all(
            unit, incident_id=incident_id, agency_id=pair.agency_id, person_id=pair.victim_id, ways=[(contact, channel)]
        )
    assert path is not None
    assert path.startswith(PATH)
    return path.removeprefix(PATH)


async def opened(page: Any, token: str | None, **more: Any) -> dict[str, Any]:
    answer = await page.post("/v1/live-link", json={"token": token, "first": True, **more})
    assert answer.status_code == 200
    return dict(answer.json())


async def test_a_link_shows_her_place_its_time_and_that_police_have_seen_it(
    api: Any, pair: Any, phone: Any, desk: Any, page: Any
) -> None:
    incident_id = await press(phone)
    token = await make_link(api, pair, incident_id)
    shown = await opened(page, token)
    assert shown["state"] == "live"
    assert {name: shown["position"][name] for name in PLACE} == PLACE
    assert shown["seen_by_police_at"] is None
    assert set(shown) == {"state", "language", "started_at", "seen_by_police_at", "position", "refresh_s"}
    await desk.post(f"/v1/incidents/{incident_id}/acknowledge", json={"version": 1})
    assert (await opened(page, token))["seen_by_police_at"] is not None


async def test_a_newer_live_position_is_shown(
    api: Any, pair: Any, phone: Any, page: Any, redis_client: Any, query: Query
) -> None:
    token = await make_link(api, pair, await press(phone))
    (device,) = await query("SELECT number FROM device WHERE id = $1", pair.phone_id)
    nan, now_ms = float("nan"), to_ms(utc_now() + timedelta(seconds=1))
    fix = LiveFix(43.25, 76.95, 5.0, nan, nan, nan, now_ms, now_ms, 0)
    await redis_client.hset(keys.live(pair.shard), str(device["number"]), fix.pack())
    assert (await opened(page, token))["position"]["lat"] == 43.25


async def test_a_cancelled_resolved_revoked_expired_and_unknown_link_all_answer_alike(
    api: Any, pair: Any, phone: Any, desk: Any, page: Any, query: Query
) -> None:
    incident_id = await press(phone)
    token = await make_link(api, pair, incident_id)
    assert (await opened(page, token))["state"] == "live"

    async def answer() -> bytes:
        found = await page.post("/v1/live-link", json={"token": token})
        assert found.status_code == 200
        assert "set-cookie" not in found.headers
        return bytes(found.content)

    async def with_detail(value: str) -> bytes:
        await query("UPDATE incident SET detail = detail || $2::text::jsonb WHERE id = $1", incident_id, value)
        found = await answer()
        back = "detail - ARRAY['cancel_asked_at', 'duress', 'cancel_unverified']"
        await query(f"UPDATE incident SET detail = {back} WHERE id = $1", incident_id)
        assert (await opened(page, token))["state"] == "live"
        return found

    async def with_contact(change: str, back: str) -> bytes:
        await query(f"UPDATE contact SET {change} WHERE person_id = $1", pair.victim_id)
        found = await answer()
        await query(f"UPDATE contact SET {back} WHERE person_id = $1", pair.victim_id)
        return found

    answers = {
        (await page.post("/v1/live-link", json={"token": rules.new_token()})).content,
        await with_detail('{"cancel_asked_at": "2026-05-01T12:00:00.000Z"}'),
        await with_detail('{"cancel_asked_at": "2026-05-01T12:00:00.000Z", "duress": true}'),
        await with_detail('{"cancel_asked_at": "2026-05-01T12:00:00.000Z", "cancel_unverified": true}'),
        await with_contact("revoked_at = now()", "revoked_at = NULL"),
        await with_contact("linked_to_aggressor = true", "linked_to_aggressor = false"),
        await with_contact("may_see = '{}'", "may_see = '{position}'"),
        await with_contact("consented_at = NULL", "consented_at = now()"),
    }
    await desk.delete(f"/v1/incidents/{incident_id}/live-links")
    answers.add(await answer())
    token = await make_link(api, pair, incident_id)
    await query("UPDATE live_link SET created_at = $1, expires_at = $2", *(utc_now() - timedelta(h) for h in (2, 1)))
    answers.add(await answer())
    token = await make_link(api, pair, incident_id)
    await query("UPDATE incident SET state = 'resolved', resolved_at = now() WHERE id = $1", incident_id)
    answers.add(await answer())
    assert len(answers) == 1
    assert b"43.2" not in answers.pop()


async def test_another_browser_needs_a_code_that_goes_where_the_link_went(
    api: Any, pair: Any, phone: Any, page: Any, query: Query
) -> None:
    token = await make_link(api, pair, await press(phone))
    assert (await opened(page, token))["state"] == "live"
    async with api.client(None) as other:
        assert await opened(other, token) == {**ENDED, "state": "elsewhere"}
        assert (await other.post("/v1/live-link/code", json={"token": token})).status_code == 202
        (sent,) = await query("SELECT * FROM delivery WHERE template = 'live_link_code_contact'")
        assert (sent["channel"], sent["audience"], sent["data"]) == ("email", "contact", {})
        assert (await opened(other, token, code="000000"))["state"] == "elsewhere"
        code = await _code_of(api, sent["id"])
        assert (await opened(other, token, code=code))["state"] == "live"
        # It is that browser's now, also without the token in the address.
        assert (await opened(other, None))["state"] == "live"
    assert (await opened(page, token))["state"] == "elsewhere"
    assert await opened(page, None) == ENDED


async def _code_of(api: Any, delivery_id: uuid.UUID) -> str:
    return str((await _private_of(api, delivery_id))["code"])


async def _private_of(api: Any, delivery_id: uuid.UUID) -> dict[str, Any]:
    """What a delivery bears, sealed."""
    from core.domain.sealing import Spot
    from core.postgres import keys as data_keys

    async with api.context.device_database.connection() as connection:
        row = await connection.fetchrow("SELECT target_sealed FROM delivery WHERE id = $1", delivery_id)
        (target,) = await data_keys.open_each(
            connection, [(Spot("delivery", "target", delivery_id), row["target_sealed"])]
        )
    return dict(target["data"])


async def test_a_code_is_tried_a_few_times_and_asked_for_a_few_times(
    api: Any, pair: Any, phone: Any, page: Any, query: Query
) -> None:
    token = await make_link(api, pair, await press(phone))
    await opened(page, token)
    async with api.client(None) as other:
        for _ in range(3):
            await other.post("/v1/live-link/code", json={"token": token})
        (sent,) = await query("SELECT id FROM delivery WHERE template = 'live_link_code_contact'")  # once a minute
        for _ in range(rules.CODE_TRIES):
            await opened(other, token, code="000000")
        assert (await opened(other, token, code=await _code_of(api, sent["id"])))["state"] == "elsewhere"


async def test_each_opening_is_written_down_and_she_sees_who(
    api: Any, pair: Any, phone: Any, page: Any, query: Query
) -> None:
    incident_id = await press(phone)
    token = await make_link(api, pair, incident_id)
    for _ in range(3):  # one opening: loaded again within seconds
        await opened(page, token)
    (contact,) = await query("SELECT id FROM contact")
    (row,) = await query("SELECT * FROM audit WHERE action = 'live_link.opened'")
    assert (row["actor_kind"], row["actor_id"], row["subject_id"]) == ("contact", str(contact["id"]), incident_id)
    assert row["address"] == "127.0.0.1"
    assert row["person_ids"] == [pair.victim_id]
    own = [look for look in (await phone.get("/v1/me/audit")).json()["items"] if look["role"] == "contact"]
    assert [(look["action"], look["contact_id"]) for look in own] == [("live_link.opened", str(contact["id"]))]
    link, *_ = (await phone.get("/v1/me/live-links")).json()["items"]
    assert (link["contact_id"], link["openings"]) == (str(contact["id"]), 1)
    (line,) = await query("SELECT data FROM timeline WHERE kind = 'live_link'")
    assert line["data"]["what"] == "opened"
    assert token not in str([dict(one) for one in await query("SELECT * FROM live_link")])


async def test_what_is_done_about_a_cancelled_panic_is_not_told_to_her_phone(
    api: Any, pair: Any, phone: Any, desk: Any, query: Query
) -> None:
    incident_id = await press(phone)
    await desk.get(f"/v1/incidents/{incident_id}")
    assert len((await phone.get("/v1/me/audit")).json()["items"]) == 1
    await query("UPDATE panic SET cancel_asked_at = now() WHERE incident_id = $1", incident_id)
    await desk.get(f"/v1/incidents/{incident_id}")
    assert len((await phone.get("/v1/me/audit")).json()["items"]) == 1
    await query("UPDATE incident SET state = 'resolved', resolved_at = now() WHERE id = $1", incident_id)
    assert len((await phone.get("/v1/me/audit")).json()["items"]) == 2


async def test_she_takes_them_back_at_once(api: Any, pair: Any, phone: Any, page: Any) -> None:
    token = await make_link(api, pair, await press(phone))
    assert (await opened(page, token))["state"] == "live"
    assert (await phone.delete("/v1/me/live-links")).json() == {"revoked": 2}  # the press made one too
    assert await opened(page, token) == ENDED
    assert (await phone.delete("/v1/me/live-links")).json() == {"revoked": 0}
    async with api.client(pair.bracelet_token) as bracelet:
        assert (await bracelet.delete("/v1/me/live-links")).status_code == 403
        assert (await bracelet.get("/v1/me/live-links")).status_code == 403


async def test_her_press_sends_a_link_to_who_may_see_sealed_and_to_nobody_else(
    api: Any, pair: Any, phone: Any, page: Any, query: Query
) -> None:
    await press(phone)
    (sent,) = await query("SELECT * FROM delivery WHERE template = 'panic_contact'")
    assert "link" not in sent["data"]
    link = (await _private_of(api, sent["id"]))["link"]
    assert (await opened(page, link.removeprefix(PATH)))["state"] == "live"
    (row,) = await query("SELECT * FROM live_link")
    assert link.removeprefix(PATH) not in str(dict(row))


async def test_who_may_not_see_where_she_is_gets_none(api: Any, pair: Any, phone: Any, query: Query) -> None:
    incident_id = await press(phone)
    await query("UPDATE contact SET may_see = '{}'")
    async with act(api.context.device_database, utc_now()) as unit:
        rows = await unit.connection.fetch(f"SELECT {CONTACTS.selected} FROM contact")
        contacts = await CONTACTS.read(unit.connection, rows)
        linked = {**contacts[0], "may_see": ["position"], "linked_to_aggressor": True}
        found = await live_links.make_all(
            unit, incident_id=incident_id, agency_id=pair.agency_id, person_id=pair.victim_id,
            ways=[(contacts[0], "email"), (linked, "email")],
        )  # fmt: skip
    assert found == [None, None]


async def test_the_page_is_indexed_cached_and_embedded_by_nobody(page: Any) -> None:
    for path in ("/l", "/l/page.js", "/l/page.css", "/l/base.css", "/l/words.js", "/l/ring.js"):
        answer = await page.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "noindex" in answer.headers["x-robots-tag"]
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
    for path in ("/l/__init__.py", "/l/page.html", "/l/frame.html", "/l/../app.py", "/l/"):
        assert (await page.get(path)).status_code == 404, path


async def test_a_link_that_is_asked_for_too_often_waits(api: Any, pair: Any, phone: Any, page: Any) -> None:
    token = await make_link(api, pair, await press(phone))
    codes = [(await page.post("/v1/live-link", json={"token": token})).status_code for _ in range(30)]
    assert codes[0] == 200
    assert codes[-1] == 429
