"""What an incident's fixes and decisions show: its window, silences, distances, stays. Pure functions over values.

Distances here are computed from the raw fixes alone, so that anyone can repeat them with a ruler; what the engine
decided, and by which figures, stands in its transitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

from core.clock import from_ms, rfc3339, to_ms
from core.domain.ping import (
    CLOSED,
    DEFAULT_ACCURACY_M,
    NO,
    OPEN,
    SHIFT_CASING,
    SHIFT_CHARGING,
    SHIFT_JAMMING,
    SHIFT_MOCK,
    SHIFT_MOVING,
    SHIFT_SOURCE,
    SHIFT_STRAP,
    TWO_BITS,
    YES,
)

MARGIN: Final = timedelta(minutes=60)
"""How much before and after an incident belongs to it."""
QUIET_AFTER: Final = timedelta(hours=24)
"""An incident that nobody closed is over, for evidence, so long after its last decision."""
WINDOW_MAX: Final = timedelta(days=7)
GAP_LEAST_MS: Final = 120_000
"""A shorter stretch without fixes is none that is stated."""
GAP_INTERVALS: Final = 3
PAIR_AGE_MS: Final = 300_000
"""Fixes of the two further apart in time make no distance."""
SIGMA_OF_ACCURACY: Final = 1.51
"""A 68 % radius of a round normal error is so many standard deviations of one axis."""
WALK_MPS: Final = 1.5
"""How fast a person whose fix is old may have gone meanwhile."""
EARTH_M: Final = 6_371_008.8
SOURCES: Final = ("unknown", "gps", "wifi", "cell")


@dataclass(frozen=True, slots=True)
class Window:
    """The stretch of time that evidence is about."""

    since: datetime
    until: datetime
    cut: bool
    """Whether the incident lasted longer than a window may."""

    @property
    def since_ms(self) -> int:
        """Its start, ms."""
        return to_ms(self.since)

    @property
    def until_ms(self) -> int:
        """Its end, ms."""
        return to_ms(self.until)


@dataclass(frozen=True, slots=True)
class Fix:
    """One report of a device as it came, unaltered; None: it did not say."""

    party: str
    """victim | aggressor"""
    device: int
    live_ms: int
    """min(at, received)"""
    at_ms: int
    received_ms: int
    seq: int | None
    flags: int
    """The record's 32 bits (core.domain.ping)."""
    lat: float | None
    lon: float | None
    accuracy_m: float | None
    speed_mps: float | None
    heading_deg: float | None
    altitude_m: float | None
    battery_pct: float | None
    place: tuple[int, int] | None = None
    """(number of its log entry within the millisecond, index in it)."""
    heard: list[dict[str, Any]] | None = None

    def two_bits(self, shift: int) -> int:
        """One of the flags' two-bit fields."""
        return self.flags >> shift & TWO_BITS

    @property
    def source(self) -> str:
        """gps | wifi | cell | unknown"""
        return SOURCES[self.two_bits(SHIFT_SOURCE)]

    @property
    def radius_m(self) -> float:
        """The 68 % radius it is counted with: its own, else what its source usually has."""
        if self.accuracy_m is not None and self.accuracy_m > 0:
            return self.accuracy_m
        return DEFAULT_ACCURACY_M[self.two_bits(SHIFT_SOURCE)]

    def as_json(self, device_ids: Mapping[int, str]) -> dict[str, Any]:
        """As a bundle tells it; `device_ids` by number."""
        said: dict[str, Any] = {
            "device_id": device_ids.get(self.device),
            "at": rfc3339(from_ms(self.at_ms)),
            "received_at": rfc3339(from_ms(self.received_ms)),
            "seq": self.seq,
            "lat": self.lat,
            "lon": self.lon,
            "accuracy_m": self.accuracy_m,
            "speed_mps": self.speed_mps,
            "heading_deg": self.heading_deg,
            "altitude_m": self.altitude_m,
            "battery_pct": self.battery_pct,
            "source": self.source if self.two_bits(SHIFT_SOURCE) else None,
            "strap": _CLOSURE.get(self.two_bits(SHIFT_STRAP)),
            "casing": _CLOSURE.get(self.two_bits(SHIFT_CASING)),
        }
        for name, shift in _TRUTHS.items():
            said[name] = _TRUTH.get(self.two_bits(shift))
        said["heard"] = self.heard
        said["log"] = None if self.place is None else f"{self.received_ms}-{self.place[0]}/{self.place[1]}"
        return {name: value for name, value in said.items() if value is not None}


_CLOSURE: Final = {CLOSED: "closed", OPEN: "open"}
_TRUTH: Final = {NO: False, YES: True}
_TRUTHS: Final = {
    "charging": SHIFT_CHARGING,
    "moving": SHIFT_MOVING,
    "jamming": SHIFT_JAMMING,
    "mock": SHIFT_MOCK,
}


def window_of(
    occurred_at: datetime, opened_at: datetime, resolved_at: datetime | None, decided_at: datetime | None, now: datetime
) -> Window:
    """The window of an incident whose last decision was at `decided_at`: an hour before it to an hour after its end."""
    quiet = max(opened_at, decided_at or opened_at) + QUIET_AFTER
    ended = min(resolved_at or now, quiet)
    since = min(occurred_at, opened_at) - MARGIN
    until = max(ended, opened_at) + MARGIN
    if until - since > WINDOW_MAX:
        return Window(since, since + WINDOW_MAX, True)
    return Window(since, until, ended < (resolved_at or now))


def distance_m(a: Fix, b: Fix) -> float:
    """Great-circle distance of two fixes that have positions (haversine, mean radius of the Earth)."""
    assert a.lat is not None
    assert a.lon is not None
    assert b.lat is not None
    assert b.lon is not None
    return metres_between(a.lat, a.lon, b.lat, b.lon)


def metres_between(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance of two places in degrees (haversine)."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half = math.sin((phi2 - phi1) / 2) ** 2 + (
        math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_M * math.asin(min(1.0, math.sqrt(half)))


@dataclass(frozen=True, slots=True)
class Apart:
    """How far apart the two were at a moment, by the latest raw fix of each."""

    ms: int
    distance_m: float
    sigma_m: float
    """Standard deviation of the distance: both radii, and what an old fix may have moved since."""


def distances(fixes: Iterable[Fix]) -> list[Apart]:
    """The distance at every fix of either, as far as the other's latest is not too old; in order of time."""
    latest: dict[str, Fix] = {}
    out = []
    for fix in sorted((each for each in fixes if each.lat is not None), key=lambda each: each.live_ms):
        latest[fix.party] = fix
        other = latest.get("victim" if fix.party == "aggressor" else "aggressor")
        if other is None or fix.live_ms - other.live_ms > PAIR_AGE_MS:
            continue
        old_m = WALK_MPS * (fix.live_ms - other.live_ms) / 1000
        sigma = math.hypot(fix.radius_m / SIGMA_OF_ACCURACY, other.radius_m / SIGMA_OF_ACCURACY, old_m)
        out.append(Apart(fix.live_ms, distance_m(fix, other), sigma))
    return out


Span = tuple[int, int]
"""(from ms, to ms)"""


def gaps(fixes: Iterable[Fix], party: str, window: Window, interval_s: float) -> list[Span]:
    """Stretches of the window in which a party gave no position for over three of its intervals (2 min at least).

    Her or his devices together: a phone that is silent beside a bracelet that speaks is no gap.
    """
    least_ms = max(GAP_LEAST_MS, int(GAP_INTERVALS * interval_s * 1000))
    since, until = window.since_ms, window.until_ms
    moments = sorted(
        {
            each.live_ms
            for each in fixes
            if each.party == party and each.lat is not None and since <= each.live_ms < until
        }
    )
    return [(a, b) for a, b in pairwise([since, *moments, until]) if b - a > least_ms]


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch in one state of an order's distance."""

    order_id: str
    state: str
    """clear | warning | breach"""
    from_ms: int
    to_ms: int
    retrospective: bool = False


def stays(transitions: Sequence[Mapping[str, Any]], window: Window) -> list[Stay]:
    """The states of each order's distance over the window, by its stored transitions; those seen late beside them."""
    out = []
    orders = sorted({str(each["order_id"]) for each in transitions if each["kind"] == "proximity"})
    for order in orders:
        own = sorted(
            (each for each in transitions if each["kind"] == "proximity" and str(each["order_id"]) == order),
            key=lambda each: (each["evaluated_ms"], each["at_ms"]),
        )
        live = [each for each in own if not each.get("retrospective")]
        state, began = (live[0]["from_state"] if live else "clear"), window.since_ms
        for each in live:
            if each["at_ms"] > began:
                out.append(Stay(order, state, began, int(each["at_ms"])))
            state, began = each["to_state"], max(began, int(each["at_ms"]))
        if began < window.until_ms:
            out.append(Stay(order, state, began, window.until_ms))
        for each in own:
            if each.get("retrospective") and each["to_state"] == "breach":
                until = each.get("detail", {}).get("until")
                ended = int(each["at_ms"]) if until is None else to_ms(datetime.fromisoformat(until))
                out.append(Stay(order, "breach", int(each["at_ms"]), ended, True))
    return out


def within(moment_ms: int, spans: Iterable[Span]) -> bool:
    """Whether a moment lies in one of the spans, their ends included."""
    return any(since <= moment_ms <= until for since, until in spans)
