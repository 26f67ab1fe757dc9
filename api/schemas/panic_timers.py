"""PINs and timers, as her device sends and is told them; what else a device sends is ignored."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.base import Latitude, Longitude, Metres, Moment, View, check_storable
from core.domain.panic import NOTE_CHARS, PIN_CHARS

Pin = Annotated[str, Field(max_length=PIN_CHARS)]


class NewPins(View):
    """The PIN that asks for an end, and the one that says she is forced."""

    pin: Pin = Field(description="Four to eight digits.")
    duress_pin: Pin = Field(description="Four to eight digits, others than the PIN.")


class PinsChange(NewPins):
    """The same, with the PIN that holds."""

    old_pin: Pin = Field("", description="The PIN that holds until now; not wanted when none is set.")


class PinsView(View):
    """Whether PINs are set; never what they are."""

    set: bool


class PinTry(View):
    """A PIN, of which the answer does not tell which it was."""

    pin: Pin = ""


class _Due(View):
    minutes: Annotated[float, Field(ge=1, le=1_440, allow_inf_nan=False)] | None = None
    due_at: Moment | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> _Due:
        if (self.minutes is None) == (self.due_at is None):
            raise ValueError("send either minutes or due_at")
        return self

    def moment(self, now: datetime) -> datetime:
        """When it is due."""
        return self.due_at if self.due_at is not None else now + timedelta(minutes=self.minutes or 0)


class NewTimer(_Due):
    """A panic that is given at its time, unless her PIN says otherwise."""

    id: uuid.UUID = Field(description="Your own UUID, and the id of the panic it may give.")
    mode: Literal["silent", "audible"] | None = None
    note: Annotated[str, Field(max_length=NOTE_CHARS)] | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    accuracy_m: Metres | None = None
    at: Moment | None = Field(None, description="When she was there.")

    @model_validator(mode="before")
    @classmethod
    def _check_storable(cls, data: Any) -> Any:
        check_storable(data)
        return data

    def values(self, now: datetime) -> dict[str, Any]:
        """The timer's columns."""
        placed = self.lat is not None and self.lon is not None
        return {
            "due_at": self.moment(now),
            "mode": self.mode,
            "note": self.note,
            **({"lat": self.lat, "lon": self.lon, "accuracy_m": self.accuracy_m} if placed else {}),
            **({"placed_at": min(self.at or now, now)} if placed else {}),
        }


class Extension(_Due):
    """Until when a timer is put off, and the PIN for it."""

    pin: Pin = ""


class TimerView(View):
    """A timer as her device may know it."""

    id: uuid.UUID
    state: Literal["running", "fired", "cancelled"]
    due_at: datetime
    started_at: datetime


class TimersView(View):
    """A device's timers, the newest first."""

    items: list[TimerView]
