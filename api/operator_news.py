"""Has whoever runs the installation told that a part of it is missing, and that it is back; without PostgreSQL.

Where to is a setting (`QORGAN_OPERATOR`), as no row can be read then; how is the notifier's channels (`Post`). Of
several processes that see the same one tells: whoever is first to say so in Redis. With Redis away each machine's first
does. Nothing of anybody is in it, but which part it is and since when.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from api.panic_outage import Post
from core.actions.broadcast import WORDS
from core.clock import Clock, rfc3339
from core.domain.delivery import PRIORITY_ALARM, Delivery
from core.domain.drill import SELF_AGENCY
from core.errors import Misconfigured
from core.ids import derived_id
from core.redis import outages
from core.redis.client import Client

log = structlog.get_logger(__name__)

CHANNELS: Final = ("email", "sms", "apprise", "log")
"""Ways that need an address alone."""
BEGAN: Final = "outage_operator"
OVER: Final = "outage_over_operator"
TRIED_FOR_S: Final = 3_600.0
"""What nobody took within the hour is given up: the part's metric is red, and what is next told is newer."""
REDIS_WAIT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class OperatorRoute:
    """One way to reach the operator."""

    channel: str
    address: str


def read_routes(written: str) -> list[OperatorRoute]:
    """The routes of `email:ops@example.org,sms:+77001234567`. Raises Misconfigured."""
    routes = []
    for part in (one.strip() for one in written.split(",") if one.strip()):
        channel, _, address = part.partition(":")
        if channel not in CHANNELS or not address:
            ways = ", ".join(CHANNELS)
            raise Misconfigured(f"QORGAN_OPERATOR wants channel:address, comma-separated; the channels are {ways}.")
        routes.append(OperatorRoute(channel, address))
    return routes


class OperatorNews:
    """Tells the operator."""

    def __init__(
        self, routes: Sequence[OperatorRoute], language: str, post: Post, client: Client, clock: Clock, index: int = 0
    ) -> None:
        self._routes = routes
        self._language = language
        self._post = post
        self._client = client
        self._clock = clock
        self._index = index
        self._sending: set[asyncio.Task[None]] = set()
        self._alone: set[str] = set()
        """Parts that this process told of while the others could not be asked: it tells the end of it, too."""

    async def began(self, what: str, since: datetime) -> None:
        """A part is missing since then. Returns at once."""
        await self._tell(BEGAN, what, since)

    async def over(self, what: str, since: datetime) -> None:
        """The part that was missing since then is back. Returns at once."""
        await self._tell(OVER, what, since)

    async def close(self) -> None:
        """Give up what is under way; a second call does nothing."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _tell(self, template: str, what: str, since: datetime) -> None:
        if not self._routes or not await self._is_ours(template, what):
            return
        for number, route in enumerate(self._routes):
            delivery = Delivery(
                agency_id=SELF_AGENCY, incident_id=None, cause=derived_id(template, what, rfc3339(since)),
                audience="operator", recipient=f"operator:{number}", channel=route.channel, address=route.address,
                template=template, language=self._language, priority=PRIORITY_ALARM,
                data={"what": WORDS[what], "occurred_at": rfc3339(since)},
            )  # fmt: skip
            task = asyncio.create_task(self._send(delivery), name=f"operator-{what}")
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _is_ours(self, template: str, what: str) -> bool:
        """Whether this process tells it."""
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                if template == BEGAN:
                    return await outages.began(self._client, what)
                first = await outages.ended(self._client, what)
                alone, self._alone = what in self._alone, self._alone - {what}
                return first or alone
        except Exception:  # Redis is away: the others cannot be asked
            if template == BEGAN and self._index == 0:
                self._alone.add(what)
                return True
            alone, self._alone = what in self._alone, self._alone - {what}
            return template == OVER and alone

    async def _send(self, delivery: Delivery) -> None:
        attempt, until = 1, time.monotonic() + TRIED_FOR_S
        created_at = self._clock()
        while time.monotonic() < until:
            posted = await self._post.send(delivery, created_at, attempt)
            if posted.sent:
                return
            if posted.again_in_s is None:
                break
            attempt += posted.counts
            await asyncio.sleep(posted.again_in_s)
        log.error("operator_not_told", channel=delivery.channel, template=delivery.template)
