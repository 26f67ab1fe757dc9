"""Sends single deliveries without a database: what a process that takes panics does while PostgreSQL is away.

The same templates and channels as the lanes', each channel with its own places; who counts attempts and remembers what
went out is the caller (`api.panic_outage`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Mapping
from datetime import datetime

import structlog

from core.clock import Clock
from core.domain.delivery import Delivery
from core.domain.told import Posted
from core.metrics import OUTAGE_DELIVERIES
from core.postgres.deliveries import Claimed
from core.settings import Settings
from notifier import retry
from notifier.channels.base import Channel, ChannelError, Permanent, Retryable, Throttled
from notifier.outgoing import message_of

log = structlog.get_logger(__name__)


class DirectPost:
    """Hands deliveries to their providers."""

    def __init__(
        self, settings: Settings, channels: Mapping[str, Channel], clock: Clock, *, dice: random.Random | None = None
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._clock = clock
        self._dice = dice or random.Random()
        self._places = {name: asyncio.Semaphore(channel.concurrency) for name, channel in channels.items()}

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """One attempt, `attempt` from 1; never raises but for cancellation."""
        channel = self._channels.get(delivery.channel)
        if channel is None:
            return Posted(sent=False)
        error: ChannelError
        async with self._places[delivery.channel]:
            try:
                provider_id = await self._send(channel, delivery, created_at, attempt)
                OUTAGE_DELIVERIES.labels(delivery.channel, "sent").inc()
                return Posted(sent=True, provider_id=provider_id)
            except ChannelError as failure:
                error = failure
            except TimeoutError:
                error = Retryable(f"no answer within {self._settings.delivery_timeout_s:g} s")
            except Exception as failure:  # a channel's own mistake: the notifier shows it once the row is there
                log.exception("channel_failed", channel=delivery.channel, delivery_id=str(delivery.id))
                error = Retryable(f"unexpected {type(failure).__name__} in the channel")
        OUTAGE_DELIVERIES.labels(delivery.channel, error.result).inc()
        if isinstance(error, Permanent):
            return Posted(sent=False)
        # All of it is panics': no wait is longer than the lanes have for them.
        wait_s = retry.backoff_s(attempt, self._dice, retry.URGENT_CAP_S)
        if isinstance(error, Throttled):
            wait_s = min(wait_s, 1.0) + min(max(error.retry_after_s, 0.0), retry.URGENT_CAP_S)
        return Posted(sent=False, again_in_s=wait_s)

    async def _send(self, channel: Channel, delivery: Delivery, created_at: datetime, attempt: int) -> str | None:
        now = self._clock()
        claimed = Claimed(
            id=delivery.id, agency_id=delivery.agency_id, incident_id=delivery.incident_id,
            audience=delivery.audience, recipient=delivery.recipient, channel=delivery.channel,
            address=delivery.address, secret=delivery.secret, language=delivery.language, template=delivery.template,
            data={**delivery.data, **delivery.private}, priority=delivery.priority, attempt=attempt, due_at=created_at,
            created_at=created_at,
        )  # fmt: skip
        message = message_of(claimed, now, self._settings.public_url)
        # Another one of the channel's providers at each attempt, as they come: the first may be the one that is dead.
        provider = next(iter(channel.providers(delivery.address, attempt)), "")
        message = dataclasses.replace(message, provider=provider)
        async with asyncio.timeout(self._settings.delivery_timeout_s):
            return await channel.send(message)

    async def aclose(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.aclose()
