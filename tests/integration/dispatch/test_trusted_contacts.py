"""Trusted contacts: asked, shown by a code to hold an address, consenting; told of nothing before, nor afterwards."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from api.link_gate import LinkGate
from core.actions.unit_of_work import act
from core.clock import utc_now
from core.domain.sealing import Spot
from core.domain.trusted_contact import CODES_MAX, CONTACTS_MAX, LIFE, PATH
from core.postgres import keys
from core.postgres.retention_sweeps import SWEEPS

Query = Callable[..., Any]
Ask = Callable[..., Awaitable[dict[str, Any]]]

MAIL, NUMBER = "brother@example.kz", "+77015550142"
BROTHER = {
    "name": "Ерлан Сапаров",
    "relation": "brother",
    "channels": [{"channel": "email", "address": MAIL}, {"channel": "sms", "address": "+7 (701) 555-01-42"}],
    "language": "kk",
    "may_see": ["position", "time"],
}
ENDED = {
    "state": "ended", "language": None, "inviter": None, "may_see": [], "ways": [], "expires_at": None,
    "code_wrong": False,
}  # fmt: skip


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self._ahead

    def forward(self, **span: float) -> None:
        self._ahead += timedelta(**span)


@pytest.fixture(autouse=True)
async def hands(api: Any, pair: Any, query: Query) -> Hands:
    """The API's clock; the sister whom every pair comes with is somebody else's affair."""
    await query("UPDATE contact SET revoked_at = now() WHERE person_id = $1", pair.victim_id)
    await api.context.registry.refresh()
    api.context.clock = hands = Hands()
    return hands


@pytest.fixture
async def phone(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(pair.phone_token) as client:
        yield client


@pytest.fixture
async def office(api: Any, pair: Any) -> AsyncIterator[Any]:
    async with api.client(api.token(pair.agency_id, pair.users["caseworker"], "caseworker")) as client:
        yield client


@pytest.fixture
async def ask(api: Any) -> AsyncIterator[Ask]:
    """What the invitation's page asks: ask(step, token, …)."""
    async with api.client(None) as client:

        async def asked(step: str, token: str, **more: Any) -> dict[str, Any]:
            answer = await client.post(f"/v1/contact-invitation{step}", json={"token": token, **more})
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        yield asked


@pytest.fixture
def letters(api: Any, query: Query) -> Callable[..., Any]:
    """Messages of a template with what is sealed of them, the newest last."""

    async def found(template: str, *states: str) -> list[dict[str, Any]]:
        rows = await query(
            "SELECT * FROM delivery WHERE template = $1 AND state = ANY ($2) ORDER BY created_at, id",
            template,
            list(states or ("queued",)),
        )
        async with act(api.context.device_database, utc_now()) as unit:
            targets = await keys.open_each(
                unit.connection, [(Spot("delivery", "target", row["id"]), row["target_sealed"]) for row in rows]
            )
        return [{**dict(row), **target} for row, target in zip(rows, targets, strict=True)]

    return found


@pytest.fixture
def invited(phone: Any, letters: Any) -> Callable[..., Awaitable[tuple[dict[str, Any], str]]]:
    """A contact whom she asked from her phone, and the token that went to him."""

    async def made(**more: Any) -> tuple[dict[str, Any], str]:
        answer = await phone.post("/v1/me/contacts", json={**BROTHER, **more})
        assert answer.status_code == 201, answer.text
        letter = (await letters("invitation_contact"))[-1]
        assert letter["data"]["link"].startswith(PATH)
        return dict(answer.json()), letter["data"]["link"].removeprefix(PATH)

    return made


@pytest.fixture
def consented(invited: Any, ask: Ask, letters: Any) -> Callable[..., Awaitable[tuple[dict[str, Any], str]]]:
    """One who has confirmed his e-mail address and consented."""

    async def made(**more: Any) -> tuple[dict[str, Any], str]:
        contact, token = await invited(**more)
        await ask("/code", token, way=0)
        code = (await letters("code_contact"))[-1]["data"]["code"]
        assert (await ask("/verify", token, way=0, code=code))["state"] == "verified"
        assert (await ask("/consent", token))["state"] == "active"
        return contact, token

    return made


@pytest.fixture
def press(phone: Any) -> Callable[[], Awaitable[str]]:
    async def pressed() -> str:
        return str((await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})).json()["incident_id"])

    return pressed


async def state(phone: Any) -> list[str]:
    return [one["state"] for one in (await phone.get("/v1/me/contacts")).json()["items"]]


# asked ------------------------------------------------------------------------------------------------------------


async def test_who_is_asked_confirms_an_address_consents_and_is_told(
    phone: Any, invited: Any, ask: Ask, letters: Any, press: Any, query: Query
) -> None:
    contact, token = await invited()
    assert contact["state"] == "invited"
    assert [way["masked"] for way in contact["ways"]] == ["b•••@e•••.kz", "•••42"]
    asked = await ask("", token)
    assert (asked["state"], asked["may_see"], asked["inviter"]) == ("invited", [], None)
    assert (await ask("/consent", token))["state"] == "invited", "nothing is so without a confirmed address"
    for way in (0, 1):
        assert (await ask("/code", token, way=way))["ways"][way]["code_sent"]
    codes = {letter["channel"]: letter for letter in await letters("code_contact")}
    assert codes["email"]["address"] == MAIL
    assert codes["sms"]["address"] == NUMBER
    shown = await ask("/verify", token, way=1, code=codes["sms"]["data"]["code"])
    assert (shown["state"], shown["may_see"]) == ("verified", ["position", "time"])
    assert [way["verified"] for way in shown["ways"]] == [False, True]
    assert await state(phone) == ["verified"]
    shown = await ask("/consent", token, language="ru")
    assert (shown["state"], shown["language"], shown["expires_at"]) == ("active", "ru", None)
    assert [way["masked"] for way in shown["ways"]] == ["•••42"], "only what he confirmed is used"
    assert await state(phone) == ["active"]
    await press()
    (told,) = await letters("panic_contact")
    assert (told["address"], told["language"], told["recipient"]) == (NUMBER, "ru", f"contact:{contact['id']}")


@pytest.mark.parametrize("until", ["invited", "opened", "verified"])
async def test_before_he_consents_he_is_told_nothing(
    until: str, invited: Any, ask: Ask, letters: Any, press: Any
) -> None:
    _, token = await invited()
    if until != "invited":
        await ask("", token)
    if until == "verified":
        await ask("/code", token, way=0)
        await ask("/verify", token, way=0, code=(await letters("code_contact"))[-1]["data"]["code"])
    await press()
    assert await letters("panic_contact") == []


async def test_her_name_is_told_only_if_she_gave_one_and_on_the_page_only_to_who_holds_the_address(
    invited: Any, ask: Ask, letters: Any
) -> None:
    _, unnamed = await invited()
    _, named = await invited(as_name="Гүлім")
    first, second = await letters("invitation_contact")
    assert "inviter" not in first["data"]
    assert second["data"]["inviter"] == "Гүлім"
    assert (await ask("", named))["inviter"] is None
    await ask("/code", named, way=0)
    shown = await ask("/verify", named, way=0, code=(await letters("code_contact"))[-1]["data"]["code"])
    assert shown["inviter"] == "Гүлім"
    assert (await ask("", unnamed))["inviter"] is None


async def test_a_wrong_code_counts_and_five_spend_it(invited: Any, ask: Ask, letters: Any, hands: Hands) -> None:
    _, token = await invited()
    await ask("/code", token, way=0)
    code = (await letters("code_contact"))[-1]["data"]["code"]
    wrong = f"{(int(code) + 1) % 10**6:06d}"
    for _ in range(5):
        assert (await ask("/verify", token, way=0, code=wrong))["code_wrong"] is True
    assert (await ask("/verify", token, way=0, code=code))["code_wrong"] is True, "spent"
    assert len(await letters("code_contact")) == 1
    await ask("/code", token, way=0)
    assert len(await letters("code_contact")) == 1, "not so soon"
    hands.forward(minutes=1)
    await ask("/code", token, way=0)
    fresh = (await letters("code_contact"))[-1]["data"]["code"]
    assert (await ask("/verify", token, way=1, code=fresh))["code_wrong"] is True, "another address's"
    assert (await ask("/verify", token, way=0, code=f"{fresh[:3]} {fresh[3:]}"))["state"] == "verified"


async def test_a_code_runs_out_and_an_invitation_cannot_flood_a_stranger(
    api: Any, invited: Any, ask: Ask, letters: Any, hands: Hands
) -> None:
    _, token = await invited()
    await ask("/code", token, way=0)
    code = (await letters("code_contact"))[-1]["data"]["code"]
    hands.forward(minutes=11)
    assert (await ask("/verify", token, way=0, code=code))["code_wrong"] is True
    for _ in range(CODES_MAX + 3):
        await ask("/code", token, way=0)
        hands.forward(minutes=11)
        api.context.links = LinkGate()  # how often one address may ask is not what this is about
    assert len(await letters("code_contact")) <= CODES_MAX


async def test_codes_and_tokens_stand_nowhere_plain(consented: Any, letters: Any, query: Query) -> None:
    _, token = await consented()
    code = (await letters("code_contact"))[-1]["data"]["code"]
    tables = ("delivery", "contact", "contact_invitation", "contact_code", "audit", "feed")
    dump = "".join([str(await query(f"SELECT t::text FROM {name} t")) for name in tables])
    for secret in (token, MAIL, NUMBER, BROTHER["name"]):
        assert secret not in dump
        assert str(secret).encode().hex() not in dump
    assert f'"{code}"' not in dump


# ended ------------------------------------------------------------------------------------------------------------


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


# over -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def resolve(api: Any, pair: Any, query: Query) -> Callable[..., Awaitable[None]]:
    async def resolved(incident_id: str, outcome: str) -> None:
        (row,) = await query("SELECT version FROM incident WHERE id = $1", uuid.UUID(incident_id))
        async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk:
            answer = await desk.post(
                f"/v1/incidents/{incident_id}/resolve", json={"version": row["version"], "outcome": outcome}
            )
            assert answer.status_code == 200, answer.text

    return resolved


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


# her device -------------------------------------------------------------------------------------------------------


async def test_her_device_adds_once_and_never_shows_a_whole_address(phone: Any, letters: Any) -> None:
    body = {**BROTHER, "id": str(uuid.uuid4())}
    first = await phone.post("/v1/me/contacts", json=body)
    second = await phone.post("/v1/me/contacts", json=body)
    assert first.json() == second.json()
    assert len(await letters("invitation_contact")) == 1
    listed = (await phone.get("/v1/me/contacts")).text
    assert MAIL not in listed
    assert NUMBER not in listed
    assert BROTHER["name"] in listed


@pytest.mark.parametrize(
    ("channel", "address"),
    [("email", "no address"), ("email", "a@b"), ("sms", "87015550142"), ("sms", "+7 701"), ("webhook", "https://a.kz")],
)
async def test_an_address_that_is_none_is_refused(phone: Any, channel: str, address: str) -> None:
    answer = await phone.post(
        "/v1/me/contacts", json={**BROTHER, "channels": [{"channel": channel, "address": address}]}
    )
    assert answer.status_code == 422


async def test_she_has_so_many_and_no_more(phone: Any) -> None:
    answers = [(await phone.post("/v1/me/contacts", json=BROTHER)).status_code for _ in range(CONTACTS_MAX + 1)]
    assert answers == [201] * CONTACTS_MAX + [409]


async def test_while_a_panic_is_open_nobody_new_is_asked_and_the_answer_does_not_tell(
    phone: Any, office: Any, press: Any, letters: Any, query: Query
) -> None:
    before = (await phone.post("/v1/me/contacts", json=BROTHER)).json()
    await press()
    during = await phone.post("/v1/me/contacts", json=BROTHER)
    assert during.status_code == 201
    assert {**during.json(), "id": "", "invited_at": ""} == {**before, "id": "", "invited_at": ""}
    assert len(await letters("invitation_contact")) == 1
    await office.post(f"/v1/contacts/{during.json()['id']}/invite", json={})
    assert len(await letters("invitation_contact")) == 2


async def test_his_device_and_another_womans_have_no_such_page(
    api: Any, pair: Any, consented: Any, another_pair: Any
) -> None:
    contact, _ = await consented()
    async with api.client(pair.bracelet_token) as his:
        assert (await his.get("/v1/me/contacts")).status_code == 403
        assert (await his.post("/v1/me/contacts", json=BROTHER)).status_code == 403
    other = await another_pair()
    await api.context.registry.refresh()
    async with api.client(other.phone_token) as hers:
        assert (await hers.delete(f"/v1/me/contacts/{contact['id']}")).status_code == 404
        taken = await hers.post("/v1/me/contacts", json={**BROTHER, "id": contact["id"]})
        assert taken.status_code == 409


# kept -------------------------------------------------------------------------------------------------------------


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
