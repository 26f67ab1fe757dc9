"""The filter of fixes, whatever comes: sane rows, no dependence on company, place or order of arrival."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from core.domain.ping import FLAG_POSITION, FLAG_PRIMARY, NO_SEQ, RECORD, SHIFT_MOVING, SHIFT_SOURCE
from geo import fix_filter as filters
from geo.fix_filter import NOTE_ACCEPTED, NOTE_JUMP, NOTE_SUSPECT
from geo.frame import Floats, flatten, tangent_plane, to_degrees
from geo.track import EXACT, LIVE, PLACE, PP, PV, TAKEN, VV, WIDTH, candidates, is_newer

START_MS = 1_760_000_000_000
NAN = float("nan")

spots = st.sampled_from([(43.25, 76.95), (0.0, 180.0), (-33.0, -179.999), (84.5, 20.0), (90.0, 0.0)])
step = st.fixed_dictionaries({
    "after_ms": st.sampled_from([1, 1_000, 5_000, 15_000, 60_000, 400_000, 10**8]),
    "east_m": st.floats(-50_000, 50_000), "north_m": st.floats(-50_000, 50_000),
    "accuracy_m": st.sampled_from([0.1, 5.0, 12.0, 80.0, 900.0, 1e9, NAN, -1.0]),
    "speed_mps": st.sampled_from([0.0, 1.4, 20.0, 5_000.0, NAN, -1.0]),
    "heading_deg": st.sampled_from([0.0, 271.0, NAN]),
    "source": st.integers(0, 3), "moving": st.integers(0, 3),
})  # fmt: skip
steps = st.lists(step, min_size=1, max_size=25)


def records_of(said: list[dict[str, float]], spot: tuple[float, float]) -> NDArray[np.void]:
    """The records of one device, in order."""
    plane = tangent_plane(*spot)
    records = np.zeros(len(said), RECORD)
    at_ms = START_MS
    for record, each in zip(records, said, strict=True):
        at_ms += int(each["after_ms"])
        lat, lon = to_degrees(plane[:3] + each["east_m"] * plane[3:6] + each["north_m"] * plane[6:9])
        record["lat"], record["lon"], record["at_ms"], record["seq"] = lat, lon, at_ms, NO_SEQ
        for name in ("accuracy_m", "speed_mps", "heading_deg"):
            record[name] = each[name]
        flags = FLAG_POSITION | FLAG_PRIMARY | int(each["source"]) << SHIFT_SOURCE | int(each["moving"]) << SHIFT_MOVING
        record["flags"] = flags
    return records


def follow(records: NDArray[np.void]) -> list[tuple[Floats, int]]:
    """The row and the notes after each record."""
    row, out = np.zeros((1, WIDTH)), []
    for k in range(len(records)):
        one = records[k : k + 1]
        fixes, _ = candidates(one, one["at_ms"])
        row, notes = filters.advance(row, fixes, one["heading_deg"])
        out.append((row[0], int(notes[0])))
    return out


@settings(max_examples=60, deadline=None)
@given(said=steps, spot=spots)
def test_a_row_is_always_an_estimate_and_fits_four_bytes_a_column(
    said: list[dict[str, float]], spot: tuple[float, float]
) -> None:
    records = records_of(said, spot)
    for k, (row, notes) in enumerate(follow(records)):
        assert np.isfinite(row).all()
        assert row[PP] > 0
        assert row[VV] > 0
        assert row[PV] >= 0
        assert row[PV] ** 2 <= row[PP] * row[VV] * (1 + 1e-5)
        assert np.array_equal(row[EXACT:], row[EXACT:].astype(np.float32).astype(np.float64))
        assert row[TAKEN] == records["at_ms"][k] >= row[LIVE]
        assert bool(notes & NOTE_ACCEPTED) != bool(notes & NOTE_SUSPECT)
        assert (row[LIVE] == row[TAKEN]) == bool(notes & NOTE_ACCEPTED)
        assert not (notes & NOTE_JUMP and notes & NOTE_SUSPECT)


@settings(max_examples=60, deadline=None)
@given(said=steps, spot=spots)
def test_a_suspect_moves_nothing_and_an_accepted_fix_draws_the_estimate_to_it(
    said: list[dict[str, float]], spot: tuple[float, float]
) -> None:
    records, before = records_of(said, spot), np.zeros(WIDTH)
    fixes, _ = candidates(records, records["at_ms"])
    for k, (row, notes) in enumerate(follow(records)):
        if notes & NOTE_SUSPECT:
            assert np.array_equal(row[PLACE], before[PLACE])
            assert row[PP] == before[PP]
        elif before[LIVE] > 0:
            known = filters.estimate(before[None], records["at_ms"][k : k + 1])[0][0]
            reach = max(np.linalg.norm(before[PLACE] - fixes[k, PLACE]), np.linalg.norm(known - fixes[k, PLACE]))
            assert np.linalg.norm(row[PLACE] - fixes[k, PLACE]) <= reach + 0.01
        before = row


@settings(max_examples=40, deadline=None)
@given(many=st.lists(steps, min_size=2, max_size=12), spot=spots)
def test_a_device_is_followed_the_same_alone_and_in_company(
    many: list[list[dict[str, float]]], spot: tuple[float, float]
) -> None:
    count = min(len(said) for said in many)
    all_records = [records_of(said[:count], spot) for said in many]
    alone = [follow(records) for records in all_records]
    rows = np.zeros((len(many), WIDTH))
    for k in range(count):
        together = np.concatenate([records[k : k + 1] for records in all_records])
        fixes, _ = candidates(together, together["at_ms"])
        rows, notes = filters.advance(rows, fixes, together["heading_deg"])
        for one, row, note in zip(alone, rows, notes.tolist(), strict=True):
            assert np.array_equal(one[k][0], row)
            assert one[k][1] == note


@settings(max_examples=40, deadline=None)
@given(said=steps, ages_s=st.lists(st.floats(0, 1e7), min_size=2, max_size=6))
def test_an_estimate_never_grows_surer_by_itself(said: list[dict[str, float]], ages_s: list[float]) -> None:
    row = follow(records_of(said, (43.25, 76.95)))[-1][0]
    ages_ms = (np.sort(ages_s) * 1000).astype(np.int64)
    rows = np.repeat(row[None], len(ages_ms), axis=0)
    now_ms = int(row[LIVE]) + ages_ms
    places, variances = filters.estimate(rows, now_ms)
    assert np.array_equal(variances, filters.variance(rows, now_ms))
    assert (np.diff(variances) >= -1e-9 * variances[1:]).all()
    assert (variances >= row[PP] * (1 - 1e-12)).all()
    reach = filters.TAU_S * np.linalg.norm(filters.velocity(rows), axis=1)
    assert (np.linalg.norm(places - rows[:, PLACE], axis=1) <= reach + 1e-6).all()


@settings(max_examples=40, deadline=None)
@given(said=steps, late_ms=st.integers(0, 10**9))
def test_nothing_older_than_the_newest_fix_and_no_repeat_is_new(said: list[dict[str, float]], late_ms: int) -> None:
    records = records_of(said, (43.25, 76.95))
    row = follow(records)[-1][0]
    again = records[-1:].copy()
    again["at_ms"] -= late_ms
    now_ms = records["at_ms"][-1:] + 5_000
    fixes, _ = candidates(again, now_ms)
    assert not is_newer(fixes, row[None], now_ms).any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    speed_mps=st.floats(0, 40),
    interval_s=st.sampled_from([1, 5, 15, 60]),
    spot=spots,
)
def test_exact_fixes_of_steady_motion_leave_no_error_beyond_their_own(
    seed: int, speed_mps: float, interval_s: int, spot: tuple[float, float]
) -> None:
    course = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    said = [
        {"after_ms": 1000 * interval_s, "east_m": speed_mps * interval_s * k * np.cos(course),
         "north_m": speed_mps * interval_s * k * np.sin(course), "accuracy_m": 7.5, "speed_mps": NAN,
         "heading_deg": NAN, "source": 1, "moving": 0}
        for k in range(40)
    ]  # fmt: skip
    plane = tangent_plane(*spot)
    for each, (row, _) in list(zip(said, follow(records_of(said, spot)), strict=True))[20:]:
        off = np.linalg.norm(flatten(plane, row[PLACE]) - (each["east_m"], each["north_m"]))
        assert off < max(25.0, 0.1 * speed_mps * interval_s)
