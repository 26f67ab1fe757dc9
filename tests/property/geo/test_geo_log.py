"""The engine as a function of its log: cuts, restores and other people's records change nothing."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, CaseZone, encode_cases
from core.domain.log import CONFIGURATION, PINGS, TICK, Entry
from core.domain.ping import FLAG_BACKLOG, FLAG_POSITION, FLAG_PRIMARY, RECORD_FORMAT
from core.domain.transition import Transition
from geo import separation
from geo.engine import Engine

START_MS = 1_760_000_000_000
NAN = float("nan")

PLACES = [(43.25, 76.95), (0.0, 179.999), (-33.0, -179.999), (84.5, 20.0), (71.0, 0.0)]
ZONE = {"type": "Point"}


def uid(kind: int, number: int) -> uuid.UUID:
    return uuid.UUID(int=(kind << 64) + number)


def device(number: int, kind: str = "phone") -> CaseDevice:
    return CaseDevice(number=number, id=uid(1, number), kind=kind, interval_s=20.0)


def cases(version: int, random: np.random.Generator, homes: Sequence[tuple[float, float]]) -> list[Case]:
    """Three cases on one shard: a pair, a case of two victims (one with two devices), and his ex in a second case."""
    alert = float(random.choice([200.0, 500.0, 1500.0]))
    active = bool(random.random() < 0.8)
    out = []
    for k, (victims, aggressor) in enumerate([((1,), 2), ((3, 4), 5), ((1,), 5)]):
        people = [
            CasePerson(number=aggressor, id=uid(2, aggressor), role="aggressor", primary=k != 2,
                       devices=[device(10 * aggressor, "bracelet")]),
            *(CasePerson(number=victim, id=uid(2, victim), role="victim", primary=k != 2,
                         devices=[device(10 * victim), *([device(10 * victim + 1)] if victim == 4 else [])])
              for victim in victims),
        ]  # fmt: skip
        lat, lon = homes[k]
        zone = CaseZone(id=uid(4, k), kind="exclusion", geometry={"type": "Point", "coordinates": [lon, lat]},
                        radius_m=300.0, warning_m=200.0)  # fmt: skip
        orders = [
            CaseOrder(number=10 * k + j, id=uid(3, 10 * k + j), victim=victim, aggressor=aggressor, alert_m=alert,
                      warning_m=2 * alert, active=active, valid_until_ms=START_MS + 400_000 if k == 1 else None,
                      zones=[zone] if j == 0 else [])
            for j, victim in enumerate(victims)
        ]  # fmt: skip
        out.append(Case(number=k, id=uid(5, k), agency_id=uid(6, 0), version=version, people=people, orders=orders))
    return out


def make_log(seed: int, length: int) -> list[Entry]:
    """A log of pings by people who wander about each other, ticks, pauses, gaps and changes of configuration."""
    random = np.random.default_rng(seed)
    home = PLACES[int(random.integers(len(PLACES)))]
    homes = [home] * 3
    entries = [Entry(START_MS, 0, CONFIGURATION, encode_cases(cases(1, random, homes)))]
    now_ms, version = START_MS, 1
    spots = {number: random.uniform(-2500, 2500, 2) for number in (10, 20, 30, 40, 41, 50, 99)}
    for n in range(1, length):
        now_ms += int(random.choice([0, 3, 800, 1500, 9000, 40_000], p=[0.15, 0.15, 0.3, 0.25, 0.1, 0.05]))
        draw = random.random()
        if draw < 0.25:
            entries.append(Entry(now_ms, n, TICK, b"paused" if random.random() < 0.05 else b""))
            continue
        if draw < 0.29:
            version += 1
            entries.append(Entry(now_ms, n, CONFIGURATION, encode_cases(cases(version, random, homes))))
            continue
        payload = b""
        for number in random.choice(list(spots), int(random.integers(1, 6))).tolist():
            spots[number] += random.normal(0, 400, 2)
            payload += record(number, spots[number], home, now_ms, random)
        entries.append(Entry(now_ms, n, PINGS, payload))
    return entries


def record(number: int, spot: Any, home: tuple[float, float], now_ms: int, random: np.random.Generator) -> bytes:
    lat = home[0] + spot[1] / 111_000
    lon = home[1] + spot[0] / (111_000 * np.cos(np.radians(home[0])))
    flags = FLAG_PRIMARY | (FLAG_POSITION if random.random() < 0.9 else 0)
    flags |= FLAG_BACKLOG if random.random() < 0.05 else 0
    flags |= int(random.choice([0, 1, 2], p=[0.8, 0.1, 0.1])) << 6
    late = int(random.choice([0, 0, 0, 2000, 100_000, -50_000]))
    return struct.pack(
        RECORD_FORMAT, number, flags, now_ms - late, int(random.integers(-1, 50)), lat, (lon + 180) % 360 - 180,
        float(random.choice([5.0, 30.0, 600.0, NAN])), float(random.choice([0.0, 2.0, 20.0, NAN])), NAN, NAN,
        float(random.choice([3.0, 12.0, 50.0, NAN])), 0,
    )  # fmt: skip


def run(entries: Sequence[Entry], cuts: Sequence[int]) -> list[Transition]:
    engine, out, at = Engine(1), [], 0
    for cut in [*cuts, len(entries)]:
        out += engine.process(entries[at:cut])
        at = cut
    return out


seeds = st.integers(0, 10**9)


@settings(max_examples=12, deadline=None)
@given(seed=seeds, data=st.data())
def test_any_cut_of_a_log_gives_the_same_transitions(seed: int, data: st.DataObject) -> None:
    entries = make_log(seed, 120)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=30)))
    whole = run(entries, [])
    assert run(entries, cuts) == whole
    assert run(entries, range(1, len(entries))) == whole
    assert len({each.id for each in whole}) == len(whole)


@settings(max_examples=12, deadline=None)
@given(seed=seeds, data=st.data())
def test_an_engine_restored_from_what_it_gave_away_continues_as_if_nothing_had_happened(
    seed: int, data: st.DataObject
) -> None:
    entries = make_log(seed, 120)
    whole = run(entries, [])
    stops = sorted(data.draw(st.lists(st.integers(0, len(entries)), min_size=1, max_size=6)))
    fields: dict[bytes, bytes] = {}
    engine, out, at = Engine(1), [], 0
    for stop in [*stops, len(entries)]:
        out += engine.process(entries[at:stop])
        for field, value in engine.take_changes().state.items():
            if value is None:
                fields.pop(field, None)
            else:
                fields[field] = value
        at = stop
        versions, total = engine.case_versions(), engine.records_total
        engine = Engine(1)
        engine.restore(fields)
        assert (engine.case_versions(), engine.records_total) == (versions, total)
    assert out == whole


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_states_follow_each_other_hold_a_minute_and_concern_only_the_orders_people(seed: int) -> None:
    entries = make_log(seed, 250)
    told = run(entries, [])
    state: dict[tuple[str, object], str] = {}
    risen: dict[tuple[str, object], int] = {}
    parties = {order.id: (order.victim, order.aggressor) for case in cases(1, np.random.default_rng(0), PLACES)
               for order in case.orders}  # fmt: skip
    rank = {"clear": 0, "warning": 1, "breach": 2}
    for each in told:
        if each.kind == "device":
            continue
        subject = (each.kind, each.zone_id or each.order_id)
        assert each.from_state == state.get(subject, "clear")
        assert each.from_state != each.to_state
        state[subject] = each.to_state
        assert each.order_id is not None
        assert (each.victim_id, each.aggressor_id) == tuple(uid(2, number) for number in parties[each.order_id])
        if rank[each.to_state] > rank[each.from_state]:
            risen[subject] = each.evaluated_ms
        elif "reason" not in each.detail:
            assert each.evaluated_ms - risen[subject] >= 60_000


@settings(max_examples=200)
@given(
    radius=st.floats(10, 20_000),
    more=st.floats(0, 5_000),
    distance=st.floats(0, 60_000),
    sigma=st.floats(0.5, 20_000),
)
def test_p_within_is_a_probability_that_grows_with_the_radius_and_falls_with_the_distance(
    radius: float, more: float, distance: float, sigma: float
) -> None:
    def p(r: float, d: float) -> float:
        return float(separation.p_within(np.array([r]), np.array([d]), np.array([sigma]))[0])

    tolerance = 3e-4  # where the two branches meet
    assert 0 <= p(radius, distance) <= 1
    assert p(radius + more, distance) >= p(radius, distance) - tolerance
    assert p(radius, distance + more) <= p(radius, distance) + tolerance


@settings(max_examples=10, deadline=None)
@given(
    where=st.sampled_from(PLACES),
    east=st.floats(-3000, 3000),
    north=st.floats(-3000, 3000),
    accuracy=st.floats(3, 800),
)
def test_separation_is_the_same_seen_from_either_side_and_at_any_seam(
    where: tuple[float, float], east: float, north: float, accuracy: float
) -> None:
    random = np.random.default_rng(1)
    told = []
    for near, far in (((0.0, 0.0), (east, north)), ((east, north), (0.0, 0.0))):
        engine = Engine(0)
        case = cases(1, random, [where] * 3)[0]
        order = CaseOrder(number=1, id=uid(3, 1), victim=1, aggressor=2, alert_m=800.0, warning_m=2000.0)
        case = Case(number=0, id=uid(5, 0), agency_id=uid(6, 0), version=1, people=case.people, orders=[order])
        engine.process([Entry(START_MS, 0, CONFIGURATION, encode_cases([case]))])
        payload = b""
        for number, (x, y) in ((10, near), (20, far)):
            lat = where[0] + y / 111_000
            lon = (where[1] + x / (111_000 * np.cos(np.radians(where[0]))) + 180) % 360 - 180
            payload += struct.pack(RECORD_FORMAT, number, FLAG_PRIMARY | FLAG_POSITION, START_MS, 1, lat, lon, accuracy,
                                   1.0, NAN, NAN, NAN, 0)  # fmt: skip
        told.append(engine.process([Entry(START_MS, 1, PINGS, payload)]))
    left, right = told
    assert [(each.kind, each.to_state, each.distance_m, each.p_within) for each in left] == [
        (each.kind, each.to_state, each.distance_m, each.p_within) for each in right
    ]
