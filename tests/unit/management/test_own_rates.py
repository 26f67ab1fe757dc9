"""The rate of one process: bursts pass, a steady stream passes at its rate, and names do not disturb each other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from core.redis.rates import OwnRates, Rate


class Watch:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_burst_passes_and_the_next_waits_for_one_spacing() -> None:
    watch = Watch()
    rates = OwnRates(watch)
    rate = Rate(per_second=2, burst=3)
    assert [rates.wait_ms("her", rate) for _ in range(4)] == [0, 0, 0, 500]
    watch.now_s += 0.5
    assert rates.wait_ms("her", rate) == 0


def test_who_was_refused_has_taken_nothing() -> None:
    watch = Watch()
    rates = OwnRates(watch)
    rate = Rate(per_second=1, burst=1)
    assert rates.wait_ms("her", rate) == 0
    assert [rates.wait_ms("her", rate) for _ in range(50)] == [1000] * 50
    watch.now_s += 1
    assert rates.wait_ms("her", rate) == 0


def test_names_do_not_disturb_each_other_and_old_ones_are_forgotten() -> None:
    rates = OwnRates(Watch(), max_tracked=2)
    rate = Rate(per_second=1, burst=1)
    assert [rates.wait_ms(name, rate) for name in ("one", "two", "three")] == [0, 0, 0]
    assert rates.wait_ms("three", rate) > 0
    assert rates.wait_ms("one", rate) == 0, "the oldest was forgotten, which errs on the side of letting in"


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 20), st.integers(1, 10))
def test_never_more_than_burst_and_rate_together(gaps: list[float], per_second: float, burst: int) -> None:
    watch = Watch()
    rates = OwnRates(watch)
    passed: list[float] = []
    for gap in gaps:
        watch.now_s += gap
        if rates.wait_ms("her", Rate(per_second, burst)) == 0:
            passed.append(watch.now_s)
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            allowed = burst + per_second * (passed[last] - passed[first])
            assert last - first + 1 <= allowed + 1e-6
