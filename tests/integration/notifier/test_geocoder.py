"""The street of a place: asked of a service like Nominatim, beside everything, coarsely, and seen as the place is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from core.domain.sight import Sight, place_seen
from core.ids import new_id
from core.postgres import incidents
from core.settings import Settings
from notifier.geocoder import Geocoder

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


class Service:
    """A geocoder on the loopback address that speaks like Nominatim."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status = 200
        asked, service = self.asked, self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append({**parse_qs(urlsplit(self.path).query), "agent": self.headers["user-agent"]})
                body = {"lat": "43.2", "lon": "76.9", "display_name": "Abay 10, Almaty"}
                self.send_response(service.status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        """Stop it."""
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    """A geocoding service."""
    made = Service()
    yield made
    made.close()


@pytest.fixture
def geocoder(service: Service, posts: Any) -> Geocoder:
    """A worker that asks it, connected as the notifier is."""
    settings = Settings(geocoder="nominatim", geocoder_url=service.url, geocoder_per_s=100, geocoder_user_agent="desk")
    return Geocoder(settings, posts.worker, lambda: NOW)


async def add_incident(database: Any, lat: float = 43.2, subject: str = "a", state: str = "open") -> Any:
    async with database.transaction() as connection:
        agency_id = await connection.fetchval("SELECT id FROM agency LIMIT 1")
        if agency_id is None:
            agency_id = new_id()
            await connection.execute("INSERT INTO agency (id, name, created_at) VALUES ($1, 'A', $2)", agency_id, NOW)
        row = incidents.new_row(
            id=new_id(), type="panic", family="panic", severity="critical", episode_id=new_id(), agency_id=agency_id,
            subject=subject, occurred_at=NOW, opened_at=NOW, updated_at=NOW, state=state,
            place={"lat": lat, "lon": 76.9, "accuracy_m": 5.0, "at": "2026-05-01T12:00:00.000Z"},
        )  # fmt: skip
        await incidents.insert_open(connection, row)
    return row["id"]


async def place_of(database: Any, incident_id: Any) -> dict[str, Any]:
    async with database.connection() as connection:
        found: dict[str, Any] = await connection.fetchval("SELECT place FROM incident WHERE id = $1", incident_id)
        return found


async def test_an_open_incident_gets_its_address_once(geocoder: Geocoder, service: Service, database: Any) -> None:
    incident_id = await add_incident(database, 43.20004321)
    assert await geocoder.step() == 1
    assert await geocoder.step() == 0
    place = await place_of(database, incident_id)
    assert (place["lat"], place["address"]) == (43.20004321, "Abay 10, Almaty")
    [asked] = service.asked
    assert (asked["lat"], asked["lon"], asked["agent"]) == (["43.2"], ["76.9"], "desk"), "rounded before it is asked"
    async with database.connection() as connection:
        [event] = await connection.fetch("SELECT kind, data FROM feed")
    assert (event["kind"], event["data"]["place"]["address"]) == ("incident.updated", "Abay 10, Almaty")


async def test_a_place_asked_before_is_remembered(geocoder: Geocoder, service: Service, database: Any) -> None:
    await add_incident(database, 43.20001, "a")
    await add_incident(database, 43.20002, "b")
    assert await geocoder.step() == 2
    assert len(service.asked) == 1


async def test_what_is_over_is_not_asked_for(geocoder: Geocoder, service: Service, database: Any) -> None:
    await add_incident(database, state="resolved")
    assert (await geocoder.step(), service.asked) == (0, [])


async def test_a_service_that_fails_changes_nothing_and_is_left_alone(
    geocoder: Geocoder, service: Service, database: Any
) -> None:
    incident_id = await add_incident(database)
    service.status = 500
    assert await geocoder.step() == 0
    assert "address" not in await place_of(database, incident_id)
    waits = [geocoder._failing_s()]
    await geocoder.step()
    waits.append(geocoder._failing_s())
    assert waits == [2.0, 4.0]
    service.status = 200
    assert await geocoder.step() == 1


async def test_a_service_that_hangs_holds_up_nobody(service: Service, posts: Any, database: Any) -> None:
    await add_incident(database)
    answered = threading.Event()

    def reverse(_: float, __: float) -> str | None:
        answered.wait(10)
        return None

    settings = Settings(geocoder="nominatim", geocoder_url=service.url)
    worker = Geocoder(settings, posts.worker, lambda: NOW, reverse)
    task = asyncio.create_task(worker.step())
    async with database.transaction() as connection:  # the incident is anybody's to work on meanwhile
        await connection.fetch("SELECT id FROM incident FOR UPDATE NOWAIT")
    answered.set()
    assert await task == 1


def test_who_sees_a_cell_sees_no_street() -> None:
    from core.domain.sight import Coarse

    place = {"lat": 43.2, "lon": 76.9, "accuracy_m": 5.0, "at": None, "address": "Abay 10"}
    seen = place_seen(place, Sight.COARSE, "somebody", Coarse())
    assert seen is not None
    assert "Abay" not in str(seen)
    assert place_seen(place, Sight.NONE, "somebody", Coarse()) is None
