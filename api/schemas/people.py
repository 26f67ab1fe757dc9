"""People and units."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from api.schemas.base import Body, Change, Language, Latitude, Longitude, Moment, New, People, View, Words

UNREADABLE: Final = "In a list: what of this row does not open, because it was changed or its key was lost."
SafeWord = Annotated[str, Field(min_length=1, max_length=100)]


class SafeContact(Body):
    """How and when she can be reached without danger."""

    channel: Annotated[str, Field(min_length=1, max_length=50)]
    hours: Annotated[str, Field(max_length=100)] | None = None
    address: Annotated[str, Field(max_length=500)] | None = None


class NewPerson(New):
    """Somebody protected, kept away, or beside them."""

    identity: dict[str, Any] = Field(default_factory=dict, description="Name, phone, address and the like.")
    safe_contact: SafeContact | None = None
    safe_word: SafeWord | None = None
    language: Language | None = None
    needs: Words = Field(default_factory=list)
    hazards: dict[str, Any] = Field(default_factory=dict, description="weapons, children, medical")


class PersonChange(Change):
    """What of a person may change."""

    nullable: ClassVar[frozenset[str]] = frozenset({"safe_contact", "safe_word"})

    identity: dict[str, Any] | None = None
    safe_contact: SafeContact | None = None
    safe_word: SafeWord | None = None
    language: Language | None = None
    needs: Words | None = None
    hazards: dict[str, Any] | None = None


class PersonSearch(Body):
    """An exact value to find people by; never part of an address."""

    field: Literal["name", "phone", "iin"]
    value: Annotated[str, Field(min_length=1, max_length=200)]


class PersonView(View):
    """A person; an officer is told the name alone, and no safe word, contact or address.

    Of one who was `erased` nothing is left but that she was there.
    """

    id: uuid.UUID
    agency_id: uuid.UUID
    identity: dict[str, Any]
    safe_contact: dict[str, Any] | None
    safe_word: str | None
    language: str
    needs: list[str]
    hazards: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    erased: bool
    unreadable: list[str] = Field(default_factory=list, description=UNREADABLE)


UnitStatus = Literal["available", "dispatched", "en_route", "on_scene", "off_duty"]


class NewUnit(New):
    """Somebody a dispatcher can send."""

    callsign: Annotated[str, Field(min_length=1, max_length=100)]
    status: UnitStatus | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    capabilities: Words = Field(default_factory=list)
    shift_ends_at: Moment | None = None
    conflicts: People = Field(default_factory=list)
    user_ids: People = Field(default_factory=list, description="Users who go with it: told when it is sent.")


class UnitChange(Change):
    """What of a unit may change."""

    nullable: ClassVar[frozenset[str]] = frozenset({"shift_ends_at"})

    callsign: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    status: UnitStatus | None = None
    lat: Latitude | None = None
    lon: Longitude | None = None
    capabilities: Words | None = None
    shift_ends_at: Moment | None = None
    conflicts: People | None = None
    user_ids: People | None = None


class UnitView(View):
    """A unit and where it was last."""

    id: uuid.UUID
    agency_id: uuid.UUID
    callsign: str
    status: UnitStatus
    lat: float | None
    lon: float | None
    position_at: datetime | None
    capabilities: list[str]
    shift_ends_at: datetime | None
    conflicts: list[uuid.UUID]
    user_ids: list[uuid.UUID]
