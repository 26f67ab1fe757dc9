"""Asked for at a route, judged by the geo workers, made in the scope of who asked, fetched by who may; audited."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import os
import sys
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.auth import Actor, make_access_token
from api.deps import ApiContext
from api.ingest.registry import Registry
from core.actions.evidence_exports import ExportClock
from core.clock import utc_now
from core.evidence import verify
from core.signing import load_signer
from geo.evidence_keeper import EvidenceKeeper

pytestmark = pytest.mark.timeout(300)  # three hours of a life are lived first


class Desk:
    """Users of the agency at the API, and the two services that make exports."""

    def __init__(self, lived: Any, client: httpx.AsyncClient, context: ApiContext, users: dict[str, uuid.UUID]) -> None:
        self.lived, self.client, self.context, self.users = lived, client, context, users
        self.keeper = EvidenceKeeper(lived.posts.worker, utc_now)
        self.clock = ExportClock(
            lived.posts.device,
            lived.posts.api,
            functools.partial(load_signer, lived.settings),
            utc_now,
        )

    async def call(
        self, role: str, method: str, path: str, agency: uuid.UUID | None = None, **more: Any
    ) -> httpx.Response:
        actor = Actor(self.users[role], agency or self.lived.agency_id, role, role)
        token = make_access_token(actor, self.context.token_key, utc_now(), 900)
        return await self.client.request(method, path, headers={"Authorization": f"Bearer {token}"}, **more)


@pytest.fixture
async def desk(lived: Any) -> AsyncIterator[Desk]:
    context = ApiContext(
        settings=lived.settings,
        database=lived.posts.api,
        device_database=lived.posts.device,
        redis=lived.client,
        registry=Registry(lived.posts.device, utc_now),
    )
    async with lived.database.connection() as connection:
        users = {row["role"]: row["id"] for row in await connection.fetch("SELECT role, id FROM app_user")}
    transport = httpx.ASGITransport(create_app(context))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield Desk(lived, client, context, users)


async def test_an_export_from_asking_to_fetching(desk: Desk) -> None:
    path = f"/v1/incidents/{desk.lived.incident_id}/evidence"
    assert (await desk.call("dispatcher", "POST", path, json={"reason": "curious"})).status_code == 403
    assert (await desk.call("supervisor", "POST", path, json={})).status_code == 422
    stranger = await desk.call("supervisor", "POST", path, agency=uuid.uuid4(), json={"reason": "hearing"})
    assert stranger.status_code == 404
    asked = await desk.call("supervisor", "POST", path, json={"reason": "hearing of 3 May"})
    assert asked.status_code == 202, asked.text
    export = asked.json()
    early = await desk.call("supervisor", "GET", f"/v1/evidence/{export['id']}/court")
    assert (early.status_code, early.json()["code"]) == (409, "state_forbids")

    await desk.clock.step()
    assert (await desk.call("auditor", "GET", f"/v1/evidence/{export['id']}")).json()["state"] == "queued", "not judged"
    await desk.keeper.step()
    await desk.clock.step()
    done = (await desk.call("auditor", "GET", f"/v1/evidence/{export['id']}")).json()
    assert (done["state"], done["progress"]) == ("done", 1.0), done
    assert [each["id"] for each in (await desk.call("admin", "GET", path)).json()["items"]] == [export["id"]]

    signer = load_signer(desk.lived.settings)
    roots = set()
    for role, edition in (("supervisor", "court"), ("auditor", "defence"), ("admin", "subject")):
        answer = await desk.call(role, "GET", f"/v1/evidence/{export['id']}/{edition}")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["cache-control"] == "no-store"
        found = verify.check(answer.content, signer.public_key_bytes)
        assert found.manifest["edition"] == edition
        roots.add(found.statement["root"])
        if edition == "court":
            holds_everything(found.files)
        assert found.statement["replay"] == {"state": "done", "identical": True}
    assert roots == {done["root"]}
    assert (await desk.call("auditor", "GET", f"/v1/evidence/{export['id']}/court")).status_code == 403
    foreign = await desk.call("admin", "GET", f"/v1/evidence/{export['id']}/defence", agency=uuid.uuid4())
    assert foreign.status_code == 404

    await fetched_at_the_command_line(desk, str(done["root"]))
    async with desk.lived.database.connection() as connection:
        actions = [
            row["action"]
            for row in await connection.fetch(
                "SELECT action FROM audit WHERE subject_id = $1 AND action LIKE 'evidence.%' ORDER BY id",
                desk.lived.incident_id,
            )
        ]
        kept = await connection.fetchval("SELECT bundles FROM evidence_export")
    assert actions == ["evidence.asked"] + ["evidence.fetched"] * 3 + ["evidence.made"]
    assert b"PK" not in kept[:4]
    assert "Үлгібай".encode() not in kept


def holds_everything(files: dict[str, bytes]) -> None:
    """Read under row-level security in the scope of who asked: nothing she may see is missing."""

    def told(name: str) -> Any:
        return json.loads(files[f"court/{name}.json"])

    assert told("identities")["victim"]["name"] == "Әсем Үлгібай"
    for name in ("her_fixes", "zones", "orders", "configurations", "decisions", "timeline", "deliveries", "devices"):
        assert told(name), name
    assert [row["canonical"].split("\t")[8] for row in told("audit")["rows"]] == ["incident.opened", "evidence.asked"]


async def fetched_at_the_command_line(desk: Desk, root: str) -> None:
    """What was made at the route is fetched, verified and replayed there, without being made again."""
    settings = desk.lived.settings
    directory = settings.data_dir / "out"
    environment = {
        **os.environ,
        "QORGAN_DATABASE_URL": settings.database_url.get_secret_value(),
        "QORGAN_REDIS_URL": settings.redis_url.get_secret_value(),
        "QORGAN_DATA_DIR": str(settings.data_dir),
        "QORGAN_SHARD_COUNT": str(settings.shard_count),
        "QORGAN_KEYS": f"test:{base64.b64encode(bytes(range(32))).decode()}",  # as the fixture `vault`
    }

    async def qorgan(*arguments: str) -> tuple[int, str]:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.cli", "evidence", *arguments,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await child.communicate()
        return int(child.returncode or 0), out.decode()

    incident = str(desk.lived.incident_id)
    status, told = await qorgan("export", "--incident", incident, "--out", str(directory))
    assert status == 0, told
    assert root in told
    court = directory / f"{incident}.court.zip"
    assert court.stat().st_mode & 0o077 == 0
    key = settings.data_dir / "key.pem"
    key.write_text(load_signer(settings).public_key_pem)
    status, told = await qorgan("verify", *map(str, sorted(directory.iterdir())), "--public-key", str(key))
    assert status == 0, told
    assert "one evidence, one root" in told
    status, told = await qorgan("export", "--incident", incident, "--fresh", "--out", str(directory / "new"))
    assert status == 0, told
    assert root not in told
    status, told = await qorgan("replay", str(court))
    assert status == 0, told
    assert "0 differ" in told
    status, told = await qorgan("replay", str(directory / f"{incident}.defence.zip"))
    assert (status, "only the court's edition" in told) == (1, True), told
