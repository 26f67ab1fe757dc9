"""The id of the incident that a panic opens, known before any store has it."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from core.domain.panic import incident_id_of
from core.ids import timed_id

NOW_MS = 1_795_345_000_000
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


def pressed(moment_ms: int) -> uuid.UUID:
    """A press's id as an app makes it."""
    return timed_id(moment_ms, "press")


@given(st.integers(0, HOUR_MS), st.integers(0, HOUR_MS))
def test_an_attempt_brought_in_later_opens_the_incident_that_was_told_of(first_ms: int, again_ms: int) -> None:
    press = pressed(NOW_MS)
    assert incident_id_of(press, NOW_MS + first_ms) == incident_id_of(press, NOW_MS + again_ms)


def test_it_is_the_press_s_own_and_bears_its_moment() -> None:
    press = pressed(NOW_MS)
    found = incident_id_of(press, NOW_MS + 4_000)
    assert found.version == 7
    assert found.int >> 80 == NOW_MS
    assert found not in {press, incident_id_of(timed_id(NOW_MS, "another press"), NOW_MS)}


def test_a_clock_that_is_astray_puts_no_incident_into_another_year() -> None:
    for astray_ms in (-400 * DAY_MS, 400 * DAY_MS):
        found = incident_id_of(pressed(NOW_MS + astray_ms), NOW_MS)
        assert 0 <= NOW_MS - (found.int >> 80) < 1 << 20


def test_an_id_without_a_moment_gets_that_of_its_receipt_to_seventeen_minutes() -> None:
    press = uuid.uuid5(uuid.NAMESPACE_DNS, "a press")
    step_ms = 1 << 20
    start_ms = NOW_MS - NOW_MS % step_ms
    assert incident_id_of(press, start_ms) == incident_id_of(press, start_ms + step_ms - 1)
    assert incident_id_of(press, start_ms).int >> 80 == start_ms
