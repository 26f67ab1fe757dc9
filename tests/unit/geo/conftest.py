"""A small world for the engine: people by letter, metres instead of degrees, a log that grows."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, CaseZone, encode_cases
from core.domain.log import CONFIGURATION, PINGS, TICK, Entry
from core.domain.ping import FLAG_POSITION, FLAG_PRIMARY, NO_SEQ, RECORD_FORMAT
from core.domain.transition import Transition
from geo.engine import Engine

LAT, LON = 43.25, 76.95
METRES_A_DEGREE_LAT = 111_100.0
METRES_A_DEGREE_LON = 81_150.0
NAN = float("nan")


def place(east_m: float, north_m: float = 0.0) -> tuple[float, float]:
    """Latitude and longitude of a spot near the middle of Almaty."""
    return LAT + north_m / METRES_A_DEGREE_LAT, LON + east_m / METRES_A_DEGREE_LON


class World:
    """Victim 1 and aggressor 2 with a device each (11 and 12), one order, and whatever a test adds."""

    start_ms = 1_760_000_000_000

    def __init__(self) -> None:
        self.engine = Engine(3)
        self.version = 0
        self.n = 0
        self.now_s = 0.0
        self.log: list[Entry] = []

    def case(self, **changes: Any) -> Case:
        self.version += 1
        device = {"interval_s": changes.pop("interval_s", 60.0), "since_ms": changes.pop("since_ms", 0)}
        people = changes.pop("people", None) or [
            CasePerson(
                number=1,
                id=uuid.UUID(int=1),
                role="victim",
                devices=[CaseDevice(number=11, id=uuid.UUID(int=11), kind="phone", **device)],
            ),
            CasePerson(
                number=2,
                id=uuid.UUID(int=2),
                role="aggressor",
                devices=[CaseDevice(number=12, id=uuid.UUID(int=12), kind="bracelet", **device)],
            ),
        ]
        orders = changes.pop("orders", None)
        if orders is None:
            orders = [self.order(**changes)]
        return Case(number=7, id=uuid.UUID(int=7), agency_id=uuid.UUID(int=9), version=self.version, people=people,
                    orders=orders)  # fmt: skip

    def order(self, **changes: Any) -> CaseOrder:
        values: dict[str, Any] = {
            "number": 5, "id": uuid.UUID(int=5), "victim": 1, "aggressor": 2, "alert_m": 500.0, "warning_m": 1500.0,
        }  # fmt: skip
        return CaseOrder(**(values | changes))

    def zone(self, geometry: dict[str, Any], **changes: Any) -> CaseZone:
        return CaseZone(**({"id": uuid.UUID(int=6), "kind": "exclusion", "geometry": geometry} | changes))

    def at(self, now_s: float) -> int:
        self.now_s = now_s
        return self.start_ms + round(now_s * 1000)

    def add(self, now_s: float, kind: str, payload: bytes) -> list[Transition]:
        self.n += 1
        entry = Entry(self.at(now_s), self.n, kind, payload)
        self.log.append(entry)
        return self.engine.process([entry])

    def configure(self, now_s: float = 0.0, **changes: Any) -> list[Transition]:
        return self.add(now_s, CONFIGURATION, encode_cases([self.case(**changes)]))

    def tick(self, now_s: float, payload: bytes = b"") -> list[Transition]:
        return self.add(now_s, TICK, payload)

    def ticks(self, first_s: int, last_s: int) -> list[Transition]:
        return [each for now_s in range(first_s, last_s + 1) for each in self.tick(now_s)]

    def record(
        self, device: int, east_m: float | None, north_m: float = 0.0, *, now_s: float | None = None,
        at_s: float | None = None, seq: int = NO_SEQ, accuracy_m: float = 10.0, speed_mps: float = 1.0,
        battery_pct: float = NAN, flags: int = FLAG_PRIMARY,
    ) -> bytes:  # fmt: skip
        now_s = self.now_s if now_s is None else now_s
        lat, lon = (NAN, NAN) if east_m is None else place(east_m, north_m)
        if east_m is not None:
            flags |= FLAG_POSITION
        at_ms = self.start_ms + round((now_s if at_s is None else at_s) * 1000)
        return struct.pack(RECORD_FORMAT, device, flags, at_ms, seq, lat, lon, accuracy_m, speed_mps, NAN, NAN,
                           battery_pct, 0)  # fmt: skip

    def ping(
        self, now_s: float, device: int, east_m: float | None, north_m: float = 0.0, **more: Any
    ) -> list[Transition]:
        return self.add(now_s, PINGS, self.record(device, east_m, north_m, now_s=now_s, **more))

    def both(self, now_s: float, distance_m: float, **more: Any) -> list[Transition]:
        return self.ping(now_s, 11, 0.0) + self.ping(now_s, 12, distance_m, **more)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def new_world() -> Callable[[], World]:
    return World
