"""Whatever is sent into a socket, the server goes on, says no more than an error's code, and tells nobody's data."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import struct
from typing import Any, Final
from urllib.parse import urlsplit

import hypothesis
import hypothesis.strategies as st
import msgspec
import pytest
import websockets

from tests.integration.fuzz.conftest import Served

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(300)]
SOCKETS: Final = ("feed", "own_news", "stream")
FRAMES: Final = 40
NEVER: Final = ("Traceback", 'File "', "asyncpg", "SELECT ", "site-packages", "/api/", "msgspec")
"""What an answer never bears: the words of a failure inside."""
ALLOWED: Final = {"error", "ack", "interval_s", "commands", "kind", "at", "data", "cursor"}
"""The first level of whatever a socket says."""

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40) | st.just("2026-05-01T12:00:00Z"),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                ["token", "at", "lat", "lon", "seq", "signed", "signature", "heard", "device_id", "pings", "x"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)
frames = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200),
    values.map(lambda value: json.dumps(value)),
    st.integers(1, 3).map(lambda power: "[" * 10**power * 20),
    st.integers(1, 3).map(lambda power: '{"token":' * 10**power * 5),
    st.sampled_from(["", "\x00", "null", '{"token":null}', '{"token":""}', '{"token":{"token":1}}', "9" * 5000]),
)


def drawn(count: int) -> list[Any]:
    """The same frames each time."""
    found: list[Any] = []

    @hypothesis.settings(
        max_examples=count, derandomize=True, database=None, deadline=None,
        phases=[hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(frames)
    def collect(frame: Any) -> None:
        found.append(frame)

    collect()
    return found


def address(served: Served, name: str) -> tuple[str, str]:
    """Where a socket is, and a token that opens it."""
    base = served.url.replace("http", "ws", 1)
    if name == "feed":
        return f"{base}/v1/feed?after=0", served.token("dispatcher")
    if name == "own_news":
        return f"{base}/v1/me/events", served.world.tokens["victim"]
    return served.stream_url, served.world.tokens["victim"]


def connected(served: Served, name: str, *, token: bool) -> Any:
    """A socket to be entered."""
    url, own = address(served, name)
    headers = {"Authorization": f"Bearer {own}"} if token else {}
    return websockets.connect(url, additional_headers=headers, max_size=None, compression=None, open_timeout=20)


async def heard(socket: Any, within_s: float) -> list[str]:
    """What the server says until it is silent for so long, or closes."""
    found = []
    with contextlib.suppress(TimeoutError, websockets.ConnectionClosed):
        while True:
            said = await asyncio.wait_for(socket.recv(), within_s)
            found.append(said if isinstance(said, str) else said.decode(errors="replace"))
    if socket.close_reason:
        found.append(json.dumps({"error": socket.close_reason}))
    return found


def check(served: Served, said: list[str], own: set[str]) -> None:
    """Nothing of anybody else, nothing of the inside."""
    for text in said:
        assert not [word for word in NEVER if word in text], text[:300]
        assert not [trace for trace in (served.other.traces | served.world.traces) - own if trace in text], text[:300]
        assert set(msgspec.json.decode(text)) <= ALLOWED, text[:300]


async def still_answers(served: Served, name: str) -> None:
    """A good client is served as ever."""
    async with connected(served, name, token=True) as socket:
        if name == "stream":
            ping = {"at": "2026-05-01T12:00:00Z"}
            await socket.send(json.dumps(ping))
        said = await asyncio.wait_for(socket.recv(), 20)
        assert "Traceback" not in str(said)


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_wrong_first_frame_is_answered_by_a_code_and_nothing_else(served: Served, name: str) -> None:
    if name == "stream":
        for frame in ("", "Bearer", "Bearer x", "Basic eDp4", "Bearer " + "a" * 7000, "Bearer \x7f"):
            with contextlib.suppress(websockets.WebSocketException, ConnectionError):
                async with websockets.connect(
                    address(served, name)[0], additional_headers={"Authorization": frame}, compression=None
                ) as socket:
                    check(served, await heard(socket, 0.2), set())
        await still_answers(served, name)
        return
    for frame in drawn(FRAMES):
        async with connected(served, name, token=False) as socket:
            with contextlib.suppress(websockets.ConnectionClosed):
                await socket.send(frame)
            said = await heard(socket, 5)
            assert said, repr(frame)[:100]
            check(served, said, set())
            assert socket.close_code in {1008, 1009, 1011, 1013, 4400, 4401, 4403}, (
                socket.close_code,
                repr(frame)[:100],
            )
            assert socket.close_code != 1011, repr(frame)[:100]
    await still_answers(served, name)


@pytest.mark.parametrize("name", SOCKETS)
async def test_frames_of_any_shape_harm_nobody(served: Served, name: str) -> None:
    own = (
        set(served.world.traces)
        if name == "feed"
        else {served.world.places[one] for one in ("panic_id", "incident_id")}
    )
    for chunk in range(4):
        async with connected(served, name, token=True) as socket:
            with contextlib.suppress(websockets.ConnectionClosed):
                for frame in drawn(FRAMES)[chunk::4]:
                    await socket.send(frame)
            check(served, await heard(socket, 0.5), own)
    await still_answers(served, name)


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_huge_frame_and_an_endless_one_end_their_own_socket_alone(served: Served, name: str) -> None:
    async def pieces() -> Any:
        for _ in range(400):
            yield "x" * 1024

    for sent in ("x" * 2_000_000, b"\x00" * 2_000_000, pieces()):
        async with connected(served, name, token=True) as socket, connected(served, name, token=True) as other:
            with contextlib.suppress(websockets.ConnectionClosed, ConnectionError):
                await socket.send(sent)
            await asyncio.wait_for(socket.wait_closed(), 20)
            assert socket.close_code in {1006, 1009}, socket.close_code
            assert other.state is websockets.State.OPEN
    await still_answers(served, name)


def raw_frame(opcode: int, payload: bytes, *, final: bool, masked: bool, reserved: int, length: int | None) -> bytes:
    """A WebSocket frame, right or wrong (RFC 6455, 5.2)."""
    size = len(payload) if length is None else length
    head = bytes([(0x80 if final else 0) | reserved << 4 | opcode])
    if size < 126:
        head += bytes([(0x80 if masked else 0) | size])
    elif size < 1 << 16:
        head += bytes([(0x80 if masked else 0) | 126]) + struct.pack("!H", size)
    else:
        head += bytes([(0x80 if masked else 0) | 127]) + struct.pack("!Q", size)
    return head + (bytes(4) + payload if masked else payload)


@pytest.mark.parametrize("name", SOCKETS)
async def test_frames_that_break_the_protocol_end_their_own_socket_alone(served: Served, name: str) -> None:
    url, token = address(served, name)
    parts = urlsplit(url)
    dice = random.Random(4)  # the same game each time
    hello = (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {secrets.token_urlsafe(12)}\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()
    games: list[list[tuple[int, bytes, dict[str, Any]]]] = [
        [(0, b"no beginning", {})],
        [(1, b"one", {"final": False}), (1, b"two before the end", {})],
        [(1, b"one", {"final": False})] + [(0, b"x" * 100, {"final": False})] * 30,
        [(9, b"x" * 126, {})],
        [(9, b"", {"final": False})],
        [(8, b"\x00", {})],
        [(8, struct.pack("!H", 999), {})],
        [(3, b"reserved opcode", {})],
        [(1, b"reserved bits", {"reserved": 7})],
        [(1, b"unmasked", {"masked": False})],
        [(1, b"\xff\xfe\xfd", {})],
        [(1, b"longer than it is", {"length": 1 << 62})],
        *[
            [(dice.randrange(16), dice.randbytes(dice.randrange(60)), {"final": dice.random() < 0.5})]
            for _ in range(20)
        ],
    ]
    for game in games:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        with contextlib.suppress(ConnectionError):
            writer.write(hello)
            for opcode, payload, more in game:
                wire: dict[str, Any] = {"final": True, "masked": True, "reserved": 0, "length": None, **more}
                writer.write(raw_frame(opcode, payload, **wire))
            await writer.drain()
            with contextlib.suppress(TimeoutError):
                answer = await asyncio.wait_for(reader.read(65_536), 0.5)
                assert b"Traceback" not in answer
                assert not [one for one in served.other.traces if one.encode() in answer]
        writer.close()
    await still_answers(served, name)
