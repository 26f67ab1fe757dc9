"""What late fixes tell: the judge over two tracks, and the engine that asks history and tells once."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from core.clock import from_ms
from core.domain.log import PAST, PINGS
from core.domain.past import PAST_FIX, Past, Want, decode_past, encode_past, thinned
from core.domain.ping import FLAG_BACKLOG, FLAG_PRIMARY
from core.domain.transition import Transition
from geo import hindsight, retrospect
from geo.annals import Annals
from geo.engine import Engine
from geo.hindsight import Rule, Stay, Track
from geo.past_feeder import ROUND_WANTS, Budget

LAT, LON = 43.25, 76.95
RULE = Rule(radius_m=500.0, p_enter=0.5, exit_margin_m=100.0, p_exit=0.05, hold_s=60.0)
BACKLOG = FLAG_PRIMARY | FLAG_BACKLOG
Spot = tuple[float, float] | tuple[float, float, float] | tuple[float, float, float, float]
"""Second, metres east, metres north (0), accuracy (10 m)."""


def fixes(*spots: Spot, device: int = 12) -> np.ndarray[Any, Any]:
    out = np.zeros(len(spots), dtype=PAST_FIX)
    for k, (second, east_m, north_m, accuracy_m) in enumerate((*spot, *(0.0, 10.0)[len(spot) - 2 :]) for spot in spots):
        out[k] = (round(second * 1000), LAT + north_m / 111_100, LON + east_m / 81_150, device, 1, accuracy_m, np.nan)
    return out


def track(*spots: Spot, rank: dict[int, int] | None = None) -> Track:
    return hindsight.track_of(fixes(*spots), rank or {}, 250.0)


HER_HOME = track(*((second, 0.0) for second in range(-600, 3_000, 60)))


def stays(his: Track, hers: Track = HER_HOME, from_s: float = 0, to_s: float = 2_400) -> list[Stay]:
    first_ms, last_ms = round(from_s * 1000), round(to_s * 1000)
    events = hindsight.encounters(hers, his, first_ms - 300_000, last_ms + 300_000, RULE)
    return hindsight.stays(events, first_ms, last_ms, RULE)


def test_a_visit_is_told_from_its_true_entry_to_its_true_leaving() -> None:
    """He walks in at 2 m/s from 1,200 m, stays at her door from 600 s to 900 s, and walks off."""

    def east(second: float) -> float:
        return max(0.0, 1_200 - 2 * second, 2 * (second - 900))

    (stay,) = stays(track(*((second, east(second)) for second in range(0, 1_600, 45))))
    assert stay.from_ms == pytest.approx(350_000, abs=5_000)
    assert stay.until_ms == pytest.approx(1_150_000, abs=5_000)


def test_a_drive_past_between_two_fixes_is_seen() -> None:
    (stay,) = stays(track(*((second, -3_000 + 16.7 * second, 200.0) for second in range(0, 400, 60))))
    assert stay.until_ms - stay.from_ms == pytest.approx(2 * 458 / 16.7 * 1000, rel=0.05)


def test_people_who_pass_at_a_distance_do_not_meet() -> None:
    assert stays(track(*((second, -3_000 + 16.7 * second, 700.0) for second in range(0, 400, 20)))) == []


def test_one_fix_that_no_believable_speed_joins_to_the_others_does_not_count() -> None:
    far = [(float(second), 20_000.0) for second in range(0, 1_200, 60)]
    assert stays(track(*far, (330.0, 0.0))) == []
    assert stays(track(*far, (330.0, 0.0), (335.0, 5.0))) == [], "nor do two"
    assert len(stays(track(*far, (330.0, 0.0), (335.0, 5.0), (340.0, 0.0), (345.0, 2.0)))) == 1, (
        "several tell something"
    )


def test_one_fix_that_its_neighbours_belie_does_not_count() -> None:
    """He rests 1,500 m away; one fix puts him at her door for a minute, and he is where he was."""
    assert stays(track(*((float(second), 1_500.0) for second in range(0, 1_200, 60)), (330.0, 0.0))) == []


def test_a_coarse_fix_does_not_count_and_one_among_good_ones_hardly() -> None:
    near = [(float(second), 900.0) for second in range(0, 1_200, 60)]
    assert stays(track(*near, (330.0, 100.0, 0.0, 600.0))) == []
    assert stays(track(*near, (330.0, 420.0, 0.0, 350.0))) == []


def test_what_is_not_known_is_neither_inside_nor_out() -> None:
    """Between two fixes half an hour apart nothing is told of the half hour."""
    assert stays(track((0, -3_000.0), (1_800, 3_000.0))) == []
    (stay,) = stays(track((0, 100.0), (30, 100.0), (1_800, 100.0), (1_830, 100.0)))
    assert stay.until_ms - stay.from_ms == pytest.approx(1_830_000, abs=1_000), "but nothing says that he left"


def test_a_loiterer_on_the_line_is_one_stay() -> None:
    random = np.random.default_rng(5)
    spots = [(float(second), 500 + float(random.normal(0, 30))) for second in range(0, 1_800, 20)]
    assert len(stays(track(*spots))) == 1


def test_two_visits_are_two_stays() -> None:
    def east(second: float) -> float:
        return 100.0 if second < 300 or 900 <= second < 1_200 else 2_000.0

    spots = [(float(second), east(second)) for second in range(0, 1_500, 30)]
    assert len(stays(hindsight.track_of(fixes(*spots), {}, 250.0))) == 2


def test_a_phone_counts_only_where_the_bracelet_says_nothing() -> None:
    phone = fixes(*((second, 0.0) for second in range(0, 600, 60)), device=13)
    bracelet = fixes(*((second, 5_000.0) for second in range(0, 600, 60)))
    both = np.concatenate([phone, bracelet])
    assert stays(hindsight.track_of(both, {12: 2, 13: 1}, 250.0)) == []
    assert len(stays(hindsight.track_of(phone, {12: 2, 13: 1}, 250.0))) == 1


def test_the_order_of_the_fixes_and_repeats_change_nothing() -> None:
    random = np.random.default_rng(3)
    spots = fixes(*((float(second), 1_500 - 2.0 * second) for second in range(0, 1_200, 30)))
    mixed = np.concatenate([spots, spots[::3]])
    random.shuffle(mixed)
    assert stays(hindsight.track_of(mixed, {}, 250.0)) == stays(hindsight.track_of(spots, {}, 250.0))


def test_of_many_fixes_the_surest_of_each_moment_is_kept() -> None:
    kept = thinned(fixes((0, 0.0, 0.0, 50.0), (3, 1.0, 0.0, 5.0), (11, 2.0, 0.0, 20.0)), 10_000)
    assert kept["live_ms"].tolist() == [3_000, 11_000]


def test_a_past_entry_comes_back_as_it_was_packed_and_a_damaged_one_is_refused() -> None:
    part = Past(7, 5, 1 << 60, fixes((0, 1.0)), fixes((1, 2.0), (2, 3.0)))
    payload = encode_past([part, part])
    first, second = decode_past(payload)
    assert (first.case, first.order, first.serial) == (second.case, second.order, second.serial) == (7, 5, 1 << 60)
    assert (first.victim.tobytes(), first.aggressor.tobytes()) == (part.victim.tobytes(), part.aggressor.tobytes())
    for length in (1, 20, len(payload) - 1):
        with pytest.raises(ValueError, match="PAST"):
            decode_past(payload[:length])


def test_a_round_answers_a_bounded_number_of_wants_and_a_very_long_one_alone() -> None:
    def want(hours: int) -> Want:
        return Want(1, 1, 0, hours * 3_600_000, 0, 0, (11,), (12,))

    budget = Budget()
    assert sum(budget.takes(want(0)) for _ in range(100)) == ROUND_WANTS
    budget = Budget()
    assert [budget.takes(want(hours)) for hours in (24, 24, 1)] == [True, True, False]
    budget = Budget()
    assert [budget.takes(want(hours)) for hours in (7 * 24, 1)] == [True, False]


# --- the engine


class Told:
    """A world whose history is its own log."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.annals = Annals()
        self.taken = 0

    def answers(self) -> list[Transition]:
        """Answer everything that is wanted, now."""
        for entry in self.world.log[self.taken :]:
            self.annals.add(entry)
        self.taken = len(self.world.log)
        wants = self.world.engine.wants(1_000)
        return self.world.add(self.world.now_s, PAST, self.annals.answer(wants)) if wants else []

    def upload(self, now_s: float, device: int, spots: Sequence[tuple[float, float]], **more: Any) -> list[Transition]:
        """A backlog of (second, metres east), oldest first; the newest is live."""
        payload = b"".join(
            self.world.record(device, east, now_s=now_s, at_s=at_s, flags=BACKLOG, **more) for at_s, east in spots[:-1]
        )
        at_s, east = spots[-1]
        payload += self.world.record(device, east, now_s=now_s, at_s=at_s, **more)
        out: list[Transition] = self.world.add(now_s, PINGS, payload)
        return out


@pytest.fixture
def told(world: Any) -> Told:
    world.configure(0)
    for second in range(0, 3_600, 60):
        world.ping(second, 11, 0.0)
        if second < 600:
            world.ping(second + 1, 12, 5_000.0)
    return Told(world)


def visit(from_s: float = 660, to_s: float = 3_600, east: float = 0.0) -> list[tuple[float, float]]:
    """He comes from 5 km, is at her door from 1,500 s to 2,100 s, and is 5 km away again."""
    spots = np.interp(np.arange(from_s, to_s, 60), [1_000, 1_500, 2_100, 2_600], [5_000, east, east, 5_000])
    return list(zip(np.arange(from_s, to_s, 60).tolist(), spots.tolist(), strict=True))


def test_a_late_backlog_that_shows_a_visit_tells_it_once_with_its_time(told: Told) -> None:
    world = told.world
    assert [each for each in told.upload(3_600, 12, visit()) if each.kind == "proximity"] == []
    assert world.engine.wants(1_000) == [], "nothing before the next tick"
    world.tick(3_601)
    (want,) = world.engine.wants(1_000)
    assert (want.victim, want.aggressor, want.asked_ms) == ((11,), (12,), world.at(3_601))
    world.at(3_610)
    (transition,) = told.answers()
    assert (transition.kind, transition.from_state, transition.to_state) == ("proximity", "clear", "breach")
    assert transition.retrospective
    assert transition.at_ms == pytest.approx(world.at(1_450), abs=6_000)
    assert transition.evaluated_ms == world.at(3_610)
    assert abs(datetime.fromisoformat(transition.detail["until"]) - from_ms(world.at(2_150))) < timedelta(seconds=6)
    assert transition.detail["closest_m"] < 30
    assert transition.detail["policy"]["alert_m"] == 500.0
    assert transition.victim_position is not None
    assert transition.aggressor_position is not None
    assert world.engine.wants(1_000) == []
    told.upload(3_700, 12, [*visit(), (3_700, 5_000.0)])
    world.tick(3_701)
    assert told.answers() == [], "the same upload again"


def test_what_was_told_live_is_not_told_again(told: Told) -> None:
    """The live fixes saw him come and go; what the bracelet kept back in between says nothing new."""
    world = told.world
    spots = visit(660, 3_600)
    late = [spot for k, spot in enumerate(spots) if k % 2]
    now = [world.ping(at_s + 1, 12, east, at_s=at_s) for at_s, east in spots if (at_s, east) not in late]
    assert "breach" in [each.to_state for some in now for each in some]
    world.tick(3_600)
    told.upload(3_601, 12, late)
    world.tick(3_602)
    assert len(world.engine.wants(1_000)) == 1
    assert told.answers() == []


def test_a_single_ping_that_comes_out_of_order_is_looked_at_too(told: Told) -> None:
    world = told.world
    world.ping(3_600, 12, 5_000.0)
    for at_s, east in visit(1_440, 2_200):
        world.ping(3_601, 12, east, at_s=at_s)
    world.tick(3_602)
    (want,) = world.engine.wants(1_000)
    assert (want.from_ms, want.to_ms) == (world.at(1_440), world.at(2_160))
    world.at(3_610)
    assert [each.to_state for each in told.answers()] == ["breach"]


def test_her_late_fixes_count_as_his_do(told: Told) -> None:
    """He was watched all the time, and it is she who comes late with where she was."""
    world = told.world
    for second in range(660, 3_600, 60):
        world.ping(second, 12, 5_000.0)
    world.ping(3_700, 11, 0.0)
    told.upload(3_701, 11, [(float(second), 5_000.0) for second in range(1_230, 1_700, 20)])
    world.tick(3_702)
    (transition,) = told.answers()
    assert transition.retrospective
    assert world.at(1_200) <= transition.at_ms <= world.at(1_260)


def test_people_who_cannot_have_met_ask_nothing_of_history(told: Told) -> None:
    world = told.world
    world.ping(3_595, 11, 0.0)
    told.upload(3_600, 12, [(3_600.0 - 10 * k, 9_000.0) for k in range(6, 0, -1)] + [(3_600.0, 9_000.0)])
    world.tick(3_601)
    assert world.engine.wants(1_000) == []


def test_a_heartbeat_a_repeat_and_what_is_older_than_a_week_ask_nothing(told: Told) -> None:
    world = told.world
    world.ping(3_600, 12, 5_000.0)
    world.ping(3_601, 12, 5_000.0, at_s=3_600)
    world.ping(3_602, 12, None, at_s=3_000, flags=BACKLOG)
    world.ping(3_603, 12, 0.0, at_s=3_603 - 8 * 86_400, flags=BACKLOG)
    world.tick(3_604)
    assert world.engine.wants(1_000) == []


def test_only_what_the_order_forbade_then_is_told(new_world: Any) -> None:
    for valid_from_s, expected in ((2_400, []), (1_800, [1_800]), (0, [1_450])):
        world = new_world()
        world.configure(0, valid_from_ms=world.start_ms + valid_from_s * 1_000)
        told = Told(world)
        for second in range(0, 3_600, 60):
            world.ping(second, 11, 0.0)
        world.tick(3_599)
        told.upload(3_600, 12, visit(0))
        world.tick(3_601)
        found = [each.at_ms for each in told.answers()]
        assert found == [pytest.approx(world.at(at_s), abs=6_000) for at_s in expected]


def test_a_zone_that_he_was_in_is_told_where_it_was_in_force(told: Told) -> None:
    world = told.world
    geometry = {"type": "Point", "coordinates": [LON + 20_000 / 81_150, LAT]}
    everyday = {"days": [1, 2, 3, 4, 5, 6, 7], "from": "00:00", "to": "24:00"}
    sundays = {"days": [7], "from": "00:00", "to": "24:00"}
    zones = [
        world.zone(geometry, id=uuid.UUID(int=60 + k), radius_m=300.0, schedule=[schedule])
        for k, schedule in enumerate((everyday, sundays))
    ]
    world.configure(3_590, zones=zones)
    spots = [(at_s, 20_000.0 + east) for at_s, east in visit()]
    told.upload(3_600, 12, spots)
    world.tick(3_601)
    (transition,) = told.answers()
    assert (transition.kind, transition.zone_id, transition.retrospective) == ("zone", uuid.UUID(int=60), True)
    assert transition.at_ms == pytest.approx(world.at(1_470), abs=6_000)
    assert transition.distance_m is not None
    assert transition.distance_m < 0


def test_an_answer_to_what_was_asked_before_leaves_what_was_asked_since(told: Told) -> None:
    world = told.world
    told.upload(3_600, 12, visit(660, 3_000))
    world.tick(3_601)
    (first,) = world.engine.wants(1_000)
    world.ping(3_602, 12, 5_000.0, at_s=2_950)
    world.ping(3_602, 12, 5_000.0, at_s=2_930)
    world.tick(3_603)
    for entry in world.log:
        told.annals.add(entry)
    assert len(world.add(3_604, PAST, told.annals.answer([first]))) == 1
    (second,) = world.engine.wants(1_000)
    assert (second.from_ms, second.to_ms) == (world.at(2_930), world.at(2_950))
    assert world.add(3_605, PAST, told.annals.answer([first])) == [], "an answer that comes twice"
    assert len(world.engine.wants(1_000)) == 1


def test_an_order_that_is_gone_wants_nothing_any_more(told: Told) -> None:
    world = told.world
    told.upload(3_600, 12, visit())
    world.tick(3_601)
    world.configure(3_602, orders=[])
    (want,) = world.engine.wants(1_000)
    assert (want.victim, want.aggressor) == ((), ())
    assert told.answers() == []
    assert world.engine.wants(1_000) == []


def test_of_too_many_wants_those_of_the_oldest_time_are_dropped(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrospect, "WANTS_MAX", 1)
    world = told.world
    orders = [world.order(), world.order(number=6, id=uuid.UUID(int=66))]
    world.configure(3_599, orders=orders)
    told.upload(3_600, 12, visit())
    world.tick(3_601)
    assert [want.order for want in world.engine.wants(1_000)] == [6]
    assert world.engine.wants_dropped_total == 1


def test_a_damaged_answer_is_refused_and_counted(told: Told) -> None:
    refused = told.world.engine.refused_total
    assert told.world.add(3_600, PAST, b"damaged") == []
    assert told.world.engine.refused_total == refused + 1


def test_notes_wants_and_what_was_told_survive_a_restart(told: Told) -> None:
    world = told.world
    fields: dict[bytes, bytes] = {}

    def restart() -> None:
        for field, value in world.engine.take_changes().state.items():
            fields.pop(field, None) if value is None else fields.update({field: value})
        world.engine = Engine(3)
        world.engine.restore(fields)

    told.upload(3_600, 12, visit())
    restart()
    world.tick(3_601)
    restart()
    assert len(told.answers()) == 1
    restart()
    told.upload(3_700, 12, [*visit(), (3_700.0, 5_000.0)])
    world.tick(3_701)
    assert told.answers() == []
    restart()
    world.tick(3_701 + 9 * 86_400)
    restart()
    assert not [field for field in fields if field[:1] == b"w"], "after a week and a day nothing of it is kept"
