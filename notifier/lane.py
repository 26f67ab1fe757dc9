"""A lane: one channel's loop, with as many places as the channel's `concurrency`.

It fills free places from the database (claim, commit), and whatever has finished when it looks is marked in one
transaction, so a slow receiver holds one place and never a batch. Deliveries to one address beyond `ADDRESS_SHARE`
of the places wait in the database: one dead receiver does not fill the channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from core.actions import deliveries
from core.clock import Clock
from core.errors import StoreUnavailable
from core.metrics import DELIVERIES, DELIVERY_SECONDS
from core.postgres.database import Database
from core.postgres.deliveries import Claimed, Ended, Mark
from core.settings import Settings
from notifier import retry
from notifier.channels.base import Channel, ChannelError, Message, Permanent, Retryable
from notifier.pulse import Pulse
from notifier.templates.render import Unrenderable, render

log = structlog.get_logger(__name__)

POLL_S: Final = 1.0
"""Longest a due delivery waits when its NOTIFY was missed."""
AWAY_PAUSE_S: Final = (0.1, 5.0)
"""First and longest pause while PostgreSQL is away."""
STOP_GRACE_S: Final = 3.0
"""What is under way gets this long to finish when the service is asked to end."""
LEASE_MARGIN_S: Final = 5.0
"""A lease lasts at least this much longer than an attempt may take."""
ADDRESS_SHARE: Final = 4
"""One address may have a fourth of a channel's places before its next deliveries wait."""
DEVICE_RECIPIENT: Final = "device:"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished attempt, not yet marked."""

    mark: Mark
    gone_token: tuple[uuid.UUID, str] | None = None


class Lane:
    """One channel's loop."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        channel: Channel,
        clock: Clock,
        pulse: Pulse,
        dice: random.Random,
        stopping: asyncio.Event,
        observe: Callable[[Sequence[Mark]], object] | None = None,
    ) -> None:
        self.name = channel.name
        self._settings = settings
        self._database = database
        self._channel = channel
        self._clock = clock
        self._pulse = pulse
        self._dice = dice
        self._stopping = stopping
        self._observe = observe
        # A lease outlives the attempt it covers, whatever the settings say.
        self._lease_s = max(settings.delivery_lease_s, settings.delivery_timeout_s + LEASE_MARGIN_S)
        self._awake = asyncio.Event()
        self._under_way: dict[asyncio.Task[Outcome], Claimed] = {}
        self._unmarked: list[Outcome] = []
        self._away = 0
        """PostgreSQL's refusals in a row."""

    def wake(self) -> None:
        """End the present wait."""
        self._awake.set()

    async def aclose(self) -> None:
        """Close the channel."""
        await self._channel.aclose()

    async def run(self) -> None:
        """Claim, send and mark until asked to end; then let what is under way finish, for a moment."""
        try:
            while not self._stopping.is_set():
                self._awake.clear()
                try:
                    claimed = await self._cycle()
                    self._away = 0
                except StoreUnavailable as error:
                    self._away += 1
                    log.warning("notifier_waits_for_postgres", channel=self.name, detail=error.detail)
                    claimed = False
                if not claimed:
                    await self._rest()
        finally:
            await self._wind_up()

    async def _cycle(self) -> bool:
        """Mark what has finished and fill the free places; True when there may be more to claim at once."""
        await self._mark()
        free = self._channel.concurrency - len(self._under_way)
        limit = min(free, self._settings.delivery_batch)
        if limit <= 0:
            return False
        now = self._clock()
        busy = self._busy_addresses()
        claimed = await deliveries.claim(
            self._database,
            channel=self.name,
            now=now,
            lease_s=self._lease_s,
            holder=self._pulse.holder,
            limit=limit,
            busy_addresses=[address for address in busy if isinstance(address, str)],
            busy_digests=[address for address in busy if isinstance(address, bytes)],
            dead_before=self._pulse.dead_before(now),
        )
        for one in claimed:
            self._under_way[asyncio.create_task(self._attempt(one), name=f"delivery-{one.id}")] = one
        return len(claimed) == limit

    def _busy_addresses(self) -> list[str | bytes]:
        """Addresses, as digests where they are sealed, with enough under way."""
        share = max(1, self._channel.concurrency // ADDRESS_SHARE)
        counts = Counter(one.address_digest or one.address for one in self._under_way.values())
        return [address for address, count in counts.items() if count >= share]

    async def _rest(self) -> None:
        """Wait for a wake-up, for something to finish, or for the next poll; longer while PostgreSQL is away."""
        if self._away:
            longest = min(AWAY_PAUSE_S[1], AWAY_PAUSE_S[0] * 2 ** min(self._away, 16))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._dice.uniform(AWAY_PAUSE_S[0], longest))
            return
        waking = asyncio.create_task(self._awake.wait())
        try:
            await asyncio.wait({waking, *self._under_way}, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()

    async def _attempt(self, claimed: Claimed) -> Outcome:
        """One attempt from rendering to the provider's answer; never raises but for cancellation."""
        started_at = self._clock()
        limit = self._settings.delivery_attempts
        if claimed.attempt > limit:
            return Outcome(retry.after_abandonment(claimed, started_at))
        error: ChannelError
        try:
            message = _message(claimed, started_at)
            async with asyncio.timeout(self._settings.delivery_timeout_s):
                provider_id = await self._channel.send(message)
            return Outcome(retry.after_success(claimed, started_at, self._clock(), provider_id))
        except ChannelError as failure:
            error = failure
        except TimeoutError:
            error = Retryable(f"no answer within {self._settings.delivery_timeout_s:g} s")
        except Exception as failure:
            # A channel's own mistake must not stop the channel: it is tried again, then shown as a dead letter.
            log.exception("channel_failed", channel=self.name, delivery_id=str(claimed.id))
            error = Retryable(f"unexpected {type(failure).__name__} in the channel")
        mark = retry.after_failure(claimed, started_at, self._clock(), error, limit=limit, dice=self._dice)
        return Outcome(_without_address(mark, claimed), _gone_token(claimed, error))

    async def _mark(self) -> None:
        """Mark everything that has finished, in one transaction; kept for the next try when PostgreSQL is away."""
        for task in [task for task in self._under_way if task.done()]:
            claimed = self._under_way.pop(task)
            outcome = self._stopped(claimed) if task.cancelled() else task.result()
            self._count(claimed, outcome.mark)
            self._unmarked.append(outcome)
        if not self._unmarked:
            return
        ended = await deliveries.finish(
            self._database,
            [outcome.mark for outcome in self._unmarked],
            holder=self._pulse.holder,
            now=self._clock(),
            gone_tokens=[outcome.gone_token for outcome in self._unmarked if outcome.gone_token is not None],
        )
        marks = [outcome.mark for outcome in self._unmarked]
        self._unmarked.clear()
        _log_dead(ended)
        if self._observe is not None:
            self._observe(marks)

    def _stopped(self, claimed: Claimed) -> Outcome:
        """An attempt cut short by our own stop: due again at once, for another process."""
        now = self._clock()
        return Outcome(
            Mark(claimed.id, claimed.attempt, "queued", "retryable", now, now, now, "the notifier stopped meanwhile")
        )

    def _count(self, claimed: Claimed, mark: Mark) -> None:
        DELIVERIES.labels(self.name, "dead" if mark.state == "dead" else mark.result or "").inc()
        if mark.state == "sent":
            DELIVERY_SECONDS.labels(self.name).observe(max(0.0, (mark.ended_at - claimed.due_at).total_seconds()))

    async def _wind_up(self) -> None:
        """Let what is under way finish, cancel the rest, and mark all of it if PostgreSQL is there."""
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=STOP_GRACE_S)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        with contextlib.suppress(StoreUnavailable):
            await self._mark()


def _message(claimed: Claimed, sent_at: datetime) -> Message:
    """The delivery, rendered; Permanent when its template and data do not fit each other, or nobody is left to tell."""
    if claimed.erased:
        raise Permanent("who it was for was erased")
    if claimed.spoilt:
        raise Retryable("its address does not open; see docs/encryption.md")
    if not isinstance(claimed.data, dict):
        raise Permanent("the delivery's data is no object")
    try:
        text = render(claimed.template, claimed.language, claimed.data, claimed.created_at)
    except Unrenderable as error:
        raise Permanent(str(error)) from None
    return Message(
        id=claimed.id,
        template=claimed.template,
        audience=claimed.audience,
        address=claimed.address,
        secret=claimed.secret,
        language=claimed.language,
        subject=text.subject,
        body=text.body,
        short=text.short,
        incident_id=claimed.incident_id,
        data=claimed.data,
        created_at=claimed.created_at,
        sent_at=sent_at,
        attempt=claimed.attempt,
    )


def _without_address(mark: Mark, claimed: Claimed) -> Mark:
    """The mark as it is stored and logged: providers like to repeat the address, which is sealed."""
    if mark.detail is None or not claimed.address:
        return mark
    detail = mark.detail
    for text in {claimed.address, claimed.address.lower()}:
        detail = detail.replace(text, "(address)")
    return dataclasses.replace(mark, detail=detail)


def _gone_token(claimed: Claimed, error: ChannelError) -> tuple[uuid.UUID, str] | None:
    """The device and push token to forget, when the provider disowned it."""
    if not isinstance(error, Permanent) or not error.address_gone:
        return None
    if not claimed.recipient.startswith(DEVICE_RECIPIENT):
        return None
    with contextlib.suppress(ValueError):
        return uuid.UUID(claimed.recipient.removeprefix(DEVICE_RECIPIENT)), claimed.address
    return None


def _log_dead(ended: list[Ended]) -> None:
    for one in ended:
        if one.state == "dead":
            log.error(
                "delivery_dead",
                delivery_id=str(one.id),
                incident_id=str(one.incident_id) if one.incident_id else None,
                channel=one.channel,
                audience=one.audience,
                attempts=one.attempts,
                reason=one.detail,
            )
