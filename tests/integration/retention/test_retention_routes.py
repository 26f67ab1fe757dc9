"""Periods, holds, the report and a person's own data, as users and devices ask for them."""

from __future__ import annotations

import csv
import io
import json
import uuid
import zipfile
from datetime import datetime, timedelta
from typing import Any

import pytest

from core.domain.ping import Role
from core.ids import new_id
from core.postgres import deliveries
from core.postgres.database import Database
from core.postgres.pings import TABLES
from tests.integration.management.conftest import client, context, elsewhere, hands, office, open_office

__all__ = ["client", "context", "elsewhere", "hands", "office", "open_office"]

SAFE = {"channel": "email", "address": "aigul@neighbour.example"}
HERS = {"name": "Айгүл Сейітқызы", "phone": "+77015550102"}
HIS = {"name": "Ержан Қасымұлы", "phone": "+77015550999"}
HER_PLACE, HIS_PLACE = (43.2567891, 76.9286123), (43.3344556, 76.8811223)


class Pair:
    """Both parties of an order, their devices, what history has of them, and a panic of hers."""

    def __init__(self, office: Any, database: Database) -> None:
        self.office, self.database = office, database

    async def begin(self) -> None:
        office, now = self.office, self.office.context.clock()
        self.her = await office.person(identity=HERS, safe_contact=SAFE, safe_word="алма")
        self.him = await office.person(identity=HIS)
        self.order = await office.order(self.her, self.him, reference="Қаулы 17-4")
        self.phone = await office.enrolled("phone", self.her)
        self.bracelet = await office.enrolled("bracelet", self.him)
        contact = {"person_id": self.her, "name": "Әпке", "channels": [{"channel": "sms", "address": "+77015550111"}]}
        assert (await office.post("/v1/contacts", contact)).status_code == 201
        await office.context.registry.refresh()
        self.incident_id = new_id()
        at = now + timedelta(minutes=1)
        async with self.database.transaction() as connection:
            for role, device, (lat, lon) in (
                (Role.VICTIM, self.phone, HER_PLACE), (Role.AGGRESSOR, self.bracelet, HIS_PLACE),
            ):  # fmt: skip
                await connection.execute("SELECT make_ping_day($1, $2)", TABLES[role], at.date())
                await connection.execute(
                    "INSERT INTO ping (role, live_at, device_number, seq, at, received_at, flags, lat, lon, accuracy_m,"
                    " speed_mps, heading_deg, altitude_m, battery_pct)"
                    " SELECT $1, $2, number, 1, $2, $2, 0, $3, $4, 8, 0, 0, 0, 50 FROM device WHERE id = $5",
                    int(role), at, lat, lon, uuid.UUID(device["id"]),
                )  # fmt: skip
                await connection.execute(
                    "INSERT INTO ping_heard (device_number, live_at, heard) SELECT number, $1, $2 FROM device"
                    " WHERE id = $3",
                    at, [{"beacon": self.bracelet["id"], "rssi_dbm": -60}], uuid.UUID(device["id"]),
                )  # fmt: skip
            await connection.execute(
                "INSERT INTO incident (id, type, family, severity, episode_id, agency_id, case_id, order_id, victim_id,"
                " aggressor_id, subject, occurred_at, opened_at, updated_at, place, distance_m)"
                " VALUES ($1, 'panic', 'panic', 'critical', $1, $2, $3, $4, $5, $6, 'p', $7, $7, $7, $8, 137.25)",
                self.incident_id, office.agency_id, uuid.UUID(self.order["case_id"]), uuid.UUID(self.order["id"]),
                uuid.UUID(self.her), uuid.UUID(self.him), now, {"lat": HER_PLACE[0], "lon": HER_PLACE[1]},
            )  # fmt: skip
            self.panic_id = new_id()
            await connection.execute(
                "INSERT INTO panic (id, agency_id, person_id, incident_id, note, received_at, verified, created_at)"
                " VALUES ($1, $2, $3, $4, 'көмек', $5, true, $5)",
                self.panic_id, office.agency_id, uuid.UUID(self.her), self.incident_id, now,
            )  # fmt: skip
        office.context.clock.forward(minutes=2)

    def as_device(self, device: dict[str, Any]) -> dict[str, str]:
        return {"Authorization": f"Bearer {device['token']}"}

    async def exported(self, person_id: str) -> dict[str, str]:
        answer = await self.office.post(f"/v1/people/{person_id}/export", {"reason": "own_request"})
        assert answer.status_code == 200, answer.text
        return unzipped(answer.content)


def unzipped(content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.fixture
async def pair(office: Any, database: Database) -> Pair:
    made = Pair(office, database)
    await made.begin()
    return made


async def test_an_agency_sets_its_periods_within_their_bounds(office: Any, elsewhere: Any) -> None:
    shown = (await office.get("/v1/retention", role="auditor")).json()
    assert (shown["periods"]["victim_fix_days"], shown["set"]) == (7, {})
    wanted = {"victim_fix_days": 3, "aggressor_fix_days": 30}
    answer = await office.call("supervisor", "PUT", "/v1/retention", json=wanted)
    assert answer.status_code == 200, answer.text
    assert answer.json()["periods"]["victim_fix_days"] == 3
    assert (await elsewhere.get("/v1/retention")).json()["set"] == {}
    for values in (
        {"victim_fix_days": 8},
        {"victim_fix_days": 0},
        {"victim_days": 3},
        {"incident_days": 1825, "incident_fix_unjudged_days": 3000},
    ):
        assert (await office.call("supervisor", "PUT", "/v1/retention", json=values)).status_code == 422
    assert (await office.call("dispatcher", "PUT", "/v1/retention", json={})).status_code == 403
    (line,) = [
        one
        for one in (await office.get("/v1/audit", role="auditor")).json()["items"]
        if one["action"] == "retention.set"
    ]
    assert line["detail"]["values"] == wanted


async def test_a_legal_hold_is_placed_and_lifted_with_reasons_and_stops_erasure(pair: Pair, elsewhere: Any) -> None:
    office = pair.office
    held = {"person_id": pair.her, "reason": "criminal_case", "reference": "№ 26-711"}
    assert (await office.post("/v1/holds", held, role="caseworker")).status_code == 403
    assert (await elsewhere.post("/v1/holds", held, role="supervisor")).status_code == 404
    assert (
        await office.post("/v1/holds", {**held, "case_id": pair.order["case_id"]}, role="auditor")
    ).status_code == 422
    placed = await office.post("/v1/holds", held, role="auditor")
    assert placed.status_code == 201, placed.text
    hold_id = placed.json()["id"]
    assert (await office.post(f"/v1/people/{pair.her}/erasure", {})).json()["code"] == "legal_hold"
    assert [one["id"] for one in (await office.get("/v1/holds")).json()["items"]] == [hold_id]
    assert (await elsewhere.get("/v1/holds")).json()["items"] == []
    lift = {"reason": "judgment_final"}
    assert (await elsewhere.post(f"/v1/holds/{hold_id}/lift", lift, role="supervisor")).status_code == 404
    lifted = await office.post(f"/v1/holds/{hold_id}/lift", lift, role="supervisor")
    assert lifted.json()["lift_reason"] == "judgment_final"
    assert (await office.post(f"/v1/holds/{hold_id}/lift", lift, role="supervisor")).status_code == 409
    assert (await office.post(f"/v1/people/{pair.her}/erasure", {})).status_code == 202
    lines = (await office.get(f"/v1/audit?subject_id={hold_id}", role="auditor")).json()["items"]
    assert [line["action"] for line in lines] == ["legal_hold.placed", "legal_hold.lifted"]
    assert lines[0]["person_ids"] == [pair.her]


@pytest.mark.parametrize("kind", ["case_id", "incident_id"])
async def test_a_case_and_an_incident_can_be_held_and_a_strangers_cannot(pair: Pair, elsewhere: Any, kind: str) -> None:
    value = pair.order["case_id"] if kind == "case_id" else str(pair.incident_id)
    body = {kind: value, "reason": "appeal", "reference": "1"}
    assert (await pair.office.post("/v1/holds", {**body, kind: str(new_id())}, role="supervisor")).status_code == 404
    assert (await elsewhere.post("/v1/holds", body, role="supervisor")).status_code == 404
    assert (await pair.office.post("/v1/holds", body, role="supervisor")).status_code == 201
    assert (await pair.office.post(f"/v1/people/{pair.her}/erasure", {})).json()["code"] == "legal_hold"


async def test_her_phone_holds_her_own_fixes_and_lets_them_go(pair: Pair, hands: Any) -> None:
    client, headers = pair.office.client, pair.as_device(pair.phone)
    assert (await client.get("/v1/me/hold", headers=headers)).status_code == 404
    placed = (await client.post("/v1/me/hold", headers=headers)).json()
    begins, ends = (datetime.fromisoformat(placed[name]) for name in ("fixes_from", "fixes_until"))
    assert (ends, ends - begins) == (hands(), timedelta(days=7))
    hands.forward(days=3)
    again = (await client.post("/v1/me/hold", headers=headers)).json()
    assert again["fixes_from"] == placed["fixes_from"], "what was held stays held"
    assert datetime.fromisoformat(again["fixes_until"]) == hands()
    assert (await client.delete("/v1/me/hold", headers=headers)).status_code == 204
    assert (await client.delete("/v1/me/hold", headers=headers)).status_code == 404
    for method in ("GET", "POST", "DELETE"):
        answer = await client.request(method, "/v1/me/hold", headers=pair.as_device(pair.bracelet))
        assert (answer.status_code, answer.json()["code"]) == (403, "device_forbidden")


async def test_she_gets_what_is_hers_and_nothing_of_his(pair: Pair) -> None:
    files = await pair.exported(pair.her)
    assert json.loads(files["person.json"])["identity"] == HERS
    assert json.loads(files["contacts.json"])[0]["name"] == "Әпке"
    assert json.loads(files["panics.json"])[0]["note"] == "көмек"
    assert [one["type"] for one in json.loads(files["incidents.json"])] == ["panic"]
    (fix,) = csv.DictReader(io.StringIO(files["fixes.csv"]))
    assert (float(fix["lat"]), fix["device_id"]) == (HER_PLACE[0], pair.phone["id"])
    assert f'lat="{HER_PLACE[0]!r}"' in files["track.gpx"]
    whole = "".join(files.values())
    his = [pair.him, *HIS.values(), pair.bracelet["id"], *map(repr, HIS_PLACE), "137.25"]
    assert [value for value in his if value in whole] == []


async def test_he_gets_what_is_his_and_nothing_that_betrays_her(pair: Pair) -> None:
    files = await pair.exported(pair.him)
    assert sorted(files) == [
        "about.json", "contacts.json", "devices.json", "fixes.csv", "panics.json", "person.json", "track.gpx",
    ]  # fmt: skip
    assert json.loads(files["person.json"])["identity"] == HIS
    (fix,) = csv.DictReader(io.StringIO(files["fixes.csv"]))
    assert float(fix["lat"]) == HIS_PLACE[0]
    whole = "".join(files.values())
    hers = [
        pair.her, *HERS.values(), SAFE["address"], "алма", "Әпке", "+77015550111", pair.phone["id"],
        *map(repr, HER_PLACE),
        str(pair.incident_id), str(pair.panic_id), pair.order["id"], pair.order["case_id"], "Қаулы", "137.25", "көмек",
        "panic\"", "heard", "-60",
    ]  # fmt: skip
    assert [value for value in hers if value in whole] == []
    assert json.loads(files["panics.json"]) == []


async def test_who_asks_for_an_export_needs_a_reason_a_role_and_the_agency_and_is_written_down(
    pair: Pair, elsewhere: Any
) -> None:
    path = f"/v1/people/{pair.her}/export"
    assert (await pair.office.post(path, {})).status_code == 422
    assert (await pair.office.post(path, {"reason": "own_request"}, role="dispatcher")).status_code == 403
    assert (await elsewhere.post(path, {"reason": "own_request"})).status_code == 404
    await pair.exported(pair.her)
    lines = (await pair.office.get(f"/v1/audit?subject_id={pair.her}", role="auditor")).json()["items"]
    (line,) = [line for line in lines if line["action"] == "person.exported"]
    assert (line["detail"], line["person_ids"]) == ({"reason": "own_request"}, [pair.her])


async def code_of(posts: Any, office: Any) -> str:
    far = datetime.max.replace(tzinfo=office.context.clock().tzinfo)
    async with posts.worker.transaction() as connection:
        claimed = await deliveries.claim_due(
            connection, channel="email", now=far, leased_until=far, holder="test", limit=10
        )
    assert claimed[-1].address == SAFE["address"]
    return str(claimed[-1].data["code"])


async def test_on_her_phone_the_zip_wants_the_code_from_her_safe_contact_once(pair: Pair, posts: Any) -> None:
    client, headers = pair.office.client, pair.as_device(pair.phone)
    assert (await client.post("/v1/me/export/fetch", json={"code": "1"}, headers=headers)).status_code == 404
    assert (await client.post("/v1/me/export", headers=headers)).status_code == 202
    wrong = await client.post("/v1/me/export/fetch", json={"code": "00000000"}, headers=headers)
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    code = await code_of(posts, pair.office)
    answer = await client.post("/v1/me/export/fetch", json={"code": code}, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert json.loads(unzipped(answer.content)["person.json"])["identity"] == HERS
    again = await client.post("/v1/me/export/fetch", json={"code": code}, headers=headers)
    assert again.status_code == 404
    for path in ("/v1/me/export", "/v1/me/export/fetch"):
        his = await client.post(path, json={"code": code}, headers=pair.as_device(pair.bracelet))
        assert his.status_code == 403


async def test_a_code_is_spent_by_five_wrong_ones_and_runs_out(pair: Pair, posts: Any, hands: Any) -> None:
    client, headers = pair.office.client, pair.as_device(pair.phone)
    await client.post("/v1/me/export", headers=headers)
    code = await code_of(posts, pair.office)
    for _ in range(5):
        await client.post("/v1/me/export/fetch", json={"code": "x"}, headers=headers)
    spent = await client.post("/v1/me/export/fetch", json={"code": code}, headers=headers)
    assert spent.status_code == 422
    hands.forward(minutes=10)
    await client.post("/v1/me/export", headers=headers)
    code = await code_of(posts, pair.office)
    hands.forward(hours=1)
    assert (await client.post("/v1/me/export/fetch", json={"code": code}, headers=headers)).status_code == 404


async def test_the_report_tells_what_was_erased_of_ones_own_agency(office: Any, elsewhere: Any, posts: Any) -> None:
    from core.actions import retention
    from core.signing import new_signer

    assert (await office.get("/v1/reports/retention")).json()["last_run"] is None
    clock = office.context.clock
    await retention.apply(posts.retention, retention.Room(7, 455), clock, new_signer, started_by="service")
    report = (await office.get("/v1/reports/retention", role="auditor")).json()
    assert report["erased"] == []
    assert report["last_run"]["finished_at"] is not None
    assert (await office.get("/v1/reports/retention", role="dispatcher")).status_code == 403


async def test_an_erased_persons_copies_and_holds_go_with_her(pair: Pair, database: Database, hands: Any) -> None:
    her = uuid.UUID(pair.her)
    await pair.office.client.post("/v1/me/hold", headers=pair.as_device(pair.phone))
    await pair.office.client.post("/v1/me/export", headers=pair.as_device(pair.phone))
    async with database.transaction() as connection:
        await connection.execute(
            "INSERT INTO ping_held SELECT $1, $2, p.*, NULL FROM (SELECT role, device_number, live_at, seq, at,"
            " received_at, flags, lat, lon, accuracy_m, speed_mps, heading_deg, altitude_m, battery_pct FROM ping) p",
            her, pair.office.agency_id,
        )  # fmt: skip
        await connection.execute("SELECT erase_person($1, $2)", her, hands())
        for table in ("ping_held", "own_hold", "subject_export"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table} WHERE person_id = $1", her) == 0, table
        assert await connection.fetchval("SELECT count(*) FROM ping WHERE role = 1") == 0
        assert await connection.fetchval("SELECT count(*) FROM ping WHERE role = 2") == 1
