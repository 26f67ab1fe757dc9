"""Hand-overs: exactly what she consents to, to whom, while it holds, and nobody opens one unseen."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from core.clock import rfc3339

IDENTITY = {"name": "Әсем", "phone": "+7 700 000 00 01", "address": "Алматы"}


@pytest.fixture
async def her(office: Any) -> str:
    return str(await office.person(identity=IDENTITY, hazards={"children": True}, safe_word="qar"))


async def consent(office: Any, hands: Any, her: str, to: Any = None, **more: Any) -> dict[str, Any]:
    body = {
        "person_id": her, "recipient": "crisis_centre", "fields": ["name", "phone", "children"], "manner": "written",
        "valid_until": rfc3339(hands() + timedelta(days=30)), **more,
    }  # fmt: skip
    if to is not None:
        body["to_agency_id"] = str(to.agency_id)
    answer = await office.post("/v1/consents", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_the_other_agency_sees_exactly_what_she_consented_to_and_it_is_written_down(
    office: Any, elsewhere: Any, hands: Any, her: str
) -> None:
    given = await consent(office, hands, her, elsewhere)
    made = await office.post("/v1/handovers", {"consent_id": given["id"]})
    assert made.status_code == 201, made.text
    wanted = {"name": "Әсем", "phone": IDENTITY["phone"], "children": True}
    assert made.json()["package"] == wanted
    path = f"/v1/handovers/{made.json()['id']}"
    assert [one["id"] for one in (await elsewhere.get("/v1/handovers?side=received")).json()["items"]] == [
        made.json()["id"]
    ]
    opened = await elsewhere.get(path, "caseworker")
    assert opened.json()["package"] == wanted
    assert (await elsewhere.get(f"/v1/people/{her}")).status_code == 404
    async with office.database.connection() as connection:
        lines = await connection.fetch(
            "SELECT actor_id FROM audit WHERE agency_id = $1 AND action = 'handover.opened' AND subject_id = $2",
            office.agency_id, uuid.UUID(her),
        )  # fmt: skip
        stored = str(await connection.fetch("SELECT * FROM handover")) + str(
            await connection.fetch("SELECT * FROM audit")
        )
    assert [str(line["actor_id"]) for line in lines] == [str(elsewhere.users["caseworker"]["id"])]
    assert all(value not in stored for value in IDENTITY.values()), "no value is kept, only which fields"
    held = (await office.get("/v1/handovers", "caseworker")).json()["items"]
    assert held[0]["first_opened_at"] is not None


async def test_a_consent_that_is_withdrawn_ends_every_hand_over_at_once(
    office: Any, elsewhere: Any, hands: Any, her: str
) -> None:
    given = await consent(office, hands, her, elsewhere)
    own_id = str(uuid.uuid4())
    made = (await office.post("/v1/handovers", {"id": own_id, "consent_id": given["id"]})).json()
    assert (await office.post(f"/v1/consents/{given['id']}/withdraw", None)).json()["withdrawn_at"]
    refused = await elsewhere.get(f"/v1/handovers/{made['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
    assert (await elsewhere.get("/v1/handovers?side=received")).json()["items"] == []
    for body in ({"consent_id": given["id"]}, {"id": own_id, "consent_id": given["id"]}):
        assert (await office.post("/v1/handovers", body)).json()["code"] == "state_forbids"


async def test_a_hand_over_runs_out_and_can_be_taken_back(office: Any, elsewhere: Any, hands: Any, her: str) -> None:
    given = await consent(office, hands, her, elsewhere)
    first, second = [
        (await office.post("/v1/handovers", {"consent_id": given["id"], "fields": ["name"]})).json() for _ in range(2)
    ]
    assert first["package"] == {"name": "Әсем"}
    assert (await elsewhere.post(f"/v1/handovers/{first['id']}/revoke", None)).status_code == 404
    await office.post(f"/v1/handovers/{first['id']}/revoke", None)
    assert (await elsewhere.get(f"/v1/handovers/{first['id']}")).status_code == 409
    assert (await elsewhere.get(f"/v1/handovers/{second['id']}")).status_code == 200
    hands.forward(days=8)
    assert (await elsewhere.get(f"/v1/handovers/{second['id']}")).status_code == 409


async def test_nothing_is_told_that_she_did_not_name(office: Any, elsewhere: Any, hands: Any, her: str) -> None:
    given = await consent(office, hands, her)
    asked = await office.post("/v1/handovers", {"consent_id": given["id"], "fields": ["name", "position"]})
    assert (asked.status_code, "position" in asked.json()["detail"]) == (422, True)
    made = (await office.post("/v1/handovers", {"consent_id": given["id"]})).json()
    assert made["to_agency_id"] is None
    assert (await elsewhere.get(f"/v1/handovers/{made['id']}")).status_code == 404, "it is for nobody here"
    for wrong in ({"fields": ["safe_word"]}, {"valid_until": rfc3339(hands() + timedelta(days=900))}):
        body = {"person_id": her, "recipient": "other", "fields": ["name"], "manner": "spoken", **wrong}
        body.setdefault("valid_until", rfc3339(hands() + timedelta(days=1)))
        assert (await office.post("/v1/consents", body)).status_code == 422


async def test_an_order_is_told_without_him(office: Any, hands: Any, her: str) -> None:
    order = await office.order(her, await office.person(), reference="A-1", legal_ground="kz.protective_order")
    given = await consent(office, hands, her, recipient="contact_centre", fields=["order", "incidents", "position"])
    made = await office.post("/v1/handovers", {"consent_id": given["id"], "order_id": order["id"]})
    package = made.json()["package"]
    assert (package["order"]["reference"], package["incidents"], package["position"]) == ("A-1", [], None)
    assert "aggressor" not in made.text
    other = await office.order(await office.person(), await office.person())
    assert (await office.post("/v1/handovers", {"consent_id": given["id"], "order_id": other["id"]})).status_code == 404
