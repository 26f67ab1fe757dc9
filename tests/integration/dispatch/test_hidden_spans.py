"""What was done while a panic appeared cancelled: her phone shows the same of it after a right PIN and after duress."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpx
import pytest

from api import even_time
from core.actions import live_links, subject_export
from core.actions.unit_of_work import act
from core.clock import to_ms, utc_now
from core.domain.live_link import PATH
from core.domain.panic import CancelIn
from core.postgres.contacts import CONTACTS
from core.postgres.database import Database

Query = Callable[..., Any]
PIN, DURESS_PIN = "2580", "911911"


class Woman(NamedTuple):
    """One of two whose phones are compared, and the desk that looks at her."""

    pair: Any
    phone: httpx.AsyncClient
    desk: httpx.AsyncClient
    pin: str
    database: Database

    async def press(self) -> tuple[str, str]:
        """A panic's id and its incident's."""
        answer = await self.phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
        assert answer.json()["state"] == "open", answer.text
        return answer.json()["panic_id"], answer.json()["incident_id"]

    async def cancel(self, panic_id: str) -> None:
        """Her panic cancelled, by the PIN that is hers in this test."""
        answer = await self.phone.post(f"/v1/panic/{panic_id}/cancel", json={"pin": self.pin})
        assert answer.json() == {"state": "cancelled"}, answer.text

    async def looks(self) -> int:
        """How many looks her phone is told of."""
        return len((await self.phone.get("/v1/me/audit")).json()["items"])


@pytest.fixture
async def women(
    api: Any, pair: Any, another_pair: Any, query: Query, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[Woman]]:
    """Two women, of whom the second is forced; contacts of both may see where they are."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)
    other = await another_pair()
    await query("UPDATE contact SET may_see = '{position}'")
    await api.context.registry.refresh()
    async with (
        api.client(pair.phone_token) as first,
        api.client(other.phone_token) as second,
        api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk,
        api.client(api.token(other.agency_id, other.users["dispatcher"])) as other_desk,
    ):
        for phone in (first, second):
            assert (await phone.put("/v1/me/pins", json={"pin": PIN, "duress_pin": DURESS_PIN})).status_code == 204
        yield [
            Woman(pair, first, desk, PIN, database),
            Woman(other, second, other_desk, DURESS_PIN, database),
        ]


async def test_looks_are_hidden_from_a_cancelling_to_the_next_press_whatever_the_pin(
    women: list[Woman], query: Query
) -> None:
    shown = []
    for woman in women:
        first, incident_id = await woman.press()
        told = []
        for deed in (None, first, "press", "again"):
            if deed == first:
                await woman.cancel(first)
            elif deed is not None:
                second, _ = await woman.press()
                if deed == "again":
                    await woman.cancel(second)
            await woman.desk.get(f"/v1/incidents/{incident_id}")
            told.append(await woman.looks())
        await query("UPDATE incident SET state = 'resolved', resolved_at = now() WHERE id = $1", uuid.UUID(incident_id))
        shown.append([*told, await woman.looks()])
    assert shown == [[1, 1, 2, 2, 4]] * 2, "what was told once stays, what was hidden comes with the end"


async def test_a_hidden_panic_hides_who_looks_at_it_until_she_presses(women: list[Woman], query: Query) -> None:
    _, woman = women
    await woman.cancel(str(uuid.uuid4()))
    [row] = await query("SELECT id FROM incident")
    await woman.desk.get(f"/v1/incidents/{row['id']}")
    assert await woman.looks() == 0
    await woman.press()
    await woman.desk.get(f"/v1/incidents/{row['id']}")
    assert await woman.looks() == 1


async def test_a_duress_pin_at_a_timer_hides_nothing_of_an_open_panic(women: list[Woman]) -> None:
    shown = []
    for woman in women:
        _, incident_id = await woman.press()
        timer = {"id": str(uuid.uuid4()), "minutes": 20}
        assert (await woman.phone.post("/v1/panic/timers", json=timer)).status_code == 201
        await woman.phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": woman.pin})
        await woman.desk.get(f"/v1/incidents/{incident_id}")
        shown.append((await woman.looks(), await _exported(woman)))
    assert shown[0] == shown[1]
    assert shown[0][0] == 1


async def test_her_own_export_leaves_out_the_same_after_every_pin(women: list[Woman]) -> None:
    shown = []
    for woman in women:
        first, _ = await woman.press()
        before = await _exported(woman)
        await woman.cancel(first)
        cancelled = await _exported(woman)
        await woman.press()
        shown.append((before, cancelled, await _exported(woman)))
    assert shown == [(["open"], [], ["open"])] * 2


async def _exported(woman: Woman) -> list[str]:
    """The states of the incidents in her own export."""
    async with act(woman.database, utc_now()) as unit:
        held = await subject_export.read(unit, woman.pair.agency_id, woman.pair.victim_id, None, consents=False)
    return [incident["state"] for incident in held.parts["incidents"]]


async def test_a_dispatcher_s_taking_back_of_links_shows_on_no_phone_while_it_appears_cancelled(
    women: list[Woman], query: Query
) -> None:
    shown = []
    for number, woman in enumerate(women):
        panic_id, incident_id = await woman.press()
        await woman.cancel(panic_id)
        before = (await woman.phone.get("/v1/me/live-links")).json()
        if number:  # what is done about her who was forced, and about the other is not
            taken = await woman.desk.delete(f"/v1/incidents/{incident_id}/live-links")
            assert taken.json() == {"revoked": 1}
        assert (await woman.phone.get("/v1/me/live-links")).json() == before
        assert before["items"][0]["revoked_at"] is None
        shown.append((await woman.phone.delete("/v1/me/live-links")).json())
        [link] = (await woman.phone.get("/v1/me/live-links")).json()["items"]
        assert link["revoked_because"] == "her"
    assert shown == [{"revoked": 1}] * 2


async def test_before_a_cancelling_her_phone_shows_that_a_dispatcher_took_a_link_back(women: list[Woman]) -> None:
    woman = women[0]
    panic_id, incident_id = await woman.press()
    await woman.desk.delete(f"/v1/incidents/{incident_id}/live-links")
    await woman.cancel(panic_id)
    [link] = (await woman.phone.get("/v1/me/live-links")).json()["items"]
    assert link["revoked_because"] == "dispatcher"


async def test_what_was_done_while_it_appeared_cancelled_is_not_told_of_the_next_press(
    women: list[Woman], query: Query
) -> None:
    shown = []
    for number, woman in enumerate(women):
        first, incident_id = await woman.press()
        await woman.cancel(first)
        if number:  # after duress help is sent
            await query(
                "UPDATE incident SET state = 'dispatched', acknowledged_at = now(), dispatched_at = now()"
                " WHERE id = $1", uuid.UUID(incident_id),
            )  # fmt: skip
        second, _ = await woman.press()
        told = (await woman.phone.get(f"/v1/panic/{second}")).json()
        shown.append((told["state"], told["acknowledged_at"], told["dispatched_at"], len(told["told"])))
        await query(
            "UPDATE incident SET state = 'dispatched', dispatched_at = now() WHERE id = $1", uuid.UUID(incident_id)
        )
        assert (await woman.phone.get(f"/v1/panic/{second}")).json()["state"] == "dispatched"
    assert shown == [("open", None, None, 1)] * 2


async def test_a_duress_pin_at_a_timer_or_read_late_tells_her_phone_of_no_message_more(
    api: Any, women: list[Woman]
) -> None:
    shown = []
    for woman in women:
        first, _ = await woman.press()
        timer = {"id": str(uuid.uuid4()), "minutes": 20}
        await woman.phone.post("/v1/panic/timers", json=timer)
        await woman.phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": woman.pin})
        told = [(await woman.phone.get(f"/v1/panic/{first}")).json()["told"]]
        asked_ms = to_ms(utc_now())
        second, _ = await woman.press()
        wish = CancelIn(
            id=uuid.uuid4(), panic_id=first, device_id=woman.pair.phone_id, received_ms=asked_ms - 1, pin=woman.pin
        )
        assert await api.context.panic_desk._rows.commit_cancel(wish, lambda: True) is True
        told.append((await woman.phone.get(f"/v1/panic/{second}")).json()["told"])
        shown.append([sorted((one["audience"], one["state"]) for one in some) for some in told])
    assert [some for some in shown[0] if some]
    assert shown[0] == shown[1]


async def _link(woman: Woman, incident_id: str) -> str:
    """The token of a link to her sister."""
    async with act(woman.database, utc_now()) as unit:
        rows = await unit.connection.fetch(
            f"SELECT {CONTACTS.selected} FROM contact WHERE person_id = $1", woman.pair.victim_id
        )
        (contact,) = await CONTACTS.read(unit.connection, rows)
        (path,) = await live_links.make_all(
            unit, incident_id=uuid.UUID(incident_id), agency_id=woman.pair.agency_id, person_id=woman.pair.victim_id,
            ways=[(contact, "email")],
        )  # fmt: skip
    assert path is not None
    return path.removeprefix(PATH)


async def test_her_contact_s_page_goes_by_what_was_pressed_and_asked_and_never_by_the_pin(
    api: Any, women: list[Woman], query: Query
) -> None:
    """Whoever has the contact's phone as well could compare: after a new press it lives again, or it does not."""
    shown = []
    for woman in women:
        async with api.client(None) as page:
            first, incident_id = await woman.press()
            token = await _link(woman, incident_id)

            async def state(page: httpx.AsyncClient = page, token: str = token) -> str:
                return str((await page.post("/v1/live-link", json={"token": token})).json()["state"])

            states = [await state()]
            timer = {"id": str(uuid.uuid4()), "minutes": 20}
            await woman.phone.post("/v1/panic/timers", json=timer)
            await woman.phone.post(f"/v1/panic/timers/{timer['id']}/cancel", json={"pin": woman.pin})
            states.append(await state())
            await woman.cancel(first)
            states.append(await state())
            second, _ = await woman.press()
            states.append(await state())
            await woman.cancel(second)
            states.append(await state())
            third, _ = await woman.press()
            await woman.cancel(str(uuid.uuid4()))  # of none that there is
            states.append(await state())
            await woman.cancel(first)
            states.append(await state())
            await woman.press()
            assert (await woman.phone.post(f"/v1/panic/{third}/cancel", json={"pin": PIN})).status_code == 200
            states.append(await state())
            shown.append(states)
    assert shown == [["live", "live", "ended", "live", "ended", "live", "ended", "ended"]] * 2
    rows = await query("SELECT victim_id, detail FROM incident")
    forced = {row["victim_id"]: row["detail"].get("duress", False) for row in rows}
    assert forced == {women[0].pair.victim_id: False, women[1].pair.victim_id: True}


async def test_a_wish_read_late_ends_no_page_that_a_later_press_made_live(api: Any, women: list[Woman]) -> None:
    shown = []
    for woman in women:
        async with api.client(None) as page:
            first, incident_id = await woman.press()
            token = await _link(woman, incident_id)
            asked_ms = to_ms(utc_now())
            await woman.press()
            wish = CancelIn(
                id=uuid.uuid4(), panic_id=first, device_id=woman.pair.phone_id, received_ms=asked_ms - 1, pin=woman.pin
            )
            assert await api.context.panic_desk._rows.commit_cancel(wish, lambda: True) is True
            shown.append((await page.post("/v1/live-link", json={"token": token})).json()["state"])
    assert shown == ["live", "live"]
