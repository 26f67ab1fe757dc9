"""Who takes the disk learns no name, number, address or PIN: not from a table, a Redis key, a journal or a log."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.redis.client import connect

pytestmark = pytest.mark.xdist_group("system")

HER = {"name": "Гүлбаршын Тәттімбетқызы", "phone": "+77479318826", "iin": "870412401937", "address": "Толебаев 188-43"}
HIM = {"name": "Ержігіт Қасқырбайұлы", "phone": "+77788260139"}
SAFE = {"channel": "email", "address": "gulbarshyn.safe@neighbour.example", "hours": "10:00-12:00"}
SAFE_WORD = "күлгін түйе"
CONTACT = {"name": "Роза Алпысбаева", "relation": "жиен сіңлісі"}
PANIC_NOTE = "ол балконнан өтіп кетті"
OTHER_NOTE = "ол терезені сындырды"
DESK_NOTE = "көршісі 41-пәтерден қоңырау шалды"
ZONE_NAME = "Сейфуллин 512, екінші подъезд"
PUSH_TOKEN = "fcm-Zq81-gulbarshyn-phone"
SECRET = "whsec_a2V5IG9mIHRoZSBkZXNrIG9mIGVpZ2h0eQ=="
PIN = "739158264"
SECRETS = [
    *HER.values(), *HIM.values(), SAFE["address"], SAFE_WORD, *CONTACT.values(), PANIC_NOTE, OTHER_NOTE, DESK_NOTE,
    ZONE_NAME, PUSH_TOKEN, SECRET, PIN, "contact-of-gulbarshyn",
]  # fmt: skip
POLYGON = {"type": "Polygon", "coordinates": [[[76.9, 43.2], [76.91, 43.2], [76.91, 43.21], [76.9, 43.2]]]}


def forms(secret: str) -> list[bytes]:
    """A text as it may stand somewhere: in each encoding, escaped in JSON, as hexadecimal of bytea."""
    utf8 = secret.encode()
    return [
        utf8, secret.encode("utf-16-le"), secret.encode("utf-16-be"), json.dumps(secret)[1:-1].encode(),
        utf8.hex().encode(), secret.encode("utf-16-le").hex().encode(), secret.casefold().encode(),
    ]  # fmt: skip


def found_in(data: bytes) -> list[str]:
    """Which of the secrets are in there, in whatever form."""
    return [secret for secret in SECRETS if any(form in data for form in forms(secret))]


async def dump_tables(system: Any) -> dict[str, bytes]:
    """Every column of every row of every table, as text."""
    async with system.database() as connection:
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c WHERE c.relkind IN ('r', 'm')"
            " AND c.relnamespace = 'public'::regnamespace"
        )
        dumped = {}
        for table in tables:
            rows = await connection.fetch(f"SELECT t::text AS row FROM {table['name']} t")
            dumped[table["name"]] = "\n".join(row["row"] for row in rows).encode()
        return dumped


async def dump_redis(system: Any) -> dict[str, bytes]:
    """Every key with all that is in it."""
    client = connect(system.stores.redis_url)
    readers = {
        b"string": client.get,
        b"hash": client.hgetall,
        b"stream": lambda key: client.xrange(key),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        b"set": client.smembers,
        b"list": lambda key: client.lrange(key, 0, -1),
    }
    try:
        dumped = {}
        async for key in client.scan_iter(count=1000):
            kind = await client.type(key)
            dumped[key.decode("utf-8", "replace")] = flat(await readers[kind](key)) + key
        return dumped
    finally:
        await client.aclose()


def flat(value: Any) -> bytes:
    """The bytes of an answer, one after another."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, dict):
        return b"\n".join(flat(member) for pair in value.items() for member in pair)
    if isinstance(value, list | tuple | set):
        return b"\n".join(flat(member) for member in value)
    return str(value).encode()


async def live_through(system: Any, pair: dict[str, Any], eventually: Any) -> str:
    """Enter who they are, press, write notes, be told; the incident's id."""
    her, him = pair["victim"]["person_id"], pair["aggressor"]["person_id"]
    token = await system.token("caseworker")
    contact_address = "http://127.0.0.1:9/contact-of-gulbarshyn"
    async with httpx.AsyncClient(base_url=system.api_url, headers={"Authorization": f"Bearer {token}"}) as desk:

        async def send(method: str, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
            answer = await desk.request(method, path, json=body, headers=headers)
            assert answer.is_success, answer.text
            return answer.json()

        await send("PATCH", f"/v1/people/{her}", {"identity": HER, "safe_contact": SAFE, "safe_word": SAFE_WORD})
        await send("PATCH", f"/v1/people/{him}", {"identity": HIM})
        now = "2026-01-01T00:00:00Z"
        channels = [{"channel": "webhook", "address": contact_address}]
        contact = {"person_id": her, "channels": channels, "verified_at": now, "consented_at": now}
        await send("POST", "/v1/contacts", {**contact, **CONTACT})
        zone = {"order_id": pair["order_id"], "kind": "exclusion", "name": ZONE_NAME}
        await send("POST", "/v1/zones", {"type": "Feature", "geometry": POLYGON, "properties": zone})
        await send("PATCH", f"/v1/devices/{pair['victim']['device_id']}", {"push_token": PUSH_TOKEN})
        admin = {"Authorization": f"Bearer {await system.token('admin')}"}
        route = {"name": "sealed", "channel": "webhook", "address": system.hooks.url, "secret": SECRET}
        await send("POST", "/v1/notification-routes", route, admin)
        found = await send("POST", "/v1/people/search", {"field": "phone", "value": "8 747 931 88 26"})
        assert [person["id"] for person in found["items"]] == [her]
        panic_id = str(uuid.uuid4())
        headers = {"Authorization": f"Bearer {pair['victim']['token']}"}
        body = {"id": panic_id, "note": PANIC_NOTE, "lat": 43.24, "lon": 76.95}
        panic = await send("POST", "/v1/panic", body, headers)
        again = await desk.post("/v1/panic", json={**body, "note": OTHER_NOTE}, headers=headers)
        assert again.status_code == 200
        await send("POST", f"/v1/panic/{panic_id}/cancel", {"pin": PIN}, headers)
        incident = await system.get(f"/v1/incidents/{panic['incident_id']}")
        noted = await system.command(incident, "note", note=DESK_NOTE)
        assert noted.status_code == 200, noted.text

    async def told() -> bool:
        states = await system.fetch(
            "SELECT audience, state FROM delivery WHERE incident_id = $1", uuid.UUID(panic["incident_id"])
        )
        return {("contact", "dead"), ("dispatcher", "sent")} <= {(row["audience"], row["state"]) for row in states}

    await eventually(told, "the desk to be told, and the contact's webhook to be refused for its missing secret")
    return str(panic["incident_id"])


async def test_a_dump_of_every_table_key_and_file_shows_nobody(system: Any, eventually: Any) -> None:
    pair = system.pair()
    incident_id = await live_through(system, pair, eventually)

    shown = await system.get(f"/v1/incidents/{incident_id}")
    words = json.dumps(shown["timeline"], ensure_ascii=False)
    assert all(note in words for note in (PANIC_NOTE, OTHER_NOTE, DESK_NOTE)), "who may know it is told"

    tables = await dump_tables(system)
    assert {name: found for name, data in tables.items() if (found := found_in(data))} == {}
    assert b"SEED-0" in tables["protection_order"], "what is not sealed would be seen"
    keys = await dump_redis(system)
    assert keys, "Redis has something to look at"
    assert {name: found for name, data in keys.items() if (found := found_in(data))} == {}

    async with system.database() as connection:
        await connection.execute("CHECKPOINT")
    files = {}
    for path in Path(system.data_dir).rglob("*"):
        if path.is_file() and (there := found_in(path.read_bytes())):
            files[str(path.relative_to(system.data_dir))] = there
    assert files == {}, "nor does any file of the stores, the write-ahead log, the journal, or the log"
