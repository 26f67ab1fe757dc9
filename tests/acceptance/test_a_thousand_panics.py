"""A thousand panics in ten seconds, the API and the notifier killed among them: each is one incident, and everybody who
is to hear of it hears of it, once."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from core.actions.unit_of_work import act
from core.clock import utc_now
from core.ids import new_id
from core.postgres.contacts import CONTACTS
from core.postgres.database import Database
from core.settings import Settings
from core.vault import load_vault
from infra.bench.receivers import CHANNELS
from infra.embedded import EmbeddedStores
from tests.acceptance.crowd_post import Post, post_office
from tests.acceptance.running import System, parties, running_system

pytestmark = [pytest.mark.xdist_group("crowd"), pytest.mark.timeout(600)]

PANICS = 1000
WITHIN_S = 10.0
API_DIES_AT, NOTIFIER_DIES_AT = 300, 600
"""After so many answers."""
WITH_CONTACT = 40
"""So many of the victims have somebody of their own: half are told by text message, half by letter."""
FIRST_STEP_S = 3600
"""When the desk hears again of a panic that nobody acknowledged: not during this test, but where it moves the clock."""
CHOSEN = 3
AGAIN_S = 0.25
"""How soon a phone that was not answered asks again."""
WAIT_S = 150.0
"""Only a machine that has much else to do comes near."""


async def add_people(stores: EmbeddedStores, data_dir: Path, world: dict[str, Any], post: Post) -> None:
    """Whom a panic is told: the agency by every channel, and some victims' contacts."""
    agency_id = uuid.UUID(world["agency"]["id"])
    database = Database(stores.database_url, size=2, vault=load_vault(Settings(data_dir=data_dir)))
    await database.open()
    try:
        await post.add_routes(database, agency_id)
        async with act(database, utc_now()) as unit:
            for number, pair in enumerate(world["pairs"][:WITH_CONTACT]):
                way = ("sms", f"+7702000{number:04d}") if number % 2 else ("email", f"friend{number}@loopback.test")
                await CONTACTS.insert(
                    unit.connection,
                    {
                        "id": new_id(), "agency_id": agency_id, "person_id": uuid.UUID(pair["victim"]["person_id"]),
                        "name": "a friend", "relation": "friend", "language": "kk",
                        "channels": [{"channel": way[0], "address": way[1]}], "verified_at": unit.now,
                        "consented_at": unit.now, "created_at": unit.now, "updated_at": unit.now,
                    },
                )  # fmt: skip
    finally:
        await database.close()


@pytest.fixture
def post() -> Iterator[Post]:
    """Where every message arrives."""
    with post_office() as post:
        yield post


@pytest.fixture
def crowd(post: Post) -> Iterator[System]:
    """A whole Qorgan whose agency hears by every channel there is a receiver for."""

    def prepare(data_dir: Path, stores: EmbeddedStores, world: dict[str, Any]) -> dict[str, str]:
        asyncio.run(add_people(stores, data_dir, world, post))
        settings = {f"QORGAN_{name.upper()}": str(value) for name, value in post.settings(data_dir).items()}
        return settings | {"QORGAN_CHANNEL_RATES": "email=1000"}

    with running_system(PANICS + 1, prepare) as system:
        yield system


async def press(system: System, phones: httpx.AsyncClient, pair: dict[str, Any], panic_id: str) -> None:
    """Press as an app does: again, under the same id, until it is answered."""
    while True:
        try:
            answer = await phones.post(
                f"{system.api_url}/v1/panic",
                json={"id": panic_id, "lat": 43.24, "lon": 76.95},
                headers={"Authorization": f"Bearer {pair['victim']['token']}"},
            )
        except httpx.TransportError:
            await asyncio.sleep(AGAIN_S)
            continue
        assert answer.status_code in (200, 201), answer.text
        return


async def press_all(crowd: System, panics: dict[str, dict[str, Any]], answered: set[str]) -> None:
    """Every phone in its turn, over ten seconds; `answered` fills."""

    async def press_at(seconds: float, panic_id: str, pair: dict[str, Any]) -> None:
        await asyncio.sleep(seconds)
        await press(crowd, phones, pair, panic_id)
        answered.add(panic_id)

    timeout, limits = httpx.Timeout(10, pool=None), httpx.Limits(max_connections=200)
    async with (
        httpx.AsyncClient(timeout=timeout, limits=limits, trust_env=False) as phones,
        asyncio.timeout(WAIT_S),
        asyncio.TaskGroup() as group,
    ):
        for number, (panic_id, pair) in enumerate(panics.items()):
            group.create_task(press_at(number * WITHIN_S / PANICS, panic_id, pair))


async def kill_both(crowd: System, post: Post, answered: set[str], eventually: Callable[..., Awaitable[Any]]) -> None:
    """The API between two panics, the notifier between what it sent and its mark."""

    async def so_many(count: int) -> bool:
        return len(answered) >= count

    async def sending() -> bool:
        return bool(await crowd.fetch("SELECT FROM delivery WHERE state = 'sending' AND channel <> 'log' LIMIT 1"))

    await eventually(lambda: so_many(API_DIES_AT), "the first answers", WAIT_S)
    await crowd.kill("api")
    await eventually(lambda: so_many(NOTIFIER_DIES_AT), "more answers", WAIT_S)
    with post.silent():
        await eventually(sending, "messages under way", WAIT_S)
        killing = asyncio.create_task(crowd.kill("notifier"))
        await asyncio.sleep(0)
    await killing


async def breach(crowd: System, pair: dict[str, Any], eventually: Callable[..., Awaitable[Any]]) -> str:
    """He comes to 60 m of her, while all that goes on; the incident's id."""
    async with parties(crowd, pair) as (victim, aggressor):
        victim.at(0)
        aggressor.at(3000)
        assert await victim.device.wait_acked(WAIT_S)
        assert await aggressor.device.wait_acked(WAIT_S)
        victim.at(0)
        aggressor.at(60)

        async def opened() -> list[Any]:
            return await crowd.fetch(
                "SELECT id FROM incident WHERE order_id = $1 AND family = 'proximity'", uuid.UUID(pair["order_id"])
            )

        [row] = await eventually(opened, "the breach", WAIT_S)
    return str(row["id"])


async def put_off_escalation(crowd: System) -> None:
    """The agency's own policy for panics: the desk hears again after an hour."""
    policy = {"unacknowledged": [{"delay_s": FIRST_STEP_S, "to": ["dispatchers"]}], "late_to": ["dispatchers"]}
    async with httpx.AsyncClient(base_url=crowd.api_url, trust_env=False) as client:
        answer = await client.put(
            "/v1/escalation-policies/critical",
            params={"type": "panic"},
            json=policy,
            headers={"Authorization": f"Bearer {await crowd.token('supervisor')}"},
        )
    assert answer.status_code == 200, answer.text


async def test_each_is_one_incident_and_everybody_sees_it_once(
    crowd: System, post: Post, eventually: Callable[..., Awaitable[Any]]
) -> None:
    await put_off_escalation(crowd)
    panics = {str(new_id()): crowd.pair() for _ in range(PANICS)}
    answered: set[str] = set()
    async with asyncio.TaskGroup() as group:
        group.create_task(press_all(crowd, panics, answered))
        group.create_task(kill_both(crowd, post, answered, eventually))
        breaching = group.create_task(breach(crowd, crowd.pair(), eventually))
    assert answered == panics.keys()

    async def all_there() -> bool:
        return (await crowd.fetch("SELECT count(*) FROM panic"))[0][0] >= PANICS

    async def all_sent() -> bool:
        return not await crowd.fetch("SELECT FROM delivery WHERE state NOT IN ('sent', 'dead') LIMIT 1")

    await eventually(all_there, "every panic's rows", WAIT_S)
    await eventually(all_sent, "everything to be sent", WAIT_S)
    incidents = await each_is_one_incident(crowd, panics)
    await everybody_saw_it_once(crowd, post, incidents, breaching.result())
    await escalation_comes_at_its_time(crowd, post, sorted(incidents), eventually)


async def each_is_one_incident(crowd: System, panics: dict[str, dict[str, Any]]) -> set[str]:
    """Ids of the panics' incidents."""
    rows = await crowd.fetch("SELECT id, incident_id, device_id, verified FROM panic")
    devices = {str(row["id"]): str(row["device_id"]) for row in rows}
    assert devices == {panic_id: pair["victim"]["device_id"] for panic_id, pair in panics.items()}
    assert all(row["verified"] for row in rows)
    incidents = {str(row["incident_id"]) for row in rows}
    assert len(incidents) == PANICS
    opened = await crowd.fetch("SELECT id FROM incident WHERE family = 'panic' AND state = 'open'")
    assert {str(row["id"]) for row in opened} == incidents
    shown = await crowd.fetch(
        "SELECT data->>'id' AS id, count(*) FROM feed WHERE kind = 'incident.opened' AND data->>'type' = 'panic'"
        " GROUP BY 1"
    )
    assert {row["id"]: row["count"] for row in shown} == dict.fromkeys(incidents, 1)
    assert await crowd.fetch("SELECT * FROM poison") == []
    return incidents


async def everybody_saw_it_once(crowd: System, post: Post, incidents: set[str], breach_id: str) -> None:
    arrived = set(post.arrived)
    rows = await crowd.fetch("SELECT id, incident_id, channel, audience, state FROM delivery")
    assert {row["state"] for row in rows if str(row["incident_id"]) != breach_id} == {"sent"}, "nothing is left behind"
    told = [row for row in rows if str(row["incident_id"]) in incidents]
    counts = Counter((row["audience"], row["channel"]) for row in told)
    assert counts == {("dispatcher", channel): PANICS for channel in (*CHANNELS, "log")} | {
        ("contact", channel): WITH_CONTACT // 2 for channel in ("sms", "email")
    }
    of_breach = {row["id"] for row in rows if str(row["incident_id"]) == breach_id}
    assert arrived - of_breach == {row["id"] for row in told if row["channel"] != "log"}, (
        "who drops what bears an id she knows sees each message once"
    )
    assert {id_: len(post.webhooks["incident.opened", id_]) for id_ in incidents} == dict.fromkeys(incidents, 1)
    assert len(post.webhooks["incident.opened", breach_id]) == 1, "a breach is told meanwhile"
    twice = await crowd.fetch("SELECT delivery_id AS id FROM delivery_attempt WHERE result = 'abandoned'")
    assert twice, "the notifier was killed between sending and its mark"


async def escalation_comes_at_its_time(
    crowd: System, post: Post, incidents: list[str], eventually: Callable[..., Awaitable[Any]]
) -> None:
    clocks = await crowd.fetch(
        "SELECT d.incident_id, d.due_at - i.occurred_at AS after FROM escalation_deadline d"
        " JOIN incident i ON i.id = d.incident_id WHERE i.family = 'panic' AND d.settled_at IS NULL"
    )
    assert {str(row["incident_id"]): row["after"].total_seconds() for row in clocks} == dict.fromkeys(
        incidents, FIRST_STEP_S
    )
    in_hand, *chosen = incidents[: CHOSEN + 1]
    [version] = await crowd.fetch("SELECT version FROM incident WHERE id = $1", uuid.UUID(in_hand))
    done = await crowd.command({"id": in_hand, "version": version[0]}, "acknowledge")
    assert done.status_code == 200, done.text
    await crowd.fetch(  # the clock is moved for them, and for the one that somebody has in hand
        "UPDATE escalation_deadline SET due_at = clock_timestamp() + interval '2 seconds' WHERE incident_id = ANY ($1)",
        [uuid.UUID(one) for one in (in_hand, *chosen)],
    )

    def escalated() -> dict[str, int]:
        told = {id_: len(ids) for (event, id_), ids in post.webhooks.items() if event == "incident.escalated"}
        return {id_: count for id_, count in told.items() if id_ in incidents}

    async def fired() -> list[Any]:
        rows = await crowd.fetch(
            "SELECT d.* FROM escalation_deadline d JOIN incident i ON i.id = d.incident_id"
            " WHERE i.family = 'panic' AND d.outcome = 'told'"
        )
        return rows if len(rows) == CHOSEN else []

    async def told() -> bool:
        return len(escalated()) >= CHOSEN

    rows = await eventually(fired, "the steps that were due", WAIT_S)
    assert {str(row["incident_id"]) for row in rows} == set(chosen)
    assert all(row["settled_at"] >= row["due_at"] for row in rows)
    await eventually(told, "the desk to hear again", WAIT_S)
    assert escalated() == dict.fromkeys(chosen, 1), "of those that nobody has in hand, and of no other"
