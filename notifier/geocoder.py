"""The geocoder's worker: finds the street of a place for whoever sends help, where an installation wants it.

Off unless `QORGAN_GEOCODER` says which service is asked. It works beside everything: an incident opens, is told and is
escalated without it, and gets its `place.address` later, with an update on the feed. The address stands inside the
place, so whoever may not see the place does not see it either.

What is asked is a place rounded to about ten metres, `QORGAN_GEOCODER_PER_S` times a second at most, in a thread with a
time-out; the answer is kept in memory for a bounded number of places. A service that fails is left alone for a while,
twice as long each time. Prefer a service of your own: whoever is asked learns where somebody needed help.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import structlog
from geopy.exc import GeopyError
from geopy.geocoders import Nominatim, Photon

from core.actions.geocoding import keep_address, waiting
from core.clock import Clock
from core.errors import Misconfigured, StoreUnavailable
from core.metrics import GEOCODED
from core.postgres.database import Database
from core.service import Service
from core.settings import Settings

log = structlog.get_logger(__name__)

LOOK_S: Final = 1.0
KEPT_MAX: Final = 10_000
"""Places whose address is remembered."""
DECIMALS: Final = 4
"""Of a degree, to which a place is rounded before anybody is asked: eleven metres."""
BATCH: Final = 20
PAUSE_S: Final = (2.0, 600.0)
"""First and longest pause after failures in a row."""
ADDRESS_CHARS_MAX: Final = 300

Reverse = Callable[[float, float], str | None]
Spot = tuple[float, float]


def reverser(settings: Settings) -> Reverse:
    """What asks the service that is set; raises Misconfigured for one there is not."""
    scheme, _, domain = (settings.geocoder_url or "").rpartition("://")
    options: dict[str, Any] = {"user_agent": settings.geocoder_user_agent, "timeout": settings.geocoder_timeout_s}
    if domain:
        options |= {"scheme": scheme or "https", "domain": domain.rstrip("/")}
    if settings.geocoder == "nominatim":
        service = Nominatim(**options)
    elif settings.geocoder == "photon":
        service = Photon(**options)
    else:
        raise Misconfigured("QORGAN_GEOCODER is nominatim or photon, or not set.")
    languages = {"language": settings.geocoder_language} if settings.geocoder == "nominatim" else {}

    def reverse(lat: float, lon: float) -> str | None:
        found = service.reverse((lat, lon), exactly_one=True, **languages)
        return str(found.address)[:ADDRESS_CHARS_MAX] if found is not None else None

    return reverse


class Geocoder(Service):
    """Asks for the address of places that have none."""

    name = "geocoder"

    def __init__(self, settings: Settings, database: Database, clock: Clock, reverse: Reverse | None = None) -> None:
        super().__init__()
        self._database = database
        self._clock = clock
        self._reverse = reverse or reverser(settings)
        self._every_s = 1.0 / settings.geocoder_per_s
        self._known: OrderedDict[Spot, str | None] = OrderedDict()
        self._failures = 0
        self._next_s = 0.0

    async def run(self) -> None:
        """Look for places without an address until asked to end."""
        while not await self.pause(self._failing_s() or LOOK_S):
            try:
                await self.step()
            except StoreUnavailable:
                continue
            except Exception as error:  # nothing waits for an address
                log.warning("geocoder_failed", error=type(error).__name__)
                self._failures += 1

    async def step(self) -> int:
        """One look; how many addresses were kept."""
        kept = 0
        for incident_id, lat, lon in await waiting(self._database, BATCH):
            if self.stopping.is_set():
                break
            try:
                address = await self._address((round(lat, DECIMALS), round(lon, DECIMALS)))
            except (GeopyError, OSError, TimeoutError) as error:
                self._failures += 1
                GEOCODED.labels("failed").inc()
                log.warning("geocoder_unanswered", error=type(error).__name__)
                break
            self._failures = 0
            kept += await keep_address(self._database, self._clock(), incident_id, lat, lon, address)
        return kept

    def _failing_s(self) -> float:
        return min(PAUSE_S[1], PAUSE_S[0] * 2 ** min(self._failures - 1, 16)) if self._failures else 0.0

    async def _address(self, spot: Spot) -> str | None:
        if spot in self._known:
            self._known.move_to_end(spot)
            GEOCODED.labels("remembered").inc()
            return self._known[spot]
        await self._in_turn()
        found = await asyncio.to_thread(self._reverse, *spot)
        GEOCODED.labels("asked").inc()
        self._known[spot] = found
        while len(self._known) > KEPT_MAX:
            self._known.popitem(last=False)
        return found

    async def _in_turn(self) -> None:
        """Keep to the rate."""
        now_s = time.monotonic()
        wait_s, self._next_s = max(0.0, self._next_s - now_s), max(self._next_s, now_s) + self._every_s
        if wait_s:
            await self.pause(wait_s)
