"""Through a whole bad day nothing tells where she is: no log, no metric, no message, nothing his bracelet receives.

A Qorgan of its own runs with its logs at debug level, and real servers for webhooks, letters and pushes. What it
wrote, said and sent is searched for her places in every form they may take, for her name and number, and, where he
can read it, for every id of hers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import math
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import httpx
import pytest
import websockets
from aiosmtpd.controller import Controller
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from infra.embedded import EmbeddedStores
from infra.stores import find_running

from .running import QORGAN, Feed, Hooks, System, add_hook, environment, own_folder, wait_for

pytestmark = pytest.mark.xdist_group("betrayal")

HER_NAME, HER_PHONE = "Зарина Көлбайқызы", "+77471265583"
PANIC_NOTE = "ол асханада тұр"
ZONE_NAME = "Наурызбай 91, үшінші подъезд"
HOME = (43.2617358, 76.9183427)
"""Where she is. Nothing else in the world has these figures."""
PANIC_AT = (43.2619264, 76.9186831)
ZONE = (43.2791946, 76.9237163)
"""The middle of a place he was not told of; his way to her leads through its edge."""
HERS = [HOME, PANIC_AT, ZONE]
HIS_NEAR = (43.2641111, 76.9211111)
"""300 m from her, and in no third digit hers."""


@dataclass
class Wire:
    """Everything that anybody outside received, by who received it."""

    his: list[bytes] = field(default_factory=list)
    pushes: list[bytes] = field(default_factory=list)
    letters: list[bytes] = field(default_factory=list)
    errors: list[bytes] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    metrics: list[bytes] = field(default_factory=list)

    def answer_to_him(self, answer: httpx.Response) -> None:
        """Keep all of an answer to his device, headers too."""
        self.his.append(repr(answer.headers).encode() + answer.content)


def numbers(value: float) -> list[re.Pattern[bytes]]:
    """A coordinate as text of three decimals or more, rounded or cut, and as an integer of ten-millionths."""
    texts = {f"{value:.3f}", f"{math.floor(value * 1000) / 1000:.3f}", f"{math.radians(value):.7f}"[:-1]}
    found = [re.compile(rb"(?<![\d.])" + re.escape(text.encode())) for text in texts]
    for scale in (10**5, 10**6, 10**7):
        whole = math.floor(value * scale)
        found += [re.compile(rb"(?<![\d.])(?:%d|%d)(?!\d)" % (whole, whole + 1))]
    return found


def bytes_forms(raw: bytes) -> list[bytes]:
    """Bytes as they are, in hexadecimal, and in base64 whatever stands before them."""
    inside = []
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + raw)
        inside.append(coded[math.ceil(shift * 8 / 6) : len(coded) - 4 if (shift + len(raw)) % 3 else None])
    forms = [raw, raw.hex().encode(), raw.hex().upper().encode(), *(form for form in inside if len(form) >= 6)]
    return forms + [form.replace(b"+", b"-").replace(b"/", b"_") for form in forms[3:]]


def places_in(data: bytes) -> list[str]:
    """Which of her coordinates are in there, in whatever form."""
    found = []
    for place in HERS:
        for value in place:
            if any(pattern.search(data) for pattern in numbers(value)):
                found.append(f"{value} as a number")
            packed = [struct.pack("<d", value), struct.pack(">d", value), f"{value:.7f}".encode()[:7]]
            # Bytes as such of text are what the patterns looked for.
            if any(form in data for raw in packed for form in bytes_forms(raw)[0 if len(raw) == 8 else 1 :]):
                found.append(f"{value} packed or encoded")
    return found


def words_in(data: bytes, words: list[str]) -> list[str]:
    """Which words are in there: as they are, escaped in JSON, in hexadecimal or base64."""
    return [
        word
        for word in words
        if json.dumps(word)[1:-1].encode() in data or any(form in data for form in bytes_forms(word.encode()))
    ]


def test_the_search_finds_what_it_looks_for() -> None:
    for text in ("43.2617358", "43.262", "[76.918]", "432617358", repr(struct.pack("<d", HOME[0]).hex())):
        assert places_in(f"x={text};".encode()), text
    for raw in (struct.pack("<d", HOME[1]), struct.pack(">d", PANIC_AT[0]), b'{"lat":43.2617358}'):
        for shift in range(3):
            assert places_in(base64.b64encode(b"\1" * shift + raw + b"\2\3")), raw
    assert places_in(b"took 143.2617 ms, 0.7691834 s, 43.26 and 76.9") == []
    assert words_in(json.dumps({"name": HER_NAME}).encode(), [HER_NAME]) == [HER_NAME]


class Push:
    """Google's token and push servers on loopback."""

    def __init__(self, wire: Wire) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.path == "/token":
                    answer = {"access_token": "loopback", "expires_in": 3600, "token_type": "Bearer"}
                else:
                    wire.pushes.append(self.path.encode() + b" " + body)
                    answer = {"name": f"projects/loopback/messages/{len(wire.pushes)}"}
                data = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_request(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


class Letters:
    """An SMTP server's handler that keeps letters."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def handle_DATA(self, _: Any, __: Any, envelope: Any) -> str:
        self._wire.letters.append(envelope.content)
        return "250 kept"


def free_port() -> int:
    """A port of loopback that nobody listens at: aiosmtpd connects to the one it is given."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def day() -> Iterator[tuple[System, Wire]]:
    """A Qorgan whose every word is kept."""
    wire, data_dir = Wire(), own_folder()
    stores = EmbeddedStores(data_dir / "stores", settings={"shared_buffers": "64MB"})
    push, hooks = Push(wire), Hooks()
    smtp = Controller(Letters(wire), hostname="127.0.0.1", port=free_port())
    with contextlib.ExitStack() as ends:
        stores.start()
        ends.callback(stores.stop)
        ends.callback(push.close)
        ends.callback(hooks.close)
        smtp.start()
        ends.callback(smtp.stop)
        account = data_dir / "firebase.json"
        account.write_text(json.dumps(service_account(push.url)))
        variables = environment(
            data_dir, stores, QORGAN_LOG_LEVEL="debug", QORGAN_SMTP_HOST="127.0.0.1",
            QORGAN_SMTP_PORT=str(smtp.port),
            QORGAN_FCM_CREDENTIALS_FILE=str(account), QORGAN_FCM_API_URL=push.url,
        )  # fmt: skip
        seed_file = data_dir / "seed.json"
        subprocess.run(
            [str(QORGAN), "seed", "--pairs", "2", "--out", str(seed_file)],
            env=variables,
            check=True,
            capture_output=True,
        )
        asyncio.run(add_hook(stores, hooks.url))
        with (data_dir / "qorgan.log").open("wb") as log:
            process = subprocess.Popen([str(QORGAN), "run"], env=variables, stdout=log, stderr=log)
        deadline = time.monotonic() + 120
        while find_running(data_dir) is None:
            assert process.poll() is None, (data_dir / "qorgan.log").read_text()
            assert time.monotonic() < deadline, "Qorgan did not start within 120 s"
            time.sleep(0.1)
        yield System(data_dir, stores, json.loads(seed_file.read_text()), hooks, process), wire
        process.send_signal(signal.SIGINT)
        process.wait(60)


def service_account(url: str) -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account", "project_id": "loopback", "private_key_id": "1", "private_key": key.decode(),
        "client_email": "push@loopback.test", "client_id": "1", "token_uri": f"{url}/token",
    }  # fmt: skip


async def prepare(system: System, pair: dict[str, Any]) -> str:
    """Who she is, whom to tell, and a place he was not told of; its id."""
    her = pair["victim"]["person_id"]
    headers = {"Authorization": f"Bearer {await system.token('caseworker')}"}
    async with httpx.AsyncClient(base_url=system.api_url, headers=headers) as desk:

        async def send(method: str, path: str, body: Any) -> Any:
            answer = await desk.request(method, path, json=body)
            assert answer.is_success, answer.text
            return answer.json()

        await send("PATCH", f"/v1/people/{her}", {"identity": {"name": HER_NAME, "phone": HER_PHONE}})
        now = "2026-01-01T00:00:00Z"
        channels = [{"channel": "email", "address": "sister@loopback.test"}]
        contact = {"person_id": her, "name": "Sister", "channels": channels, "verified_at": now, "consented_at": now}
        await send("POST", "/v1/contacts", contact)
        await send("PATCH", f"/v1/devices/{pair['victim']['device_id']}", {"push_token": "her-phone"})
        half = 0.004
        ring = [[ZONE[1] + x * half, ZONE[0] + y * half] for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1))]
        zone = {"order_id": pair["order_id"], "kind": "exclusion", "name": ZONE_NAME, "disclosed": False}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        made = await send("POST", "/v1/zones", {"type": "Feature", "geometry": geometry, "properties": zone})
    return str(made["id"])


def ping(place: tuple[float, float] | None, seconds_ago: float = 0, **more: Any) -> dict[str, Any]:
    at = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).isoformat()
    where = {} if place is None else {"lat": place[0], "lon": place[1], "accuracy_m": 6.0}
    return {"at": at, **where, "battery_pct": 80, **more}


async def his_stream(system: System, token: str, wire: Wire, pings: list[dict[str, Any]]) -> None:
    """His bracelet on the stream: sends, and keeps all it is sent until everything is acknowledged."""
    address = system.stream_url if "/v1/" in system.stream_url else f"{system.stream_url}/v1/pings/stream"
    async with websockets.connect(address, additional_headers={"Authorization": f"Bearer {token}"}) as stream:
        for seq, one in enumerate(pings, 1):
            await stream.send(json.dumps({"seq": seq, **one}))
        await stream.send("{not json" + str(HOME))
        while True:
            message = await asyncio.wait_for(stream.recv(), 20)
            wire.his.append(message.encode() if isinstance(message, str) else message)
            if json.loads(message).get("ack") == len(pings):
                return


async def his_questions(system: System, pair: dict[str, Any], wire: Wire, zone_id: str, incident_id: str) -> None:
    """What his bracelet's token gets from every door, with her ids in good and bad requests."""
    her, token = pair["victim"]["person_id"], pair["aggressor"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=system.api_url, headers=headers, timeout=20) as him:
        wire.answer_to_him(await him.post("/v1/pings", json={"pings": [ping(HIS_NEAR)]}))
        wire.answer_to_him(await him.get("/v1/me/protection"))
        wire.answer_to_him(await him.get("/v1/me/audit"))
        wire.answer_to_him(await him.post("/v1/panic", json={"id": str(uuid.uuid4()), "lat": HOME[0]}))
        for path in (
            f"/v1/people/{her}", f"/v1/people/{her}/position", f"/v1/orders/{pair['order_id']}", f"/v1/zones/{zone_id}",
            f"/v1/incidents/{incident_id}", "/v1/board", f"/v1/devices/{pair['victim']['device_id']}", "/v1/nowhere",
        ):  # fmt: skip
            wire.answer_to_him(await him.get(path))
    address = system.api_url.replace("http", "ws", 1) + "/v1/me/events"
    with contextlib.suppress(websockets.ConnectionClosed, websockets.InvalidStatus, TimeoutError):
        async with websockets.connect(address, additional_headers=headers) as events:
            while True:
                message = await asyncio.wait_for(events.recv(), 2)
                wire.his.append(message.encode() if isinstance(message, str) else message)


async def wrong_requests(system: System, pair: dict[str, Any], wire: Wire) -> None:
    """Her ids and places in requests that cannot be taken; what is said of it is kept."""
    her, phone = pair["victim"]["person_id"], {"Authorization": f"Bearer {pair['victim']['token']}"}
    desk = {"Authorization": f"Bearer {await system.token('caseworker')}"}
    broken = f'{{"lat": {HOME[0]}, "lon": {HOME[1]}, "name": "{HER_NAME}", "person_id": "{her}"'.encode()
    async with httpx.AsyncClient(base_url=system.api_url, timeout=20) as client:
        answers = [
            await client.post("/v1/pings", content=broken, headers=phone),
            await client.post(
                "/v1/pings", json={"pings": [{"at": "soon", "lat": HOME[0], "lon": HOME[1]}]}, headers=phone
            ),
            await client.post("/v1/pings", json={"pings": [ping((HOME[0], 960.0 + HOME[1]))]}, headers=phone),
            await client.post("/v1/people", content=broken, headers=desk),
            await client.post(
                "/v1/zones", json={"geometry": {"type": "Point", "coordinates": HOME[::-1]}}, headers=desk
            ),
            await client.post("/v1/units", json={"callsign": HER_NAME, "lat": HOME[0]}, headers=desk),
            await client.patch(f"/v1/people/{her}", json={"identity": HER_NAME, HER_PHONE: HOME}, headers=desk),
        ]
    assert all(answer.status_code >= 400 or answer.status_code == 202 for answer in answers)
    wire.errors += [answer.content for answer in answers]


async def metrics(system: System, wire: Wire) -> None:
    """What monitoring reads of every process that answers."""
    async with httpx.AsyncClient(timeout=20) as client:
        for base in (system.api_url, system.stream_url.replace("ws", "http", 1).split("/v1/")[0]):
            with contextlib.suppress(httpx.HTTPError):
                wire.metrics.append((await client.get(f"{base}/metrics")).content)


async def told(system: System, incident_id: str) -> None:
    """Wait until nothing is left to send."""

    async def done() -> bool:
        rows = await system.fetch("SELECT state FROM delivery")
        return bool(rows) and all(row["state"] not in {"queued", "sending"} for row in rows)

    await wait_for(done, "every message to be sent or given up", 60)
    async with system.database() as connection:
        assert isinstance(connection, asyncpg.Connection)
        sent = {row["channel"] for row in await connection.fetch("SELECT channel FROM delivery WHERE state <> 'dead'")}
    assert {"webhook", "email", "fcm"} <= sent, "each way out was gone"
    assert system.hooks.ids_about(incident_id)


async def live_through(system: System, wire: Wire, pair: dict[str, Any]) -> None:
    """Approach, breach, panic with place and note, a flat battery, an opened strap, an undisclosed zone, mistakes."""
    zone_id = await prepare(system, pair)
    phone = {"Authorization": f"Bearer {pair['victim']['token']}"}
    async with system.feed() as feed, httpx.AsyncClient(base_url=system.api_url, headers=phone, timeout=20) as her:
        assert isinstance(feed, Feed)
        coming = [
            ping((HOME[0] + metres / 111_195 + 0.0011, HOME[1] + 0.0021), seconds_ago=metres / 15)
            for metres in range(2_400, 900, -75)
        ]
        past = [ping(HOME, seconds_ago=s) for s in (160, 120, 80, 40, 0)]
        assert (await her.post("/v1/pings", json={"pings": past})).status_code == 202
        await his_stream(system, pair["aggressor"]["token"], wire, coming)
        await her.post("/v1/pings", json={"pings": [ping(HOME)]})
        await his_stream(system, pair["aggressor"]["token"], wire, [ping(HIS_NEAR), ping(HIS_NEAR)])
        await feed.incident("opened", pair, "proximity", 60)
        await feed.incident("opened", pair, "zone", 60)
        body = {"id": str(uuid.uuid4()), "lat": PANIC_AT[0], "lon": PANIC_AT[1], "note": PANIC_NOTE, "mode": "silent"}
        panic = (await her.post("/v1/panic", json=body)).json()
        assert (await her.post("/v1/panic", json={**body, "lat": HOME[0]})).status_code == 200
        await her.post("/v1/pings", json={"pings": [ping(PANIC_AT, battery_pct=3, strap="open")]})
        opened = [ping(HIS_NEAR, strap="open"), ping(HIS_NEAR, strap="open")]
        await his_stream(system, pair["aggressor"]["token"], wire, opened)
        await feed.incident("opened", pair, "tamper", 60)
        frames = json.dumps(feed.frames)
        assert str(PANIC_AT[0]) in frames, "the desk is told where she is"
    await his_questions(system, pair, wire, zone_id, panic["incident_id"])
    await wrong_requests(system, pair, wire)
    await metrics(system, wire)
    await told(system, panic["incident_id"])


async def test_through_a_whole_bad_day_nothing_betrays_her(day: tuple[System, Wire]) -> None:
    system, wire = day
    pair = system.pair()
    await live_through(system, wire, pair)

    log = (system.data_dir / "qorgan.log").read_bytes()
    assert log.count(b"\n") > 10
    hooks = json.dumps(system.hooks.received).encode()
    spoken = {
        "logs": log, "metrics": b"\n".join(wire.metrics), "error texts": b"\n".join(wire.errors),
        "webhooks": hooks, "letters": b"\n".join(wire.letters), "pushes": b"\n".join(wire.pushes),
        "his bracelet": b"\n".join(wire.his),
    }  # fmt: skip
    assert all(spoken.values()), "something was heard of each"
    assert {name: found for name, data in spoken.items() if (found := places_in(data))} == {}
    words = [HER_NAME, HER_PHONE, PANIC_NOTE, ZONE_NAME, HER_PHONE[1:], "Зарина"]
    assert {name: found for name, data in spoken.items() if (found := words_in(data, words))} == {}

    async with system.database() as connection:
        rows = await connection.fetch("SELECT id::text FROM incident UNION ALL SELECT id::text FROM panic")
        zones = await connection.fetch("SELECT id::text FROM zone")
    ids = [pair["victim"]["person_id"], pair["victim"]["device_id"], pair["order_id"]]
    ids += [row["id"] for row in (*rows, *zones)]
    assert words_in(spoken["his bracelet"], ids) == [], (
        "nor does he learn that there is an order's, incident's or zone's id"
    )
    assert words_in(spoken["metrics"], [*ids, pair["aggressor"]["person_id"]]) == []
    assert words_in(spoken["error texts"], [pair["victim"]["person_id"]]) == [], "no error repeats what was sent"
