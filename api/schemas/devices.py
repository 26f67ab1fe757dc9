"""Devices, enrolment, and what a device is told of its wearer's protection."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from api.schemas.base import Body, Change, New, View

Kind = Literal["bracelet", "phone", "victim_unit", "tracker"]
DeviceRole = Literal["victim", "aggressor", "other"]
Interval = Annotated[float, Field(ge=1, le=86_400, allow_inf_nan=False)]
ExternalId = Annotated[str, Field(min_length=1, max_length=200)]
PushToken = Annotated[str, Field(min_length=1, max_length=4096)]


class NewDevice(New):
    """A device to be enrolled."""

    kind: Kind
    role: DeviceRole | None = Field(None, description="Follows from the orders its wearer is in, once there are any.")
    person_id: uuid.UUID | None = None
    external_id: ExternalId | None = None
    expected_interval_s: Interval | None = None
    push_token: PushToken | None = None


class DeviceChange(Change):
    """What of a device may change; who wears it changes by `fit` and `return`."""

    nullable: ClassVar[frozenset[str]] = frozenset({"external_id", "push_token"})

    external_id: ExternalId | None = None
    expected_interval_s: Interval | None = None
    push_token: PushToken | None = None


class Fitting(Body):
    """Who wears it from now on."""

    person_id: uuid.UUID


class DeviceView(View):
    """A device; never its token or push token."""

    id: uuid.UUID
    agency_id: uuid.UUID
    kind: Kind
    role: DeviceRole
    person_id: uuid.UUID | None
    external_id: str | None
    expected_interval_s: float
    battery_pct: float | None
    battery_hours_left: float | None
    clock_offset_s: float | None
    strap: str | None
    fitted_at: datetime | None
    returned_at: datetime | None
    last_seen_at: datetime | None
    last_proved_at: datetime | None
    status: Literal["registered", "active", "returned", "revoked", "lost"]
    signature_kind: Literal["ed25519", "hmac"] | None = Field(description="How its pings are signed; null: not at all.")
    created_at: datetime
    updated_at: datetime


class RegisteredDevice(DeviceView):
    """A device just registered, with the code that enrols it once; a repeat does not tell the code again."""

    enrolment_code: str | None = None
    enrolment_expires_at: datetime | None = None


class CodeView(View):
    """A new enrolment code, told only now."""

    device_id: uuid.UUID
    enrolment_code: str
    enrolment_expires_at: datetime


class EnrolmentView(View):
    """A device's token, told only now, and where to send."""

    device_id: uuid.UUID
    token: str
    api_url: str
    stream_url: str
    signature_key: str | None = Field(None, description="The HMAC key it asked for, base64url; told only now.")
    pins_set: bool = Field(False, description="Whether its wearer has a PIN and a duress PIN now.")


class RotatedToken(View):
    """A device's new token, told only now; the earlier ones hold until it confirms, or an hour from its first use."""

    token: str
    earlier_until: datetime = Field(description="When the earlier ones end at the soonest, if it does not confirm.")


class OwnDevice(View):
    """One of her devices, as she may know it."""

    id: uuid.UUID
    kind: Kind
    last_seen_at: datetime | None
    battery_pct: float | None
    last_proved_at: datetime | None = Field(None, description="When a drill last showed that it works.")


class OwnContact(View):
    """Somebody who is told when the wearer presses."""

    id: uuid.UUID
    last_proved_at: datetime | None


class ProtectionView(View):
    """Whether she is protected now, and if not wholly, why; no position of anyone."""

    status: Literal["protected", "degraded", "unprotected"]
    reasons: list[str]
    devices: list[OwnDevice]
    contacts: list[OwnContact] = Field(default_factory=list)
