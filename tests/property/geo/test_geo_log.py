"""The engine as a function of its log: cuts, restores and other people's records change nothing."""

from __future__ import annotations

import dataclasses
import struct
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from core.clock import to_ms
from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, CaseZone, decode_cases, encode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.ping import (
    FLAG_BACKLOG,
    FLAG_EXTRA,
    FLAG_POSITION,
    FLAG_PRIMARY,
    RECORD_BYTES,
    RECORD_FORMAT,
    SHIFT_JAMMING,
    SHIFT_MOCK,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    SHIFT_STRAP,
)
from core.domain.transition import KINDS, Transition
from geo import separation
from geo.annals import Annals
from geo.engine import Engine

START_MS = 1_760_000_000_000
NAN = float("nan")

PLACES = [(43.25, 76.95), (0.0, 179.999), (-33.0, -179.999), (84.5, 20.0), (71.0, 0.0)]


def uid(kind: int, number: int) -> uuid.UUID:
    return uuid.UUID(int=(kind << 64) + number)


def device(number: int, kind: str = "phone") -> CaseDevice:
    return CaseDevice(number=number, id=uid(1, number), kind=kind, interval_s=20.0)


def zones(k: int, home: tuple[float, float]) -> list[CaseZone]:
    """A circle he may not enter, by daily hours, and a wide one he may not leave."""
    lat, lon = home
    point = {"type": "Point", "coordinates": [lon, lat]}
    hours = [{"days": [1, 2, 3, 4, 5, 6, 7], "from": "00:00", "to": "14:05"}]  # it ends within the log
    return [
        CaseZone(id=uid(4, k), kind="exclusion", geometry=point, radius_m=300.0, warning_m=200.0, schedule=hours),
        CaseZone(id=uid(4, 10 + k), kind="inclusion", geometry=point, radius_m=2_500.0, warning_m=200.0),
    ]


def cases(version: int, random: np.random.Generator, homes: Sequence[tuple[float, float]]) -> list[Case]:
    """Three cases on one shard: a pair, a case of two victims (one with two devices), and his ex in a second case."""
    alert = float(random.choice([200.0, 500.0, 1500.0]))
    active = bool(random.random() < 0.8)
    p_enter = float(random.choice([0.5, 0.3]))
    grace_s = float(random.choice([0.0, 120.0, 300.0]))
    out = []
    for k, (victims, aggressor) in enumerate([((1,), 2), ((3, 4), 5), ((1,), 5)]):
        people = [
            CasePerson(number=aggressor, id=uid(2, aggressor), role="aggressor", primary=k != 2,
                       devices=[device(10 * aggressor, "bracelet")]),
            *(CasePerson(number=victim, id=uid(2, victim), role="victim", primary=k != 2,
                         devices=[device(10 * victim), *([device(10 * victim + 1)] if victim == 4 else [])])
              for victim in victims),
        ]  # fmt: skip
        orders = [
            CaseOrder(number=10 * k + j, id=uid(3, 10 * k + j), victim=victim, aggressor=aggressor, alert_m=alert,
                      warning_m=2 * alert, legal_m=alert / 2, p_enter=p_enter, grace_s=grace_s, active=active,
                      valid_until_ms=START_MS + 900_000 if k == 1 else None,
                      zones=zones(k, homes[k]) if j == 0 else [])
            for j, victim in enumerate(victims)
        ]  # fmt: skip
        out.append(Case(number=k, id=uid(5, k), agency_id=uid(6, 0), version=version, people=people, orders=orders))
    return out


def make_log(seed: int, length: int) -> list[Entry]:
    """A log of pings by people who wander about each other, drop out of reach and upload what they kept; of ticks,
    pauses, gaps, changes of configuration, and answers of history to what the engine wanted."""
    random = np.random.default_rng(seed)
    home = PLACES[int(random.integers(len(PLACES)))]
    homes = [home] * 3
    annals, engine = Annals(), Engine(1)
    entries: list[Entry] = []

    def add(kind: str, payload: bytes, extras: bytes | None = None) -> None:
        entries.append(Entry(now_ms, len(entries), kind, payload, extras))
        annals.add(entries[-1])
        engine.process(entries[-1:])

    now_ms, version = START_MS, 1
    add(CONFIGURATION, encode_cases(cases(1, random, homes)))
    spots = {number: random.uniform(-2500, 2500, 2) for number in (10, 20, 30, 40, 41, 50, 99)}
    ways = {number: random.normal(0, 5, 2) for number in spots}
    spots[20], ways[20] = spots[10] + (2_000.0, 0.0), np.asarray([-5.0, 0.0])  # he is on his way to her
    ways[10] = np.zeros(2)
    kept: dict[int, bytes] = {}
    steps = [0, 3, 800, 1500, 9000, 40_000]
    while len(entries) < length:
        step_ms = int(random.choice(steps, p=[0.1, 0.1, 0.2, 0.25, 0.25, 0.1]))
        now_ms += step_ms
        for number, spot in spots.items():
            if random.random() < 0.04 and now_ms > START_MS + 300_000:
                ways[number] = random.choice([0.0, 1.0, 4.0]) * random.normal(0, 4, 2)
            spots[number] = np.clip(spot + ways[number] * step_ms / 1000, -3_000, 3_000)
        if 0.35 < (share := len(entries) / length) < 0.65:  # unseen, he comes to her and goes
            kept.setdefault(20, b"")
            target = spots[10] if share < 0.5 else np.asarray([3_000.0, 3_000.0])
            ways[20] = 35.0 * (target - spots[20]) / max(100.0, float(np.hypot(*(target - spots[20]))))
        draw, answer = random.random(), random.random() < 0.6
        if draw < 0.25:
            add(TICK, b"paused" if random.random() < 0.05 else b"")
            wants = engine.wants(100)
            if wants and answer:
                add(PAST, annals.answer(wants))
            continue
        if draw < 0.29:
            version += 1
            add(CONFIGURATION, encode_cases(cases(version, random, homes)))
            continue
        payload, heard = b"", {}
        for number in random.choice(list(spots), int(random.integers(1, 6))).tolist():
            spot, speed_mps = spots[number] + random.normal(0, 10, 2), float(np.hypot(*ways[number]))
            one = record(number, spot, speed_mps, home, now_ms, random)
            if random.random() < 0.02:
                kept.setdefault(number, b"")  # out of reach from here on
            if number in kept:
                kept[number] += with_flags(one, FLAG_BACKLOG)
                if share < 0.65 if number == 20 else random.random() < 0.85:
                    continue
                payload += kept.pop(number)[:-RECORD_BYTES]
            if random.random() < 0.03:
                heard[str(len(payload) // RECORD_BYTES)] = {"heard": [{"beacon": 20}, {"beacon": 50}]}
                one = with_flags(one, FLAG_EXTRA)
            payload += one
        add(PINGS, payload, msgspec.json.encode(heard) if heard else None)
    return entries


def with_flags(one: bytes, flags: int) -> bytes:
    """A record with further flags."""
    number, own = struct.unpack_from("<II", one)
    return struct.pack("<II", number, own | flags) + one[8:]


def record(
    number: int, spot: Any, speed_mps: float, home: tuple[float, float], now_ms: int, random: np.random.Generator
) -> bytes:
    lat = home[0] + spot[1] / 111_000
    lon = home[1] + spot[0] / (111_000 * np.cos(np.radians(home[0])))
    flags = FLAG_PRIMARY | (FLAG_POSITION if random.random() < 0.9 else 0)
    flags |= FLAG_BACKLOG if random.random() < 0.05 else 0
    flags |= int(random.choice([0, 1, 2, 3], p=[0.2, 0.6, 0.1, 0.1])) << SHIFT_SOURCE
    flags |= int(random.choice([0, 1, 2], p=[0.96, 0.02, 0.02])) << SHIFT_STRAP
    flags |= int(random.choice([0, 1, 2], p=[0.9, 0.05, 0.05])) << SHIFT_MOVING
    flags |= int(random.choice([0, 1, 2], p=[0.96, 0.02, 0.02])) << SHIFT_JAMMING
    flags |= int(random.choice([0, 1, 2], p=[0.96, 0.02, 0.02])) << SHIFT_MOCK
    if random.random() < 0.02:
        lat += 1.0  # a jump
    late = int(random.choice([0, 2000, 100_000, 250_000, -50_000], p=[0.8, 0.08, 0.04, 0.04, 0.04]))
    return struct.pack(
        RECORD_FORMAT, number, flags, now_ms - late, int(random.integers(-1, 50)), lat, (lon + 180) % 360 - 180,
        float(random.choice([5.0, 30.0, 600.0, NAN], p=[0.7, 0.2, 0.05, 0.05])),
        float(random.choice([speed_mps, NAN, 20.0], p=[0.5, 0.45, 0.05])), NAN, NAN,
        float(random.choice([3.0, 12.0, 50.0, NAN])), 0,
    )  # fmt: skip


def run(entries: Sequence[Entry], cuts: Sequence[int]) -> list[Transition]:
    engine, out, at = Engine(1), [], 0
    for cut in [*cuts, len(entries)]:
        out += engine.process(entries[at:cut])
        at = cut
    return out


seeds = st.integers(0, 10**9)
quickly = settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.generate))
"""A log costs seconds, and a smaller seed is no simpler log."""


@quickly
@given(seed=seeds, data=st.data())
def test_any_cut_of_a_log_gives_the_same_transitions(seed: int, data: st.DataObject) -> None:
    entries = make_log(seed, 100)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(entries)), max_size=30)))
    whole = run(entries, [])
    assert run(entries, cuts) == whole
    assert run(entries, range(1, len(entries))) == whole
    assert len({each.id for each in whole}) == len(whole)


@quickly
@given(seed=seeds, data=st.data())
def test_an_engine_restored_from_what_it_gave_away_continues_as_if_nothing_had_happened(
    seed: int, data: st.DataObject
) -> None:
    entries = make_log(seed, 100)
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


def test_the_logs_of_these_tests_tell_of_everything_there_is() -> None:
    told = [each for seed in range(6) for each in run(make_log(seed, 200), [])]
    assert {each.kind for each in told} == set(KINDS)
    assert {each.kind for each in told if each.retrospective} >= {"proximity", "zone"}
    assert {"strap", "battery", "jamming", "mock", "jump"} <= {each.detail.get("signal") for each in told}


@quickly
@given(seed=seeds)
def test_it_makes_no_difference_which_cases_share_a_shard(seed: int) -> None:
    """Any number of shards and workers: what is decided of a case is what is decided of it alone."""
    entries = make_log(seed, 100)
    together = run(entries, [])
    for k in range(3):
        alone = [each if each.kind != CONFIGURATION else only_case(each, k) for each in entries]
        assert [nameless(each) for each in run(alone, [])] == [
            nameless(each) for each in together if each.case_id == uid(5, k)
        ]


def only_case(entry: Entry, k: int) -> Entry:
    """A configuration with the k-th of its cases alone."""
    return dataclasses.replace(entry, payload=encode_cases(decode_cases(entry.payload)[k : k + 1]))


def nameless(transition: Transition) -> Transition:
    """But for its id, which tells where in an entry its cause stood."""
    return msgspec.structs.replace(transition, id=uid(0, 0))


@quickly
@given(seed=seeds)
def test_states_follow_each_other_hold_a_minute_and_concern_only_the_orders_people(seed: int) -> None:
    entries = make_log(seed, 200)
    told = run(entries, [])
    state: dict[tuple[str, object], str] = {}
    risen: dict[tuple[str, object], int] = {}
    parties = {order.id: (order.victim, order.aggressor) for case in cases(1, np.random.default_rng(0), PLACES)
               for order in case.orders}  # fmt: skip
    rank = {"clear": 0, "warning": 1, "breach": 2}
    first = {"proximity": "clear", "zone": "clear", "approach": "none"}
    for each in told:
        if each.kind not in first:
            continue
        subject = (each.kind, each.zone_id or each.order_id)
        assert each.order_id is not None
        assert (each.victim_id, each.aggressor_id) == tuple(uid(2, number) for number in parties[each.order_id])
        if each.retrospective:
            assert (each.from_state, each.to_state) == ("clear", "breach")
            continue
        assert each.from_state == state.get(subject, first[each.kind])
        assert each.from_state != each.to_state
        state[subject] = each.to_state
        if each.kind == "approach":
            continue
        if rank[each.to_state] > rank[each.from_state]:
            risen[subject] = each.evaluated_ms
        elif "reason" not in each.detail:
            assert each.evaluated_ms - risen[subject] >= 60_000


@quickly
@given(seed=seeds)
def test_what_is_told_afterwards_was_not_told_before(seed: int) -> None:
    stays: dict[object, list[list[int]]] = {}
    for each in run(make_log(seed, 200), []):
        if each.kind not in ("proximity", "zone"):
            continue
        known = stays.setdefault(each.zone_id or each.order_id, [])
        if each.retrospective:
            since, until = each.at_ms, to_ms(datetime.fromisoformat(each.detail["until"]))
            assert since <= until <= each.evaluated_ms
            assert all(since > end or until < begin for begin, end in known)
            known.append([since, until])
        elif each.to_state == "breach":
            known.append([each.at_ms, each.evaluated_ms + 10**9])
        elif each.from_state == "breach":
            known[-1 if len(known) == 1 else max(range(len(known)), key=lambda k: known[k][1])][1] = each.at_ms


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
