"""A scripted stand-in for the API that serves the real console: `Desk` is what it knows, answers and was asked.

It answers the /v1 addresses the console uses from plain values a test sets, so that every state of the screen can be
produced at will.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
from datetime import timedelta
from typing import Any

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

from api.console import mount
from core.clock import rfc3339, utc_now
from core.settings import Settings

SHARED_TOLD = ("id", "agency_id", "type", "severity", "state", "opened_at", "exercise", "do_not_call")
VICTIM, AGGRESSOR, ORDER = (f"0198a000-0000-7000-8000-00000000000{n}" for n in (1, 2, 3))


def at(seconds_ago: float = 0) -> str:
    """RFC 3339 of a moment ago."""
    return rfc3339(utc_now() - timedelta(seconds=seconds_ago))


def make_incident(number: int, **values: Any) -> dict[str, Any]:
    """An incident as the API gives it."""
    opened = at(values.pop("age_s", 60))
    return {
        "id": f"0198b000-0000-7000-8000-{number:012d}",
        "type": "proximity",
        "family": "proximity",
        "severity": "critical",
        "state": "open",
        "version": 1,
        "order_id": ORDER,
        "victim_id": VICTIM,
        "aggressor_id": AGGRESSOR,
        "occurred_at": opened,
        "opened_at": opened,
        "updated_at": opened,
        "retrospective": False,
        "exercise": False,
        "provisional": False,
        "inside": False,
        "distance_m": 320.0,
        "p_within": 0.97,
        "closing_mps": 1.3,
        "fix_age_s": {"victim": 3.0, "aggressor": 8.0},
        "place": {"lat": 43.23895, "lon": 76.9456, "accuracy_m": 12.0, "at": opened},
        "units": [],
        "hazards": {},
        "do_not_call": False,
        "outcome": None,
        "detail": {"aggressor_place": {"lat": 43.2407, "lon": 76.9488, "accuracy_m": 25.0, "at": opened}},
    } | values


class Desk:
    """What the scripted API knows, answers and was asked."""

    def __init__(self) -> None:
        self.incidents: dict[str, dict[str, Any]] = {}
        self.timelines: dict[str, list[dict[str, Any]]] = {}
        self.episodes: dict[str, list[dict[str, Any]]] = {}
        self.people = {
            VICTIM: {"id": VICTIM, "identity": {"name": "Айгерім Сәрсенова"}},
            AGGRESSOR: {"id": AGGRESSOR, "identity": {"name": "Марат Қуатов"}},
        }
        self.orders = {
            ORDER: {"id": ORDER, "reference": "2026/114-З", "legal_m": 300, "alert_m": 500, "warning_m": 800}
        }
        self.units: list[dict[str, Any]] = []
        self.health: dict[str, Any] = {"postgres": "up", "redis": "up"}
        self.cursor = itertools.count(1001)
        self.last_cursor = "1000"
        self.history: list[dict[str, Any]] = []
        self.sockets: set[WebSocket] = set()
        self.board_answers = asyncio.Event()
        self.board_answers.set()
        self.refuse_feed = False
        self.refuse_board = False
        self.close_feed_with: int | None = None
        self.problems: dict[str, tuple[int, dict[str, Any]]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.resumed_after: list[str] = []
        self.access_tokens = 0
        self.session_ended = False
        self.map_style_url: str | None = None
        self.role: str | None = None
        self.user_id = "0198c000-0000-7000-8000-000000000001"
        self.sealed: list[dict[str, Any]] = []
        self.outages: list[dict[str, Any]] = []
        self.shared: dict[str, dict[str, Any]] = {}
        self.links: dict[str, list[dict[str, Any]]] = {}
        self.devices: list[dict[str, Any]] = []
        self.contacts: list[dict[str, Any]] = []

    @property
    def token(self) -> str:
        """The access token that holds now; with a role set it says whose it is, as the API's do."""
        if self.role is None:
            return f"access-{self.access_tokens}"
        said = json.dumps({"role": self.role, "sub": self.user_id, "name": f"{self.role}-1"}).encode()
        return f"a.{base64.urlsafe_b64encode(said).decode().rstrip('=')}.{self.access_tokens}"

    def make(self, number: int, **values: Any) -> dict[str, Any]:
        """An incident as the API gives it; `age_s` says how long ago it was opened."""
        return make_incident(number, **values)

    def add(self, incident: dict[str, Any], *timeline: dict[str, Any]) -> dict[str, Any]:
        """Have an incident on the board."""
        self.incidents[incident["id"]] = incident
        self.timelines[incident["id"]] = list(timeline)
        return incident

    def event(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """Make a feed event that a resuming console will be given too."""
        self.last_cursor = str(next(self.cursor))
        frame = {"cursor": self.last_cursor, "kind": kind, "at": at(), "data": data}
        self.history.append(frame)
        return frame

    async def emit(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """Make a feed event and send it to every console."""
        if kind.startswith("incident."):
            self.incidents[data["id"]] = data
        frame = self.event(kind, data)
        await self.send(frame)
        return frame

    async def send(self, frame: dict[str, Any]) -> None:
        """Send a frame as it is to every console."""
        for one in list(self.sockets):
            await one.send_text(json.dumps(frame))

    async def hang_up(self, code: int = 1011) -> None:
        """Close every feed."""
        for one in list(self.sockets):
            with contextlib.suppress(RuntimeError):
                await one.close(code)


def scripted_api(desk: Desk, settings: Settings) -> FastAPI:
    """The /v1 addresses the console uses, answered from `desk`, with the real console mounted."""
    app = FastAPI()
    mount(app, settings)

    def signed_in(request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {desk.token}" and not desk.session_ended

    @app.post("/v1/auth/token")
    async def token(request: Request) -> Any:
        form = await request.form()
        wrong = JSONResponse({"code": "credentials_invalid", "detail": "no"}, 401)
        if desk.session_ended:
            return wrong
        if form["grant_type"] == "password" and form["password"] != "right":
            return wrong
        if form["grant_type"] == "refresh_token" and not str(form["refresh_token"]).startswith("refresh-"):
            return wrong
        desk.access_tokens += 1
        return {"access_token": desk.token, "refresh_token": f"refresh-{desk.access_tokens}", "expires_in": 900}

    @app.get("/v1/board")
    async def board(request: Request) -> Any:
        await desk.board_answers.wait()
        if not signed_in(request):
            return JSONResponse({"code": "token_expired"}, 401)
        if desk.refuse_board:
            return JSONResponse({"code": "store_unavailable"}, 503)
        open_ones = [one for one in desk.incidents.values() if one["state"] != "resolved"]
        held = {"cursor": desk.last_cursor, "incidents": open_ones, "units": desk.units, "health": desk.health}
        lines = [(one["id"], line) for one in open_ones for line in desk.timelines.get(one["id"], [])]
        states: dict[str, dict[str, str]] = {one["id"]: {} for one in open_ones}
        for incident_id, line in lines:
            if line["kind"] == "delivery":
                states[incident_id][line["data"]["delivery_id"]] = line["data"]["state"]
        told = [{name: one[name] for name in SHARED_TOLD} for one in desk.shared.values()]
        return held | {"sealed": desk.sealed, "deliveries": states, "shared": told}

    @app.get("/v1/incidents/{incident_id}")
    async def incident(incident_id: str) -> Any:
        return desk.incidents[incident_id] | {"timeline": desk.timelines.get(incident_id, [])}

    @app.get("/v1/incidents/{incident_id}/episode")
    async def episode(incident_id: str) -> Any:
        return {"incidents": desk.episodes.get(incident_id, [])}

    @app.get("/v1/incidents/{incident_id}/nearest-units")
    async def nearest(incident_id: str) -> Any:
        return {"units": desk.units}

    @app.post("/v1/incidents/{incident_id}/{command}")
    async def command(incident_id: str, command: str, request: Request) -> Any:
        body = await request.json()
        desk.asked.append((command, body))
        if command in desk.problems:
            status, problem = desk.problems.pop(command)
            return JSONResponse(problem, status, media_type="application/problem+json")
        states = {"acknowledge": "acknowledged", "dispatch": "dispatched", "resolve": "resolved", "reopen": "open"}
        held = desk.incidents[incident_id]
        held = held | {"state": states.get(command, held["state"]), "version": held["version"] + 1}
        held |= {"outcome": body.get("outcome")}
        desk.timelines[incident_id].append({"id": command, "at": at(), "kind": command, "actor_id": None, "data": body})
        kind = {"acknowledge": "acknowledged", "dispatch": "dispatched", "resolve": "resolved"}.get(command, "updated")
        await desk.emit(f"incident.{kind}", held)
        return held

    @app.post("/v1/people/{person_id}/look", status_code=201)
    async def look(person_id: str, request: Request) -> Any:
        desk.asked.append(("look", await request.json()))
        return {"person_id": person_id}

    @app.get("/v1/people/{person_id}")
    async def person(person_id: str) -> Any:
        return desk.people.get(person_id) or JSONResponse({"code": "role_forbidden"}, 403)

    @app.get("/v1/orders/{order_id}")
    async def order(order_id: str) -> Any:
        return desk.orders.get(order_id) or JSONResponse({"code": "not_found"}, 404)

    @app.get("/v1/zones")
    async def zones() -> Any:
        return {"items": []}

    @app.get("/v1/incidents/{incident_id}/live-links")
    async def live_links(incident_id: str) -> Any:
        return {"items": desk.links.get(incident_id, [])}

    @app.delete("/v1/incidents/{incident_id}/live-links")
    async def end_links(incident_id: str) -> Any:
        desk.asked.append(("end_links", {"id": incident_id}))
        for link in desk.links[incident_id]:
            link |= {
                "revoked_at": link["revoked_at"] or at(),
                "revoked_because": link["revoked_because"] or "dispatcher",
            }
        return {"revoked": len(desk.links[incident_id])}

    @app.get("/v1/contacts/{contact_id}")
    async def contact(contact_id: str) -> Any:
        found = [one for one in desk.contacts if one["id"] == contact_id]
        return found[0] if found else JSONResponse({"code": "not_found"}, 404)

    @app.get("/v1/contacts")
    async def contacts(person_id: str) -> Any:
        desk.asked.append(("contacts", {"person_id": person_id}))
        return {"items": desk.contacts, "next": None}

    @app.get("/v1/devices")
    async def devices(person_id: str) -> Any:
        return {"items": desk.devices, "next": None}

    @app.get("/v1/shared-incidents")
    async def shared_incidents() -> Any:
        hidden = ("place", "hazards", "language")
        items = [{name: one[name] for name in one if name not in hidden} for one in desk.shared.values()]
        return {"items": items, "next": None}

    @app.get("/v1/shared-incidents/{incident_id}")
    async def shared_incident(incident_id: str) -> Any:
        desk.asked.append(("read_shared", {"id": incident_id}))
        return desk.shared.get(incident_id) or JSONResponse({"code": "not_found"}, 404)

    @app.post("/v1/shared-incidents/{incident_id}/acknowledge")
    async def acknowledge_shared(incident_id: str) -> Any:
        desk.asked.append(("acknowledge_shared", {"id": incident_id}))
        desk.shared[incident_id] |= {"state": "acknowledged", "acknowledged_at": at()}
        return desk.shared[incident_id]

    @app.get("/v1/outages")
    async def outages() -> Any:
        return {"items": desk.outages}

    @app.post("/v1/outages/{outage_id}/acknowledge", status_code=204)
    async def acknowledge_outage(outage_id: str) -> None:
        desk.asked.append(("acknowledge_outage", {"id": outage_id}))
        for outage in desk.outages:
            if outage["id"] == outage_id:
                outage |= {"acknowledged_by": desk.user_id, "acknowledged_at": at()}
                outage["heard"] = [*outage["heard"], {"agency": "Ours", "at": outage["acknowledged_at"]}]

    @app.websocket("/v1/feed")
    async def feed(websocket: WebSocket, after: str) -> None:
        await websocket.accept()
        if desk.refuse_feed or (await websocket.receive_json())["token"] != desk.token:
            await websocket.close(1008)
            return
        if desk.close_feed_with is not None:
            await websocket.close(desk.close_feed_with)
            return
        desk.resumed_after.append(after)
        for frame in desk.history:
            if int(frame["cursor"]) > int(after):
                await websocket.send_text(json.dumps(frame))
        desk.sockets.add(websocket)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while True:
                await websocket.receive_text()
        desk.sockets.discard(websocket)

    return app
