"""The OpenAPI document as it is answered: errors as they are sent, and what a create says when it is repeated."""

from __future__ import annotations

import inspect
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute

from api.errors import MEDIA_TYPE

REPEATED: Final[dict[str, Any]] = {"description": "It was there already: as it is now."}
PROBLEM: Final[dict[str, Any]] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
STATES: Final = {"/readyz", "/watchdog"}
"""Their 503 is no error: it says that some part is not ready, or does not move."""
PAGES: Final = {("/seen/{token}", "429"), ("/seen/{token}", "503")}
"""Answered by a page: who reads it is a person."""


def tell_repeats(router: APIRouter) -> None:
    """Describe the 200 of routes that answer 201 to what is new."""
    for route in router.routes:
        chooses = isinstance(route, APIRoute) and "response" in inspect.signature(route.endpoint).parameters
        if isinstance(route, APIRoute) and chooses and route.status_code == 201:
            extra = route.openapi_extra or {}
            route.openapi_extra = {**extra, "responses": {"200": REPEATED, **extra.get("responses", {})}}


def describe(app: FastAPI) -> None:
    """Have the application answer a document whose errors are problems, in their own media type."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _mend(operation["responses"], path)
        return plain()

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI says it is done


def _mend(responses: dict[str, Any], path: str) -> None:
    if "200" in responses and "content" not in responses["200"] and "content" in responses.get("201", {}):
        responses["200"] = {**responses["200"], "content": responses["201"]["content"]}
    for status, response in responses.items():
        if status[0] in "45" and not (path in STATES and status == "503") and (path, status) not in PAGES:
            response["content"] = PROBLEM
