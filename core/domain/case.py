"""A case as the engine knows it: numbers, radii, zones and times; no names, no addresses.

PostgreSQL compiles it (`core.postgres.cases.compile_cases`), the shard's log carries it as a configuration
record, and the engine replaces all it knew of the case by it. `version` grows with every change; a version the
engine already has, or an older one, is ignored, so appending a configuration twice is harmless.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec


class CaseDevice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device somebody of the case carries."""

    number: int
    id: uuid.UUID
    kind: str
    """bracelet | phone | victim_unit | tracker"""
    interval_s: float = 60.0
    """Expected time between pings."""
    since_ms: int = 0
    """When it was fitted (0: not yet): silence is counted from here, or from the first ping."""


class CasePerson(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody of the case."""

    number: int
    id: uuid.UUID
    role: str
    """victim | aggressor | other"""
    primary: bool = True
    """Whether this case is where her device alarms are raised (a person may be in two cases)."""
    devices: list[CaseDevice] = []


class CaseZone(msgspec.Struct, frozen=True, omit_defaults=True):
    """A place he must not enter (exclusion) or must not leave (inclusion)."""

    id: uuid.UUID
    kind: str
    geometry: dict[str, Any]
    """GeoJSON Polygon or MultiPolygon, or a Point or LineString with `radius_m` (a circle, a buffered line)."""
    radius_m: float | None = None
    warning_m: float = 0.0
    schedule: list[dict[str, Any]] | None = None
    """Weekly windows `{"days":[1..7],"from":"08:00","to":"18:00"}` in the order's time zone; None: always."""
    valid_from_ms: int | None = None
    valid_until_ms: int | None = None


class CaseOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """A protection order: who is kept from whom, how far, and since when."""

    number: int
    id: uuid.UUID
    victim: int
    """Person number."""
    aggressor: int
    alert_m: float
    warning_m: float
    legal_m: float = 0.0
    p_enter: float = 0.5
    p_approach: float = 0.85
    """Probability of being inside within the horizon that makes an approach."""
    horizon_s: float = 300.0
    """How far ahead an approach is looked for."""
    p_exit: float = 0.05
    """A state falls only while the probability of being within radius and margin is at most this."""
    exit_margin_m: float = 100.0
    hold_s: float = 60.0
    """Least time outside before a state falls."""
    p_unknown: float = 0.3
    """Probability of being inside, unseen, that makes separation unknown without grace."""
    grace_s: float = 300.0
    """How long separation may be unknown before it is told."""
    valid_from_ms: int = 0
    valid_until_ms: int | None = None
    active: bool = True
    """False while suspended, expired or revoked."""
    time_zone: str = "Asia/Almaty"
    zones: list[CaseZone] = []


class Case(msgspec.Struct, frozen=True, omit_defaults=True):
    """One aggressor with every person protected from him; or one person alone (no orders)."""

    number: int
    id: uuid.UUID
    agency_id: uuid.UUID
    version: int
    people: list[CasePerson] = []
    orders: list[CaseOrder] = []


encode_cases = msgspec.json.Encoder().encode
decode_cases = msgspec.json.Decoder(list[Case]).decode
decode_case = msgspec.json.Decoder(Case).decode
