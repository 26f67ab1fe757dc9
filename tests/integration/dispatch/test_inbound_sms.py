"""A panic and a place by text message: signed by the phone, brought by a gateway, each taken once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook

from api.ingest.appender import Appender
from core.clock import utc_now
from core.domain.panic import TOKEN_DOUBTS
from core.domain.ping import unpack_records
from core.errors import StoreUnavailable
from core.redis import keys
from core.settings import Settings
from device_sim.text_message import TextMessage, compose

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
TWILIO_TOKEN = "twilio-token"
NUMBER = "+77001234567"
Query = Callable[..., Any]
Kind = Literal["panic", "audible_panic", "location", "check_in"]


@pytest.fixture
async def api(settings: Settings, database: Any, redis_client: Any, serve: Any, pair: Any) -> AsyncIterator[Any]:
    """An API that knows both gateways' secrets, with a road for pings; it has read of the pair's devices."""
    del pair
    known = settings.model_copy(
        update={"inbound_sms_secret": SecretStr(SECRET), "inbound_sms_twilio_token": SecretStr(TWILIO_TOKEN)}
    )
    appender = Appender(known, redis_client, utc_now, road="http")
    async with serve(known, database, redis_client) as served:
        served.context.appender = appender
        await appender.start()
        yield served
        await appender.stop()


def text_of(pair: Any, kind: Kind = "panic", seq: int = 1, token: str | None = None, **values: Any) -> str:
    said = {"at_s": int(time.time()), "lat": 43.2, "lon": 76.9, "accuracy_m": 15, "battery_pct": 40} | values
    return compose(TextMessage(kind, values.pop("device_id", pair.phone_id), seq, **said), token or pair.phone_token)


async def bring(api: Any, text: str, *, number: str = NUMBER, secret: str = SECRET) -> httpx.Response:
    """As a gateway that signs Standard Webhooks."""
    body = json.dumps({"from": number, "text": text})
    message_id, now = str(uuid.uuid4()), datetime.now(UTC)
    headers = {
        "content-type": "application/json", "webhook-id": message_id, "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }  # fmt: skip
    async with api.client(None) as client:
        return await client.post("/v1/inbound/sms", content=body, headers=headers)


async def test_a_signed_panic_is_verified_and_the_same_however_often_it_comes(
    api: Any, pair: Any, query: Query
) -> None:
    text = text_of(pair)
    for _ in range(3):
        answer = await bring(api, text)
        assert (answer.status_code, answer.json()) == (200, {})
    [panic] = await query("SELECT * FROM panic")
    assert (panic["device_id"], panic["person_id"]) == (pair.phone_id, pair.victim_id)
    assert (panic["verified"], panic["trigger"], panic["mode"]) == (True, "sms", "silent")
    assert (panic["lat"], panic["lon"], panic["accuracy_m"]) == (43.2, 76.9, 15)
    [incident] = await query("SELECT * FROM incident")
    assert incident["victim_id"] == pair.victim_id
    assert len(await query("SELECT 1 FROM delivery WHERE audience = 'contact'")) == 1
    await bring(api, text_of(pair, "audible_panic", 2))
    assert len(await query("SELECT 1 FROM panic")) == 2
    assert len(await query("SELECT 1 FROM incident")) == 1


async def test_twilios_form_is_known_by_its_signature(api: Any, pair: Any, query: Query) -> None:
    form = {"From": NUMBER, "Body": text_of(pair), "MessageSid": "SM1", "Empty": ""}
    signed = f"{api.url}/v1/inbound/sms" + "".join(f"{name}{form[name]}" for name in sorted(form))
    signature = base64.b64encode(hmac.digest(TWILIO_TOKEN.encode(), signed.encode(), hashlib.sha1)).decode()
    headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": signature}
    async with api.client(None) as client:
        answer = await client.post("/v1/inbound/sms", content=urlencode(form), headers=headers)
        assert answer.status_code == 200
        assert answer.text.endswith("<Response/>"), "nothing is sent back to her phone"
        words = form | {"Body": "SOS"}
        refused = await client.post("/v1/inbound/sms", content=urlencode(words), headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "credentials_invalid")
    assert len(await query("SELECT 1 FROM panic WHERE verified")) == 1


async def test_without_a_gateways_signature_only_what_a_phone_signed_is_taken(
    api: Any, pair: Any, query: Query
) -> None:
    other = "whsec_" + base64.b64encode(bytes(32)).decode()
    assert (await bring(api, text_of(pair, token="another"), secret=other)).status_code == 401
    assert await query("SELECT 1 FROM panic") == []
    assert (await bring(api, text_of(pair), secret=other)).status_code == 200
    assert len(await query("SELECT 1 FROM panic WHERE verified")) == 1, "a mistyped secret costs no panic"


async def test_a_wrong_signature_is_an_unverified_panic_and_never_a_place(
    api: Any, pair: Any, query: Query, redis_client: Any
) -> None:
    assert (await bring(api, text_of(pair, "location", token="another"))).status_code == 200
    assert (await bring(api, text_of(pair, token="another"))).status_code == 200
    [panic] = await query("SELECT * FROM panic")
    assert (panic["verified"], panic["doubt"]) == (False, "no_token,sms_signature_invalid")
    [incident] = await query("SELECT * FROM incident")
    assert incident["detail"]["unverified_device"] is True
    assert await query("SELECT 1 FROM delivery WHERE audience = 'contact'") == []
    assert await redis_client.xlen(keys.pings(pair.shard)) == 0
    assert NUMBER not in str([dict(panic), dict(incident)]), "the number is sealed"


async def test_a_token_that_was_revoked_presses_unverified(api: Any, pair: Any, query: Query) -> None:
    await query("UPDATE bearer_token SET revoked_at = now(), changed_xid = pg_current_xact_id()")
    await api.context.registry.refresh()
    await bring(api, text_of(pair))
    [panic] = await query("SELECT * FROM panic")
    assert (panic["verified"], panic["doubt"]) == (False, "revoked_token")


@pytest.mark.parametrize("earlier", ["replaced", "expired"])
async def test_a_token_that_another_stands_in_place_of_presses_unverified_by_text_too(
    api: Any, pair: Any, query: Query, earlier: str
) -> None:
    """Whoever copied it may be writing; what an older version noted of such a one is as doubtful."""
    replaced = "replaced_at = created_at + interval '1 hour'," if earlier == "replaced" else ""
    await query(
        f"UPDATE bearer_token SET {replaced} expires_at = created_at + interval '1 hour',"
        " changed_xid = pg_current_xact_id()"
    )
    await api.context.registry.refresh()
    await bring(api, text_of(pair))
    [panic] = await query("SELECT * FROM panic")
    doubt = {"replaced": "revoked_token", "expired": "expired_token"}[earlier]
    assert (panic["verified"], panic["doubt"]) == (False, doubt)
    assert await query("SELECT 1 FROM delivery WHERE audience = 'contact'") == []
    assert "replaced_token" in TOKEN_DOUBTS


async def test_a_place_and_a_sign_of_life_are_pings_once(api: Any, pair: Any, redis_client: Any, query: Query) -> None:
    place = text_of(pair, "location", 7, lat=43.25, lon=76.95)
    for text in (place, place, text_of(pair, "check_in", 8, lat=None, lon=None)):
        assert (await bring(api, text)).status_code == 200
    entries = await redis_client.xrange(keys.pings(pair.shard))
    records = [record for _, fields in entries if fields[b"k"] == b"p" for record in unpack_records(fields[b"b"])]
    assert [int(record["seq"]) for record in records] == [7, 8]
    assert float(records[0]["lat"]) == pytest.approx(43.25)
    assert await query("SELECT 1 FROM panic") == []


async def test_an_aggressors_device_has_no_panic(api: Any, pair: Any, query: Query) -> None:
    signed = compose(TextMessage("panic", pair.bracelet_id, 1), pair.bracelet_token)
    assert (await bring(api, signed)).status_code == 200
    assert await query("SELECT 1 FROM panic") == []


async def test_what_can_hardly_be_read_is_a_panic_all_the_same(api: Any, pair: Any, query: Query) -> None:
    for text in ("Q1 P", "q1 p ?? ?? ?? 999,999 ??? !!!"):
        assert (await bring(api, text)).status_code == 200
    assert [row["verified"] for row in await query("SELECT verified FROM panic")] == [False, False]


async def test_other_texts_are_kept_nowhere(api: Any, pair: Any, query: Query) -> None:
    for text in ("Hello", "STOP", "SOS", "", "Q1 X"):
        assert (await bring(api, text)).status_code == 200
    for table in ("panic", "incident", "poison"):
        assert await query(f"SELECT 1 FROM {table}") == []


async def test_a_call_in_words_from_her_number_is_her_unverified_panic(
    api: Any, pair: Any, query: Query, on_record: Any
) -> None:
    await on_record(pair.victim_id, pair.agency_id, "8 (700) 123-45-67")
    await on_record(pair.aggressor_id, pair.agency_id, "+7 700 999 99 99")
    for number in (NUMBER, "+77009999999", "+77001111111"):
        assert (await bring(api, "Көмек!", number=number)).status_code == 200
    [panic] = await query("SELECT * FROM panic")
    assert (panic["person_id"], panic["verified"], panic["trigger"]) == (pair.victim_id, False, "sms")
    [incident] = await query("SELECT * FROM incident")
    assert (incident["victim_id"], incident["do_not_call"]) == (pair.victim_id, True)
    assert await query("SELECT 1 FROM delivery WHERE audience = 'contact'") == []


async def test_a_call_in_words_is_taken_while_nobody_can_look_up_whose_number_it_is(
    api: Any, pair: Any, query: Query, monkeypatch: pytest.MonkeyPatch, on_record: Any
) -> None:
    """Many gateways bring nothing again; one that does has it be hers."""
    await on_record(pair.victim_id, pair.agency_id, NUMBER)

    async def away(*_: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr("api.inbound_sms.protected_by_phone", away)
        for _ in range(2):
            assert (await bring(api, "SOS")).status_code == 503
    [incident] = await query("SELECT victim_id, state FROM incident")
    assert (incident["victim_id"], incident["state"]) == (None, "open")
    assert await query("SELECT 1 FROM delivery WHERE audience = 'dispatcher'") != []
    assert (await bring(api, "SOS")).status_code == 200
    assert await query("SELECT 1 FROM incident WHERE victim_id = $1", pair.victim_id) != []
    assert await query("SELECT 1 FROM delivery WHERE audience = 'contact'") == []


@pytest.fixture
def on_record(database: Any) -> Any:
    """Writes a person's telephone number into her identity."""
    from core.postgres.people import PEOPLE

    async def write(person_id: uuid.UUID, agency_id: uuid.UUID, number: str) -> None:
        async with database.transaction() as connection:
            values = {"identity": {"name": "N", "phone": number}, "updated_at": utc_now()}
            await PEOPLE.update(connection, agency_id, person_id, values)

    return write
