"""Who is in the world: pairs, what they carry, what is otherwise with it when, and the cases they are to the engine."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson
from core.domain.ping import CLOSED, NO, SHIFT_CASING, SHIFT_JAMMING, SHIFT_MOCK, SHIFT_STRAP
from tests.benchmarks.detection.paths import Path, Place

START_MS: Final = 1_760_000_000_000
DEVICE_ID: Final = 2 << 64
PERSON_ID: Final = 1 << 64
ORDER_ID: Final = 3 << 64
ZONE_ID: Final = 6 << 64
PEOPLE_MOST: Final = 8
"""People, and orders, of a pair: their numbers are its index times this and theirs."""


@dataclass(frozen=True)
class Window:
    """From a second to another (inf: for good) something is otherwise with a device.

    `what` and its value: silent, offline, frozen, nofix None; shift (east, north) metres added; at (east, north) the
    place it claims; stray (east, north) the place that its next fix alone claims; noise a mixture's name;
    interval seconds, whatever it is asked; flag (shift, two-bit value).
    """

    from_s: float
    to_s: float
    what: str
    value: Any = None


@dataclass(frozen=True)
class Device:
    """What somebody carries."""

    kind: str
    interval_s: float = 60.0
    gives_speed: bool = True
    tells_motion: bool = True
    """Whether it says that it moves or does not."""
    noise: str = "city"
    windows: tuple[Window, ...] = ()
    delay_s: tuple[float, float] = (0.0, 0.0)
    """Least and greatest time from a ping to its arrival; pings may overtake each other."""
    skew_s: float = 0.0
    """By how much its clock is ahead."""
    battery_pct: float = 90.0
    drain_pct_h: float = 2.0
    hears: bool = False
    """A victim's unit that listens for the bracelet."""
    path: Path | None = None
    """Where it is when it is not where its wearer is."""


@dataclass(frozen=True)
class Person:
    """Somebody of a pair."""

    role: str
    path: Path
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Change:
    """At a second, an order's configuration changes."""

    at_s: float
    order: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Pair:
    """A case: a victim or more, one aggressor, orders by the indices of people. Times in orders are seconds."""

    place: Place
    people: tuple[Person, ...]
    orders: tuple[dict[str, Any], ...]
    """Fields of `CaseOrder` by name; `victim` and `aggressor` are indices into `people`."""
    duration_s: int
    key: tuple[int, ...]
    """What makes its random numbers its own."""
    changes: tuple[Change, ...] = ()
    begins_s: float = 0.0
    """When the case is configured."""


def configurations(
    pairs: Sequence[Pair], devices: Sequence[Device], pair_of: Sequence[int], who_of: Sequence[int]
) -> dict[int, list[Case]]:
    """Second → cases, whole, as they are from then on."""
    numbers: dict[tuple[int, int], list[int]] = defaultdict(list)
    for d, (k, who) in enumerate(zip(pair_of, who_of, strict=True)):
        numbers[k, who].append(d)
    out: dict[int, list[Case]] = defaultdict(list)
    for k, pair in enumerate(pairs):
        base = PEOPLE_MOST * k
        people = [
            CasePerson(
                number=base + who + 1,
                id=uuid.UUID(int=PERSON_ID + base + who),
                role=person.role,
                devices=[
                    CaseDevice(
                        number=d + 1,
                        id=uuid.UUID(int=DEVICE_ID + d),
                        kind=devices[d].kind,
                        interval_s=devices[d].interval_s,
                    )
                    for d in numbers[k, who]
                ],
            )
            for who, person in enumerate(pair.people)
        ]
        orders = [_order(values, base, index) for index, values in enumerate(pair.orders)]
        case = Case(number=k + 1, id=uuid.UUID(int=k + 1), agency_id=uuid.UUID(int=5 << 64), version=1,
                    people=people, orders=orders)  # fmt: skip
        out[round(pair.begins_s)].append(case)
        for change in sorted(pair.changes, key=lambda one: one.at_s):
            changed = list(case.orders)
            changed[change.order] = msgspec.structs.replace(changed[change.order], **_timed(change.values))
            case = msgspec.structs.replace(case, version=case.version + 1, orders=changed)
            out[round(change.at_s)].append(case)
    return out


def worn(device: Device) -> np.uint32:
    """Flags of a device that is as it should be."""
    if device.kind == "bracelet":
        return np.uint32(CLOSED << SHIFT_STRAP | CLOSED << SHIFT_CASING | NO << SHIFT_JAMMING | NO << SHIFT_MOCK)
    return np.uint32(NO << SHIFT_MOCK)


def _timed(values: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the world as milliseconds of the log."""
    out = dict(values)
    for name in ("valid_from", "valid_until"):
        if name + "_s" in out:
            out[name + "_ms"] = START_MS + round(1000 * out.pop(name + "_s"))
    return out


def _order(values: dict[str, Any], base: int, index: int) -> CaseOrder:
    given = {"alert_m": 500.0, "warning_m": 1500.0} | _timed(values)
    given["victim"] = base + given["victim"] + 1
    given["aggressor"] = base + given["aggressor"] + 1
    return CaseOrder(number=base + index + 1, id=uuid.UUID(int=ORDER_ID + base + index), **given)
