"""What follows an attempt, for any attempt and any dice."""

from __future__ import annotations

import dataclasses
import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.postgres.deliveries import Claimed
from notifier import retry
from notifier.channels.base import Permanent, Retryable, Throttled
from notifier.channels.retry_after import retry_after_s

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def claimed(attempt: int) -> Claimed:
    return Claimed(
        id=uuid.UUID(int=1), agency_id=uuid.UUID(int=2), incident_id=None, audience="dispatcher", recipient="route:1",
        channel="log", address="a", secret=None, language="ru", template="incident_dispatcher", data={}, priority=1,
        attempt=attempt, due_at=NOW, created_at=NOW,
    )  # fmt: skip


@given(st.integers(-5, 10_000), st.integers())
def test_a_wait_is_never_negative_nor_beyond_its_ceiling(attempt: int, seed: int) -> None:
    wait_s = retry.backoff_s(attempt, random.Random(seed))
    assert retry.BACKOFF_FLOOR_S <= wait_s <= retry.backoff_ceiling_s(attempt) <= retry.BACKOFF_CAP_S


@given(st.integers(1, 1000))
def test_the_ceiling_never_falls_from_one_attempt_to_the_next(attempt: int) -> None:
    assert retry.backoff_ceiling_s(attempt) <= retry.backoff_ceiling_s(attempt + 1)


def test_the_same_dice_give_the_same_waits_and_others_give_others() -> None:
    def waits(seed: int) -> list[float]:
        dice = random.Random(seed)
        return [retry.backoff_s(attempt, dice) for attempt in range(1, 13)]

    assert waits(7) == waits(7)
    assert waits(7) != waits(8)


@given(st.integers(1, 30), st.integers(1, 30), st.integers())
def test_a_retryable_failure_is_queued_again_until_the_last_attempt_and_then_dead(
    attempt: int, limit: int, seed: int
) -> None:
    mark = retry.after_failure(claimed(attempt), NOW, NOW, Retryable("HTTP 500"), limit=limit, dice=random.Random(seed))
    assert mark.result == "retryable"
    if attempt >= limit:
        assert mark.state == "dead"
        assert f"after {attempt} attempts" in str(mark.detail)
    else:
        assert mark.state == "queued"
        assert mark.due_at is not None
        assert timedelta(0) < mark.due_at - NOW <= timedelta(seconds=retry.BACKOFF_CAP_S)


@given(st.floats(-1e6, 1e12), st.integers())
def test_a_throttled_failure_waits_as_asked_within_the_bound(asked_s: float, seed: int) -> None:
    mark = retry.after_failure(claimed(1), NOW, NOW, Throttled("HTTP 429", asked_s), limit=5, dice=random.Random(seed))
    assert mark.state == "queued"
    assert mark.due_at is not None
    waited_s = (mark.due_at - NOW).total_seconds()
    wanted_s = min(max(asked_s, 0.0), retry.MAX_RETRY_AFTER_S)
    assert wanted_s - 1e-3 <= waited_s <= wanted_s + 1.001


@given(st.integers(1, 23), st.floats(0, 1e6), st.integers())
def test_a_panic_waits_a_minute_at_most_and_is_tried_twice_as_often(attempt: int, asked_s: float, seed: int) -> None:
    panic = dataclasses.replace(claimed(attempt), priority=0)
    for error in (Retryable("HTTP 500"), Throttled("HTTP 429", asked_s)):
        mark = retry.after_failure(panic, NOW, NOW, error, limit=12, dice=random.Random(seed))
        assert mark.state == "queued"
        assert mark.due_at is not None
        assert mark.due_at - NOW <= timedelta(seconds=retry.URGENT_CAP_S + 1)
    last = dataclasses.replace(panic, attempt=24)
    assert retry.after_failure(last, NOW, NOW, Retryable("x"), limit=12, dice=random.Random(seed)).state == "dead"


def test_a_permanent_failure_is_dead_at_once() -> None:
    mark = retry.after_failure(claimed(1), NOW, NOW, Permanent("HTTP 410"), limit=5, dice=random.Random(0))
    assert (mark.state, mark.result, mark.detail, mark.due_at) == ("dead", "permanent", "HTTP 410", None)


def test_what_was_lost_with_its_process_too_often_is_dead_without_another_attempt() -> None:
    mark = retry.after_abandonment(claimed(13), NOW)
    assert (mark.state, mark.result) == ("dead", None)
    assert "12 attempts" in str(mark.detail)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("17", 17.0),
        (" 0 ", 0.0),
        ("9" * 400, 999_999_999.0),
        ("-4", None),
        ("soon", None),
        ("Sun, 01 Mar 2026 12:01:30 GMT", 90.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_moment(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds
