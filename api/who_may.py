"""Who may ask a route: read off its dependencies, told in the OpenAPI document as `x-qorgan-roles`.

A route names the roles of users that pass, `enrolling` (also who may only add a second factor yet), `device` (any
device's token) or `protected_device` (one that no aggressor wears). What checks a token in a way of its own, or none,
says so itself by `ANYONE` or `SENDERS`. tests/integration/authz/test_matrix.py asks every route as everybody and holds
it to what it says here.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.auth import RULES

NAME: Final = "x-qorgan-roles"
ANYONE: Final[dict[str, Any]] = {NAME: ["anyone"]}
"""For a route that wants no token, or takes any: whatever it answers, it answers strangers."""
SENDERS: Final[dict[str, Any]] = {NAME: ["device", "gateway"]}


def tell_who_may(router: APIRouter) -> None:
    """Write into each route's description who passes its dependencies; what says it itself is left as it is."""
    for route in router.routes:
        if isinstance(route, APIRoute) and NAME not in (route.openapi_extra or {}):
            passing = _rules(route.dependant)
            if passing:
                narrowest = min(passing, key=len)
                route.openapi_extra = {**(route.openapi_extra or {}), NAME: sorted(narrowest)}


def _rules(dependant: Dependant) -> list[tuple[str, ...]]:
    found = [] if dependant.call not in RULES else [RULES[dependant.call]]
    for inner in dependant.dependencies:
        found += _rules(inner)
    return found
