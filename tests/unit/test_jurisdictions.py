"""Whose ground a place is on."""

from __future__ import annotations

import uuid
from typing import Any

from core.domain.jurisdiction import Jurisdictions
from core.domain.sharing import concerned, shared_json

REGION, DISTRICT, FAR = (uuid.UUID(int=number) for number in (1, 2, 3))


def square(lat: float, lon: float, half: float) -> dict[str, Any]:
    ring = [[lon - half, lat - half], [lon + half, lat - half], [lon + half, lat + half], [lon - half, lat + half]]
    return {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}


KNOWN = Jurisdictions(
    [(REGION, square(43, 77, 2)), (DISTRICT, square(43.2, 76.9, 0.1)), (FAR, square(50, 70, 1)), (FAR, {"type": "?"})]
)


def test_a_district_comes_before_its_region() -> None:
    assert KNOWN.holding(43.2, 76.9) == [DISTRICT, REGION]
    assert KNOWN.holding(42, 76) == [REGION]
    assert KNOWN.holding(45, 77) == [REGION], "its edge is its own"
    assert KNOWN.holding(10, 10) == []


def test_the_nearest_is_measured_on_the_ground() -> None:
    assert KNOWN.nearest(43.2, 76.9, frozenset()) in {REGION, DISTRICT}
    assert KNOWN.nearest(43.2, 76.9, frozenset({REGION, DISTRICT})) == FAR
    assert KNOWN.nearest(43.2, 76.9, frozenset({REGION, DISTRICT, FAR})) is None
    # At 60 degrees north a degree of longitude is half one of latitude.
    north = Jurisdictions([(REGION, square(60, 3, 0.5)), (DISTRICT, square(62.1, 0, 0.5))])
    assert north.nearest(60, 0, frozenset()) == REGION


def test_none_is_no_jurisdiction() -> None:
    assert Jurisdictions([]).holding(43, 77) == []
    assert Jurisdictions([]).nearest(43, 77, frozenset()) is None


def test_another_agency_is_told_of_no_person_and_no_place() -> None:
    incident = {
        "id": "i", "agency_id": str(REGION), "jurisdiction_agency_id": str(DISTRICT), "type": "panic",
        "severity": "critical", "state": "open", "opened_at": "t", "exercise": False, "do_not_call": True,
        "victim_id": "v", "aggressor_id": "a", "order_id": "o", "case_id": "c", "place": {"lat": 1, "lon": 2},
        "detail": {"shared_with": [str(FAR), str(REGION)]},
    }  # fmt: skip
    assert concerned(REGION, incident) == [DISTRICT, FAR]
    assert set(shared_json(incident)) == {
        "id", "agency_id", "type", "severity", "state", "opened_at", "exercise", "do_not_call",
    }  # fmt: skip
