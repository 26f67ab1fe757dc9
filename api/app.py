"""The application: routes, errors and bounds around a context that somebody else built and will close."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute

from api import contact_page, link_page
from api.bounds import Bounds
from api.deps import ApiContext
from api.description import describe, tell_repeats
from api.errors import add_handlers
from api.ledger_gate import ClosedDoor
from api.live import own_socket
from api.live import socket as live_socket
from api.routes import (
    access,
    agencies,
    audit,
    auth,
    board,
    contact_invitations,
    contacts,
    dead_letters,
    devices,
    drills,
    erasure,
    escalation_policies,
    evidence,
    feasibility,
    gaps,
    gateways,
    handovers,
    inbound,
    incidents,
    legal_grounds,
    live_links,
    maintenance,
    me,
    oidc,
    operations,
    orders,
    outages,
    own_contacts,
    panic,
    panic_timers,
    people,
    pings,
    policies,
    push_subscriptions,
    receipts,
    reports,
    retention,
    second_factors,
    sessions,
    shared_incidents,
    sight,
    sign_in_policy,
    statistics,
    subject_export,
    suspensions,
    tasks,
    units,
    user_channels,
    users,
    zones,
)
from api.schemas.base import Problem
from api.throttle import Throttle
from api.who_may import tell_who_may
from core.token_key import derived_key

ROUTERS: tuple[APIRouter, ...] = (
    panic_timers.router,
    drills.router,
    panic.router,
    operations.router,
    auth.router,
    oidc.router,
    me.router,
    own_contacts.router,
    push_subscriptions.router,
    receipts.router,
    dead_letters.router,
    second_factors.router,
    sessions.router,
    sign_in_policy.router,
    agencies.router,
    users.router,
    people.router,
    erasure.router,
    retention.router,
    subject_export.router,
    evidence.router,
    devices.router,
    gateways.router,
    orders.router,
    zones.router,
    contacts.router,
    contact_invitations.router,
    units.router,
    policies.router,
    escalation_policies.router,
    user_channels.router,
    shared_incidents.router,
    suspensions.router,
    legal_grounds.router,
    feasibility.router,
    tasks.router,
    handovers.router,
    access.router,
    sight.router,
    audit.router,
    reports.router,
    maintenance.router,
    gaps.router,
    statistics.router,
    pings.router,
    outages.router,
    inbound.router,
    incidents.router,
    live_links.router,
    board.router,
    live_socket.router,
    own_socket.router,
    live_socket.elsewhere,
)
"""Every route of the API, in the order in which a request is held against them: a panic's come first. The console's
static files are mounted beside them."""

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": Problem, "description": "What was sent cannot be taken, or not by you, or not now."},
    "5XX": {"model": Problem, "description": "A store is away, or something failed here; try again."},
    422: {"model": Problem, "description": "What was sent cannot be right."},
}
"""How every route answers what it cannot do."""


@functools.cache
def described_routes() -> Sequence[BaseRoute]:
    """Every route of `ROUTERS`, ready for requests, with its errors, who may ask it, and what a repeat is answered.

    These are the routers' own, the same in every application of a process. An application that includes a router has
    its own copy of each route made at its first request, with all models and dependencies anew: half a second of a
    core before the first panic after a start.
    """
    for router in ROUTERS:
        tell_who_may(router)
        tell_repeats(router)
    routes = [route for router in ROUTERS for route in router.routes]
    fields = APIRoute("/", lambda: None, responses=ERRORS).response_fields
    for route in routes:
        if isinstance(route, APIRoute):
            route.responses = {**ERRORS, **route.responses}
            route.response_fields = {**fields, **route.response_fields}
    return tuple(routes)


def create_app(context: ApiContext) -> FastAPI:
    """The ASGI application over `context`; starts nothing and closes nothing."""
    app = FastAPI(
        title="Qorgan",
        version="0.1.0",
        description="Panic, positions of a protected person and of whom a court keeps away, and live dispatch.",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
    )
    app.state.context = context
    add_handlers(app)
    app.router.routes.extend(described_routes())
    describe(app)
    mount_console(app, context)
    link_page.mount(app)
    contact_page.mount(app)
    if origins := [origin.strip() for origin in context.settings.cors_origins.split(",") if origin.strip()]:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["authorization", "content-type"],
            max_age=600,
        )
    if context.ledger_gate is not None:
        app.add_middleware(ClosedDoor, gate=context.ledger_gate)
    app.add_middleware(
        Throttle,
        redis=context.redis,
        key=derived_key(context.settings, "throttle"),
        address_per_second=context.settings.address_requests_per_second,
        token_per_second=context.settings.token_requests_per_second,
    )
    app.add_middleware(
        Bounds, max_body_bytes=context.settings.max_body_bytes, timeout_s=context.settings.request_timeout_s
    )
    return app


def mount_console(app: FastAPI, context: ApiContext) -> None:
    """Serve the dispatcher's console under /console."""
    from api import console

    if hasattr(console, "mount"):
        console.mount(app, context.settings)
