"""Escalation policies, rotas, ways to tell users, and others' incidents, as they are sent and answered."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from api.schemas.base import Body, Language, Moment, View
from core.domain.escalation import ACCEPT_S, DELAY_LEAST_S, DELAY_MOST_S, LATE_S, REPEATS_MAX, STEPS_MAX, TARGETS_MAX
from core.domain.on_call import CYCLE_DAYS_MAX, SHIFT_USERS_MAX, SHIFTS_MAX

Seconds = Annotated[float, Field(ge=DELAY_LEAST_S, le=DELAY_MOST_S, allow_inf_nan=False)]
Severity = Literal["low", "medium", "high", "critical"]
Role = Literal["dispatchers", "duty_officer", "supervisor", "neighbour"]
Channel = Literal["email", "sms", "fcm", "webpush", "webhook", "apprise", "log"]
Clock = Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$|^24:00$", description="HH:MM of the wall clock.")]


class TargetBody(Body):
    """Somebody by name, or one of the agency's routes; one of the two."""

    user_id: uuid.UUID | None = None
    route_id: uuid.UUID | None = None


Targets = Annotated[list[Role | TargetBody], Field(min_length=1, max_length=TARGETS_MAX)]


class StepBody(Body):
    """Whom to tell after a while."""

    delay_s: Seconds
    to: Targets
    channels: list[Channel] = Field(default_factory=list, description="Only by these; none named: by all they have.")
    repeat_every_s: Seconds | None = None
    repeats: int = Field(0, ge=0, le=REPEATS_MAX)


class EscalationPolicyBody(Body):
    """What happens while nobody acts."""

    unacknowledged: list[StepBody] = Field(min_length=1, max_length=STEPS_MAX)
    undispatched: list[StepBody] = Field(
        default_factory=list, max_length=STEPS_MAX, description="From the acknowledgement on, while no unit is sent."
    )
    accept_s: Seconds | None = Field(ACCEPT_S, description="How long a unit has to accept; null: it need not.")
    late_s: float | None = Field(
        LATE_S, ge=0, le=DELAY_MOST_S, allow_inf_nan=False, description="How long after its ETA; null: nobody looks."
    )
    late_to: Targets = Field(default=["supervisor"])
    neighbour_agency_id: uuid.UUID | None = Field(
        None, description="Whom `neighbour` is; none: the police agency nearest to the place."
    )


class EscalationPolicyView(View):
    """A policy in force, and whom it would miss now."""

    type: str
    severity: Severity
    set_at: datetime | None = Field(description="null: the default.")
    policy: dict[str, Any]
    problems: list[str] = Field(description="Who could not be told, in sentences; empty: everybody can be.")


class ShiftBody(Body):
    """From one time to another, which is the next day's where it is not later."""

    day: int = Field(ge=0, lt=CYCLE_DAYS_MAX)
    starts: Clock
    ends: Clock
    user_ids: list[uuid.UUID] = Field(min_length=1, max_length=SHIFT_USERS_MAX)


class RotaBody(Body):
    """A cycle of days with shifts, in the wall-clock time of a zone."""

    time_zone: str = Field(min_length=1, max_length=60)
    starts_on: date
    cycle_days: int = Field(ge=1, le=CYCLE_DAYS_MAX)
    shifts: list[ShiftBody] = Field(min_length=1, max_length=SHIFTS_MAX)


class StandInBody(Body):
    """Somebody stands in for who is on call, or for one of them."""

    user_id: uuid.UUID
    instead_of: uuid.UUID | None = None
    from_at: Moment
    until_at: Moment


class StandInView(View):
    """A stand-in."""

    id: uuid.UUID
    duty: str
    user_id: uuid.UUID
    instead_of: uuid.UUID | None
    from_at: datetime
    until_at: datetime


class OnCallView(View):
    """A duty, its rota, and who is on call."""

    duty: str
    rota: dict[str, Any] | None
    stand_ins: list[StandInView]
    at: datetime
    on_call: list[uuid.UUID]


class UserChannelBody(Body):
    """Where a user is told."""

    address: str = Field(min_length=1, max_length=500)
    language: Language = "ru"
    enabled: bool = True


class UserChannelView(View):
    """A way to tell a user."""

    user_id: uuid.UUID
    channel: str
    address: str | None
    language: str
    enabled: bool
    created_at: datetime


class SharedIncidentView(View):
    """Another agency's incident, as little of it as helps to send somebody."""

    id: uuid.UUID
    agency_id: uuid.UUID
    agency_name: str
    reason: Literal["jurisdiction", "neighbour"]
    since: datetime
    acknowledged_at: datetime | None
    type: str
    severity: Severity
    state: str
    opened_at: datetime
    exercise: bool
    do_not_call: bool


class SharedIncidentWhole(SharedIncidentView):
    """With where she is, as far as she is unlocked, and what awaits who goes there."""

    place: dict[str, Any] | None
    hazards: dict[str, Any]
    language: str | None
