"""When a provider is left alone, when it is asked again, and how many messages a moment takes."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import Misconfigured
from notifier import breaker
from notifier.breaker import CLOSED, HALF_OPEN, OPEN, Breaker, Breakers
from notifier.bucket import Bucket
from notifier.channels import read_rates

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def opened() -> Breaker:
    made = Breaker()
    for _ in range(breaker.FAILURES_IN_A_ROW):
        assert made.admit(NOW)
        made.failed(NOW)
    return made


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    made = Breaker()
    for _ in range(breaker.FAILURES_IN_A_ROW - 1):
        assert not made.failed(NOW)
        assert made.state(NOW) == CLOSED
    assert made.failed(NOW)
    assert made.state(NOW) == OPEN
    assert not made.admit(NOW)


def test_an_answer_in_between_begins_the_count_anew() -> None:
    made = Breaker()
    for _ in range(3):
        for _ in range(breaker.FAILURES_IN_A_ROW - 1):
            made.failed(NOW)
        made.answered()
    assert made.state(NOW) == CLOSED


def test_it_opens_when_half_of_what_it_saw_last_failed() -> None:
    made = Breaker()
    for turn in range(breaker.LOOKED_AT):
        if turn % 2:
            made.failed(NOW)
        else:
            made.answered()
    assert made.state(NOW) == OPEN


def test_a_half_open_one_lets_one_probe_through_and_its_answer_closes_it() -> None:
    made = opened()
    then = later(breaker.COOL_DOWN_S[0])
    assert made.state(then) == HALF_OPEN
    assert made.admit(then)
    assert not made.admit(then)
    assert made.answered()
    assert made.state(then) == CLOSED
    assert made.admit(then)


def test_what_began_before_it_opened_says_nothing_in_the_probe_s_place() -> None:
    made = Breaker()
    assert made.admit(NOW)
    early, earlier = made.attempt(), made.attempt()
    for _ in range(breaker.FAILURES_IN_A_ROW):
        made.failed(NOW)
    then = later(breaker.COOL_DOWN_S[0])
    assert made.admit(then)
    probe = made.attempt()
    assert not early.failed(then)
    earlier.unsaid()
    assert made.state(then) == OPEN
    assert not made.admit(then), "its probe is still under way"
    assert not probe.failed(then)
    assert made.wait_s(then) == breaker.COOL_DOWN_S[0] * 2, "and it is the probe that opens it for longer"
    again = later(60)
    assert made.admit(again)
    probe.unsaid()
    assert not made.admit(again), "nor does an earlier probe speak for a later one"
    made.attempt().answered()
    assert made.state(again) == CLOSED


def test_a_probe_that_fails_opens_it_for_longer_but_never_for_more_than_the_bound() -> None:
    made, moment, waits = opened(), NOW, []
    for _ in range(10):
        wait_s = made.wait_s(moment)
        waits.append(wait_s)
        moment += timedelta(seconds=wait_s)
        assert made.admit(moment)
        assert made.forgives
        made.failed(moment)
    assert waits == sorted(waits)
    assert waits[0] == breaker.COOL_DOWN_S[0]
    assert waits[-1] == breaker.COOL_DOWN_S[1]


def test_what_went_out_before_it_opened_does_not_keep_it_open_for_longer() -> None:
    made = opened()
    for _ in range(50):
        made.failed(NOW)
    assert made.wait_s(NOW) == breaker.COOL_DOWN_S[0]


def test_a_probe_of_which_nothing_is_known_lets_another_go() -> None:
    made, then = opened(), later(breaker.COOL_DOWN_S[0])
    assert made.admit(then)
    made.unsaid()
    assert made.admit(then)


def test_too_many_in_a_row_holds_everything_for_as_long_as_was_asked() -> None:
    made = Breaker()
    for _ in range(breaker.THROTTLES_IN_A_ROW):
        assert made.admit(NOW)
        made.throttled(NOW, 41.0)
    assert made.wait_s(NOW) == 41.0
    assert made.admit(later(41.0))
    made.throttled(later(41.0), 1e9)
    assert made.wait_s(later(41.0)) == breaker.HOLD_MAX_S


def test_what_is_urgent_is_not_held_because_others_were_too_many() -> None:
    made = Breaker()
    for _ in range(breaker.THROTTLES_IN_A_ROW):
        made.throttled(NOW, 41.0)
    assert not made.admit(NOW)
    assert made.admit(NOW, urgent=True)
    assert not opened().admit(NOW, urgent=True)


def test_breakers_are_bounded_and_each_provider_has_its_own() -> None:
    all_of_them = Breakers()
    for _ in range(breaker.FAILURES_IN_A_ROW):
        all_of_them.of("dead").failed(NOW)
    assert all_of_them.is_open("dead", NOW)
    assert not all_of_them.is_open("alive", NOW)
    assert all_of_them.open_count(NOW) == 1
    for number in range(breaker.PROVIDERS_MAX + 5):
        all_of_them.of(str(number))
    assert len(all_of_them._of) == breaker.PROVIDERS_MAX


@given(st.floats(0.01, 1e5), st.lists(st.tuples(st.floats(0, 10), st.integers(0, 1000)), max_size=30))
def test_a_bucket_never_gives_more_than_its_rate_and_a_burst(rate: float, steps: list[tuple[float, int]]) -> None:
    bucket, now, taken = Bucket(rate), NOW, 0
    for passed_s, wanted in steps:
        now += timedelta(seconds=passed_s)
        room, rest = bucket.room(now)
        assert 0 <= rest <= room
        took = min(wanted, room)
        bucket.take(took)
        taken += took
    passed = (now - NOW).total_seconds()
    assert taken <= passed * rate + max(1.0, rate * 2) + 1


def test_some_of_a_bucket_is_kept_for_panics() -> None:
    bucket = Bucket(10.0)
    assert bucket.room(NOW) == (20, 15)
    bucket.take(15)
    assert bucket.room(NOW) == (5, 0)
    assert Bucket(math.inf).room(NOW)[1] > 1000


def test_rates_are_read_from_their_setting() -> None:
    assert read_rates(" email=10, sms=0.5 ,") == {"email": 10.0, "sms": 0.5}
    assert read_rates("") == {}


@pytest.mark.parametrize("written", ["email", "pigeon=1", "email=0", "email=-1", "email=inf", "email=nan", "email=x"])
def test_a_rate_that_is_none_is_a_clear_error(written: str) -> None:
    with pytest.raises(Misconfigured, match="QORGAN_CHANNEL_RATES"):
        read_rates(written)
