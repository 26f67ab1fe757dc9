"""The peers' rules do what their descriptions say, no less and no more."""

from __future__ import annotations

import uuid

import numpy as np

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, encode_cases
from core.domain.log import CONFIGURATION, PINGS, Entry
from core.domain.ping import FLAG_POSITION, RECORD
from tests.benchmarks.detection.peers import Listener, Positions, crossing, plain, square, square_once

HERS, HIS = 0, 1
DEGREE_M = 111_195.0
RADIUS_M = 500.0


def positions(*steps: tuple[int, float, float]) -> Positions:
    """(whose, metres east, metres north) on the equator, one a second."""
    side, east, north = (np.asarray(column) for column in zip(*steps, strict=True))
    moments = 1_000 * np.arange(len(steps), dtype=np.int64)
    return Positions(side.astype(np.int64), moments, moments, north / DEGREE_M, east / DEGREE_M)


def test_plain_distance_alarms_once_a_stay_and_again_at_every_flicker() -> None:
    told = plain(
        positions((HERS, 0, 0), (HIS, 900, 0), (HIS, 450, 0), (HIS, 450, 0), (HIS, 550, 0), (HIS, 450, 0)), RADIUS_M
    )
    assert told.raised_ms.tolist() == [2_000, 5_000]
    assert told.cleared_ms.tolist() == [4_000]


def test_plain_distance_sees_her_movement_too() -> None:
    assert plain(positions((HIS, 0, 0), (HERS, 900, 0), (HERS, 300, 0)), RADIUS_M).raised_ms.tolist() == [2_000]


def test_crossing_alarms_when_one_step_crosses_the_line() -> None:
    told = crossing(positions((HERS, 0, 0), (HIS, 900, 0), (HIS, 300, 0), (HIS, 200, 0), (HIS, 800, 0)), RADIUS_M)
    assert told.raised_ms.tolist() == [2_000]
    assert told.cleared_ms.tolist() == [4_000]


def test_crossing_misses_whom_her_own_steps_brought_within() -> None:
    both_move = positions((HERS, 0, 0), (HIS, 1_200, 0), (HERS, 750, 0), (HIS, 1_150, 0), (HIS, 1_100, 0))
    assert crossing(both_move, RADIUS_M).raised_ms.tolist() == []
    assert plain(both_move, RADIUS_M).raised_ms.tolist() == [2_000]


def test_crossing_misses_a_first_position_already_within() -> None:
    assert crossing(positions((HERS, 0, 0), (HIS, 400, 0), (HIS, 390, 0)), RADIUS_M).raised_ms.tolist() == []


def test_the_square_holds_its_corners_and_says_so_with_every_position() -> None:
    corner = positions((HERS, 0, 0), (HIS, 490, 490), (HIS, 480, 480))
    assert square(corner, RADIUS_M).raised_ms.tolist() == [1_000, 2_000]
    assert square_once(corner, RADIUS_M).raised_ms.tolist() == [1_000]
    assert plain(corner, RADIUS_M).raised_ms.tolist() == []


def test_what_is_older_than_the_newest_known_raises_nothing() -> None:
    listener = Listener()
    case = Case(
        number=7,
        id=uuid.UUID(int=7),
        agency_id=uuid.UUID(int=1),
        version=1,
        people=[
            CasePerson(
                number=number,
                id=uuid.UUID(int=number),
                role=role,
                devices=[CaseDevice(number=number, id=uuid.UUID(int=number), kind="phone")],
            )
            for number, role in ((1, "victim"), (2, "aggressor"))
        ],
        orders=[CaseOrder(number=1, id=uuid.UUID(int=9), victim=1, aggressor=2, alert_m=RADIUS_M, warning_m=1_500.0)],
    )
    records = np.zeros(4, RECORD)
    records["device"] = (1, 2, 2, 3)
    records["at_ms"] = (1_000, 9_000, 2_000, 9_000)
    records["lon"] = np.asarray([0, 2_000, 100, 0]) / DEGREE_M
    records["flags"] = FLAG_POSITION
    listener([Entry(0, 0, CONFIGURATION, encode_cases([case]))])
    listener([Entry(9_500 + k, 1, PINGS, records[k : k + 1].tobytes()) for k in range(len(records))])
    heard, alert_m = listener.positions()[7, 0]
    assert alert_m == RADIUS_M
    assert heard.side.tolist() == [HERS, HIS]
    assert plain(heard, alert_m).raised_ms.tolist() == []
