"""Signing in, users, agencies, gateways, notification routes."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, SecretStr, model_validator

from api.schemas.base import Body, Change, Language, Moment, Name, New, View

RoleName = Literal["admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor"]
Password = Annotated[SecretStr, Field(max_length=256, description="12 to 256 characters.")]


class TokenView(View):
    """What a sign-in gives."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the scheme's name
    expires_in: int
    must_enrol: bool = Field(False, description="Your agency wants a second factor of you: add one, all else waits.")


class NewUser(New):
    """A user to be."""

    model_config = ConfigDict(str_strip_whitespace=False)  # blanks around a password are part of it

    username: Annotated[str, Field(min_length=1, max_length=100)]
    password: Password | None = Field(None, description="Absent: give her a code by `POST …/password-code`.")
    role: RoleName
    display_name: Name | None = None
    language: Language | None = None


class UserChange(Change):
    """What of a user may change."""

    model_config = ConfigDict(str_strip_whitespace=False)
    nullable: ClassVar[frozenset[str]] = frozenset({"display_name"})

    password: Password | None = None
    role: RoleName | None = None
    display_name: Name | None = None
    language: Language | None = None
    disabled: bool | None = None


class UserView(View):
    """A user; never a password."""

    id: uuid.UUID
    agency_id: uuid.UUID
    username: str
    role: RoleName
    display_name: str | None
    language: str
    created_at: datetime
    disabled_at: datetime | None


class AgencyChange(Change):
    """What of an agency may change; its policy has its own address."""

    nullable: ClassVar[frozenset[str]] = frozenset({"region", "jurisdiction"})

    name: Name | None = None
    kind: Literal["police", "monitoring", "crisis_centre", "court", "other"] | None = None
    region: Name | None = None
    time_zone: Name | None = None
    language: Language | None = None
    jurisdiction: dict[str, Any] | None = Field(None, description="GeoJSON Polygon or MultiPolygon.")
    names_officials: bool | None = Field(None, description="Whether a victim is told by name who looked at her data.")


class AgencyView(View):
    """An agency."""

    id: uuid.UUID
    name: str
    kind: str
    region: str | None
    time_zone: str
    language: str
    jurisdiction: dict[str, Any] | None
    names_officials: bool
    policy: dict[str, Any]
    created_at: datetime


class NewGateway(Body):
    """A tracker server, a telecom or a load test that will send for many devices."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    expires_at: Moment | None = None


class GatewayView(View):
    """A gateway; its token is told only when it is made."""

    name: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class GatewayToken(View):
    """A new gateway's token, told only now."""

    name: str
    token: str


class GatewayRotation(Body):
    """How long the earlier tokens hold beside the new one."""

    overlap_s: float = Field(86_400, ge=0, le=604_800, allow_inf_nan=False)


class RotatedGateway(GatewayToken):
    """A gateway's new token, told only now."""

    earlier_until: datetime


class NewRoute(New):
    """A way by which the agency itself wants to be told."""

    name: Name
    channel: Literal["log", "webhook", "email", "fcm", "sms", "apprise"]
    address: Annotated[str, Field(min_length=1, max_length=2000)] = Field(
        description="Where; of `apprise` only a name for it, for its URL is its secret."
    )
    secret: Annotated[str, Field(max_length=2000)] | None = Field(
        None, description="Webhook signing secret, or the Apprise URL. Sealed, and never told again."
    )
    language: Language | None = None
    min_severity: Literal["low", "medium", "high", "critical"] | None = None
    enabled: bool | None = None

    @model_validator(mode="after")
    def _fits(self) -> NewRoute:
        if self.channel == "apprise" and (not self.secret or "://" in self.address):
            raise ValueError("an Apprise URL is a secret: write it in `secret`, and a name for it in `address`")
        return self


class RouteChange(Change):
    """What of a notification route may change."""

    nullable: ClassVar[frozenset[str]] = frozenset({"secret"})

    name: Name | None = None
    address: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    secret: Annotated[str, Field(max_length=500)] | None = None
    language: Language | None = None
    min_severity: Literal["low", "medium", "high", "critical"] | None = None
    enabled: bool | None = None


class SecretRotation(Body):
    """How long the earlier secret signs beside the new one."""

    overlap_s: float = Field(86_400, ge=0, le=604_800, allow_inf_nan=False)


class RotatedSecret(View):
    """A webhook's new signing secret, told only now."""

    id: uuid.UUID
    secret: str
    earlier_until: datetime


class RouteView(View):
    """A notification route; its secret is never told."""

    id: uuid.UUID
    name: str
    channel: str
    address: str
    language: str
    min_severity: str
    enabled: bool
    created_at: datetime
