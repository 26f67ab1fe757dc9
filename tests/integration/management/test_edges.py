"""The edges of the API: rates that all processes share, bodies as they are, other origins, proxies, its own TLS."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import ssl
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from api.app import create_app
from api.deps import ApiContext
from api.ingest.appender import Appender
from api.ingest.stream import DeviceStream
from core.clock import utc_now
from core.errors import Misconfigured
from core.redis.client import connect
from core.settings import Settings
from core.tls import server_context
from infra.server import HttpServer, StrangeProxy, bind

from .conftest import Office

ELSEWHERE = "https://app.example"


def process_of(context: ApiContext, address: str = "192.0.2.1", **changes: Any) -> httpx.AsyncClient:
    """A client of another process of the same installation."""
    other = ApiContext(
        context.settings.model_copy(update=changes),
        context.database,
        context.redis,
        device_database=context.device_database,
        registry=context.registry,
    )
    other.panic_desk = context.panic_desk
    transport = httpx.ASGITransport(create_app(other), client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url="http://qorgan.test")


async def test_an_address_is_slowed_down_by_all_processes_together(context: ApiContext) -> None:
    slow = {"address_requests_per_second": 0.01}  # so long that a busy machine between the two is nothing beside it
    async with process_of(context, **slow) as one, process_of(context, **slow) as two:
        assert (await one.get("/v1/people")).status_code == 401
        refused = await two.get("/v1/people")
        assert refused.status_code == 429
        assert refused.json()["code"] == "rate_limited"
        assert int(refused.headers["retry-after"]) in range(90, 102)
    async with process_of(context, address="192.0.2.2", **slow) as stranger:
        assert (await stranger.get("/v1/people")).status_code == 401


async def test_a_user_is_slowed_down_wherever_she_comes_from(context: ApiContext, office: Office) -> None:
    slow = {"token_requests_per_second": 0.1}
    headers = office.headers("dispatcher")
    async with process_of(context, "192.0.2.3", **slow) as one, process_of(context, "192.0.2.4", **slow) as two:
        assert (await one.get("/v1/units", headers=headers)).status_code == 200
        assert (await two.get("/v1/units", headers=headers)).status_code == 429
        assert (await two.get("/v1/units", headers=office.headers("supervisor"))).status_code == 200


async def test_no_address_or_token_lies_in_the_store(context: ApiContext, office: Office) -> None:
    slow = {"address_requests_per_second": 0.1, "token_requests_per_second": 0.1}
    async with process_of(context, "198.51.100.77", **slow) as client:
        await client.get("/v1/units", headers=office.headers("dispatcher"))
    names = [name.decode() async for name in context.redis.scan_iter("rate:*")]
    assert {name.split(":")[1] for name in names} == {"address", "token"}
    assert not any("198.51.100.77" in name or office.headers("dispatcher")["Authorization"] in name for name in names)


async def test_without_redis_memory_goes_on_counting(context: ApiContext) -> None:
    gone = connect("redis://127.0.0.1:1")
    context.redis, kept = gone, context.redis
    try:
        async with process_of(context, address_requests_per_second=0.1) as client:
            assert [(await client.get("/v1/people")).status_code for _ in range(3)] == [401, 429, 429]
    finally:
        context.redis = kept
        await gone.aclose()


@pytest.mark.parametrize("path", ["/v1/panic/x/cancel", "/v1/pings", "/healthz"])
async def test_what_saves_a_life_is_never_slowed_down(context: ApiContext, path: str) -> None:
    async with process_of(context, address_requests_per_second=0.01) as client:
        answers = [await client.request("POST" if path != "/healthz" else "GET", path) for _ in range(5)]
    assert all(answer.status_code != 429 for answer in answers)


async def test_a_packed_body_is_refused_before_anything_is_unpacked(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/pings", content=b"\x1f\x8b" + b"0" * 100, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "encoding_unsupported")


async def test_another_origin_may_call_only_if_it_is_named(context: ApiContext, client: httpx.AsyncClient) -> None:
    preflight = {"origin": ELSEWHERE, "access-control-request-method": "GET"}
    refused = await client.options("/v1/people", headers=preflight)
    assert "access-control-allow-origin" not in refused.headers
    async with process_of(context, cors_origins=f"https://other.example, {ELSEWHERE}") as open_to_it:
        allowed = await open_to_it.options("/v1/people", headers=preflight)
        assert allowed.headers["access-control-allow-origin"] == ELSEWHERE
        assert "access-control-allow-credentials" not in allowed.headers
        stranger = await open_to_it.options("/v1/people", headers=preflight | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = utc_now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(uuid.uuid4().int >> 1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


@pytest.fixture
def tls_settings(settings: Settings, tmp_path: Path) -> Settings:
    certificate, key = make_certificate(tmp_path)
    return settings.model_copy(update={"tls_certificate_file": certificate, "tls_key_file": key})


async def test_the_api_serves_tls_of_its_own_and_nothing_older(context: ApiContext, tls_settings: Settings) -> None:
    server = HttpServer(create_app(context), bind("127.0.0.1", 0), 10, tls=server_context(tls_settings))
    await server.start()
    trusting = ssl.create_default_context(cafile=str(tls_settings.tls_certificate_file))
    try:
        async with httpx.AsyncClient(verify=trusting, base_url=f"https://127.0.0.1:{server.port}") as client:
            answer = await client.get("/healthz")
        assert answer.status_code == 200
        assert "strict-transport-security" in answer.headers
        with pytest.deprecated_call():
            trusting.maximum_version = ssl.TLSVersion.TLSv1_1
        trusting.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", server.port, ssl=trusting)
    finally:
        await server.stop()


async def test_the_device_stream_serves_tls_too(context: ApiContext, office: Office, tls_settings: Settings) -> None:
    token = (await office.enrolled("phone", await office.person()))["token"]
    await context.registry.stop()
    await context.registry.start()
    appender = Appender(tls_settings, context.redis, utc_now)
    await appender.start()
    stream = DeviceStream(tls_settings, context.registry, appender, None)
    await stream.start()
    trusting = ssl.create_default_context(cafile=str(tls_settings.tls_certificate_file))
    try:
        async with websockets.connect(
            f"wss://127.0.0.1:{stream.port}/v1/pings/stream",
            ssl=trusting,
            additional_headers={"Authorization": f"Bearer {token}"},
        ) as socket:
            await socket.send(json.dumps({"at": utc_now().isoformat(), "lat": 43.2, "lon": 76.9}))
            assert '"ack":1' in str(await socket.recv()).replace(" ", "")
    finally:
        await stream.stop()
        await appender.stop()


def test_one_file_without_the_other_is_told(settings: Settings, tmp_path: Path) -> None:
    certificate, _ = make_certificate(tmp_path)
    with pytest.raises(Misconfigured, match="or neither"):
        server_context(settings.model_copy(update={"tls_certificate_file": certificate}))


@pytest.mark.parametrize(("trusted", "seen"), [((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.9")])
async def test_only_a_trusted_proxy_says_where_somebody_comes_from(
    context: ApiContext, trusted: tuple[str, ...], seen: str
) -> None:
    app = create_app(context)

    async def tell(request: Request) -> PlainTextResponse:
        assert request.client is not None
        return PlainTextResponse(request.client.host)

    app.router.routes.append(Route("/where", tell))
    server = HttpServer(app, bind("127.0.0.1", 0), 10, trusted_proxies=trusted)
    await server.start()
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
            answer = await client.get("/where", headers={"x-forwarded-for": "203.0.113.9"})
        assert answer.text == seen
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("trusted", "header", "warned"),
    [
        ([], "x-forwarded-for", 1),
        ([], "x-request-id", 0),
        (["192.0.2.0/24"], "forwarded", 1),
        (["127.0.0.1"], "x-forwarded-for", 0),
    ],
)
async def test_a_proxy_that_nobody_named_is_told_of_once(trusted: list[str], header: str, warned: int) -> None:
    server = StrangeProxy(FastAPI(), trusted)
    transport = httpx.ASGITransport(server, client=("127.0.0.1", 1234))
    with structlog.testing.capture_logs() as logs:
        async with httpx.AsyncClient(transport=transport, base_url="http://qorgan.test") as client:
            for _ in range(3):
                await client.get("/", headers={header: "203.0.113.9"})
    assert [one["event"] for one in logs] == ["proxy_not_trusted"] * warned
    assert "203.0.113.9" not in str(logs)
