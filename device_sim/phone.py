"""A phone's panic button: pressed once, sent until it is answered.

The phone makes the panic's id, so that a press sent five times because an answer was lost is still one panic.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from dataclasses import dataclass
from typing import Any, Final

import httpx
import msgspec

from device_sim.clock import now_ms, rfc3339
from device_sim.device import ActorCredentials
from device_sim.errors import PanicRefused, SimulatorError
from device_sim.geodesy import Point
from device_sim.wire import PANIC_PATH, bearer, new_id

ANSWER_TIMEOUT_S: Final = 5.0
BACKOFF_S: Final = (0.2, 2.0)
"""First and longest pause between tries: a panic is worth more hurry than a ping."""
GIVE_UP_S: Final = 600.0
"""A press is repeated for so long."""


class _Body(msgspec.Struct):
    panic_id: str
    incident_id: str | None = None
    state: str | None = None
    received_at: str | None = None


@dataclass(frozen=True, slots=True)
class PanicAnswer:
    """What the service answered, and how hard it was to get it."""

    panic_id: str
    incident_id: str | None
    """None while PostgreSQL is away."""
    state: str | None
    tries: int
    elapsed_ms: float
    """From the press to the answer, over all tries."""


class PanicButton:
    """The panic button of one phone. Give it a client to share connections, else it opens one a press."""

    def __init__(self, credentials: ActorCredentials, base_url: str, client: httpx.AsyncClient | None = None) -> None:
        self.credentials = credentials
        self._base_url = base_url.rstrip("/")
        self._client = client

    async def press(
        self,
        place: Point | None = None,
        *,
        accuracy_m: float | None = None,
        mode: str = "silent",
        trigger: str = "button",
        note: str | None = None,
        panic_id: uuid.UUID | None = None,
        give_up_s: float = GIVE_UP_S,
    ) -> PanicAnswer:
        """Press and repeat until answered.

        Raises PanicRefused when the service will not take it (an aggressor's device), SimulatorError when
        nobody answered for `give_up_s`.
        """
        body: dict[str, Any] = {
            "id": str(panic_id or new_id()),
            "at": rfc3339(now_ms()),
            "mode": mode,
            "trigger": trigger,
        }
        if place is not None:
            body |= {"lat": round(place.lat, 7), "lon": round(place.lon, 7)}
            if accuracy_m is not None:
                body["accuracy_m"] = accuracy_m
        if note is not None:
            body["note"] = note
        async with contextlib.AsyncExitStack() as stack:
            client = self._client
            if client is None:
                client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
            return await self._repeat(client, body, give_up_s)

    async def _repeat(self, client: httpx.AsyncClient, body: dict[str, Any], give_up_s: float) -> PanicAnswer:
        loop = asyncio.get_running_loop()
        pressed = loop.time()
        content = msgspec.json.encode(body)
        headers = bearer(self.credentials.token) | {"Content-Type": "application/json"}
        tries = 0
        while loop.time() - pressed < give_up_s:
            tries += 1
            with contextlib.suppress(httpx.TransportError):
                response = await client.post(
                    self._base_url + PANIC_PATH, content=content, headers=headers, timeout=ANSWER_TIMEOUT_S
                )
                if response.status_code in (200, 201):
                    answer = msgspec.json.decode(response.content, type=_Body)
                    elapsed_ms = (loop.time() - pressed) * 1000
                    return PanicAnswer(answer.panic_id, answer.incident_id, answer.state, tries, elapsed_ms)
                if response.status_code == 403:
                    raise PanicRefused(f"Device {self.credentials.device_id} has no panic button.")
            longest_s = min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(tries - 1, 16))
            await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))
        raise SimulatorError(f"The panic {body['id']} was not answered within {give_up_s:g} s, in {tries} tries.")
