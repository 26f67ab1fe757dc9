"""Devices' keys and tokens: signing from enrolment on, a new token without a gap, and an end within a second."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from typing import Any

import httpx
import pytest
import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.deps import ApiContext
from api.ingest.appender import Appender
from api.ingest.stream import DeviceStream
from core.clock import rfc3339, utc_now
from core.domain.ping import FLAG_SIGNED, unpack_records
from core.ids import token_digest
from core.redis import keys

from .conftest import Office

PRIVATE_KEY = Ed25519PrivateKey.generate()
PUBLIC_KEY = base64.urlsafe_b64encode(PRIVATE_KEY.public_key().public_bytes_raw()).decode()


async def enrol(office: Office, signature: dict[str, Any] | None, kind: str = "bracelet") -> dict[str, Any]:
    """A device on a person, enrolled with an offer of a key."""
    device = (await office.post("/v1/devices", {"kind": kind, "person_id": await office.person()})).json()
    body = {"code": device["enrolment_code"], "signature": signature}
    answer = await office.client.post("/v1/devices/enrol", json=body)
    assert answer.status_code == 200, answer.text
    return {**device, **answer.json()}


def ping(device: dict[str, Any], seq: int, **more: Any) -> dict[str, Any]:
    return {"device_id": device["id"], "seq": seq, "at": rfc3339(utc_now()), "lat": 43.2, "lon": 76.9, **more}


def signed(text: str) -> dict[str, str]:
    return {"signed": text, "signature": base64.urlsafe_b64encode(PRIVATE_KEY.sign(text.encode())).decode()}


@pytest.fixture
async def appender(context: ApiContext) -> Any:
    made = Appender(context.settings, context.redis, utc_now)
    await made.start()
    context.appender = made
    yield made
    await made.stop()


async def send(office: Office, token: str, *pings: Any) -> httpx.Response:
    return await office.client.post("/v1/pings", json={"pings": pings}, headers={"Authorization": f"Bearer {token}"})


async def signed_in_the_log(context: ApiContext) -> list[bool]:
    """Of each record in all logs: whether it is marked as signed."""
    found = []
    for shard in range(context.settings.shard_count):
        for _, fields in await context.redis.xrange(keys.pings(shard)):
            if fields[b"k"] == b"p":
                found += [bool(record["flags"] & FLAG_SIGNED) for record in unpack_records(fields[b"b"])]
    return found


async def test_who_enrolled_with_a_key_sends_signed_pings_alone(
    office: Office, context: ApiContext, appender: Appender
) -> None:
    device = await enrol(office, {"kind": "ed25519", "public_key": PUBLIC_KEY})
    first, second = json.dumps(ping(device, 1)), json.dumps(ping(device, 2))
    forged = signed(first) | {"signed": first.replace("43.2", "43.3")}
    answer = (await send(office, device["token"], signed(first), ping(device, 3), forged, signed(second))).json()
    assert answer["accepted"] == 2
    assert [(one["index"], one["code"]) for one in answer["rejected"]] == [
        (1, "signature_missing"),
        (2, "signature_invalid"),
    ]
    assert (await send(office, device["token"], signed(first))).json()["duplicates"] == 1, "a repeat is taken once"
    assert await signed_in_the_log(context) == [True, True]


async def test_an_hmac_key_is_told_once_and_holds(office: Office, appender: Appender) -> None:
    import hmac

    device = await enrol(office, {"kind": "hmac"})
    secret = base64.urlsafe_b64decode(device["signature_key"] + "=")
    text = json.dumps(ping(device, 1))
    signature = base64.urlsafe_b64encode(hmac.digest(secret, text.encode(), "sha256")).decode()
    assert (await send(office, device["token"], {"signed": text, "signature": signature})).json()["accepted"] == 1
    shown = (await office.get(f"/v1/devices/{device['id']}")).json()
    assert shown["signature_kind"] == "hmac"
    assert device["signature_key"] not in json.dumps(shown)


async def test_the_stream_checks_signatures_too(office: Office, context: ApiContext, appender: Appender) -> None:
    device = await enrol(office, {"kind": "ed25519", "public_key": PUBLIC_KEY})
    stream = DeviceStream(context.settings, context.registry, appender)
    await stream.start()
    try:
        async with websockets.connect(
            f"ws://127.0.0.1:{stream.port}/v1/pings/stream",
            additional_headers={"Authorization": f"Bearer {device['token']}"},
        ) as socket:
            await socket.send(json.dumps(ping(device, 1)))
            assert json.loads(await socket.recv())["error"]["code"] == "signature_missing"
            await socket.send(json.dumps(signed(json.dumps(ping(device, 2)))))
            answer: dict[str, Any] = {}
            while answer.get("ack") != 2:
                answer = json.loads(await socket.recv())
    finally:
        await stream.stop()
    assert await signed_in_the_log(context) == [True]


@pytest.mark.parametrize("public_key", [None, "", "short", "!" * 43])
async def test_a_key_that_is_none_enrols_nobody(office: Office, public_key: str | None) -> None:
    device = (await office.post("/v1/devices", {"kind": "phone"})).json()
    body = {"code": device["enrolment_code"], "signature": {"kind": "ed25519", "public_key": public_key}}
    answer = await office.client.post("/v1/devices/enrol", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert (await office.client.post("/v1/devices/enrol", json={"code": device["enrolment_code"]})).status_code == 200


async def test_a_new_token_leaves_no_gap_and_ends_the_old_one_when_confirmed(
    office: Office, context: ApiContext, appender: Appender
) -> None:
    device = await enrol(office, None, kind="phone")
    bearer = {"Authorization": f"Bearer {device['token']}"}
    rotated = await office.client.post("/v1/me/token", headers=bearer)
    assert rotated.status_code == 201
    token = rotated.json()["token"]
    for either in (device["token"], token):
        assert (await send(office, either, ping(device, 1))).status_code == 202
    ended = asyncio.Event()
    context.registry.on_changed(lambda _: ended.set())
    confirmed = await office.client.post("/v1/me/token/confirm", headers={"Authorization": f"Bearer {token}"})
    assert confirmed.status_code == 204
    await asyncio.wait_for(ended.wait(), 5)
    refused = await send(office, device["token"], ping(device, 2))
    assert (refused.status_code, refused.json()["code"]) == (401, "token_replaced")
    assert (await send(office, token, ping(device, 2))).status_code == 202


async def test_without_a_confirmation_the_old_token_ends_an_hour_after_the_new_one_was_used(
    office: Office, context: ApiContext, appender: Appender, hands: Any
) -> None:
    device = await enrol(office, None, kind="phone")
    rotated = (await ask(office, "/v1/me/token", device["token"])).json()["token"]
    await settled(context)
    hands.forward(days=3)
    assert (await send(office, rotated)).status_code == 202
    await ending(context, device["token"])
    hands.forward(minutes=59)
    assert (await send(office, device["token"])).status_code == 202
    hands.forward(minutes=1)
    assert (await send(office, device["token"])).json()["code"] == "token_replaced"
    await settled(context)
    hands.forward(seconds=11)
    await send(office, device["token"])
    await settled(context)
    assert await copied_tasks(office) == [{"device_id": device["id"], "ended": 0}], "somebody looks into it"
    assert (await send(office, rotated)).status_code == 202, "what nobody confirmed may be a phone that did not keep it"


async def test_a_phone_that_never_got_the_answer_goes_on_with_the_token_it_has(
    office: Office, context: ApiContext, appender: Appender, hands: Any
) -> None:
    device = await enrol(office, None, kind="phone")
    for _ in range(2):  # the second asks with the same token again
        assert (await ask(office, "/v1/me/token", device["token"])).status_code == 201
        await settled(context)
        hands.forward(days=1)
        assert (await send(office, device["token"], ping(device, 1))).status_code == 202
        await settled(context)
    assert await copied_tasks(office) == []
    assert (await ask(office, "/v1/me/token/confirm", device["token"])).json()["code"] == "state_forbids"
    kept = (await ask(office, "/v1/me/token", device["token"])).json()["token"]
    assert (await ask(office, "/v1/me/token/confirm", kept)).status_code == 204
    await settled(context)
    tokens = context.registry.digests_of(uuid.UUID(device["id"]))
    assert [digest for digest in tokens if not isinstance(context.registry.holder(digest), str)] == [token_digest(kept)]


async def test_the_use_of_a_token_ends_none_that_is_newer(
    office: Office, context: ApiContext, appender: Appender, hands: Any
) -> None:
    device = await enrol(office, None, kind="phone")
    first = (await ask(office, "/v1/me/token", device["token"])).json()["token"]
    second = (await ask(office, "/v1/me/token", device["token"])).json()["token"]
    assert (await send(office, first)).status_code == 202
    await ending(context, device["token"])
    hands.forward(hours=2)
    answers = [(await send(office, token)).status_code for token in (device["token"], first, second)]
    assert answers == [401, 202, 202]


def request_of(device: dict[str, Any], purpose: str, token: str, **changes: str) -> dict[str, str]:
    said = {"purpose": purpose, "device_id": device["id"], "token_sha256": token_digest(token).hex()}
    return signed(json.dumps(said | changes))


async def ask(office: Office, path: str, token: str, body: dict[str, str] | None = None) -> httpx.Response:
    return await office.client.post(path, json=body, headers={"Authorization": f"Bearer {token}"})


async def test_a_copied_token_of_a_device_that_signs_gets_no_new_one(office: Office, context: ApiContext) -> None:
    device = await enrol(office, {"kind": "ed25519", "public_key": PUBLIC_KEY})
    other = await enrol(office, {"kind": "ed25519", "public_key": PUBLIC_KEY})
    token = device["token"]
    forged = request_of(device, "rotate_token", token)
    for body, code in (
        (None, "signature_missing"),
        (signed(json.dumps(ping(device, 1))), "signature_invalid"),
        (request_of(device, "confirm_token", token), "signature_invalid"),
        (request_of(other, "rotate_token", token), "signature_invalid"),
        (request_of(device, "rotate_token", other["token"]), "signature_invalid"),
        (forged | {"signed": forged["signed"] + " "}, "signature_invalid"),
    ):
        answer = await ask(office, "/v1/me/token", token, body)
        assert (answer.status_code, answer.json()["code"]) == (422, code), body
    rotated = await ask(office, "/v1/me/token", token, request_of(device, "rotate_token", token))
    assert rotated.status_code == 201
    new = rotated.json()["token"]
    assert (await ask(office, "/v1/me/token/confirm", new)).json()["code"] == "signature_missing"
    assert (await ask(office, "/v1/me/token/confirm", new, request_of(device, "confirm_token", new))).status_code == 204


async def copied_tasks(office: Office) -> list[dict[str, Any]]:
    listed = (await office.get("/v1/tasks", "caseworker")).json()["tasks"]
    return [task["detail"] for task in listed if task["kind"] == "token_copied"]


async def settled(context: ApiContext) -> None:
    """Have the registry read what changed and write down what it noted."""
    await context.registry.refresh()
    await context.registry._first_use.settle()
    await context.registry._reuse.settle()
    await context.registry.refresh()


async def ending(context: ApiContext, token: str) -> None:
    """Have the registry know when a token ends; it may be about to write that down by itself."""
    async with asyncio.timeout(5):
        while context.registry.expires_at(token_digest(token)) is None:
            await settled(context)


async def test_who_asks_with_a_token_that_somebody_else_replaced_is_told_and_ends_both(
    office: Office, context: ApiContext, appender: Appender, hands: Any
) -> None:
    device = await enrol(office, None, kind="phone")
    copied = device["token"]
    taken = (await ask(office, "/v1/me/token", copied)).json()["token"]
    assert (await ask(office, "/v1/me/token/confirm", copied)).json()["code"] == "state_forbids", "it has been replaced"
    assert (await ask(office, "/v1/me/token/confirm", taken)).status_code == 204
    await context.registry.refresh()
    assert (await send(office, copied, ping(device, 1))).json()["code"] == "token_replaced", "she is told"
    await settled(context)
    assert await copied_tasks(office) == [], "a request that was under way says nothing"
    hands.forward(seconds=11)
    assert (await ask(office, "/v1/me/token", copied)).json()["code"] == "token_replaced"
    await settled(context)
    assert await copied_tasks(office) == [{"device_id": device["id"], "ended": 1}]
    assert (await send(office, taken, ping(device, 2))).json()["code"] == "token_revoked", "nor goes the other on"
    await send(office, copied, ping(device, 3))
    await settled(context)
    assert len(await copied_tasks(office)) == 1, "once"
    code = (await office.post(f"/v1/devices/{device['id']}/enrolment-code", {})).json()["enrolment_code"]
    anew = (await office.client.post("/v1/devices/enrol", json={"code": code})).json()["token"]
    await context.registry.refresh()
    assert (await send(office, copied, ping(device, 4))).json()["code"] == "token_revoked"
    await settled(context)
    assert (await send(office, anew, ping(device, 5))).status_code == 202, "whoever enrols anew begins anew"


async def test_a_token_from_an_old_copy_is_noted_and_puts_nobody_out(
    office: Office, context: ApiContext, appender: Appender, hands: Any
) -> None:
    device = await enrol(office, None, kind="phone")
    rotated = (await ask(office, "/v1/me/token", device["token"])).json()["token"]
    await ask(office, "/v1/me/token/confirm", rotated)
    await context.registry.refresh()
    hands.forward(days=2)
    assert (await send(office, device["token"], ping(device, 1))).json()["code"] == "token_replaced"
    await settled(context)
    assert await copied_tasks(office) == [{"device_id": device["id"], "ended": 0}]
    assert (await send(office, rotated, ping(device, 2))).status_code == 202


async def test_a_gateway_gets_a_new_token_while_the_old_one_still_holds(
    office: Office, context: ApiContext, appender: Appender, hands: Any
) -> None:
    old = (await office.post("/v1/gateways", {"name": "telecom"}, "admin")).json()["token"]
    rotated = await office.post("/v1/gateways/telecom/rotate", {"overlap_s": 60}, "admin")
    assert rotated.status_code == 200
    new = rotated.json()["token"]
    await context.registry.refresh()
    assert [(await send(office, token)).status_code for token in (old, new)] == [202, 202]
    hands.forward(seconds=61)
    assert [(await send(office, token)).status_code for token in (old, new)] == [401, 202]
    assert (await office.post("/v1/gateways/nobody/rotate", {}, "admin")).status_code == 404
