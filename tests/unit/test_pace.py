"""A worker reads often while that is cheap, and in larger batches when it is not."""

from __future__ import annotations

from geo.pace import CPU_SHARE, LONGEST_S, Pace


class Hands:
    """Wall and processor clocks that a test moves."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def work(self, seconds: float, share: float) -> None:
        self.wall_s += seconds
        self.cpu_s += seconds * share


def pace_of(hands: Hands) -> Pace:
    return Pace(0.01, wall_s=lambda: hands.wall_s, cpu_s=lambda: hands.cpu_s)


def test_an_idle_worker_reads_at_its_shortest_cycle() -> None:
    hands = Hands()
    pace = pace_of(hands)
    for _ in range(20):
        hands.work(0.2, 0.02)
        assert pace.cycle_s() == 0.01


def test_a_busy_worker_reads_less_often_but_never_beyond_the_bound() -> None:
    hands = Hands()
    pace = pace_of(hands)
    cycles = []
    for _ in range(20):
        hands.work(0.2, 0.9)
        cycles.append(pace.cycle_s())
    assert cycles == sorted(cycles)
    assert cycles[-1] == LONGEST_S


def test_it_comes_back_when_the_load_is_gone() -> None:
    hands = Hands()
    pace = pace_of(hands)
    for _ in range(20):
        hands.work(0.2, 0.9)
        pace.cycle_s()
    for _ in range(20):
        hands.work(0.2, 0.05)
        pace.cycle_s()
    assert pace.cycle_s() == 0.01


def test_it_rests_where_the_share_is_kept() -> None:
    hands = Hands()
    pace = pace_of(hands)
    for _ in range(100):
        hands.work(0.2, min(1.0, 0.006 / pace.cycle_s()))  # a fixed cost a cycle
    assert abs(0.006 / pace.cycle_s() - CPU_SHARE) < 0.05
