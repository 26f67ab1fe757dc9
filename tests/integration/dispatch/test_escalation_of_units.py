"""A unit that was sent accepts, declines, does not answer or is late; and whose ground an incident is on."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.actions import commands
from core.actions.commands import By
from core.actions.incidents import apply_transitions
from core.actions.unit_of_work import act
from core.domain.scope import Scope
from core.errors import NotAllowed
from core.ids import new_id
from core.postgres.user_channels import USER_CHANNELS
from notifier.escalator import Escalator

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
Query = Callable[..., Any]
NEAR, FAR = (43.21, 76.91), (43.4, 77.2)
"""Of the incident's place, 43.2, 76.9."""


class Moment:
    """A clock that is moved."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def moment() -> Moment:
    """The escalator's clock."""
    return Moment()


@pytest.fixture
def escalator(posts: Any, moment: Moment) -> Escalator:
    """An escalator, connected as the notifier is."""
    return Escalator(posts.worker, moment)


async def run(escalator: Escalator, moment: Moment, seconds: float) -> None:
    moment.now = NOW + timedelta(seconds=seconds)
    await escalator.step()


class Station:
    """Makes what an agency has: users who can be told, and units with one of them."""

    def __init__(self, database: Any) -> None:
        self._database = database

    async def channel(self, agency_id: uuid.UUID, user_id: uuid.UUID) -> None:
        """An e-mail address of a user."""
        values = {
            "id": new_id(), "agency_id": agency_id, "user_id": user_id, "channel": "email",
            "address": f"{user_id}@example.org", "language": "en", "enabled": True, "created_at": NOW,
            "updated_at": NOW,
        }  # fmt: skip
        async with self._database.transaction() as connection:
            await USER_CHANNELS.insert(connection, values)

    async def unit(self, agency_id: uuid.UUID, callsign: str, place: tuple[float, float], **more: Any) -> uuid.UUID:
        """A unit; with an officer who can be told, unless `crewed` is False."""
        unit_id, user_id = new_id(), new_id()
        crewed = more.pop("crewed", True)
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO app_user (id, agency_id, username, role, created_at) VALUES ($1, $2, $3, 'officer', $4)",
                user_id, agency_id, f"{callsign}-{user_id}", NOW,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO unit (id, agency_id, callsign, lat, lon, conflicts, user_ids, created_at, updated_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
                unit_id, agency_id, callsign, *place, more.get("conflicts", []), [user_id] if crewed else [], NOW,
            )  # fmt: skip
        await self.channel(agency_id, user_id)
        return unit_id


@pytest.fixture
def station(database: Any) -> Station:
    """Makes units."""
    return Station(database)


async def breach(database: Any, transition: Any) -> None:
    async with act(database, NOW) as unit:
        await apply_transitions(unit, [transition("proximity", "warning", "breach", distance_m=100.0)])


async def incident_of(query: Query) -> Any:
    return (await query("SELECT * FROM incident"))[0]


def by(pair: Any, row: Any, role: str = "dispatcher", user_id: Any = None) -> By:
    return By(user_id or pair.users[role], pair.agency_id, row["id"], row["version"], role=role)


async def send(database: Any, query: Query, pair: Any, unit_id: uuid.UUID, eta_s: float | None = None) -> Any:
    async with act(database, NOW) as unit:
        return await commands.dispatch(unit, by(pair, await incident_of(query)), [unit_id], eta_s)


async def crew_of(query: Query, unit_id: uuid.UUID) -> uuid.UUID:
    [row] = await query("SELECT user_ids FROM unit WHERE id = $1", unit_id)
    return row["user_ids"][0]


async def test_a_units_people_are_told_that_it_is_sent(
    database: Any, transition: Any, query: Query, pair: Any, station: Station
) -> None:
    unit_id = await station.unit(pair.agency_id, "A-1", NEAR)
    await breach(database, transition)
    answer = await send(database, query, pair, unit_id)
    assert answer["next_deadline_at"] == "2026-05-01T12:01:00.000Z", "a minute to accept"
    [row] = await query("SELECT audience, recipient, data FROM delivery WHERE template = 'dispatch_officer'")
    assert (row["audience"], row["recipient"]) == ("officer", f"user:{await crew_of(query, unit_id)}")
    assert row["data"]["callsign"] == "A-1"
    assert not {"lat", "lon", "place", "distance_m"} & row["data"].keys()


async def test_the_next_nearest_is_sent_when_a_unit_does_not_accept(
    database: Any, transition: Any, query: Query, pair: Any, station: Station, escalator: Escalator, moment: Moment
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR)
    await station.unit(pair.agency_id, "A-2", FAR)
    await station.unit(pair.agency_id, "A-3", NEAR, conflicts=[pair.victim_id])
    await station.unit(pair.agency_id, "A-4", NEAR, crewed=False)
    await station.unit(pair.agency_id, "A-5", (43.25, 76.95))
    await breach(database, transition)
    await send(database, query, pair, first)
    await run(escalator, moment, 59)
    assert [unit["callsign"] for unit in (await incident_of(query))["units"]] == ["A-1"]
    await run(escalator, moment, 60)
    row = await incident_of(query)
    assert [unit["callsign"] for unit in row["units"]] == ["A-1", "A-5"]
    assert row["next_deadline_at"] == NOW + timedelta(seconds=120), "a minute for the next one"
    assert [r["status"] for r in await query("SELECT status FROM unit WHERE callsign = 'A-5'")] == ["dispatched"]
    told = {row["template"]: row["recipient"] for row in await query(
        "SELECT template, recipient FROM delivery WHERE audience = 'officer' AND data ->> 'callsign' = 'A-1'"
    )}  # fmt: skip
    assert set(told) == {"dispatch_officer", "asked_officer"}, "the first is asked once more"
    [line] = await query("SELECT data FROM timeline WHERE kind = 'escalated'")
    assert (line["data"]["why"], line["data"]["callsign"]) == ("unaccepted", "A-1")


async def test_a_unit_that_nobody_could_ask_is_the_desks_to_find_out(
    database: Any, transition: Any, query: Query, pair: Any, station: Station, escalator: Escalator, moment: Moment
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR, crewed=False)
    await station.unit(pair.agency_id, "A-2", NEAR)
    await station.channel(pair.agency_id, pair.users["dispatcher"])
    await breach(database, transition)
    await send(database, query, pair, first)
    await run(escalator, moment, 60)
    assert [unit["callsign"] for unit in (await incident_of(query))["units"]] == ["A-1"]
    rows = await query("SELECT recipient, data FROM delivery WHERE template = 'escalation_dispatcher'")
    assert f"user:{pair.users['dispatcher']}" in {row["recipient"] for row in rows}
    assert {row["data"]["why"] for row in rows} == {"unaccepted"}


async def test_a_unit_accepts_with_a_time_and_is_missed_after_it(
    database: Any, transition: Any, query: Query, pair: Any, station: Station, escalator: Escalator, moment: Moment
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR)
    await station.channel(pair.agency_id, pair.users["supervisor"])
    await breach(database, transition)
    await send(database, query, pair, first)
    crew = await crew_of(query, first)
    async with act(database, NOW + timedelta(seconds=20)) as unit:
        row = await incident_of(query)
        answer = await commands.accept(unit, by(pair, row, "officer", crew), first, 120)
    assert answer["units"][0]["accepted"] == "2026-05-01T12:00:20.000Z"
    assert answer["next_deadline_at"] == "2026-05-01T12:07:20.000Z", "ETA and five minutes"
    assert answer["version"] == row["version"], "it overrules nobody"
    await run(escalator, moment, 439)
    assert await query("SELECT 1 FROM delivery WHERE template = 'eta_missed_dispatcher'") == []
    await run(escalator, moment, 440)
    [told] = await query("SELECT recipient, data FROM delivery WHERE template = 'eta_missed_dispatcher'")
    assert told["recipient"] == f"user:{pair.users['supervisor']}"
    assert (told["data"]["callsign"], told["data"]["eta_at"]) == ("A-1", "2026-05-01T12:02:20.000Z")


async def test_a_unit_that_declines_is_replaced_at_once_and_free_again(
    database: Any, transition: Any, query: Query, pair: Any, station: Station
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR)
    await station.unit(pair.agency_id, "A-2", FAR)
    await breach(database, transition)
    await send(database, query, pair, first)
    async with act(database, NOW + timedelta(seconds=10)) as unit:
        row = await incident_of(query)
        answer = await commands.decline(unit, by(pair, row, "officer", await crew_of(query, first)), first)
    declined = {one["callsign"]: one["declined"] is not None for one in answer["units"]}
    assert declined == {"A-1": True, "A-2": False}
    states = {row["callsign"]: row["status"] for row in await query("SELECT callsign, status FROM unit")}
    assert states["A-2"] == "dispatched"


async def test_an_officer_answers_for_her_unit_over_the_api(
    api: Any, database: Any, transition: Any, query: Query, pair: Any, station: Station
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR)
    await station.unit(pair.agency_id, "A-2", FAR)
    await breach(database, transition)
    await send(database, query, pair, first)
    crew, incident = await crew_of(query, first), (await incident_of(query))["id"]
    async with api.client(api.token(pair.agency_id, crew, "officer")) as officer:
        answer = await officer.post(f"/v1/incidents/{incident}/accept", json={"unit_id": str(first), "eta_s": 60})
        assert answer.status_code == 200, answer.text
        answer = await officer.post(f"/v1/incidents/{incident}/decline", json={"unit_id": str(first)})
        assert [unit["callsign"] for unit in answer.json()["units"]] == ["A-1", "A-2"]
    async with api.client(api.token(pair.agency_id, pair.users["officer"], "officer")) as other:
        answer = await other.post(f"/v1/incidents/{incident}/accept", json={"unit_id": str(first)})
        assert (answer.status_code, answer.json()["code"]) == (403, "role_forbidden")


async def test_when_all_have_declined_it_wants_a_dispatch_again(
    database: Any, transition: Any, query: Query, pair: Any, station: Station
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR)
    await breach(database, transition)
    await send(database, query, pair, first)
    async with act(database, NOW + timedelta(seconds=10)) as unit:
        answer = await commands.decline(unit, by(pair, await incident_of(query)), first)
    assert answer["next_deadline_at"] == "2026-05-01T12:01:40.000Z", "90 s to send somebody else"


async def test_only_who_goes_with_it_answers_for_a_unit(
    database: Any, transition: Any, query: Query, pair: Any, station: Station
) -> None:
    first = await station.unit(pair.agency_id, "A-1", NEAR)
    await breach(database, transition)
    await send(database, query, pair, first)
    with pytest.raises(NotAllowed):
        async with act(database, NOW) as unit:
            await commands.accept(unit, by(pair, await incident_of(query), "officer"), first)


# whose ground it is on ------------------------------------------------------------------------------------------------


def square(lat: float, lon: float, half: float = 0.05) -> dict[str, Any]:
    ring = [[lon - half, lat - half], [lon + half, lat - half], [lon + half, lat + half], [lon - half, lat + half]]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


async def settle(database: Any, agency_id: uuid.UUID, geometry: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute("UPDATE agency SET jurisdiction = $2 WHERE id = $1", agency_id, geometry)


async def test_the_agency_on_whose_ground_it_is_hears_of_it_and_no_more_than_it_needs(
    database: Any, transition: Any, query: Query, pair: Any, another_pair: Any, api: Any
) -> None:
    other = await another_pair()
    await settle(database, other.agency_id, square(43.2, 76.9))
    await settle(database, pair.agency_id, square(50.0, 70.0))
    await breach(database, transition)
    row = await incident_of(query)
    assert (row["agency_id"], row["jurisdiction_agency_id"]) == (pair.agency_id, other.agency_id)
    [event] = await query("SELECT data FROM feed WHERE kind = 'shared.incident' AND agency_id = $1", other.agency_id)
    assert event["data"]["severity"] == "critical"
    [page] = await query("SELECT data, incident_id FROM delivery WHERE agency_id = $1", other.agency_id)
    for told in (event["data"], page["data"]):
        text = str(told)
        for known in (pair.victim_id, pair.aggressor_id, pair.order_id, pair.case_id, "43.2", "76.9", "distance_m"):
            assert str(known) not in text
    async with api.client(api.token(other.agency_id, other.users["dispatcher"])) as desk:
        assert (await desk.get(f"/v1/incidents/{row['id']}")).status_code == 404
        answer = await desk.get("/v1/shared-incidents")
        assert answer.status_code == 200, answer.text
        [listed] = answer.json()["items"]
        assert "place" not in listed
        assert [one["id"] for one in (await desk.get("/v1/board")).json()["shared"]] == [str(row["id"])]
        whole = (await desk.get(f"/v1/shared-incidents/{row['id']}")).json()
        assert (whole["place"]["lat"], whole["hazards"]) == (43.2, {"weapons": True})
        assert str(pair.victim_id) not in str(whole)
        looked = await query("SELECT agency_id FROM audit WHERE action = 'shared_incident.read'")
        assert {one["agency_id"] for one in looked} == {pair.agency_id, other.agency_id}
        taken = await desk.post(f"/v1/shared-incidents/{row['id']}/acknowledge")
        assert (taken.status_code, taken.json()["state"]) == (200, "acknowledged")
    [own] = await query("SELECT data FROM feed WHERE kind = 'incident.acknowledged' AND agency_id = $1", pair.agency_id)
    assert own["data"]["detail"]["acknowledged_by_agency"]["id"] == str(other.agency_id)
    async with api.client(api.token(pair.agency_id, pair.users["dispatcher"])) as desk:
        assert (await desk.get("/v1/shared-incidents")).json()["items"] == []
        assert (await desk.get(f"/v1/shared-incidents/{row['id']}")).status_code == 404


async def test_the_neighbour_is_asked_at_its_step_and_sees_it_then(
    database: Any, transition: Any, query: Query, pair: Any, another_pair: Any, escalator: Escalator, moment: Moment
) -> None:
    near, far = await another_pair(), await another_pair()
    await settle(database, near.agency_id, square(43.4, 76.9))
    await settle(database, far.agency_id, square(45.0, 78.0))
    await breach(database, transition)
    await run(escalator, moment, 60)
    assert await query("SELECT 1 FROM incident_share") == []
    await run(escalator, moment, 120)
    [share] = await query("SELECT agency_id, reason FROM incident_share")
    assert (share["agency_id"], share["reason"]) == (near.agency_id, "neighbour")
    [page] = await query("SELECT agency_id, data FROM delivery WHERE template = 'neighbour_dispatcher'")
    assert page["agency_id"] == near.agency_id
    assert str(pair.victim_id) not in str(page["data"])
    kinds = await query("SELECT kind FROM feed WHERE agency_id = $1", near.agency_id)
    assert [one["kind"] for one in kinds] == ["shared.incident"]


@pytest.mark.parametrize("by_the_neighbour", [False, True])
async def test_an_acknowledgement_takes_back_what_was_still_to_go_to_the_neighbour(
    database: Any, posts: Any, transition: Any, query: Query, pair: Any, another_pair: Any, escalator: Escalator,
    moment: Moment, api: Any, by_the_neighbour: bool,
) -> None:  # fmt: skip
    near = await another_pair()
    await settle(database, near.agency_id, square(43.4, 76.9))
    await breach(database, transition)
    await run(escalator, moment, 120)
    async with database.transaction() as connection:  # of another incident, which nobody took in hand
        await connection.execute(
            "INSERT INTO delivery (id, agency_id, cause, audience, recipient, channel, template, data, due_at,"
            " created_at, updated_at) SELECT gen_random_uuid(), agency_id, 'another', audience, recipient, channel,"
            " template, data || jsonb_build_object('incident_id', gen_random_uuid()), due_at, created_at, updated_at"
            " FROM delivery WHERE template = 'neighbour_dispatcher'"
        )
    row = await incident_of(query)
    if by_the_neighbour:
        async with api.client(api.token(near.agency_id, near.users["dispatcher"])) as desk:
            assert (await desk.post(f"/v1/shared-incidents/{row['id']}/acknowledge")).status_code == 200
    else:
        scope = Scope(pair.agency_id, pair.users["dispatcher"], "dispatcher")
        async with act(posts.api, NOW + timedelta(seconds=121), scope) as unit:
            await commands.acknowledge(unit, by(pair, row))
    states = await query("SELECT cause, state FROM delivery WHERE template = 'neighbour_dispatcher'")
    assert {one["state"] for one in states if one["cause"] == "another"} == {"queued"}
    assert {one["state"] for one in states if one["cause"] != "another"} == {"cancelled"}
    told = await query("SELECT data FROM feed WHERE kind = 'shared.incident' AND agency_id = $1", near.agency_id)
    assert told[-1]["data"]["state"] == "acknowledged"


async def test_who_is_related_to_her_is_not_paged(
    database: Any, transition: Any, query: Query, pair: Any, station: Station, escalator: Escalator, moment: Moment
) -> None:
    for role in ("supervisor", "dispatcher"):
        await station.channel(pair.agency_id, pair.users[role])
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO user_conflict (user_id, person_id, agency_id, relation, noted_by, noted_at)"
            " VALUES ($1, $2, $3, 'relative', $4, $5)",
            pair.users["dispatcher"], pair.victim_id, pair.agency_id, pair.users["supervisor"], NOW,
        )  # fmt: skip
    await breach(database, transition)
    await run(escalator, moment, 30)
    told = {row["recipient"] for row in await query("SELECT recipient FROM delivery WHERE template LIKE 'escalation%'")}
    assert f"user:{pair.users['supervisor']}" in told
    assert f"user:{pair.users['dispatcher']}" not in told
