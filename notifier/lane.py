"""A lane: one channel's loop, with as many places as the channel's `concurrency`.

It fills free places from the database (claim, commit), and whatever has finished when it looks is marked with what
other lanes have (`notifier.marker`), so a slow receiver holds one place and never a batch. Deliveries to one address
beyond `ADDRESS_SHARE` of the places wait in the database: one dead receiver does not fill the channel. Some places, and
some of the channel's rate, are kept for priority 0: a panic never waits behind telemetry's alarms.

Each of a channel's providers has a breaker (`notifier.breaker`). What would go to one that is left alone waits in the
database and burns no attempt; when it answers again, what waited is due at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

import structlog

from core.actions import deliveries
from core.clock import Clock
from core.domain.delivery import PRIORITY_PANIC
from core.errors import StoreUnavailable
from core.metrics import BREAKERS_OPEN, DELIVERIES, DELIVERY_SECONDS
from core.postgres.database import Database
from core.postgres.deliveries import NOBODY, Claimed, Mark, Passed
from core.settings import Settings
from notifier import retry
from notifier.breaker import Attempt, Breakers
from notifier.bucket import Bucket
from notifier.channels.base import Channel, ChannelError, Permanent, Retryable, Throttled
from notifier.marker import Marker, Outcome
from notifier.outgoing import gone_subscription, gone_token, log_dead, message_of, without_address
from notifier.pulse import Pulse
from notifier.pushes_first import PushesFirst

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
URGENT_SHARE: Final = 4
"""A fourth of a channel's places takes priority 0 alone."""
WAITING_MAX: Final = 10_000
"""Addresses remembered because their provider is left alone."""


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
        marker: Marker | None = None,
        pushes: PushesFirst | None = None,
    ) -> None:
        """`marker` and `pushes` are what lanes of one process share; without them this one has its own."""
        self.name = channel.name
        self._settings = settings
        self._database = database
        self._channel = channel
        self._clock = clock
        self._pulse = pulse
        self._dice = dice
        self._stopping = stopping
        self._observe = observe
        self._pushes = pushes or PushesFirst()
        self._marker = marker or Marker(database, clock, pulse.holder)
        # A lease outlives the attempt it covers, whatever the settings say.
        self._lease_s = max(settings.delivery_lease_s, settings.delivery_timeout_s + LEASE_MARGIN_S)
        self._awake = asyncio.Event()
        self._breakers = Breakers()
        self._bucket = Bucket(channel.rate_per_s)
        self._waiting: OrderedDict[bytes, str] = OrderedDict()
        """Digest of an address → the provider that was left alone, or failed, when it was last wanted."""
        self._answering: set[str] = set()
        """Providers that answer again, and whose deliveries have yet to be told so."""
        self._under_way: dict[asyncio.Task[Outcome], Claimed] = {}
        self._unmarked: list[Outcome] = []
        self._marking: asyncio.Task[None] | None = None
        """What is being marked; beside it the next is claimed."""
        self._nothing_due_until = 0.0
        """Until when, on time.monotonic, nothing but a wake-up can bring something to claim."""
        self._unheard = False
        """Whether a claim was made whose answer never came: what it took would wait for its lease to end."""
        self._away = 0
        """PostgreSQL's refusals in a row."""

    def wake(self) -> None:
        """End the present wait."""
        self._pushes.wanted(self.name)
        self._nothing_due_until = 0.0
        self._awake.set()

    async def keep_ready(self) -> None:
        """Have the channel ready for the next message; what it lacks it may get yet when it sends."""
        try:
            async with asyncio.timeout(self._settings.delivery_timeout_s):
                await self._channel.keep_ready()
        except Exception as error:  # whatever a provider's library says
            log.warning("channel_not_ready", channel=self.name, error=type(error).__name__)

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
                    self._nothing_due_until = 0.0
                    log.warning("notifier_waits_for_postgres", channel=self.name, detail=error.detail)
                    claimed = False
                if not claimed:
                    await self._rest()
        finally:
            await self._wind_up()

    async def _cycle(self) -> bool:
        """Fill the free places, and have what has finished marked beside it: what is due, a panic perhaps, does not
        wait until what was sent is written down. True when there may be more to claim at once."""
        self._collect()
        if self._marking is not None and self._marking.done():
            marked, self._marking = self._marking, None
            marked.result()
        try:
            await self._hasten()
            return await self._claim()
        finally:
            if not self._awake.is_set():
                self._pushes.begun(self.name)
            if self._unmarked and self._marking is None:
                self._marking = asyncio.create_task(self._mark(), name=f"marks-{self.name}")

    async def _claim(self) -> bool:
        if time.monotonic() < self._nothing_due_until:
            return False
        stand_back_until = self._pushes.deadline()
        await self._pushes.stand_back(self.name, stand_back_until)
        now = self._clock()
        limit, limit_rest = self._room(now)
        BREAKERS_OPEN.labels(self.name).set(self._breakers.open_count(now))
        if limit <= 0:
            return False
        passed = self._passed(now, self._under_way.values(), urgent=False)
        passed_urgent = self._passed(now, [one for one in self._under_way.values() if _is_urgent(one)], urgent=True)
        self._nothing_due_until = time.monotonic() + POLL_S  # a wake-up meanwhile takes it back
        if self._unheard:
            known = [one.id for one in self._under_way.values()] + [one.mark.delivery_id for one in self._unmarked]
            await deliveries.give_back_unheard(
                self._database, channel=self.name, holder=self._pulse.holder, known=known, now=now
            )
        self._unheard = True
        claimed = await deliveries.claim(
            self._database,
            channel=self.name,
            now=now,
            lease_s=self._lease_s,
            holder=self._pulse.holder,
            limit=limit,
            limit_rest=limit_rest,
            passed=passed,
            passed_urgent=passed_urgent,
            dead_before=self._pulse.dead_before(now),
        )
        self._unheard = False
        self._bucket.take(len(claimed))
        rest = sum(not _is_urgent(one) for one in claimed)
        if limit == len(claimed) or limit_rest == rest or passed != NOBODY or passed_urgent != NOBODY:
            self._nothing_due_until = 0.0
        for one in claimed:
            await self._pushes.stand_back(self.name, stand_back_until)
            self._under_way[asyncio.create_task(self._attempt(one), name=f"delivery-{one.id}")] = one
        await asyncio.sleep(0)  # they ask their breakers before more is claimed
        return len(claimed) == limit

    def _room(self, now: datetime) -> tuple[int, int]:
        """How many deliveries may be claimed: of any kind, and of those that are not urgent."""
        places = self._channel.concurrency
        kept = places // URGENT_SHARE
        ordinary = sum(not _is_urgent(one) for one in self._under_way.values())
        room, room_rest = self._bucket.room(now)
        limit = min(places - len(self._under_way), self._settings.delivery_batch, room)
        if self._channel.fixed:
            fixed = [self._breakers.of(provider) for provider in self._channel.fixed]
            if all(breaker.wait_s(now, urgent=True) > 0 for breaker in fixed):
                return 0, 0
            if all(breaker.forgives for breaker in fixed):
                limit = min(limit, 1)  # a probe
            elif all(breaker.wait_s(now) > 0 for breaker in fixed):
                room_rest = 0
        return limit, max(0, min(limit, places - kept - ordinary, room_rest))

    def _passed(self, now: datetime, under_way: Iterable[Claimed], *, urgent: bool) -> Passed:
        """Addresses, as digests where they are sealed, with enough under way, or whose provider is left alone."""
        share = max(1, self._channel.concurrency // ADDRESS_SHARE)
        counts = Counter(one.address_digest or one.address for one in under_way)
        busy = [address for address, count in counts.items() if count >= share]
        away = [
            digest for digest, provider in self._waiting.items() if self._breakers.is_open(provider, now, urgent=urgent)
        ]
        return Passed(
            tuple(address for address in busy if isinstance(address, str)),
            (*(address for address in busy if isinstance(address, bytes)), *away),
        )

    async def _rest(self) -> None:
        """Wait for a wake-up, for something to finish, or for the next poll; longer while PostgreSQL is away."""
        if self._away:
            longest = min(AWAY_PAUSE_S[1], AWAY_PAUSE_S[0] * 2 ** min(self._away, 16))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._dice.uniform(AWAY_PAUSE_S[0], longest))
            return
        waking = asyncio.create_task(self._awake.wait())
        try:
            longest_s = min(POLL_S, max(0.0, self._nothing_due_until - time.monotonic()) or POLL_S)
            waits = {waking, *self._under_way, *filter(None, [self._marking])}
            await asyncio.wait(waits, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()

    async def _attempt(self, claimed: Claimed) -> Outcome:
        """One attempt from rendering to the provider's answer; never raises but for cancellation."""
        started_at = self._clock()
        if claimed.attempt - claimed.forgiven > retry.attempts_of(claimed, self._settings.delivery_attempts):
            return Outcome(retry.after_abandonment(claimed, started_at))
        providers = self._channel.providers(claimed.address, claimed.attempt)
        urgent = _is_urgent(claimed)
        provider = next((one for one in providers if self._breakers.of(one).admit(started_at, urgent=urgent)), None)
        if provider is None:
            wait_s = min((self._breakers.of(one).wait_s(started_at, urgent=urgent) for one in providers), default=0.0)
            self._remember(claimed, providers[0] if providers else "")
            return Outcome(retry.put_back(claimed, started_at, wait_s, self._dice))
        breaker = self._breakers.of(provider).attempt()
        try:
            return await self._try(claimed, started_at, provider, breaker)
        finally:
            breaker.unsaid()

    async def _try(self, claimed: Claimed, started_at: datetime, provider: str, breaker: Attempt) -> Outcome:
        reached = False
        try:
            message = message_of(claimed, started_at, self._settings.public_url)
            reached = True
            async with asyncio.timeout(self._settings.delivery_timeout_s):
                provider_id = await self._channel.send(dataclasses.replace(message, provider=provider))
            self._answered(provider, breaker)
            return Outcome(retry.after_success(claimed, started_at, self._clock(), provider_id))
        except ChannelError as failure:
            error = failure
        except TimeoutError:
            error = Retryable(f"no answer within {self._settings.delivery_timeout_s:g} s")
        except Exception as failure:
            # A channel's own mistake must not stop the channel: it is tried again, then shown as a dead letter.
            log.exception("channel_failed", channel=self.name, delivery_id=str(claimed.id))
            error = Retryable(f"unexpected {type(failure).__name__} in the channel", provider_fails=False)
        now = self._clock()
        forgiven = reached and self._judge(claimed, error, provider, breaker, now)
        mark = retry.after_failure(
            claimed, started_at, now, error, limit=self._settings.delivery_attempts, dice=self._dice, forgiven=forgiven
        )
        return Outcome(without_address(mark, claimed), gone_token(claimed, error), gone_subscription(claimed, error))

    def _judge(self, claimed: Claimed, error: ChannelError, provider: str, breaker: Attempt, now: datetime) -> bool:
        """Tell the breaker what an error says of its provider; True when the failure is the provider's alone."""
        if isinstance(error, Throttled):
            breaker.throttled(now, error.retry_after_s)
            return True
        if isinstance(error, Permanent) or not getattr(error, "provider_fails", True):
            self._answered(provider, breaker)
            return False
        forgiven = breaker.forgives
        if breaker.failed(now):
            log.warning("provider_left_alone", channel=self.name, reason=error.detail)
        if breaker.forgives:
            self._remember(claimed, provider)
        return forgiven

    def _answered(self, provider: str, breaker: Attempt) -> None:
        if breaker.answered():
            log.info("provider_answers_again", channel=self.name)
            self._answering.add(provider)

    def _remember(self, claimed: Claimed, provider: str) -> None:
        if claimed.address_digest is not None:
            self._waiting[claimed.address_digest] = provider
            while len(self._waiting) > WAITING_MAX:
                self._waiting.popitem(last=False)

    async def _hasten(self) -> None:
        """Have what waited for providers that answer again be due now."""
        for provider in list(self._answering):
            everything = self._channel.fixed == (provider,)
            digests = [digest for digest, waited_for in self._waiting.items() if waited_for == provider]
            if everything or digests:
                await deliveries.hasten(self._database, self.name, None if everything else digests, self._clock())
            for digest in digests:
                del self._waiting[digest]
            self._nothing_due_until = 0.0
            self._answering.discard(provider)

    def _collect(self) -> None:
        """What has finished leaves its place, and waits to be marked."""
        for task in [task for task in self._under_way if task.done()]:
            claimed = self._under_way.pop(task)
            outcome = self._stopped(claimed) if task.cancelled() else self._outcome(task, claimed)
            self._count(claimed, outcome.mark)
            self._unmarked.append(outcome)

    def _outcome(self, task: asyncio.Task[Outcome], claimed: Claimed) -> Outcome:
        """What an attempt came to; our own mistake in it costs that attempt alone, and ends no lane."""
        error = task.exception()
        if error is None:
            return task.result()
        log.error("attempt_failed", channel=self.name, delivery_id=str(claimed.id), error=type(error).__name__)
        now = self._clock()
        failure = Retryable(f"unexpected {type(error).__name__} in the notifier", provider_fails=False)
        limit = self._settings.delivery_attempts
        return Outcome(retry.after_failure(claimed, now, now, failure, limit=limit, dice=self._dice))

    async def _mark(self) -> None:
        """Mark everything that was collected; kept for the next try when PostgreSQL is away."""
        outcomes = list(self._unmarked)
        if not outcomes:
            return
        marks = [outcome.mark for outcome in outcomes]
        ended = await self._marker.mark(outcomes)
        del self._unmarked[: len(outcomes)]
        if any(mark.state == "queued" for mark in marks):
            self._nothing_due_until = 0.0  # it may be due by now
        log_dead(ended)
        if self._observe is not None:
            self._observe(marks)

    def _stopped(self, claimed: Claimed) -> Outcome:
        """An attempt cut short by our own stop: due again at once, for another process."""
        now = self._clock()
        return Outcome(
            Mark(
                claimed.id, claimed.attempt, "queued", "retryable", now, now, now, "the notifier stopped meanwhile",
                forgiven=True,
            )
        )  # fmt: skip

    def _count(self, claimed: Claimed, mark: Mark) -> None:
        if mark.state != "queued" or mark.result is not None:
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
        self._collect()
        with contextlib.suppress(StoreUnavailable):
            if self._marking is not None:
                await self._marking
        with contextlib.suppress(StoreUnavailable):
            await self._mark()


def _is_urgent(claimed: Claimed) -> bool:
    return claimed.priority == PRIORITY_PANIC
