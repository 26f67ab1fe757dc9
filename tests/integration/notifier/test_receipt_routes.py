"""What comes back of a message: from gateways, from apps, from a link; each once, and shown where it belongs."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
from standardwebhooks.webhooks import Webhook

from core.actions import receipts
from core.actions.unit_of_work import act
from core.domain.delivery import SEEN_LINK_LIFE
from core.ids import new_id, token_digest
from core.postgres import subscriptions, user_channels
from notifier.outgoing import with_links
from tests.integration.notifier.receipt_stage import PUBLIC, RECEIPTS_SECRET, Stage, stage

__all__ = ["stage"]

# The link ----------------------------------------------------------------------------------------------------


async def link_of(stage: Stage, delivery_id: uuid.UUID) -> str:
    """The link as the message bears it: read as the notifier reads it."""
    from core.actions.deliveries import claim

    (claimed,) = [
        one
        for one in await claim(
            stage.database, channel="probe", now=stage.clock(), lease_s=30, holder="reader", limit=50
        )
        if one.id == delivery_id
    ]
    return str(with_links(claimed.data, PUBLIC)["seen_link"]).removeprefix(PUBLIC)


async def test_the_button_marks_a_message_seen_and_opening_the_page_does_not(stage: Stage) -> None:
    item = await stage.queue()
    link = await link_of(stage, item.id)
    assert re.fullmatch(r"/seen/[A-Za-z0-9_-]{22}", link)
    page = await stage.client.get(link)
    assert page.status_code == 200
    assert (await stage.states(item.id))[0] == "sending"
    answer = await stage.client.post(link)
    assert answer.status_code == 200
    assert await stage.states(item.id) == ["seen", "seen"]
    await stage.client.post(link)
    assert await stage.states(item.id) == ["seen", "seen"]
    (receipt,) = await stage.outbox.rows("SELECT state, detail FROM delivery_receipt")
    assert receipt == {"state": "seen", "detail": None}
    await stage.queue()  # waits yet, and is no news
    board = (await stage.client.get("/v1/board", headers=stage.bearer("dispatcher"))).json()
    assert board["deliveries"] == {str(stage.outbox.incident_id): {str(item.id): "seen"}}


async def test_the_second_button_says_that_somebody_acts_on_it_and_acknowledges_no_incident(stage: Stage) -> None:
    item = await stage.queue()
    link = await link_of(stage, item.id)
    before = await stage.outbox.rows("SELECT state, version, acknowledged_at FROM incident")
    page = (await stage.client.get(link)).text
    assert page.count('<button type="submit"') == 2
    assert '<form method="post">' in page
    assert 'name="said" value="acknowledged"' in page
    seen = await stage.client.post(link)
    assert 'value="acknowledged"' in seen.text, "who has seen it may act on it yet"
    stage.clock.advance(60)
    for _ in range(2):
        answer = await stage.client.post(link, data={"said": "acknowledged"})
        assert answer.status_code == 200
        assert "<button" not in answer.text
    assert await stage.states(item.id) == ["acknowledged", "seen", "acknowledged"]
    await stage.client.post(link)  # a receipt never takes a delivery back
    assert await stage.states(item.id) == ["acknowledged", "seen", "acknowledged"]
    row = await stage.outbox.get(item.id)
    assert stage.clock() - row["seen_at"] == timedelta(seconds=60)
    assert await stage.outbox.rows("SELECT state, version, acknowledged_at FROM incident") == before
    path = f"/v1/incidents/{stage.outbox.incident_id}/deliveries"
    shown = (await stage.client.get(path, headers=stage.bearer("dispatcher"))).json()["items"][0]
    assert [receipt["state"] for receipt in shown["receipts"]] == ["seen", "acknowledged"]


async def test_who_acts_at_once_has_also_seen_it_and_another_word_is_no_more_than_seen(stage: Stage) -> None:
    first, second, third = [await stage.queue() for _ in range(3)]
    links = [await link_of(stage, first.id)]
    stage.clock.advance(60)  # the lease of what was read is over
    links.append(await link_of(stage, second.id))
    stage.clock.advance(60)
    links.append(await link_of(stage, third.id))
    await stage.client.post(links[0], data={"said": "acknowledged"})
    row = await stage.outbox.get(first.id)
    assert (row["state"], row["seen_at"], row["delivered_at"]) == ("acknowledged", stage.clock(), stage.clock())
    await stage.client.post(links[1], data={"said": "resolved"})
    assert (await stage.outbox.get(second.id))["state"] == "seen"
    raw = {"content-type": "application/json"}
    assert (await stage.client.post(links[2], content=b"\xff{", headers=raw)).status_code == 200
    assert (await stage.outbox.get(third.id))["state"] == "seen"


async def test_the_page_is_the_same_for_every_token_and_tells_nobody_anything(stage: Stage) -> None:
    item = await stage.queue()
    link = await link_of(stage, item.id)
    for method, said in (("GET", ""), ("POST", ""), ("POST", "acknowledged")):
        form = {"said": said} if said else None
        true, false = [await stage.client.request(method, path, data=form) for path in (link, "/seen/made-up")]
        assert true.text == false.text
        assert true.status_code == false.status_code == 200
        assert dict(true.headers) == dict(false.headers)
        assert true.headers["referrer-policy"] == "no-referrer"
        assert "noindex" in true.headers["x-robots-tag"]
        assert true.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in true.headers["content-security-policy"]
        for language in ("kk", "ru", "en"):
            assert f'lang="{language}"' in true.text
        for telling in ("Qorgan", "panic", "police", "полиц", "http", link.removeprefix("/seen/"), "script"):
            assert telling not in true.text


async def test_a_link_ends_after_a_day(stage: Stage) -> None:
    item = await stage.queue()
    link = await link_of(stage, item.id)
    stage.clock.advance(SEEN_LINK_LIFE.total_seconds())
    assert (await stage.client.post(link)).status_code == 200
    assert (await stage.outbox.get(item.id))["seen_at"] is None


async def test_buttons_pressed_without_end_from_one_address_wait(stage: Stage, monkeypatch: Any) -> None:
    from api.bounds import AttemptLimiter

    monkeypatch.setattr("api.routes.receipts._presses", AttemptLimiter(2))
    answers = [await stage.client.post("/seen/made-up") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[-1].text.count("<button") == 2, "what failed may be pressed again"


async def test_the_database_holds_no_token_and_who_has_a_console_gets_none(stage: Stage) -> None:
    item = await stage.queue()
    link = await link_of(stage, item.id)
    row = await stage.outbox.get(item.id)
    token = link.removeprefix("/seen/")
    assert row["seen_digest"] == token_digest(token)
    assert token not in str(row)
    officer = await stage.queue(audience="officer", template="incident_dispatcher")
    assert (await stage.outbox.get(officer.id))["seen_digest"] is None
    for channel, bears in (("sms", True), ("email", True), ("webpush", False), ("fcm", False)):
        called = await stage.queue(audience="officer", template="dispatch_officer", channel=channel)
        assert ((await stage.outbox.get(called.id))["seen_digest"] is not None) is bears, channel


def test_links_are_whole_addresses_or_not_told() -> None:
    facts = {"type": "panic", "seen_token": "abc", "link": "/l#def"}
    assert with_links(facts, f"{PUBLIC}/") == {
        "type": "panic", "seen_link": f"{PUBLIC}/seen/abc", "link": f"{PUBLIC}/l#def",
    }  # fmt: skip
    assert with_links(facts, None) == {"type": "panic"}
    assert with_links({"seen_link": "http://elsewhere"}, PUBLIC) == {}


# Gateways ----------------------------------------------------------------------------------------------------


async def twilio_says(stage: Stage, delivery_id: uuid.UUID, secret: str = "s3cret", **fields: str) -> httpx.Response:
    path = f"/v1/receipts/sms/twilio?delivery={delivery_id}"
    form = {"MessageSid": "SM17", "AccountSid": "AC1"} | fields
    signed = f"{PUBLIC}{path}" + "".join(f"{name}{form[name]}" for name in sorted(form))
    signature = base64.b64encode(hmac.digest(secret.encode(), signed.encode(), hashlib.sha1)).decode()
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return await stage.client.post(path, content=urlencode(form), headers=headers)


async def test_twilio_says_what_became_of_a_message(stage: Stage) -> None:
    item = await stage.queue(channel="sms")
    assert (await twilio_says(stage, item.id, MessageStatus="sent")).status_code == 204
    assert (await stage.states(item.id)) == ["queued"]
    for _ in range(2):
        assert (await twilio_says(stage, item.id, MessageStatus="delivered")).status_code == 204
    assert await stage.states(item.id) == ["delivered", "delivered"]
    assert (await twilio_says(stage, item.id, MessageStatus="failed", ErrorCode="30003")).status_code == 204
    assert (await stage.outbox.get(item.id))["state"] == "delivered"


async def test_what_could_not_be_delivered_says_why_and_is_a_dead_letter(stage: Stage) -> None:
    item = await stage.queue(channel="sms", audience="officer", template="incident_dispatcher")
    await twilio_says(stage, item.id, MessageStatus="undelivered", ErrorCode="30003")
    assert await stage.states(item.id) == ["failed", "failed"]
    answer = await stage.client.get("/v1/dead-letters", headers=stage.bearer("supervisor"))
    (letter,) = answer.json()["items"]
    assert (letter["state"], letter["id"]) == ("failed", str(item.id))
    assert letter["reason"] == "twilio undelivered, code 30003"
    shown = await stage.client.get(
        f"/v1/incidents/{stage.outbox.incident_id}/deliveries", headers=stage.bearer("dispatcher")
    )
    (receipt,) = shown.json()["items"][0]["receipts"]
    assert receipt["detail"] == "twilio undelivered, code 30003"
    # Sent again, it may fail again, or be delivered after all.
    path = f"/v1/dead-letters/{item.id}/retry"
    assert (await stage.client.post(path, headers=stage.bearer("supervisor"))).status_code == 202
    async with stage.database.transaction() as connection:
        await connection.execute("UPDATE delivery SET state = 'sent' WHERE id = $1", item.id)
    await twilio_says(stage, item.id, MessageStatus="undelivered", ErrorCode="30005")
    row = await stage.outbox.get(item.id)
    assert (row["state"], row["last_error"]) == ("failed", "twilio undelivered, code 30005")
    await twilio_says(stage, item.id, MessageStatus="delivered")
    row = await stage.outbox.get(item.id)
    assert (row["state"], row["last_error"]) == ("delivered", None)


async def test_nobody_else_may_say_it(stage: Stage) -> None:
    item = await stage.queue(channel="sms")
    other = await stage.queue(channel="sms")
    assert (await twilio_says(stage, item.id, "wrong", MessageStatus="delivered")).status_code == 401
    path = f"/v1/receipts/sms/twilio?delivery={item.id}"
    assert (await stage.client.post(path, content="MessageStatus=delivered")).status_code == 401
    assert (await stage.client.post("/v1/receipts/sms/nobody", content="")).status_code == 404
    assert (await stage.outbox.get(item.id))["state"] == "queued"
    mail = await stage.queue(channel="email")
    assert (await twilio_says(stage, mail.id, MessageStatus="delivered")).status_code == 404
    assert (await twilio_says(stage, new_id(), MessageStatus="delivered")).status_code == 404
    assert (await stage.outbox.get(other.id))["state"] == "queued"


async def test_a_json_gateway_signs_its_body_and_names_the_message_by_either_id(stage: Stage) -> None:
    first, second = [await stage.queue(channel="sms") for _ in range(2)]
    async with stage.database.transaction() as connection:
        await connection.execute("UPDATE delivery SET provider_id = 'local:42' WHERE id = $1", second.id)

    async def say(body: Any, secret: str = "t0ken", prefix: str = "sha256=") -> int:
        raw = json.dumps(body).encode()
        headers = {
            "x-signature": prefix + hmac.digest(secret.encode(), raw, hashlib.sha256).hex(),
            "content-type": "application/json",
        }
        # What stands in the address is not signed, and not believed.
        answer = await stage.client.post(f"/v1/receipts/sms/local?delivery={first.id}", content=raw, headers=headers)
        return answer.status_code

    assert await say({"id": 42, "status": "delivered"}) == 204
    assert await stage.states(second.id) == ["delivered", "delivered"]
    assert (await stage.outbox.get(first.id))["state"] == "queued"
    assert await say({"reference": str(first.id), "status": "expired", "error": "<b>x</b>"}, prefix="") == 204
    assert await stage.states(first.id) == ["failed", "failed"]
    assert await say({"id": 42, "status": "delivered"}, secret="other") == 401
    assert await say(["rubbish"]) == 204
    assert await say({"id": 7, "status": "delivered"}) == 404


# Letters -----------------------------------------------------------------------------------------------------


async def letter_says(stage: Stage, body: Any, secret: str = RECEIPTS_SECRET) -> int:
    raw, now, name = json.dumps(body), datetime.now(UTC), str(new_id())
    headers = {
        "webhook-id": name, "webhook-timestamp": str(int(now.timestamp())), "content-type": "application/json",
        "webhook-signature": Webhook(secret).sign(name, now, raw),
    }  # fmt: skip
    return (await stage.client.post("/v1/receipts/email", content=raw, headers=headers)).status_code


async def test_a_letter_that_came_back_is_failed_and_one_that_was_seen_was_not(stage: Stage) -> None:
    lost, read, text = [await stage.queue(channel=channel) for channel in ("email", "email", "sms")]
    said = {"message_id": f"<{lost.id}@qorgan.example.org>", "status": "bounced", "code": "5.1.1"}
    for _ in range(2):
        assert await letter_says(stage, said) == 204
    assert await stage.states(lost.id) == ["failed", "failed"]
    assert (await stage.outbox.get(lost.id))["last_error"] == "the letter came back, status 5.1.1"
    async with act(stage.database, stage.clock()) as unit:
        await receipts.note_receipt(unit, read.id, "seen", stage.clock())
    assert await letter_says(stage, {**said, "message_id": f"<{read.id}@qorgan.example.org>"}) == 204
    assert (await stage.outbox.get(read.id))["state"] == "seen"
    assert await letter_says(stage, {**said, "message_id": f"<{text.id}@qorgan.example.org>"}) == 404
    assert await letter_says(stage, {**said, "message_id": f"<{new_id()}@qorgan.example.org>"}) == 404
    assert await letter_says(stage, ["rubbish"]) == 204
    assert (await stage.outbox.get(text.id))["state"] == "queued"


async def test_a_receipt_of_a_letter_is_signed(stage: Stage, monkeypatch: Any) -> None:
    item = await stage.queue(channel="email")
    said = {"message_id": f"<{item.id}@qorgan.example.org>", "status": "bounced"}
    assert await letter_says(stage, said, "whsec_" + base64.b64encode(b"x" * 32).decode()) == 401
    assert (await stage.client.post("/v1/receipts/email", json=said)).status_code == 401
    settings = stage.context.settings.model_copy(update={"email_receipts_secret": None})
    monkeypatch.setattr(stage.context, "settings", settings)
    assert await letter_says(stage, said) == 401
    assert (await stage.outbox.get(item.id))["state"] == "queued"


# Apps --------------------------------------------------------------------------------------------------------


async def test_an_app_says_what_it_has_and_what_it_has_shown_of_its_own_alone(stage: Stage) -> None:
    headers = {"authorization": f"Bearer {stage.device_token}"}
    own = await stage.queue(
        channel="fcm", audience="victim", recipient=f"device:{stage.outbox.device_id}", template="device_prompt"
    )
    others = await stage.queue(channel="fcm", recipient=f"device:{new_id()}")
    for state in ("delivered", "seen", "seen", "acknowledged", "seen"):
        answer = await stage.client.post(f"/v1/me/deliveries/{own.id}/{state}", headers=headers)
        assert answer.status_code == 204
    assert await stage.states(own.id) == ["acknowledged", "delivered", "seen", "acknowledged"]
    for missing in (others.id, new_id()):
        answer = await stage.client.post(f"/v1/me/deliveries/{missing}/seen", headers=headers)
        assert answer.status_code == 404
    assert (await stage.outbox.get(others.id))["state"] == "queued"
    assert (await stage.client.post(f"/v1/me/deliveries/{own.id}/failed", headers=headers)).status_code == 422
    hers = await stage.queue(channel="webpush", audience="officer", recipient=f"user:{stage.users['officer']}")
    for state in ("seen", "acknowledged"):
        for role, status in (("dispatcher", 404), ("officer", 204)):
            answer = await stage.client.post(f"/v1/me/messages/{hers.id}/{state}", headers=stage.bearer(role))
            assert answer.status_code == status
        assert (await stage.outbox.get(hers.id))["state"] == state


async def test_a_receipt_that_comes_before_our_own_mark_is_kept(stage: Stage, posts: Any) -> None:
    from core.actions import deliveries
    from core.postgres.deliveries import Mark

    item = await stage.queue()
    (claimed,) = await deliveries.claim(
        stage.database, channel="probe", now=stage.clock(), lease_s=30, holder="a", limit=1
    )
    async with act(posts.worker, stage.clock()) as unit:
        assert await receipts.note_receipt(unit, item.id, "delivered", stage.clock() + timedelta(days=1))
    mark = Mark(claimed.id, 1, "sent", "sent", stage.clock(), stage.clock(), provider_id="local:1")
    await deliveries.finish(stage.database, [mark], holder="a", now=stage.clock())
    row = await stage.outbox.get(item.id)
    assert (row["state"], row["delivered_at"]) == ("delivered", stage.clock())


# Browsers ----------------------------------------------------------------------------------------------------


async def test_a_user_is_told_in_her_browsers_whose_addresses_are_sealed(stage: Stage, posts: Any) -> None:
    point = base64.urlsafe_b64encode(b"\x04" + b"p" * 64).rstrip(b"=").decode()
    keys = {"p256dh": point, "auth": base64.urlsafe_b64encode(b"a" * 16).rstrip(b"=").decode()}
    body = {"endpoint": "https://push.test/secret-endpoint", "keys": keys, "expirationTime": None}
    path = "/v1/me/push-subscriptions"
    made = [await stage.client.post(path, json=body, headers=stage.bearer("officer")) for _ in range(2)]
    assert [one.status_code for one in made] == [201, 201]
    assert made[0].json()["id"] == made[1].json()["id"]
    wrong = {**body, "endpoint": "https://inside.test/admin"}
    assert (await stage.client.post(path, json=wrong, headers=stage.bearer("officer"))).status_code == 422
    listed = await stage.client.get(path, headers=stage.bearer("officer"))
    assert [one["id"] for one in listed.json()["items"]] == [made[0].json()["id"]]
    assert len(base64.urlsafe_b64decode(listed.json()["application_server_key"] + "=")) == 65
    assert (await stage.client.get(path, headers=stage.bearer("dispatcher"))).json()["items"] == []
    (row,) = await stage.outbox.rows("SELECT * FROM push_subscription")
    assert b"secret-endpoint" not in row["target_sealed"]
    async with posts.worker.connection() as connection:
        (found,) = await user_channels.of_users(connection, [stage.users["officer"]])
        assert json.loads(found["address"]) == {"endpoint": body["endpoint"], "keys": keys}
    gone = await stage.client.delete(f"{path}/{made[0].json()['id']}", headers=stage.bearer("dispatcher"))
    assert gone.status_code == 404
    await stage.client.post(path, json=body, headers=stage.bearer("dispatcher"))  # the browser changed hands
    assert (await stage.client.get(path, headers=stage.bearer("officer"))).json()["items"] == []
    async with posts.worker.transaction() as connection:
        await subscriptions.retire(connection, [found["address"]])
    assert await stage.outbox.rows("SELECT * FROM push_subscription") == []
