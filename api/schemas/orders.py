"""Protection orders, zones, suspensions."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from api.schemas.base import Body, Change, Metres, Moment, Name, New, People, View, Words
from api.schemas.policies import Grace, OrderPolicyBody, bounded

Relationship = Literal["spouse", "former", "unregistered nikah", "relative", "other"]
Risk = Literal["standard", "high", "extreme"]
Alert = Annotated[float, bounded("alert_m", "Alert radius, metres; never below legal_m.")]
WarningRadius = Annotated[float, bounded("warning_m", "Warning radius, metres; never below alert_m.")]
Exceptions = Annotated[list[dict[str, Any]], Field(max_length=50)]


class NewOrder(New):
    """A protection order; radii that it does not name come from the agency's policy."""

    reference: Name | None = None
    issuer: Name | None = None
    legal_ground: Annotated[str, Field(max_length=2000)] | None = None
    restraints: Words = Field(default_factory=list)
    victim_id: uuid.UUID
    protected_person_ids: People = Field(default_factory=list)
    aggressor_id: uuid.UUID
    relationship: Relationship | None = None
    cohabiting: bool = False
    risk_level: Risk = "standard"
    issued_at: Moment | None = None
    served_at: Moment | None = None
    valid_from: Moment | None = Field(None, description="Absent: from now on.")
    valid_until: Moment | None = None
    status: Literal["issued", "in_force"] = "in_force"
    time_zone: Name | None = None
    region: Name | None = None
    legal_m: Metres | None = None
    alert_m: Alert | None = None
    warning_m: WarningRadius | None = None
    grace_s: Grace | None = None
    policy: OrderPolicyBody | None = None
    warn_aggressor: bool = False
    sealed: bool = False
    exceptions: Exceptions = Field(default_factory=list)


class OrderChange(Change):
    """What of an order may change; whom it is about does not."""

    nullable: ClassVar[frozenset[str]] = frozenset(
        {
            "version", "reference", "issuer", "legal_ground", "relationship", "issued_at", "served_at", "valid_until",
            "region",
        }
    )  # fmt: skip

    version: int | None = Field(None, description="The version decided on; a stale one is refused (409).")
    reference: Name | None = None
    issuer: Name | None = None
    legal_ground: Annotated[str, Field(max_length=2000)] | None = None
    restraints: Words | None = None
    protected_person_ids: People | None = None
    relationship: Relationship | None = None
    cohabiting: bool | None = None
    risk_level: Risk | None = None
    issued_at: Moment | None = None
    served_at: Moment | None = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None
    status: Literal["issued", "in_force", "revoked"] | None = None
    time_zone: Name | None = None
    region: Name | None = None
    legal_m: Metres | None = None
    alert_m: Alert | None = None
    warning_m: WarningRadius | None = None
    grace_s: Grace | None = None
    policy: OrderPolicyBody | None = None
    warn_aggressor: bool | None = None
    sealed: bool | None = None
    exceptions: Exceptions | None = None


class OrderView(View):
    """A protection order."""

    id: uuid.UUID
    agency_id: uuid.UUID
    case_id: uuid.UUID
    reference: str | None
    issuer: str | None
    legal_ground: str | None
    restraints: list[str]
    victim_id: uuid.UUID
    protected_person_ids: list[uuid.UUID]
    aggressor_id: uuid.UUID
    relationship: str | None
    cohabiting: bool
    risk_level: str
    issued_at: datetime | None
    served_at: datetime | None
    valid_from: datetime
    valid_until: datetime | None
    status: Literal["issued", "in_force", "suspended", "expired", "revoked"]
    time_zone: str
    region: str | None
    legal_m: float
    alert_m: float
    warning_m: float
    grace_s: float
    policy: dict[str, float] = Field(description="What it sets otherwise than the agency.")
    warn_aggressor: bool
    sealed: bool
    exceptions: list[dict[str, Any]]
    version: int
    created_at: datetime
    updated_at: datetime


class OrderDetail(OrderView):
    """An order, and which others hold between the same two people at the same time."""

    overlaps: list[uuid.UUID]


class Window(Body):
    """A weekly time, in the order's time zone; `to` before `from` runs past midnight."""

    days: Annotated[list[Annotated[int, Field(ge=1, le=7)]], Field(min_length=1, max_length=7)]
    from_: Annotated[str, Field(alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
    to: Annotated[str, Field(pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$")]


Schedule = Annotated[list[Window], Field(min_length=1, max_length=50)]


class ZoneProperties(Body):
    """What a zone's feature says of it."""

    order_id: uuid.UUID
    kind: Literal["exclusion", "inclusion"]
    name: Name | None = None
    radius_m: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    warning_m: Metres = 0.0
    schedule: Schedule | None = None
    disclosed: bool = False
    valid_from: Moment | None = None
    valid_until: Moment | None = None


class ZoneFeature(Body):
    """A zone as a GeoJSON Feature: Polygon, MultiPolygon, or Point or LineString with `radius_m`."""

    type: Literal["Feature"]
    id: uuid.UUID | None = None
    geometry: dict[str, Any]
    properties: ZoneProperties


class ZonePropertiesChange(Change):
    """What of a zone's properties may change."""

    nullable: ClassVar[frozenset[str]] = frozenset({"name", "radius_m", "schedule", "valid_from", "valid_until"})

    name: Name | None = None
    radius_m: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    warning_m: Metres | None = None
    schedule: Schedule | None = None
    disclosed: bool | None = None
    valid_from: Moment | None = None
    valid_until: Moment | None = None


class ZoneChange(Body):
    """Another geometry, other properties, or both."""

    type: Literal["Feature"] = "Feature"
    geometry: dict[str, Any] | None = None
    properties: ZonePropertiesChange = Field(default_factory=ZonePropertiesChange)


class ZoneView(View):
    """A zone as a GeoJSON Feature."""

    type: Literal["Feature"]
    id: uuid.UUID
    geometry: dict[str, Any]
    properties: dict[str, Any]


class NewSuspension(New):
    """Hours in which an order shall not hold: a hearing, a child's hand-over."""

    order_id: uuid.UUID
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    starts_at: Moment | None = Field(None, description="Absent: as soon as it is confirmed.")
    ends_at: Moment


class SuspensionView(View):
    """A suspension; in effect once somebody else has confirmed it."""

    id: uuid.UUID
    order_id: uuid.UUID
    reason: str
    starts_at: datetime
    ends_at: datetime
    asked_by: uuid.UUID
    confirmed_by: uuid.UUID | None
    confirmed_at: datetime | None
    ended_at: datetime | None
    created_at: datetime
