"""Where scripted approaches are played: places, random numbers, devices, and what is expected of a script."""

from __future__ import annotations

import math
import uuid
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from core.domain.case import CaseZone
from geo.zones import validate_geometry
from tests.benchmarks.detection.noise import NOISES
from tests.benchmarks.detection.pairs import ZONE_ID, Change, Device, Pair, Person, Window
from tests.benchmarks.detection.paths import Place, Spot, Way, turned

ALMATY: Final = Place(43.25, 76.95)
PLACES: Final = (
    Place(-16.78, 179.9995),  # Taveuni, across ±180°
    Place(64.73, 177.51),  # Anadyr
    Place(69.65, 18.96),  # Tromsø
    Place(65.01, 25.47),  # Oulu
    Place(-33.87, 151.21),  # Sydney
    Place(0.35, 32.58),  # Kampala
    Place(51.13, 71.43),  # Astana
    Place(-54.80, -68.30),  # Ushuaia
)
SETTLE_S: Final = 300.0
"""Before anything happens, so that both are known to be apart."""
WALK: Final = 1.4
NIJ_S: Final = 240.0
"""NIJ 1004.00: the agency is told within four minutes."""

BREACH: Final = frozenset({"breach"})
UNSEEN: Final = frozenset({"breach", "approach", "unknown", "silence", "tamper"})
"""Alarms that bring a dispatcher to a pair whose distance can no longer be seen."""
TAMPER: Final = frozenset({"breach", "approach", "unknown", "tamper"})
"""The same where somebody has meddled with the device: silence is not the matter, and a `jump` or `frozen` of low
severity, for the operations queue, is not enough."""


@dataclass(frozen=True)
class Expected:
    """What an order of a script is to bring.

    `aim`: `alarm`  one of `accept` in time, and not before its `early_m`;
           `quiet`  nobody ever comes within: no breach, and at most `incidents_max` incidents;
           `zone`   as alarm, of a zone; the truth is `entry_s`;
           `past`   a retrospective breach after `from_s`.
    """

    aim: str = "alarm"
    order: int = 0
    accept: frozenset[str] = BREACH
    entry_s: float | None = None
    """True entry where it is not the first second within the alert radius."""
    allowed_s: float = NIJ_S
    """Full success: no later than so long after the entry."""
    from_s: float = 0.0
    """Alarms before do not count."""
    early_m: float = 250.0
    """Full success: at a breach told before the entry he is at most this far outside."""
    incidents_max: int = 1
    """Full success: no more incidents of proximity (or zone)."""
    warned: bool = False
    """Full success of a quiet script: a warning at least."""
    held: tuple[float, float] | None = None
    """Between these moments the breach, once told, does not end."""
    also: frozenset[str] = frozenset()
    also_s: tuple[float, float] = (0.0, math.inf)
    """And one of these alarms between these moments."""


@dataclass(frozen=True)
class Plan:
    """A pair and what is expected of it."""

    pair: Pair
    expected: tuple[Expected, ...]
    moving: bool
    """Whether it is a moving approach, which a warning can precede."""


@dataclass
class Scene:
    """Where and with what a script is played; its random numbers do not depend on the noise."""

    name: str
    seed: int
    noise: str
    random: np.random.Generator = field(init=False)
    place: Place = field(init=False)
    angle_rad: float = field(init=False)

    def __post_init__(self) -> None:
        number = zlib.crc32(self.name.encode())
        self.random = np.random.default_rng([self.seed, number])
        nth = self.seed // 2  # seeds go by parity to one half or the other: both get every variant
        away = nth % 5 >= 3
        self.place = PLACES[nth // 5 % len(PLACES)] if away else ALMATY
        self.angle_rad = float(self.random.uniform(0, 2 * math.pi))

    @property
    def gives_speed(self) -> bool:
        """Whether this seed's devices say how fast they are."""
        return self.seed // 2 % 2 == 0

    @property
    def tells_motion(self) -> bool:
        """Whether they say that they move or rest: one seed in four leaves both out."""
        return self.seed // 2 % 4 != 1

    def about(self, value: float, share: float = 0.15) -> float:
        """A value that varies with the seed by so great a share."""
        return float(value * self.random.uniform(1 - share, 1 + share))

    def device(self, kind: str, *windows: Window, **more: Any) -> Device:
        spun = tuple(
            Window(w.from_s, w.to_s, w.what, self.spin(w.value)) if w.what in ("shift", "at", "stray") else w
            for w in windows
        )
        if "path" in more:
            more["path"] = more["path"].turned(self.angle_rad)
        return Device(kind, **(self._own() | {"windows": spun} | more))

    def _own(self) -> dict[str, Any]:
        return {"noise": self.noise, "gives_speed": self.gives_speed, "tells_motion": self.tells_motion}

    def spin(self, spot: Spot) -> Spot:
        """A spot as it lies after the scene is turned."""
        east, north = turned(np.float64(spot[0]), np.float64(spot[1]), self.angle_rad)  # type: ignore[arg-type]
        return float(east), float(north)

    def degrees(self, spot: Spot) -> list[float]:
        """Longitude and latitude, as GeoJSON has them."""
        lat, lon = self.place.degrees(*self.spin(spot))
        return [lon, lat]

    def zone(self, kind: str, spots: list[Spot], radius_m: float | None = None) -> CaseZone:
        """A circle about one spot, or a polygon."""
        if radius_m is not None:
            geometry: dict[str, Any] = {"type": "Point", "coordinates": self.degrees(spots[0])}
        else:
            ring = [self.degrees(spot) for spot in [*spots, spots[0]]]
            geometry = {"type": "Polygon", "coordinates": [ring]}
        zone_id = uuid.UUID(int=ZONE_ID + zlib.crc32(repr(self.key).encode()))
        return CaseZone(id=zone_id, kind=kind, geometry=validate_geometry(geometry, radius_m), radius_m=radius_m)

    def plan(
        self,
        victim: Way,
        aggressor: Way,
        *expected: Expected,
        hers: tuple[Device, ...] | None = None,
        his: tuple[Device, ...] | None = None,
        order: dict[str, Any] | None = None,
        changes: tuple[Change, ...] = (),
        begins_s: float = 0.0,
        moving: bool = True,
        lasts_s: float | None = None,
    ) -> Plan:
        """One victim, one aggressor."""
        hers = hers or (self.device("phone"),)
        his = his or (self.device("bracelet"),)
        people = (
            Person("victim", victim.path().turned(self.angle_rad), hers),
            Person("aggressor", aggressor.path().turned(self.angle_rad), his),
        )
        duration = math.ceil(lasts_s or max(victim.now_s, aggressor.now_s))
        pair = Pair(
            place=self.place,
            people=people,
            orders=({"victim": 0, "aggressor": 1} | (order or {}),),
            duration_s=duration,
            key=self.key,
            changes=changes,
            begins_s=begins_s,
        )
        return Plan(pair, expected or (Expected(),), moving)

    @property
    def key(self) -> tuple[int, ...]:
        """What its devices' random numbers grow from."""
        return self.seed, zlib.crc32(self.name.encode()), NOISES.index(self.noise)


Script = Callable[[Scene], Plan]
SCRIPTS: Final[dict[str, Script]] = {}


def script(make: Script) -> Script:
    """Enter a script under its name."""
    SCRIPTS[make.__name__] = make
    return make


def home(lasts_s: float = 3_600.0) -> Way:
    """She is at one spot."""
    return Way(0, 0).wait(lasts_s)


def comes(s: Scene, from_m: float, speed_mps: float, to_m: float = 40.0, stays_s: float = 600.0) -> Way:
    """He stands apart, then comes straight to her and stays."""
    return Way(s.about(from_m), 0).wait(s.about(SETTLE_S)).to(to_m, 0, s.about(speed_mps)).wait(stays_s)


def alone(s: Scene, way: Way, *expected: Expected, **more: Any) -> Plan:
    """She is at home for as long as his way lasts."""
    return s.plan(home(way.now_s), way, *expected, **more)


def plans(name: str, seed: int, noise: str) -> Plan:
    """A script played once."""
    return SCRIPTS[name](Scene(name, seed, noise))
