"""What follows an attempt: sent, tried again later, or dead. Pure: the clock and the dice are handed in."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final

from core.domain.delivery import PRIORITY_PANIC
from core.postgres.deliveries import Claimed, Mark
from notifier.channels.base import ChannelError, Permanent, Throttled

BACKOFF_BASE_S: Final = 1.0
BACKOFF_CAP_S: Final = 900.0
BACKOFF_FLOOR_S: Final = 0.1
MAX_RETRY_AFTER_S: Final = 3600.0
"""Longest a provider may make us wait at once, whatever it asks for."""
URGENT_CAP_S: Final = 60.0
"""Longest wait of either kind for a panic, which has the more attempts for it."""
URGENT_ATTEMPTS: Final = 2
"""As many times the attempts of others."""
MAX_AGE: Final = timedelta(hours=24)
"""What waited so long for a provider that was away would mislead; it is a dead letter instead."""
AWAY: Final = "waits for its provider, which does not answer"


def attempts_of(claimed: Claimed, limit: int) -> int:
    """How many attempts that count a delivery has."""
    return limit * URGENT_ATTEMPTS if claimed.priority == PRIORITY_PANIC else limit


def backoff_ceiling_s(attempt: int, cap_s: float = BACKOFF_CAP_S) -> float:
    """Longest wait after attempt number `attempt` (from 1): doubling from the base up to the cap."""
    doublings = min(max(attempt - 1, 0), 32)
    return min(cap_s, BACKOFF_BASE_S * float(2**doublings))


def backoff_s(attempt: int, dice: random.Random, cap_s: float = BACKOFF_CAP_S) -> float:
    """Wait after attempt number `attempt`: uniform up to the ceiling ("full jitter"), so that what failed together
    does not come back together."""
    return dice.uniform(BACKOFF_FLOOR_S, backoff_ceiling_s(attempt, cap_s))


def after_success(claimed: Claimed, started_at: datetime, now: datetime, provider_id: str | None) -> Mark:
    """The mark of an attempt the provider took."""
    return Mark(claimed.id, claimed.attempt, "sent", "sent", started_at, now, provider_id=provider_id)


def after_failure(
    claimed: Claimed,
    started_at: datetime,
    now: datetime,
    error: ChannelError,
    *,
    limit: int,
    dice: random.Random,
    forgiven: bool = False,
) -> Mark:
    """The mark of an attempt that failed: dead for good, or queued again with a wait, at most `limit` attempts.

    `forgiven`: the provider fails everybody, or asked to wait: the attempt does not count, and only age ends it.
    """
    forgiven = forgiven or isinstance(error, Throttled)
    counted = claimed.attempt - claimed.forgiven
    if isinstance(error, Permanent):
        return Mark(claimed.id, claimed.attempt, "dead", error.result, started_at, now, detail=error.detail)
    if (forgiven and now - claimed.created_at >= MAX_AGE) or (not forgiven and counted >= attempts_of(claimed, limit)):
        detail = f"{error.detail}; given up after {claimed.attempt} attempts"
        return Mark(claimed.id, claimed.attempt, "dead", error.result, started_at, now, detail=detail)
    urgent = claimed.priority == PRIORITY_PANIC
    wait_s = backoff_s(counted, dice, URGENT_CAP_S if urgent else BACKOFF_CAP_S)
    if isinstance(error, Throttled):
        # Never sooner than asked, and spread out beyond it; but for a panic no longer than a minute.
        longest_s = URGENT_CAP_S if urgent else MAX_RETRY_AFTER_S
        wait_s = min(max(error.retry_after_s, 0.0), longest_s) + min(wait_s, 1.0)
    due_at = now + timedelta(seconds=wait_s)
    return Mark(
        claimed.id, claimed.attempt, "queued", error.result, started_at, now, due_at, error.detail, forgiven=forgiven
    )


def put_back(claimed: Claimed, now: datetime, wait_s: float, dice: random.Random) -> Mark:
    """The mark of a delivery that was not tried, because its provider is left alone: as if it had not been claimed."""
    if now - claimed.created_at >= MAX_AGE:
        return Mark(claimed.id, claimed.attempt, "dead", None, now, now, detail=f"{AWAY}; given up")
    due_at = now + timedelta(seconds=wait_s + dice.uniform(0.0, 0.5))
    return Mark(claimed.id, claimed.attempt, "queued", None, now, now, due_at, AWAY)


def after_abandonment(claimed: Claimed, now: datetime) -> Mark:
    """The mark of a delivery whose every attempt was lost with the process that made it: not tried once more, for
    it may be what kills them."""
    detail = f"{claimed.attempt - 1} attempts used up, the last one abandoned"
    return Mark(claimed.id, claimed.attempt, "dead", None, now, now, detail=detail)
