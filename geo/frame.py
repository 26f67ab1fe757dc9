"""Degrees to metres. Positions are held as earth-centred vectors, so there is no seam at the date line or a pole.

The straight chord between two points of the WGS84 ellipsoid differs from the geodesic by s²/(24 R²): 3e-6 at 50 km.
Zones are flattened about their centre, true to direction and length from there (1e-5 otherwise, at 50 km).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EQUATOR_M: Final = 6_378_137.0
FLATTENING: Final = 1 / 298.257223563
ECCENTRICITY_2: Final = FLATTENING * (2 - FLATTENING)


def to_vectors(lat: Floats, lon: Floats) -> Floats:
    """Earth-centred, earth-fixed metres of points on the ellipsoid: degrees of shape (n,) → shape (n, 3)."""
    phi = np.radians(lat)
    lam = np.radians(lon)
    sine = np.sin(phi)
    normal = EQUATOR_M / np.sqrt(1 - ECCENTRICITY_2 * sine * sine)
    ring = normal * np.cos(phi)
    out = np.empty((*phi.shape, 3))
    out[..., 0] = ring * np.cos(lam)
    out[..., 1] = ring * np.sin(lam)
    out[..., 2] = normal * ((1 - ECCENTRICITY_2) * sine)
    return out


def to_degrees(vectors: Floats) -> tuple[Floats, Floats]:
    """Latitude and longitude of points on the ellipsoid: shape (…, 3) → two of shape (…)."""
    ring = np.hypot(vectors[..., 0], vectors[..., 1])
    lat = np.degrees(np.arctan2(vectors[..., 2], (1 - ECCENTRICITY_2) * ring))
    lon = np.degrees(np.arctan2(vectors[..., 1], vectors[..., 0]))
    return lat, lon


def tangent_plane(lat: float, lon: float) -> Floats:
    """The plane that touches the ellipsoid at a point: origin, east and north vectors, shape (9,)."""
    phi, lam = np.radians(lat), np.radians(lon)
    origin = to_vectors(np.asarray(lat, dtype=np.float64), np.asarray(lon, dtype=np.float64))
    east = [-np.sin(lam), np.cos(lam), 0.0]
    north = [-np.sin(phi) * np.cos(lam), -np.sin(phi) * np.sin(lam), np.cos(phi)]
    return np.concatenate([origin, east, north])


def flatten(planes: Floats, vectors: Floats) -> Floats:
    """Metres east and north of each plane's origin: planes (n, 9) or (9,), vectors (n, 3) → (n, 2).

    Direction as on the plane, length as the chord: what is far stays far, on the far side of the earth too.
    """
    offset = vectors - planes[..., 0:3]
    out = np.empty((*offset.shape[:-1], 2))
    out[..., 0] = (offset * planes[..., 3:6]).sum(axis=-1)
    out[..., 1] = (offset * planes[..., 6:9]).sum(axis=-1)
    shown = np.hypot(out[..., 0], out[..., 1])
    chord = np.sqrt((offset * offset).sum(axis=-1))
    out *= (chord / np.maximum(shown, 1e-9))[..., None]
    return out
