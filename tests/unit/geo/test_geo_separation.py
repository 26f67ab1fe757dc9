"""Distances against the geodesic, probabilities against sampling, and the small rules beside them."""

from __future__ import annotations

import numpy as np
import pytest
from geopy.distance import geodesic

from geo import separation
from geo.frame import flatten, tangent_plane, to_degrees, to_vectors


@pytest.mark.parametrize("lat", [0.0, 43.25, 51.1, -33.0, 71.0, 85.0, 89.9])
@pytest.mark.parametrize("lon", [0.0, 76.95, 179.99, -179.99])
def test_distances_agree_with_the_geodesic_to_a_thousandth_up_to_50_km(lat: float, lon: float) -> None:
    random = np.random.default_rng(1)
    for metres in (10.0, 500.0, 5_000.0, 50_000.0):
        there = geodesic(meters=metres).destination((lat, lon), bearing=float(random.uniform(0, 360)))
        points = to_vectors(np.array([lat, there.latitude]), np.array([lon, there.longitude]))
        assert np.linalg.norm(points[1] - points[0]) == pytest.approx(metres, rel=1e-5)
        flat = flatten(tangent_plane(lat, lon), points[1])
        assert np.hypot(*flat) == pytest.approx(metres, rel=1e-5)


def test_degrees_come_back() -> None:
    lat, lon = np.array([43.25, -89.0, 0.0]), np.array([76.95, -179.5, 180.0])
    assert np.allclose(to_degrees(to_vectors(lat, lon)), (lat, lon), atol=1e-9)


@pytest.mark.parametrize(
    ("radius", "distance", "sigma"), [(500, 480, 60), (500, 700, 300), (500, 0, 600), (500, 510, 10)]
)
def test_p_within_agrees_with_sampling(radius: float, distance: float, sigma: float) -> None:
    random = np.random.default_rng(2)
    drawn = np.hypot(distance + sigma * random.standard_normal(400_000), sigma * random.standard_normal(400_000))
    p = separation.p_within(np.array([radius]), np.array([distance]), np.array([sigma]))
    assert p[0] == pytest.approx(np.mean(drawn <= radius), abs=4e-3)


def test_the_two_branches_of_p_within_meet() -> None:
    radius = 1000.0
    below, above = radius / (separation.FLAT_RATIO - 1e-6), radius / (separation.FLAT_RATIO + 1e-6)
    distance = np.linspace(700, 1300, 200)
    left = separation.p_within(np.array([radius]), distance, np.array([below]))
    right = separation.p_within(np.array([radius]), distance, np.array([above]))
    assert np.abs(left - right).max() < 3e-4


def test_closest_approach_of_a_passing() -> None:
    apart, step = np.array([[1000.0, 100.0, 0.0]]), np.array([[2000.0, 0.0, 0.0]])
    distance, share = separation.closest_approach(apart, step)
    assert distance[0] == pytest.approx(100)
    assert share[0] == pytest.approx(0.5)


def test_attribution_is_by_share_of_the_closing_speed() -> None:
    assert separation.attribution(0.0, 2.0) == "aggressor"
    assert separation.attribution(2.0, 0.1) == "victim"
    assert separation.attribution(1.0, 1.0) == "both"
    assert separation.attribution(-3.0, 1.0) is None
    assert separation.attribution(-1.0, 3.0) == "aggressor"


def test_time_to_zone() -> None:
    assert separation.time_to_zone_s(1500, 500, 10) == 100
    assert separation.time_to_zone_s(400, 500, -1) == 0
    assert separation.time_to_zone_s(1500, 500, 0) is None
