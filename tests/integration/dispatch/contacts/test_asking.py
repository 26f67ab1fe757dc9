"""Who is asked to be a trusted contact is told of nothing before a code and his consent."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from api.link_gate import LinkGate
from core.domain.trusted_contact import CODES_MAX, CONTACTS_MAX
from tests.integration.dispatch.contacts.conftest import BROTHER, MAIL, NUMBER, Ask, Hands, Query


async def state(phone: Any) -> list[str]:
    return [one["state"] for one in (await phone.get("/v1/me/contacts")).json()["items"]]


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


async def test_a_panic_that_her_phone_must_not_know_of_holds_back_no_invitation(
    phone: Any, letters: Any, query: Query
) -> None:
    """Whoever forced her could add a number of his own and see whether a message comes."""
    await phone.put("/v1/me/pins", json={"pin": "2580", "duress_pin": "911911"})
    await phone.post(f"/v1/panic/{uuid.uuid4()}/cancel", json={"pin": "911911"})
    [row] = await query("SELECT detail FROM incident")
    assert row["detail"]["presses"] == 0
    assert (await phone.post("/v1/me/contacts", json=BROTHER)).status_code == 201
    assert len(await letters("invitation_contact")) == 1
    await phone.post("/v1/panic", json={"id": str(uuid.uuid4())})
    assert (await phone.post("/v1/me/contacts", json=BROTHER)).status_code == 201
    assert len(await letters("invitation_contact")) == 1


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
