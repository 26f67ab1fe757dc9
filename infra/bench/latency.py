"""Latencies to a dispatcher's screen: from a ping to the breach it makes, from a tap to the panic it raises."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import Any, Final

import httpx
import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from core.clock import from_ms, now_ms, rfc3339
from core.ids import new_id
from device_sim.geodesy import Frame, Point
from infra.bench.dispatcher import DispatcherFeed, dispatcher_feed
from infra.bench.plan import Plan
from infra.bench.receivers import Route
from infra.bench.system import BenchFailed, System, Tell

PLACE: Final = Point(43.20, 76.70)
"""Probes meet here, away from the load."""
APART_M: Final = 5_000.0
"""Distance between the places of two probes that are near each other in the grid."""
FAR_M: Final = 1_580.0
"""Where an aggressor starts: outside the warning radius."""
LAST_OUTSIDE_M: Final = 560.0
INSIDE_M: Final = 480.0
"""The one ping that is inside the alert radius of 500 m."""
SPEED_MPS: Final = 60.0
LAST_STEP_S: Final = 1.25
QUICK_FAR_M: Final = 860.0
STAGGER_S: Final = 0.15
FRAME_TIMEOUT_S: Final = 10.0
PANIC_EVERY_S: Final = 0.05


def summary(latencies_ms: list[float]) -> dict[str, float]:
    """Count, median, 99th percentile and greatest."""
    values = np.array(latencies_ms)
    return {
        "count": float(values.size),
        "p50_ms": float(np.percentile(values, 50)),
        "p99_ms": float(np.percentile(values, 99)),
        "max_ms": float(values.max()),
    }


class _Probe:
    """A pair driven into a breach through a gateway's connection."""

    def __init__(self, number: int, pair: dict[str, Any]) -> None:
        self.victim_id = pair["victim"]["person_id"]
        self._devices = {actor: pair[actor]["device_id"] for actor in ("victim", "aggressor")}
        self._frame = Frame(Frame(PLACE).point(-APART_M * (number % 10), -APART_M * (number // 10)))
        self.sent_at = 0.0
        """When the ping inside was sent, on time.perf_counter."""
        self.sent_ms = 0
        """The same moment on the wall clock."""

    async def drive(self, socket: ClientConnection, far_m: float) -> None:
        """Ping every second on the way, then once inside."""
        apart_m = far_m
        while apart_m > LAST_OUTSIDE_M:
            await self._send(socket, "victim", 0.0, 0.0)
            await self._send(socket, "aggressor", apart_m, SPEED_MPS)
            await asyncio.sleep(1.0)
            apart_m -= SPEED_MPS
        await self._send(socket, "victim", 0.0, 0.0)
        await self._send(socket, "aggressor", LAST_OUTSIDE_M, SPEED_MPS)
        await asyncio.sleep(LAST_STEP_S)
        self.sent_at, self.sent_ms = time.perf_counter(), now_ms()
        await self._send(socket, "aggressor", INSIDE_M, SPEED_MPS)

    async def _send(self, socket: ClientConnection, actor: str, north_m: float, speed_mps: float) -> None:
        place = self._frame.point(0.0, north_m)
        ping = {
            "device_id": self._devices[actor],
            "at": rfc3339(from_ms(now_ms())),
            "lat": place.lat,
            "lon": place.lon,
            "accuracy_m": 5.0,
            "speed_mps": speed_mps,
            "heading_deg": 180.0,
            "source": "gps",
        }
        await socket.send(msgspec.json.encode(ping), text=True)


async def measure_breaches(system: System, plan: Plan, tell: Tell, *, quick: bool) -> dict[str, Any]:
    """Drive `plan.probes` pairs from clear to breach; latency from the deciding ping to the frame."""
    probes = [_Probe(number, pair) for number, pair in enumerate(system.take_pairs(plan.probes))]
    headers = {"Authorization": f"Bearer {system.world['gateway']['token']}"}
    async with (
        dispatcher_feed(system) as feed,
        connect(system.stream_url, additional_headers=headers, compression=None, proxy=None) as socket,
    ):
        listening = asyncio.create_task(_drop_answers(socket))
        tell(f"driving {len(probes)} pairs into a breach")
        try:
            async with asyncio.TaskGroup() as driving:
                for probe in probes:
                    driving.create_task(probe.drive(socket, QUICK_FAR_M if quick else FAR_M))
                    await asyncio.sleep(STAGGER_S)
        except* ConnectionClosed as group:
            raise BenchFailed(f"The device stream closed on the probes: {group.exceptions[0]}") from None
        missing = await feed.wait_for_all([(probe.victim_id, "proximity") for probe in probes], FRAME_TIMEOUT_S)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    arrivals = [feed.arrival(probe.victim_id, "proximity") for probe in probes]
    taken_ms = [(at - probe.sent_at) * 1000 for at, probe in zip(arrivals, probes, strict=True) if at is not None]
    in_time = [taken for taken in taken_ms if taken > 0]
    if not in_time:
        raise BenchFailed(f"None of {len(probes)} breaches reached the dispatcher's feed.")
    opened = [(feed.opened_ms(probe.victim_id, "proximity"), probe.sent_ms) for probe in probes]
    before_ms = [moment - sent for moment, sent in opened if moment is not None]
    return summary(in_time) | {
        "missing": missing,
        "before_the_ping": len(taken_ms) - len(in_time),
        "of_it_before_the_transaction_p50_ms": float(np.median(before_ms)) if before_ms else None,
    }


async def _drop_answers(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for _ in socket:
            pass


async def measure_panics(system: System, plan: Plan, tell: Tell, what: str) -> dict[str, Any]:
    """Press `plan.panics` buttons, one pair each, PANIC_EVERY_S apart; latency from the tap to the frame, and to the
    message at each receiver: push service, gateway for text messages, webhook, mail server.
    """
    pairs = system.take_pairs(plan.panics)
    tell(f"pressing {len(pairs)} panic buttons {what}")
    sent_at: list[float] = []
    answers_ms: list[float] = []
    ids = [new_id() for _ in pairs]
    async with dispatcher_feed(system) as feed, httpx.AsyncClient(trust_env=False, base_url=system.api_url) as client:
        try:
            async with asyncio.TaskGroup() as pressing:
                for panic_id, pair in zip(ids, pairs, strict=True):
                    sent_at.append(time.perf_counter())
                    pressing.create_task(_press(client, panic_id, pair["victim"], answers_ms))
                    await asyncio.sleep(PANIC_EVERY_S)
        except* (BenchFailed, httpx.HTTPError) as group:
            raise BenchFailed(f"A panic was not taken: {group.exceptions[0]}") from None
        victims = [pair["victim"]["person_id"] for pair in pairs]
        missing = await feed.wait_for_all([(victim, "panic") for victim in victims], FRAME_TIMEOUT_S)
        return _panic_figures(feed, victims, sent_at, answers_ms) | {
            "missing": missing,
            "told": {route.channel: await _told(system, route, ids, sent_at) for route in system.receivers.routes},
        }


async def _told(system: System, route: Route, ids: list[uuid.UUID], sent_at: list[float]) -> dict[str, float]:
    """Latency from the taps to the messages of one route."""
    wanted = [route.delivery_of(panic_id) for panic_id in ids]
    missing = await system.receivers.wait_for_all(wanted, FRAME_TIMEOUT_S)
    arrivals = [system.receivers.arrival(one) for one in wanted]
    taken_ms = [(at - sent) * 1000 for at, sent in zip(arrivals, sent_at, strict=True) if at is not None]
    if not taken_ms:
        raise BenchFailed(f"None of {len(ids)} panics reached the {route.channel} receiver.")
    return summary(taken_ms) | {"missing": missing}


async def _press(
    client: httpx.AsyncClient, panic_id: uuid.UUID, device: dict[str, Any], answers_ms: list[float]
) -> None:
    begun = time.perf_counter()
    answer = await client.post(
        "/v1/panic",
        content=msgspec.json.encode({"id": str(panic_id), "mode": "silent", "lat": PLACE.lat, "lon": PLACE.lon}),
        headers={"Authorization": f"Bearer {device['token']}", "Content-Type": "application/json"},
    )
    answers_ms.append((time.perf_counter() - begun) * 1000)
    if answer.status_code not in (200, 201):
        raise BenchFailed(f"answered with {answer.status_code}: {answer.text[:200]}")


def _panic_figures(
    feed: DispatcherFeed, victims: list[str], sent_at: list[float], answers_ms: list[float]
) -> dict[str, Any]:
    arrivals = [feed.arrival(victim, "panic") for victim in victims]
    taken_ms = [(at - sent) * 1000 for at, sent in zip(arrivals, sent_at, strict=True) if at is not None]
    if not taken_ms:
        raise BenchFailed(f"None of {len(victims)} panics reached the dispatcher's feed.")
    answered = summary(answers_ms)
    return summary(taken_ms) | {"answer_p50_ms": answered["p50_ms"], "answer_p99_ms": answered["p99_ms"]}
