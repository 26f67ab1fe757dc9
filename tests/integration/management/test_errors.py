"""Every error is a problem document with a stable code, and repeats nothing that was sent."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.bounds import Bounds
from api.deps import ApiContext
from core.postgres.database import Database
from core.settings import Settings

PROBLEM = "application/problem+json"


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == PROBLEM
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["type"].endswith(body["code"])
    return answer.status_code, body["code"]


BODIES: list[tuple[bytes, tuple[int, str]]] = [
    (b"{", (400, "malformed_json")),
    (b"", (422, "validation_failed")),
    (b"\xff\xfe", (400, "malformed_json")),
    (b"[" * 100_000, (400, "malformed_request")),
    (b"[]", (422, "validation_failed")),
    (b'{"language": "ru", "colour": "red"}', (422, "unknown_field")),
    (b'{"needs": "interpreter"}', (422, "validation_failed")),
    (b'{"identity": {"name": "a\\u0000b"}}', (422, "validation_failed")),
    (b'{"identity": {"name": "\\ud800"}}', (422, "validation_failed")),
    (b'{"identity": {"age": NaN}}', (422, "validation_failed")),
    (b'{"identity": {"age": 1e999}}', (422, "validation_failed")),
    (b'{"identity": ' + b'{"a":' * 40 + b"1" + b"}" * 40 + b"}", (422, "validation_failed")),
    (b'{"id": "not-an-id"}', (422, "validation_failed")),
]


async def test_a_body_that_cannot_be_is_refused_with_its_code(office: Any) -> None:
    headers = {**office.headers("caseworker"), "content-type": "application/json"}
    for content, code in BODIES:
        answer = await office.client.post("/v1/people", content=content, headers=headers)
        assert code_of(answer) == code, content[:60]


async def test_an_error_does_not_repeat_what_was_sent(office: Any) -> None:
    answer = await office.post("/v1/users", {"username": "x", "password": "hunter2", "role": "officer"}, "admin")
    assert answer.status_code == 422
    assert "hunter2" not in answer.text
    assert answer.json()["errors"][0]["field"] == "body.password"


async def test_addresses_and_methods_that_are_not_are_told(office: Any) -> None:
    assert code_of(await office.get("/v1/nothing")) == (404, "not_found")
    answer = await office.call("admin", "DELETE", "/v1/people")
    assert code_of(answer) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]
    assert code_of(await office.get("/v1/people?limit=0")) == (422, "validation_failed")
    assert code_of(await office.get("/v1/people?limit=201")) == (422, "validation_failed")
    assert code_of(await office.get("/v1/people?after=x")) == (422, "validation_failed")


async def test_a_body_beyond_the_bound_is_refused_whether_it_says_its_length_or_not(office: Any) -> None:
    big = b'{"identity": {"name": "' + b"x" * office.context.settings.max_body_bytes + b'"}}'
    headers = {**office.headers("caseworker"), "content-type": "application/json"}
    assert code_of(await office.client.post("/v1/people", content=big, headers=headers)) == (413, "body_too_large")

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(big), 65_536):
            yield big[start : start + 65_536]

    answer = await office.client.post("/v1/people", content=in_pieces(), headers=headers)
    assert code_of(answer) == (413, "body_too_large")


async def test_a_body_that_says_it_is_too_large_is_not_read() -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError("read or reached")

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/people", "headers": [(b"content-length", b"11")]}
    await Bounds(never, max_body_bytes=10, timeout_s=1)(scope, never, send)
    assert sent[0]["status"] == 413


async def test_a_panic_beyond_the_bound_is_cut_short_and_still_taken() -> None:
    taken: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            taken.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * 8, "more_body": True}

    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/panic", "headers": [(b"content-length", b"99")]}
    await Bounds(app, max_body_bytes=10, timeout_s=1)(scope, receive, send)
    assert sent[0]["status"] == 201
    assert b"".join(taken) == b"x" * 10


async def test_an_unexpected_error_says_nothing_of_itself(context: ApiContext) -> None:
    app: FastAPI = create_app(context)

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://qorgan.test") as client:
        answer = await client.get("/broken")
    assert code_of(answer) == (500, "internal_error")
    assert "hunter2" not in answer.text


async def test_a_request_that_takes_too_long_is_ended(settings: Settings, database: Database, tmp_path: Any) -> None:
    context = ApiContext(settings.model_copy(update={"request_timeout_s": 0.05}), database, None)
    app = create_app(context)
    ended = asyncio.Event()

    @app.get("/slow")
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://qorgan.test") as client:
        answer = await client.get("/slow")
    assert code_of(answer) == (503, "request_timeout")
    assert "Retry-After" in answer.headers
    assert ended.is_set()


async def test_postgres_away_is_a_503(settings: Settings, tmp_path: Any) -> None:
    context = ApiContext(settings, Database(f"postgresql:///none?host={tmp_path}"), None)
    data = {"username": "admin", "password": "long enough password"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(context)), base_url="http://qorgan.test"
    ) as client:
        answer = await client.post("/v1/auth/token", data=data)
    assert code_of(answer) == (503, "store_unavailable")


async def test_every_answer_bears_the_headers_that_keep_browsers_careful(office: Any) -> None:
    for answer in (await office.get("/v1/me"), await office.get("/v1/nothing"), await office.get("/healthz")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


async def test_the_openapi_document_names_every_route_and_the_problem(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    assert {"/v1/orders", "/v1/devices/enrol", "/v1/me/protection", "/readyz", "/metrics"} <= set(document["paths"])
    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert all("4XX" in operation["responses"] for operation in operations)


async def test_requests_are_measured_by_route_not_by_address(office: Any) -> None:
    await office.get(f"/v1/people/{uuid.uuid4()}")
    text = (await office.get("/metrics")).text
    assert 'route="/v1/people/{person_id}"' in text
    assert 'route="none"' not in text or "/v1/people/0" not in text
