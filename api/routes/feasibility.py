"""`/v1/feasibility`: whether two ordinary lives can keep proposed radii, before a judge signs. Nothing is stored."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.auth import Manager
from api.deps import Context
from api.schemas.base import Body, Metres, Name, View
from api.schemas.orders import Window
from core.actions import records
from core.actions.unit_of_work import act
from core.domain.policy import BOUNDS
from geo.feasibility import read_plan, study

router = APIRouter(prefix="/v1/feasibility", tags=["orders"])

_one_at_a_time = asyncio.Semaphore(1)
"""A study takes half a second of a processor that panics are taken on, too."""

EXAMPLE: Final[dict[str, Any]] = {
    "alert_m": 1000,
    "legal_m": 200,
    "victim": {
        "places": [
            {"name": "home", "kind": "home", "geometry": {"type": "Point", "coordinates": [76.92, 43.24]}},
            {
                "name": "school",
                "kind": "school",
                "geometry": {"type": "Point", "coordinates": [76.93, 43.245]},
                "hours": [{"days": [1, 2, 3, 4, 5], "from": "08:00", "to": "14:00"}],
            },
        ]
    },
    "aggressor": {
        "places": [
            {"name": "home", "kind": "home", "geometry": {"type": "Point", "coordinates": [76.86, 43.22]}},
            {
                "name": "work",
                "kind": "work",
                "geometry": {"type": "Point", "coordinates": [76.935, 43.25]},
                "hours": [{"days": [1, 2, 3, 4, 5], "from": "09:00", "to": "18:00"}],
            },
        ]
    },
}


class PlaceBody(Body):
    """Where somebody is at some hours."""

    name: Name
    kind: Literal["home", "work", "school", "other"] = "other"
    geometry: dict[str, Any] = Field(description="GeoJSON Point, LineString, Polygon or MultiPolygon.")
    radius_m: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        None, description="Of a Point or LineString; absent: 30."
    )
    hours: Annotated[list[Window], Field(max_length=50)] = Field(default_factory=list)


class RoutineBody(Body):
    """One person's ordinary week; unsaid time is spent at home."""

    places: Annotated[list[PlaceBody], Field(min_length=1, max_length=20)]
    speed_mps: Annotated[float, Field(ge=0.5, le=40)] = 8.0


class PlanBody(Body):
    """What a judge is asked to sign, and how the two live."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    victim: RoutineBody
    aggressor: RoutineBody
    alert_m: Annotated[float, Field(ge=BOUNDS["alert_m"][0], le=BOUNDS["alert_m"][1])] = 1000.0
    legal_m: Metres = 0.0
    wanted_alerts_a_week: Annotated[float, Field(ge=0, le=100)] = 1.0


class Figures(View):
    """What a radius would bring, of ordinary life alone."""

    alerts_a_week: float
    alerts_p10: float
    alerts_p90: float
    minutes_a_week: float = Field(description="Minutes a week nearer to each other than the radius.")


class Proposed(Figures):
    """The radii proposed."""

    alert_m: float
    legal_m: float


class RadiusFigures(Figures):
    """One radius of those tried."""

    radius_m: float


class Study(View):
    """What the plan would bring."""

    proposed: Proposed
    radii: list[RadiusFigures]
    meetings: list[dict[str, Any]] = Field(description="Where the alerts come from; null: on the way.")
    hours: list[list[float]] = Field(description="Alerts a week by weekday (Monday first) and hour.")
    overlaps: list[dict[str, Any]] = Field(description="Places nearer to each other than the alert radius.")
    routes: list[dict[str, Any]] = Field(description="His ways that pass a place of hers within the alert radius.")
    advice: dict[str, Any] = Field(
        description="Radii, zones (as `POST /v1/zones` takes them, less the order), reasons."
    )
    weeks: int
    assumptions: list[str]


@router.post("", response_model=Study)
async def study_plan(body: PlanBody, actor: Manager, context: Context) -> dict[str, Any]:
    """How many alerts a week the proposed radii would raise, where the two lives touch, and what would do instead."""
    plan = read_plan(body.model_dump(by_alias=True))
    async with _one_at_a_time:
        found = await asyncio.to_thread(study, plan)
    async with act(context.database, context.clock(), actor.scope) as unit:
        await records.note(unit, actor, "feasibility.studied")
    return found
