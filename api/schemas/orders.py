"""Protection orders, zones, suspensions."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from api.schemas.base import Body, Change, Metres, Moment, Name, New, People, View, Words
from api.schemas.policies import Grace, OrderPolicyBody, bounded
from core.postgres.table import Record

Relationship = Literal["spouse", "former", "unregistered nikah", "relative", "other"]
Risk = Literal["standard", "high", "extreme"]
Alert = Annotated[float, bounded("alert_m", "Alert radius, metres; never below legal_m.")]
WarningRadius = Annotated[float, bounded("warning_m", "Warning radius, metres; never below alert_m.")]
Exceptions = Annotated[list[dict[str, Any]], Field(max_length=50)]


class TermBody(Body):
    """How long an order holds, as its paper says it: "30 days from service"."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"length": 30, "unit": "day", "from": "service"}]})

    length: Annotated[int, Field(ge=1, le=3660)]
    unit: Literal["day", "month", "year"] = "day"
    counted_from: Annotated[
        Literal["service", "issue", "start"],
        Field(alias="from", description="`served_at`, `issued_at` or `valid_from`."),
    ] = "service"
    ends: Annotated[
        Literal["same_time", "day_end"],
        Field(description="At the time of day at which it began, or when the last day is over; in `time_zone`."),
    ] = "same_time"

    def value(self) -> dict[str, Any]:
        """As it is stored."""
        return self.model_dump(by_alias=True)


class NewOrder(New):
    """A protection order; radii that it does not name come from the agency's policy.

    A `legal_ground` of the catalogue (`GET /v1/legal-grounds`) fills in issuer, restraints and term.
    """

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
    term: TermBody | None = Field(None, description="In place of `valid_until`, which follows from it.")
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

    def values(self) -> Record:
        """The record's columns, without its id."""
        return _with_plain_term(super().values(), self.term)


def _with_plain_term(values: Record, term: TermBody | None) -> Record:
    return {**values, "term": term.value()} if term is not None else values


class OrderChange(Change):
    """What of an order may change; whom it is about does not."""

    nullable: ClassVar[frozenset[str]] = frozenset(
        {
            "version", "reference", "issuer", "legal_ground", "relationship", "issued_at", "served_at", "valid_until",
            "region", "term",
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
    term: TermBody | None = None
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

    def values(self) -> Record:
        """The columns to set."""
        return _with_plain_term(super().values(), self.term)


class OrderCommand(Body):
    """What every command on an order bears."""

    version: int | None = Field(None, ge=1, description="The version decided on; a stale one is refused (409).")


class Service(OrderCommand):
    """That the order was served on him."""

    served_at: Moment | None = Field(None, description="Absent: now.")


class Extension(OrderCommand):
    """A later end: a moment, or a term counted from the present end."""

    valid_until: Moment | None = None
    term: TermBody | None = None
    reference: Name | None = Field(None, description="Number of the paper that extends it.")


class Revocation(OrderCommand):
    """Why the order holds no longer."""

    reason: Literal["court", "prosecutor", "issuer", "replaced", "entered_wrongly", "death", "other"]
    reference: Name | None = Field(None, description="Number of the paper that ends it.")


class Gap(View):
    """How long nothing watched over her: from the promise until both devices worked, or until now."""

    since: datetime
    protected_at: datetime | None = Field(description="null: not both devices have been heard yet.")
    victim_fix_at: datetime | None
    aggressor_fix_at: datetime | None
    from_issue_s: float
    from_service_s: float | None = Field(description="null: not served yet.")


class Violations(View):
    """Violations as `GET /v1/reports/incidents/{id}` finds them; not mere alerts."""

    order: int
    aggressor: int = Field(description="Of every order against the same man.")
    last_at: datetime | None


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
    term: dict[str, Any] | None
    extended_at: datetime | None
    revoked_at: datetime | None
    protected_at: datetime | None = Field(description="When her device and his bracelet had both been heard.")


class OrderDetail(OrderView):
    """An order, which others hold between the same two, how long it left her alone, how often it was violated."""

    overlaps: list[uuid.UUID]
    gap: Gap
    violations: Violations


class OrderVersion(View):
    """What an order was from a moment on, and who made it so."""

    version: int
    at: datetime
    action: str = Field(
        description="entered, changed, enforced, served, extended, suspended, resumed, revoked or expired."
    )
    actor_id: uuid.UUID | None = Field(description="null: the clock.")
    fields: list[str]
    detail: dict[str, Any]
    body: dict[str, Any] = Field(description="The order's record as it was.")


class OrderHistory(View):
    """Every version of an order, the first one first."""

    versions: list[OrderVersion]


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
