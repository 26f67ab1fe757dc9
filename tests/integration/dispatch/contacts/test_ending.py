"""What ends with a contact, at once and for good; and how he hears that an alarm is over."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from typing import Any

import pytest

from api.link_gate import LinkGate
from core.actions.contacts import ENDED
from core.clock import utc_now
from core.domain.trusted_contact import LIFE
from core.postgres.retention_sweeps import SWEEPS
from tests.integration.dispatch.contacts.conftest import BROTHER, MAIL, Ask, Hands, Query


async def state(phone: Any) -> list[str]:
    return [one["state"] for one in (await phone.get("/v1/me/contacts")).json()["items"]]


async def test_what_asks_nothing_answers_alike(
    api: Any, phone: Any, office: Any, invited: Any, consented: Any, ask: Ask, hands: Hands, query: Query
) -> None:
    revoked, gone = await consented()
    await phone.delete(f"/v1/me/contacts/{revoked['id']}")
    _, refused = await invited()
    await ask("/refuse", refused)
    again, earlier = await invited()
    assert (await office.post(f"/v1/contacts/{again['id']}/invite", json={})).status_code == 202
    linked, his = await invited()
    await office.patch(f"/v1/contacts/{linked['id']}", json={"linked_to_aggressor": True})
    moved, old = await invited()
    await office.patch(f"/v1/contacts/{moved['id']}", json={"channels": []})
    _, late = await invited()
    hands.forward(days=LIFE.days)
    for token in (gone, refused, earlier, his, old, late, "x" * 24):
        code = {"way": 0, "code": "000000"}
        for step, more in (("", {}), ("/code", {"way": 0}), ("/verify", code), ("/consent", {}), ("/refuse", {})):
            api.context.links = LinkGate()  # all of them come from one address here
            assert await ask(step, token, **more) == ENDED, (token, step)


async def test_revoked_by_her_he_is_told_nothing_and_nothing_queued_goes_out(
    phone: Any, consented: Any, letters: Any, press: Any, query: Query, ask: Ask
) -> None:
    contact, token = await consented()
    await press()
    assert len(await letters("panic_contact")) == 1
    await query("UPDATE delivery SET state = 'sending', leased_by = 'x' WHERE template = 'code_contact'")
    assert (await phone.delete(f"/v1/me/contacts/{contact['id']}")).status_code == 204
    assert (await phone.delete(f"/v1/me/contacts/{contact['id']}")).status_code == 204, "twice is once"
    assert {row["state"] for row in await query("SELECT state FROM delivery WHERE audience = 'contact'")} == {
        "cancelled"
    }
    assert await ask("", token) == ENDED
    assert await state(phone) == []
    revoked = await query("SELECT revoked_because FROM live_link WHERE contact_id = $1", uuid.UUID(contact["id"]))
    assert {row["revoked_because"] for row in revoked} <= {"contact"}


async def test_he_himself_ends_it_by_the_same_page(
    consented: Any, phone: Any, ask: Ask, press: Any, letters: Any
) -> None:
    _, token = await consented()
    assert (await ask("", token))["state"] == "active"
    assert await ask("/refuse", token) == ENDED
    await press()
    assert await letters("panic_contact") == []
    assert await state(phone) == []


async def test_a_caseworker_asks_takes_back_and_sees_where_each_stands(
    office: Any, pair: Any, letters: Any, query: Query
) -> None:
    made = await office.post("/v1/contacts", json={"person_id": str(pair.victim_id), **BROTHER})
    assert made.json()["state"] == "entered"
    contact_id = made.json()["id"]
    asked = await office.post(f"/v1/contacts/{contact_id}/invite", json={"as_name": "Гүлім"})
    assert (asked.status_code, asked.json()["state"]) == (202, "invited")
    assert len(await letters("invitation_contact")) == 1
    assert (await office.delete(f"/v1/contacts/{contact_id}")).status_code == 204
    assert (await office.get(f"/v1/contacts/{contact_id}")).json()["state"] == "revoked"
    assert await letters("invitation_contact") == []
    refused = await office.post(f"/v1/contacts/{contact_id}/invite", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
    actions = [
        row["action"] for row in await query("SELECT action FROM audit WHERE subject_kind = 'contact' ORDER BY id")
    ]
    assert actions == ["contact.created", "contact.invited", "contact.revoked", "contact.read"]


async def test_new_ways_are_confirmed_and_consented_to_anew(
    office: Any, consented: Any, ask: Ask, press: Any, letters: Any
) -> None:
    contact, token = await consented()
    ways = [{"channel": "email", "address": "stranger@example.kz"}]
    changed = await office.patch(f"/v1/contacts/{contact['id']}", json={"channels": ways})
    assert (changed.json()["state"], changed.json()["verified_at"]) == ("entered", None)
    assert await ask("", token) == ENDED
    await press()
    assert await letters("panic_contact") == []


async def test_who_is_linked_to_the_aggressor_is_neither_asked_nor_told(
    office: Any, consented: Any, press: Any, letters: Any
) -> None:
    contact, _ = await consented()
    await press()
    assert len(await letters("panic_contact")) == 1
    await office.patch(f"/v1/contacts/{contact['id']}", json={"linked_to_aggressor": True})
    assert await letters("panic_contact") == []
    refused = await office.post(f"/v1/contacts/{contact['id']}/invite", json={})
    assert refused.status_code == 409


async def test_consent_and_revoking_at_the_same_moment_leave_him_untold(
    phone: Any, invited: Any, ask: Ask, letters: Any, press: Any
) -> None:
    contact, token = await invited()
    await ask("/code", token, way=0)
    await ask("/verify", token, way=0, code=(await letters("code_contact"))[-1]["data"]["code"])
    await asyncio.gather(ask("/consent", token), phone.delete(f"/v1/me/contacts/{contact['id']}"))
    await press()
    assert await letters("panic_contact") == []


async def test_who_heard_of_the_alarm_hears_that_it_is_over(
    consented: Any, press: Any, resolve: Any, letters: Any, query: Query, phone: Any
) -> None:
    contact, _ = await consented()
    taken_back, _ = await consented()
    incident_id = await press()
    await query("UPDATE delivery SET state = 'seen', attempts = 1 WHERE template = 'panic_contact'")
    await phone.delete(f"/v1/me/contacts/{taken_back['id']}")
    await resolve(incident_id, "victim_safe")
    (letter,) = await letters("panic_all_clear_contact")
    assert (letter["recipient"], letter["address"]) == (f"contact:{contact['id']}", MAIL)


async def test_whom_the_alarm_had_not_reached_hears_of_neither(
    consented: Any, press: Any, resolve: Any, letters: Any
) -> None:
    await consented()
    incident_id = await press()
    await resolve(incident_id, "false_alarm")
    assert await letters("panic_all_clear_contact", "queued", "cancelled") == []
    assert await letters("panic_contact") == []


@pytest.mark.parametrize("mark", ["duress", "cancel_unverified"])
async def test_after_duress_nobody_of_hers_hears_of_an_end(
    mark: str, consented: Any, press: Any, resolve: Any, letters: Any, query: Query
) -> None:
    await consented()
    incident_id = await press()
    await query("UPDATE delivery SET state = 'sent', attempts = 1 WHERE template = 'panic_contact'")
    detail = f'{{"{mark}": true}}'
    await query("UPDATE incident SET detail = detail || $1::text::jsonb", detail)
    await resolve(incident_id, "custody")
    assert await letters("panic_all_clear_contact", "queued", "cancelled") == []


@pytest.mark.parametrize("outcome", ["duplicate", "other"])
async def test_of_an_end_that_is_none_nobody_hears(
    outcome: str, consented: Any, press: Any, resolve: Any, letters: Any, query: Query
) -> None:
    await consented()
    incident_id = await press()
    await query("UPDATE delivery SET state = 'sent', attempts = 1 WHERE template = 'panic_contact'")
    await resolve(incident_id, outcome)
    assert await letters("panic_all_clear_contact") == []


async def test_each_step_is_in_the_audit_without_name_or_address(consented: Any, ask: Ask, query: Query) -> None:
    contact, token = await consented()
    await ask("/refuse", token)
    rows = await query(
        "SELECT action, actor_kind, person_ids, detail FROM audit WHERE subject_id = $1 ORDER BY at, id",
        uuid.UUID(contact["id"]),
    )
    assert [(row["action"], row["actor_kind"]) for row in rows] == [
        ("contact.created", "device"), ("contact.invited", "device"), ("contact.code_sent", "contact"),
        ("contact.verified", "contact"), ("contact.consented", "contact"), ("contact.refused", "contact"),
        ("contact.revoked", "contact"),
    ]  # fmt: skip
    assert all(row["person_ids"] for row in rows)
    assert not any("@" in str(row["detail"]) for row in rows)


async def test_who_never_answered_is_forgotten_and_who_consented_is_kept(
    invited: Any, consented: Any, query: Query, pair: Any
) -> None:
    unanswered, _ = await invited()
    active, _ = await consented()
    (sweep,) = [one for one in SWEEPS if one.steps[0][0] == "contact"]
    due = await query(f"SELECT id FROM ({sweep.due}) due", pair.agency_id, utc_now() + LIFE + timedelta(days=30))
    assert [str(row["id"]) for row in due] == [unanswered["id"]]
    await query(sweep.steps[0][1], [row["id"] for row in due])
    left = await query("SELECT contact_id FROM contact_invitation")
    assert [str(row["contact_id"]) for row in left] == [active["id"]]


async def test_erasing_her_forgets_whom_she_asked_and_sends_them_nothing(
    invited: Any, consented: Any, press: Any, pair: Any, query: Query
) -> None:
    await invited()
    await consented()
    await press()
    await query("SELECT erase_person($1, now())", pair.victim_id)
    for table in ("contact", "contact_invitation", "contact_code", "live_link"):
        assert await query(f"SELECT 1 FROM {table} WHERE person_id = $1", pair.victim_id) == []
    left = await query("SELECT state, target_sealed FROM delivery WHERE audience = 'contact'")
    assert {(row["state"], row["target_sealed"]) for row in left} == {("cancelled", None)}
