"""Sends single deliveries without a database: what a process that takes panics does while PostgreSQL is away.

The same templates and channels as the lanes', each channel with its own places, each of its providers with a breaker:
one that hangs holds what there is for its channel once, and then nobody waits for it. Who counts attempts and remembers
what went out is the caller (`api.panic_outage`).
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
from notifier.breaker import Attempt, Breakers
from notifier.channels.base import Channel, ChannelError, Message, Permanent, Retryable, Throttled
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
        self._breakers = {name: Breakers() for name in channels}

    async def send(self, delivery: Delivery, created_at: datetime, attempt: int) -> Posted:
        """One attempt, `attempt` from 1; never raises but for cancellation."""
        channel = self._channels.get(delivery.channel)
        if channel is None:
            return Posted(sent=False)
        async with self._places[delivery.channel]:
            breakers, now = self._breakers[delivery.channel], self._clock()
            # Another one of the channel's providers at each attempt, as they come, but one that is left alone.
            providers = channel.providers(delivery.address, attempt) or ("",)
            provider = next((one for one in providers if breakers.of(one).admit(now, urgent=True)), None)
            if provider is None:
                wait_s = min(breakers.of(one).wait_s(now, urgent=True) for one in providers)
                return Posted(sent=False, again_in_s=wait_s + self._dice.uniform(0.0, 0.5), counts=False)
            breaker = breakers.of(provider).attempt()
            try:
                return await self._try(channel, delivery, created_at, attempt, provider, breaker)
            finally:
                breaker.unsaid()

    async def _try(
        self, channel: Channel, delivery: Delivery, created_at: datetime, attempt: int, provider: str, breaker: Attempt
    ) -> Posted:
        error: ChannelError
        reached = False
        try:
            message = dataclasses.replace(self._message(delivery, created_at, attempt), provider=provider)
            reached = True
            async with asyncio.timeout(self._settings.delivery_timeout_s):
                provider_id = await channel.send(message)
            breaker.answered()
            OUTAGE_DELIVERIES.labels(delivery.channel, "sent").inc()
            return Posted(sent=True, provider_id=provider_id)
        except ChannelError as failure:
            error = failure
        except TimeoutError:
            error = Retryable(f"no answer within {self._settings.delivery_timeout_s:g} s")
        except Exception as failure:  # a channel's own mistake: the notifier shows it once the row is there
            log.exception("channel_failed", channel=delivery.channel, delivery_id=str(delivery.id))
            error = Retryable(f"unexpected {type(failure).__name__} in the channel", provider_fails=False)
        OUTAGE_DELIVERIES.labels(delivery.channel, error.result).inc()
        forgiven = reached and self._judge(delivery.channel, error, breaker)
        if isinstance(error, Permanent):
            return Posted(sent=False)
        # All of it is panics': no wait is longer than the lanes have for them.
        wait_s = retry.backoff_s(attempt, self._dice, retry.URGENT_CAP_S)
        if isinstance(error, Throttled):
            wait_s = min(wait_s, 1.0) + min(max(error.retry_after_s, 0.0), retry.URGENT_CAP_S)
        return Posted(sent=False, again_in_s=wait_s, counts=not forgiven)

    def _judge(self, channel: str, error: ChannelError, breaker: Attempt) -> bool:
        """Tell the breaker what an error says of its provider; True when the failure is the provider's alone."""
        now = self._clock()
        if isinstance(error, Throttled):
            breaker.throttled(now, error.retry_after_s)
            return True
        if isinstance(error, Permanent) or (isinstance(error, Retryable) and not error.provider_fails):
            breaker.answered()
            return False
        forgiven = breaker.forgives
        if breaker.failed(now):
            log.warning("provider_left_alone", channel=channel, reason=error.detail)
        return forgiven

    def _message(self, delivery: Delivery, created_at: datetime, attempt: int) -> Message:
        now = self._clock()
        claimed = Claimed(
            id=delivery.id, agency_id=delivery.agency_id, incident_id=delivery.incident_id,
            audience=delivery.audience, recipient=delivery.recipient, channel=delivery.channel,
            address=delivery.address, secret=delivery.secret, language=delivery.language, template=delivery.template,
            data={**delivery.data, **delivery.private}, priority=delivery.priority, attempt=attempt, due_at=created_at,
            created_at=created_at,
        )  # fmt: skip
        return message_of(claimed, now, self._settings.public_url)

    async def aclose(self) -> None:
        """Close the channels."""
        for channel in self._channels.values():
            await channel.aclose()
