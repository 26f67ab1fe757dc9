"""Every route asked as everybody: each role of its own agency and for another's ids, who is related to her, expired,
ended and missing tokens, and devices. What may pass is what the route says of itself in the OpenAPI document
(`x-qorgan-roles`); a route that says nothing fails."""

from __future__ import annotations

import collections
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import httpx
import pytest

from api import even_time
from api.app import create_app
from api.auth import make_access_token
from api.deps import ApiContext
from api.ingest.appender import Appender
from api.ingest.registry import Registry
from api.live.tail import FeedTail
from api.panic_desk import PanicDesk, PanicDrain
from core.actions.users import ROLES
from core.clock import utc_now
from core.ids import new_id
from core.postgres.database import Database
from core.settings import Settings
from tests.integration.authz.asks import Operation, operations
from tests.integration.authz.matrix_world import World, make_world

USERS: Final = frozenset(ROLES)
DEVICES: Final = frozenset({"device", "protected_device", "gateway"})
KNOWN: Final = USERS | DEVICES | {"enrolling", "anyone"}
OUTSIDE: Final = {"PUT /v1/sign-in-provider"}
"""Asks a machine elsewhere when it passes: asked only by who may not."""
UNMADE: Final = (409, 422)
"""Allowed, and its state or a sample body forbids it: it got past who asks."""
OVER_SEALS: Final = {
    "GET /v1/audit", "GET /v1/reports/looks",  # somebody has to audit what is sealed too: ids, no identity
    "POST /v1/break-glass", "GET /v1/break-glass", "POST /v1/break-glass/{glass_id}/review",
}  # fmt: skip
"""Tell ids of sealed cases, rightly: who opened what was sealed is there to be reviewed by who could not."""
SPECIAL: Final[dict[str, tuple[int, ...]]] = {
    "GET /v1/sign-in-provider": (404,),  # the agency has none
    "DELETE /v1/sign-in-provider": (404,),
    "POST /v1/auth/token": (400, 401),
    "POST /v1/auth/password": (400, 422),
    "POST /v1/auth/passkey": (400, 401, 422),
    "POST /v1/auth/oidc/exchange": (401,),
    "GET /v1/auth/oidc/{agency_id}/start": (404,),
    "GET /v1/auth/oidc/{agency_id}/callback": (404,),
    "GET /readyz": (503,),  # no detection in this test
    "GET /watchdog": (503,),
    "POST /v1/me/confirm": (401,),
    "POST /v1/inbound/sms": (401,),  # neither a gateway nor a phone has signed it
    "GET /metrics": (404,),  # asked from outside
    "GET /v1/people/{person_id}/erasure": (404,),  # she has not asked
    "POST /v1/people/{person_id}/erasure/confirm": (404,),
    "POST /v1/suspensions/{suspension_id}/confirm": (403,),  # one of them asked for it
    "POST /v1/break-glass": (404,),  # it is not sealed
    "GET /v1/shared-incidents/{incident_id}": (404,),  # nobody shares one
    "POST /v1/shared-incidents/{incident_id}/acknowledge": (404,),
    "DELETE /v1/on-call/{duty}": (404,),  # there is none
    "DELETE /v1/on-call/stand-ins/{stand_in_id}": (404,),  # one of them has taken it back
    "DELETE /v1/escalation-policies/{severity}": (404,),  # the default stands
    "DELETE /v1/users/{user_id}/channels/{channel}": (404,),  # she has none
    "PATCH /v1/me/passkeys/{passkey_id}": (404,),  # one of them has it
    "POST /v1/receipts/sms/{gateway}": (404,),  # there is no gateway
    "POST /v1/receipts/email": (401,),  # nobody has signed it
    "POST /v1/dead-letters/{delivery_id}/retry": (404,),  # the first of them had it sent again
    "POST /v1/dead-letters/{delivery_id}/dismiss": (404,),
    "POST /v1/me/messages/{delivery_id}/{state}": (404,),  # it was sent to somebody else
}
"""What who may ask is answered beside success."""


@dataclass
class Stage:
    """An application, two agencies in it, and every operation."""

    context: ApiContext
    client: httpx.AsyncClient
    here: World
    there: World
    operations: list[Operation]

    async def ask(self, operation: Operation, token: str | None, places: dict[str, str], **more: Any) -> httpx.Response:
        """One request; `body_places` are the ids of its body, where others than its path's."""
        body = operation.body(more.get("body_places", places))
        sent: dict[str, Any] = {"data": body} if operation.form else {"json": body}
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self.client.request(
            operation.method, operation.address(places), params=more.get("params"), headers=headers,
            **(sent if body is not None else {}),
        )  # fmt: skip

    def token(self, role: str, *, related: bool = False, age_s: float = 0, **more: Any) -> str:
        """An access token of a user of this agency."""
        now = self.context.clock() - timedelta(seconds=age_s)
        return make_access_token(self.here.actor(role, related=related, **more), self.context.token_key, now, 900)


ROUTES: Final[list[Operation]] = []
"""What each application of this process serves: the same routes, and to describe them takes two seconds."""


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers to PINs come after a hundredth of a second, or a multiple of it: hundreds are asked for."""
    monkeypatch.setattr(even_time, "STEP_S", 0.01)


@pytest.fixture
async def stage(settings: Settings, posts: Any, database: Database, redis_client: Any) -> AsyncIterator[Stage]:
    """The API on the test's stores, connected as services are, in two agencies' use."""
    settings = settings.model_copy(update={"address_requests_per_second": 1e6, "token_requests_per_second": 1e6})
    registry = Registry(posts.device, utc_now)
    tail = FeedTail(settings, posts.device, redis_client, utc_now)
    context = ApiContext(settings, posts.api, redis_client, device_database=posts.device, registry=registry, tail=tail)
    context.panic_desk = PanicDesk(settings, posts.device, redis_client, registry, tail, utc_now)
    context.appender = appender = Appender(settings, redis_client, utc_now)
    drain = PanicDrain(context.panic_desk, 0.05)
    services = [registry, tail, appender, drain]
    for service in services:
        await service.start()
    app = create_app(context)
    transport = httpx.ASGITransport(app, client=("8.8.8.8", 1234))
    async with httpx.AsyncClient(transport=transport, base_url="http://qorgan.test") as client:
        here, there = [await make_world(context, client, database, mark) for mark in ("Qaraqat", "Sholpan")]
        await registry.refresh()
        if not ROUTES:
            ROUTES.extend(operations(app.openapi()))
        yield Stage(context, client, here, there, list(ROUTES))
    context.passwords.close()
    for service in reversed(services):
        await service.stop()


def leaks(answer: httpx.Response, traces: set[str]) -> list[str]:
    """Which of these stand in an answer, its headers among it."""
    text = answer.text + " ".join(answer.headers.values())
    return sorted(one for one in traces if one in text)


def code_of(answer: httpx.Response) -> str:
    """The stable code of a problem, or "" of none."""
    is_problem = answer.headers.get("content-type", "") == "application/problem+json"
    return str(answer.json()["code"]) if is_problem else ""


def told(findings: list[str]) -> str:
    """Findings, one a line."""
    return f"{len(findings)} findings:\n" + "\n".join(findings)


async def test_every_route_says_who_may_ask_it(stage: Stage) -> None:
    assert len(stage.operations) > 140
    for operation in stage.operations:
        assert operation.who, f"{operation.name} has no rule: give it a dependency of api.auth, or ANYONE"
        assert set(operation.who) <= KNOWN, operation.name
        if "anyone" in operation.who:
            assert operation.who == ("anyone",), operation.name


async def test_who_may_not_ask_is_refused_before_anything_else_is_said(stage: Stage) -> None:
    ended = new_id()
    stage.context.ended_sessions._ended[ended] = utc_now()
    wearer, bracelet = stage.here.tokens["victim"], stage.here.tokens["aggressor"]
    someone = stage.token("admin")
    cells: list[tuple[str, str | None, str, int, str]] = []
    for role in ROLES:
        cells.append((role, stage.token(role), role, 403, "role_forbidden"))
    expired, over = stage.token("admin", age_s=901), stage.token("admin", session_id=ended)
    enrolling = stage.token("admin", enrol_only=True)
    findings: list[str] = []
    for operation in stage.operations:
        who = set(operation.who)
        if "anyone" in who:
            continue
        asked = [
            (name, token, status, code) for name, token, role, status, code in cells if who & USERS and role not in who
        ]
        asked.append(("nobody", None, 401, "credentials_missing"))
        asked.append(("a stranger", "qd_made_up", 401, ""))
        if who & USERS:
            asked += [("expired", expired, 401, "token_expired"), ("ended", over, 401, "token_revoked")]
            asked += [("her phone", wearer, 401, ""), ("his bracelet", bracelet, 401, "")]
            asked += [("a gateway", stage.here.tokens["gateway"], 401, "")]
            if "enrolling" not in who:
                asked.append(("enrolling", enrolling, 403, "second_factor_enrolment_required"))
        else:
            asked += [("a user", someone, 401, ""), ("revoked", stage.here.tokens["revoked"], 401, "token_revoked")]
            if "gateway" not in who:
                asked.append(("a gateway", stage.here.tokens["gateway"], 401, ""))
            if "protected_device" in who:
                asked.append(("his bracelet", bracelet, 403, "device_forbidden"))
        for name, token, status, code in asked:
            answer = await stage.ask(operation, token, stage.here.places)
            if answer.status_code != status or (code and code_of(answer) != code):
                findings.append(f"{operation.name} as {name}: {answer.status_code} {answer.text[:120]}, not {status}")
            if found := leaks(answer, stage.here.traces | stage.there.traces):
                findings.append(f"{operation.name} as {name}: tells {found}")
    assert not findings, told(findings)


async def test_nobody_reaches_another_agency(stage: Stage) -> None:
    here, there = stage.here, stage.there
    findings: list[str] = []
    for operation in stage.operations:
        for role in sorted(set(operation.who) & USERS):
            token = stage.token(role)
            cells: list[tuple[str, dict[str, str], dict[str, Any], tuple[int, ...]]] = []
            if any(name.endswith("_id") or name == "name" for name in operation.parameters):
                cells.append(("their path", there.places, {"body_places": here.places}, (404,)))
                cells.append(("their path and body", there.places, {}, (404,)))
            if operation.names_things():
                cells.append(("their body", here.places, {"body_places": there.places}, (404, 409, 422)))
            for name in operation.filters:
                wanted = {"order": "order_id", "person": "person_id", "actor_id": "user_id", "subject_id": "person_id"}
                if value := there.places.get(wanted.get(name, name)):
                    cells.append((f"their {name}", here.places, {"params": {name: value}}, (200, 404)))
            for name, places, more, statuses in cells:
                if operation.name in OUTSIDE:
                    continue
                answer = await stage.ask(operation, token, places, **more)
                if answer.status_code not in statuses and code_of(answer) != "confirmation_required":
                    findings.append(f"{operation.name} as {role} with {name}: {answer.status_code} {answer.text[:160]}")
                own_question = set(more.get("params", {}).values())  # an audited reading says what was read for
                if found := leaks(answer, there.traces - own_question):
                    findings.append(f"{operation.name} as {role} with {name}: tells {found}")
    assert not findings, told(findings)


async def test_who_is_related_to_her_is_told_nothing_of_the_case(stage: Stage) -> None:
    here = stage.here
    findings: list[str] = []
    of_her = {
        "person_id", "order_id", "incident_id", "device_id", "zone_id", "contact_id", "suspension_id", "consent_id",
        "handover_id", "task_id", "export_id", "hold_id", "legal_hold_id", "look_id", "glass_id",
        "call_id",
    }  # fmt: skip
    for operation in stage.operations:
        for role in sorted(set(operation.who) & USERS):
            if operation.name in OUTSIDE:
                continue
            answer = await stage.ask(operation, stage.token(role, related=True), here.places)
            names_her = operation.names_things() or set(operation.parameters) & of_her
            if answer.is_success and names_her and operation.method != "GET" and "conflicts" not in operation.path:
                findings.append(f"{operation.name} as {role}: {answer.status_code} {answer.text[:160]}")
            if found := leaks(answer, here.of_case):
                findings.append(f"{operation.name} as {role}: {answer.status_code} tells {found}")
    assert not findings, told(findings)


async def test_a_sealed_case_is_told_to_nobody_who_is_not_named(stage: Stage, database: Database) -> None:
    here = stage.here
    case_id = uuid.UUID(here.places["case_id"])
    async with database.transaction() as connection:
        await connection.execute("DELETE FROM break_glass WHERE agency_id = $1", here.agency_id)
        await connection.execute("DELETE FROM case_named_user WHERE case_id = $1", case_id)
        await connection.execute(
            "INSERT INTO case_named_user (case_id, user_id, agency_id, named_at) VALUES ($1, $2, $3, $4)",
            case_id, here.users["caseworker"], here.agency_id, utc_now(),
        )  # fmt: skip
        await connection.execute("UPDATE protection_order SET sealed = true WHERE case_id = $1", case_id)
    findings: list[str] = []
    for operation in stage.operations:
        if operation.name in OUTSIDE | OVER_SEALS:
            continue
        told_of = here.of_case - ({here.places["incident_id"]} if operation.path == "/v1/board" else set())
        for role in sorted(set(operation.who) & USERS - {"caseworker"}):
            answer = await stage.ask(operation, stage.token(role), here.places)
            if found := leaks(answer, told_of):
                findings.append(f"{operation.name} as {role}: {answer.status_code} tells {found}")
    assert not findings, told(findings)


async def test_a_device_is_told_only_of_its_wearer(stage: Stage) -> None:
    here, there = stage.here, stage.there
    ids = {name: value for name, value in here.places.items() if name != "bracelet_id"}
    hers = {*ids.values(), *here.words, *(str(one) for one in here.users.values())}
    findings: list[str] = []
    for operation in stage.operations:
        if not set(operation.who) & {"device", "protected_device"} or operation.path == "/v1/me/token":
            continue
        for name, token, forbidden in (
            ("his bracelet", here.tokens["aggressor"], hers | there.traces),
            (
                "her phone",
                here.tokens["victim"],
                {*there.traces, here.places["aggressor_id"], here.places["bracelet_id"]},
            ),
            ("another's phone", there.tokens["victim"], here.traces),
        ):
            answer = await stage.ask(operation, token, here.places)
            passes = answer.is_success or answer.status_code in (*SPECIAL.get(operation.name, ()), 404, 409, 422)
            if not passes and code_of(answer) != "device_forbidden":
                findings.append(f"{operation.name} as {name}: {answer.status_code} {answer.text[:160]}")
            if found := leaks(answer, forbidden - {here.places["panic_id"]}):
                findings.append(f"{operation.name} as {name}: tells {found}")
    assert not findings, told(findings)


async def test_who_may_ask_is_answered_and_with_her_own_agency_s_alone(stage: Stage) -> None:
    here, there = stage.here, stage.there
    order = {"GET": 0, "POST": 1, "PUT": 2, "PATCH": 3, "DELETE": 4}
    findings: list[str] = []
    answered: collections.Counter[str] = collections.Counter()
    for operation in sorted(stage.operations, key=lambda one: order[one.method]):
        askers = sorted(set(operation.who) & USERS) if "anyone" not in operation.who else ["nobody"]
        for role in askers:
            if operation.name in OUTSIDE:
                continue
            token = None if role == "nobody" else stage.token(role, session_id=None)
            answer = await stage.ask(operation, token, here.places)
            other = (*UNMADE, *SPECIAL.get(operation.name, ()))
            own_proof = code_of(answer) == "confirmation_required"
            gone = operation.method == "DELETE" and answer.status_code == 404
            if not (answer.is_success or answer.status_code in other or own_proof or gone or answer.is_redirect):
                findings.append(f"{operation.name} as {role}: {answer.status_code} {answer.text[:160]}")
            if operation.method == "GET" and not answer.is_success and answer.status_code not in other:
                findings.append(f"{operation.name} as {role}: {answer.status_code} {answer.text[:160]}")
            if found := leaks(answer, there.traces):
                findings.append(f"{operation.name} as {role}: tells {found}")
            answered["made" if answer.is_success else f"{operation.name} {answer.status_code} {code_of(answer)}"] += 1
    assert not findings, told(findings)
    print(*answered.items(), sep="\n")
