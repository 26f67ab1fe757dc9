"""Who sees what of where somebody is; that coarse places never grow exact."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from core.domain import sight
from core.domain.incident import FAMILY_OF_TYPE, TYPES
from core.domain.sight import Coarse, Sight

HOME = (43.238517, 76.945629)
HIS = (43.2411113, 76.9512227)
ROLES = ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")


def incident(kind: str, state: str = "open", **more: Any) -> dict[str, Any]:
    place = {"lat": HOME[0], "lon": HOME[1], "accuracy_m": 8.0, "at": "2026-05-01T12:00:00Z"}
    his = {**place, "lat": HIS[0], "lon": HIS[1]}
    detail = {"aggressor_place": his, "lat": HOME[0], "other_places": [place], "seen": "at_rest"}
    return {
        "id": "i", "type": kind, "family": FAMILY_OF_TYPE[kind], "state": state, "victim_id": "her",
        "aggressor_id": "him", "place": place, "distance_m": 534.7, "p_within": 0.4, "closing_mps": 1.1,
        "time_to_zone_s": 31.0, "detail": detail, **more,
    }  # fmt: skip


def seen(role: str, one: dict[str, Any], looked: frozenset[str] = frozenset()) -> dict[str, Any]:
    return sight.incident_seen(one, *sight.sights_now(role, one, looked), Coarse())


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("state", ["open", "dispatched", "resolved"])
def test_only_an_open_panic_breach_or_approach_unlocks_her_and_only_to_who_sends_help(
    kind: str, role: str, state: str
) -> None:
    shown = seen(role, incident(kind, state))
    unlocked = kind in {"panic", "proximity", "approach"} and state != "resolved" and role in sight.EXACT_ROLES
    text = json.dumps(shown)
    assert (str(HOME[0]) in text) is unlocked
    assert (str(HOME[1]) in text) is unlocked
    assert (str(HIS[0]) in text) is (role in sight.EXACT_ROLES and state != "resolved")
    if role in {"caseworker", "auditor"}:
        assert shown["place"] is None
        assert "aggressor_place" not in shown["detail"]
    else:
        assert shown["place"]["precision"] == ("exact" if unlocked else "coarse")
        assert ("cell" in shown["place"]) is not unlocked


@pytest.mark.parametrize("role", ["dispatcher", "supervisor"])
def test_a_reasoned_look_shows_who_was_looked_at_and_nobody_else(role: str) -> None:
    shown = seen(role, incident("battery"), frozenset({"her"}))
    assert shown["place"]["lat"] == HOME[0]
    assert "lat" not in (seen(role, incident("battery"), frozenset({"him"}))["place"])
    assert "lat" not in seen("officer", incident("battery"), frozenset({"her"}))["place"], "whatever was noted"


@pytest.mark.parametrize("kind", ["silence", "battery", "tamper", "jamming", "separation_unknown", "jump", "frozen"])
def test_beside_a_coarse_place_of_hers_no_figure_makes_circles_around_him(kind: str) -> None:
    shown = seen("dispatcher", incident(kind))
    assert (shown["p_within"], shown["closing_mps"], shown["time_to_zone_s"]) == (None, None, None)
    middle = sight.middle_of(shown["place"]["cell"])
    assert shown["distance_m"] == round(sight.apart_m(middle, HIS) / 100) * 100, "of what is shown anyhow"
    lines = [{"data": {"distance_m": 534.7, "lat": HOME[0], "lon": HOME[1], "differs": "x", "what": "opened"}}]
    her, him = sight.sights_now("dispatcher", incident(kind), frozenset())
    assert sight.lines_seen(lines, incident(kind), her, him) == [{"data": {"what": "opened"}}]


def test_reading_a_place_at_a_cell_s_corner_again_and_again_says_no_more_than_once() -> None:
    rng = random.Random(7)
    box = sight.box_of(sight.cell_of(*HOME))
    corner = (box["north"], box["east"])
    coarse = Coarse()
    cells = {
        coarse.cell("her", corner[0] + rng.gauss(0, 60) / 111_195, corner[1] + rng.gauss(0, 60) / 81_000)
        for _ in range(2_000)
    }
    assert len(cells) == 1
    assert len(coarse.fresh) == 1
    remembered = Coarse({"her": [cell for _, cell in coarse.fresh]})
    assert remembered.cell("her", *corner) in cells, "another process shows the same"
    assert remembered.cell("him", *corner) == sight.cell_of(*corner), "his places are his own"


@pytest.mark.parametrize("seed", range(20))
def test_a_cell_holds_its_place_and_is_about_two_kilometres(seed: int) -> None:
    rng = random.Random(seed)
    lat, lon = rng.uniform(-70, 70), rng.uniform(-179, 179)
    box = sight.box_of(sight.cell_of(lat, lon))
    assert box["south"] - 1e-5 <= lat <= box["north"] + 1e-5
    assert box["west"] - 1e-5 <= lon <= box["east"] + 1e-5
    height = sight.apart_m((box["south"], box["west"]), (box["north"], box["west"]))
    width = sight.apart_m((lat, box["west"]), (lat, box["east"]))
    assert 1_990 < height < 2_010
    assert 1_990 < width < 2_010


def test_an_outage_tells_of_pairs_to_the_kilometre_and_the_minute() -> None:
    pair = {"order_id": "o", "distance_m": 3_456, "time_to_reach_s": 197.1, "state": "clear"}
    shown = seen("dispatcher", incident("outage", detail={"pairs": [pair, {**pair, "distance_m": None}]}))
    assert [one["distance_m"] for one in shown["detail"]["pairs"]] == [3_000, None]
    assert shown["detail"]["pairs"][0]["time_to_reach_s"] == 180


def test_without_what_is_known_of_cells_nothing_coarse_is_shown() -> None:
    one = incident("silence")
    assert sight.incident_seen(one, Sight.COARSE, Sight.COARSE, None)["place"] is None
