"""Dead letters, and a webhook's secret: what a supervisor does about what nobody got."""

from __future__ import annotations

import json

import pytest

from core.ids import new_id
from tests.integration.notifier.receipt_stage import Stage, stage

__all__ = ["stage"]


async def test_a_dead_letter_is_sent_again_or_dismissed_and_both_are_written_down(stage: Stage) -> None:
    first, second = [await stage.queue(audience="dispatcher", recipient="route:1") for _ in range(2)]
    gone = await stage.outbox.put(state="dead", address=None)
    async with stage.database.transaction() as connection:
        await connection.execute(
            "UPDATE delivery SET state = 'dead', attempts = 12, last_error = 'HTTP 500' WHERE id = ANY ($1)",
            [first.id, second.id],
        )
        await connection.execute(
            "INSERT INTO poison (source, entry, reason, at) VALUES ('pings', '1', 'no ping', $1)", stage.clock()
        )
    headers = stage.bearer("supervisor")
    listed = (await stage.client.get("/v1/dead-letters", headers=headers)).json()
    assert {one["id"] for one in listed["items"]} == {str(first.id), str(second.id), str(gone)}
    assert listed["poison"] == {"pings": 1}
    assert "+7701" not in json.dumps(listed)
    assert (await stage.client.get("/v1/dead-letters", headers=stage.bearer("dispatcher"))).status_code == 403
    for path, status in (
        (f"{first.id}/retry", 202), (f"{first.id}/retry", 404), (f"{second.id}/dismiss", 204), (f"{gone}/retry", 409),
        (f"{new_id()}/retry", 404), (f"{new_id()}/dismiss", 404),
    ):  # fmt: skip
        answer = await stage.client.post(f"/v1/dead-letters/{path}", headers=headers)
        assert answer.status_code == status, path
    row = await stage.outbox.get(first.id)
    assert (row["state"], row["attempts"], row["forgiven"]) == ("queued", 12, 12)
    left = (await stage.client.get("/v1/dead-letters", headers=headers)).json()["items"]
    assert [one["id"] for one in left] == [str(gone)]
    shown = (await stage.client.get("/v1/dead-letters", params={"dismissed": True}, headers=headers)).json()["items"]
    assert {one["id"] for one in shown} == {str(gone), str(second.id)}
    actions = await stage.outbox.rows("SELECT action FROM audit WHERE subject_kind = 'delivery' ORDER BY at, id")
    assert [one["action"] for one in actions] == ["delivery.retried", "delivery.dismissed"]


@pytest.mark.parametrize("audience", ["victim", "contact"])
async def test_nothing_dead_goes_to_her_or_hers_after_duress_nor_to_a_contact_taken_back(
    stage: Stage, audience: str
) -> None:
    person_id, contact_id = new_id(), new_id()
    async with stage.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO person (id, agency_id, created_at, updated_at) VALUES ($1, $2, $3, $3)",
            person_id, stage.outbox.agency_id, stage.clock(),
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO contact (id, agency_id, person_id, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)",
            contact_id, stage.outbox.agency_id, person_id, stage.clock(),
        )  # fmt: skip
    recipient = f"contact:{contact_id}" if audience == "contact" else f"device:{stage.outbox.device_id}"

    async def retry() -> int:
        item = await stage.queue(audience=audience, recipient=recipient)
        async with stage.database.transaction() as connection:
            await connection.execute("UPDATE delivery SET state = 'dead' WHERE id = $1", item.id)
        answer = await stage.client.post(f"/v1/dead-letters/{item.id}/retry", headers=stage.bearer("supervisor"))
        return answer.status_code

    assert await retry() == 202
    async with stage.database.transaction() as connection:
        await connection.execute("UPDATE incident SET detail = $1", {"duress": True})
    assert await retry() == 409
    async with stage.database.transaction() as connection:
        await connection.execute("UPDATE incident SET detail = '{}'")
        await connection.execute("UPDATE contact SET revoked_at = $1", stage.clock())
    assert await retry() == (409 if audience == "contact" else 202)


async def test_a_webhook_s_secret_is_replaced_with_an_overlap(stage: Stage) -> None:
    headers = stage.bearer("admin")
    body = {"name": "cad", "channel": "webhook", "address": "https://cad.test/", "secret": "whsec_" + "a2" * 22}
    route = (await stage.client.post("/v1/notification-routes", json=body, headers=headers)).json()
    answer = await stage.client.post(
        f"/v1/notification-routes/{route['id']}/rotate-secret", json={"overlap_s": 60}, headers=headers
    )
    told = answer.json()
    assert told["secret"].startswith("whsec_")
    assert told["secret"] not in (await stage.client.get("/v1/notification-routes", headers=headers)).text
    other = {"name": "room", "channel": "apprise", "address": "operations room", "secret": "tgram://1:x/2"}
    made = await stage.client.post("/v1/notification-routes", json=other, headers=headers)
    assert made.status_code == 201
    path = f"/v1/notification-routes/{made.json()['id']}/rotate-secret"
    assert (await stage.client.post(path, json={}, headers=headers)).status_code == 409
    for wrong in ({"secret": None}, {"address": "tgram://1:x/2"}):
        answer = await stage.client.post("/v1/notification-routes", json=other | wrong, headers=headers)
        assert answer.status_code == 422
        assert "1:x" not in answer.text
