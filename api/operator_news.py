"""Has whoever runs the installation told that a part of it is missing, and that it is back; without PostgreSQL.

Where to is a setting (`QORGAN_OPERATOR`), as no row can be read then; how is the notifier's channels (`Post`). Of
several processes that see the same one tells: whoever claims it first in Redis, and another where that one dies before
a message is taken. With Redis away each machine's first does. Nothing of anybody is in it, but which part it is and
since when.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

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

T = TypeVar("T")

CHANNELS: Final = ("email", "sms", "apprise", "log")
"""Ways that need an address alone."""
BEGAN: Final = "outage_operator"
OVER: Final = "outage_over_operator"
TRIED_FOR_S: Final = 3_600.0
"""What nobody took within the hour is given up: the part's metric is red, and what is next told is newer."""
REDIS_WAIT_S: Final = 0.5
KEEP_EVERY_S: Final = outages.CLAIMED_S / 3
"""How often a process that still tries says so."""


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
        self._sending: set[asyncio.Task[Any]] = set()
        self._alone: set[str] = set()
        """Parts that this process told of while the others could not be asked: it tells the end of it, too."""

    async def began(self, what: str, since: datetime) -> bool:
        """A part is missing since then. Returns at once; False: another process is telling it, ask again."""
        if not self._routes:
            return True
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                whose = await outages.claim(self._client, what)
        except Exception:  # Redis is away: the others cannot be asked
            if self._index == 0:
                self._alone.add(what)
                self._tell(BEGAN, what, since)
            return True
        if whose is outages.Whose.OURS:
            self._start(self._keep(what, self._tell(BEGAN, what, since)), what)
        return whose is not outages.Whose.ANOTHER

    async def over(self, what: str, since: datetime) -> None:
        """The part that was missing since then is back. Returns at once."""
        if not self._routes:
            return
        alone, self._alone = what in self._alone, self._alone - {what}
        try:
            async with asyncio.timeout(REDIS_WAIT_S):
                first = await outages.ended(self._client, what)
        except Exception:  # Redis is away: who told of it alone says so
            first = False
        if first or alone:
            self._tell(OVER, what, since)

    async def close(self) -> None:
        """Give up what is under way; a second call does nothing."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    def _tell(self, template: str, what: str, since: datetime) -> list[asyncio.Task[bool]]:
        sending = []
        for number, route in enumerate(self._routes):
            delivery = Delivery(
                agency_id=SELF_AGENCY, incident_id=None, cause=derived_id(template, what, rfc3339(since)),
                audience="operator", recipient=f"operator:{number}", channel=route.channel, address=route.address,
                template=template, language=self._language, priority=PRIORITY_ALARM,
                data={"what": WORDS[what], "occurred_at": rfc3339(since)},
            )  # fmt: skip
            sending.append(self._start(self._send(delivery), what))
        return sending

    def _start(self, work: Coroutine[Any, Any, T], what: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=f"operator-{what}")
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def _keep(self, what: str, sending: Sequence[asyncio.Task[bool]]) -> None:
        """Keep the others from telling while this process lives and tries, and for good once a message is taken."""
        left: set[asyncio.Task[bool]] = set(sending)
        taken = False
        while left and not taken:
            done, left = await asyncio.wait(left, timeout=KEEP_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            taken = any(not one.cancelled() and one.exception() is None and one.result() for one in done)
            if not taken and not left:
                return  # the claim runs out, and whoever asks next tries
            with contextlib.suppress(Exception):  # Redis is away: at the worst it is told twice
                async with asyncio.timeout(REDIS_WAIT_S):
                    await (outages.told if taken else outages.keep)(self._client, what)

    async def _send(self, delivery: Delivery) -> bool:
        """Whether a provider took it."""
        attempt, until = 1, time.monotonic() + TRIED_FOR_S
        created_at = self._clock()
        while time.monotonic() < until:
            posted = await self._post.send(delivery, created_at, attempt)
            if posted.sent:
                return True
            if posted.again_in_s is None:
                break
            attempt += posted.counts
            await asyncio.sleep(posted.again_in_s)
        log.error("operator_not_told", channel=delivery.channel, template=delivery.template)
        return False
