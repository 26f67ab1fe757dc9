"""No request waits for a thread: FastAPI runs a plain function, of a route or a dependency, in one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.app import ROUTERS


def calls(dependant: Dependant) -> Iterator[Any]:
    if dependant.call is not None:
        yield dependant.call
    for inner in dependant.dependencies:
        yield from calls(inner)


def is_awaited(call: Any) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)


def test_every_route_and_dependency_is_awaited() -> None:
    found = {call for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)
             for call in calls(route.dependant)}  # fmt: skip
    assert len(found) > len(ROUTERS)
    assert [call for call in found if not is_awaited(call)] == []
