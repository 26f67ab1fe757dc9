"""`/v1/auth/oidc`: signing in at an agency's own provider.

The browser goes `start` → provider → `callback` → console. What belongs to the flow (state, nonce, PKCE verifier)
travels in a sealed HttpOnly cookie of that browser, so no other can end the flow; what the callback hands over is a
one-time code in an HttpOnly cookie, which the console exchanges by POST. No token is ever in an address.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import uuid
from datetime import timedelta
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from api import sign_in_desk as desk
from api.auth import Admin
from api.deps import ApiContext, Context
from api.oidc_provider import ProviderRefused
from api.schemas.access import TokenView
from api.schemas.sign_in import ProviderBody, ProviderCode, ProviderView
from api.who_may import ANYONE
from core.actions import records
from core.actions.provider_users import NotAdmitted, admit, has_second_factor
from core.actions.sign_in import Proof
from core.actions.unit_of_work import act
from core.clock import from_ms, to_ms
from core.domain.scope import Scope
from core.errors import Misconfigured, NotAuthenticated, NotFound, Unavailable
from core.ids import new_token, token_digest
from core.postgres import providers, sign_in_codes, user_secrets, users
from core.postgres.table import Record
from core.postgres.user_secrets import CLIENT

router = APIRouter(prefix="/v1", tags=["auth"])

FLOW_COOKIE: Final = "qorgan_oidc"
CODE_COOKIE: Final = "qorgan_sign_in"
EXCHANGE_PATH: Final = "/v1/auth/oidc"
FLOW_LIFE: Final = timedelta(minutes=10)
CODE_LIFE: Final = timedelta(minutes=5)
SEALED_FLOW: Final = "sign-in flow"
PROVIDER: Final = "provider"
MAX_PARAMETER_CHARS: Final = 4096
NOBODY: Final = uuid.UUID(int=0)


class Flow(msgspec.Struct, frozen=True):
    """A sign-in on its way."""

    state: str
    nonce: str
    verifier: str
    until_ms: int


def _redirect_uri(context: ApiContext, request: Request, agency_id: uuid.UUID) -> str:
    base = (context.settings.public_url or str(request.base_url)).rstrip("/")
    return f"{base}/v1/auth/oidc/{agency_id}/callback"


async def _provider(context: ApiContext, agency_id: uuid.UUID) -> Record:
    async with context.database.connection() as connection:
        provider = await providers.enabled(connection, agency_id)
    if provider is None:
        raise NotFound("This agency has no sign-in of its own.")
    return provider


@router.get("/auth/oidc/{agency_id}/start", status_code=303, response_class=RedirectResponse, openapi_extra=ANYONE)
async def start(agency_id: uuid.UUID, context: Context, request: Request) -> Response:
    """Send the browser to the agency's own sign-in."""
    provider = await _provider(context, agency_id)
    until = context.clock() + FLOW_LIFE
    flow = Flow(secrets.token_urlsafe(32), secrets.token_urlsafe(32), secrets.token_urlsafe(32), to_ms(until))
    try:
        url = await context.oidc.authorization_url(
            provider,
            redirect_uri=_redirect_uri(context, request, agency_id),
            state=flow.state,
            nonce=flow.nonce,
            verifier=flow.verifier,
        )
    except Unavailable:
        return _back("provider_unavailable")
    answer = RedirectResponse(url, 303)
    sealed = context.box.seal(SEALED_FLOW, agency_id, msgspec.json.encode(flow))
    answer.set_cookie(
        FLOW_COOKIE,
        base64.urlsafe_b64encode(sealed).decode(),
        max_age=int(FLOW_LIFE.total_seconds()),
        path=f"{EXCHANGE_PATH}/{agency_id}",
        secure=desk.is_secure(context, request),
        httponly=True,
        samesite="lax",  # it comes back by a redirect from the provider
    )
    return answer


@router.get("/auth/oidc/{agency_id}/callback", status_code=303, response_class=RedirectResponse, openapi_extra=ANYONE)
async def callback(
    agency_id: uuid.UUID, context: Context, request: Request, code: str = "", state: str = "", iss: str = ""
) -> Response:
    """Take what the provider's redirect brings, and send the browser to the console with a one-time code."""
    provider = await _provider(context, agency_id)
    try:
        one_time = await _take(context, request, provider, code, state, iss)
    except (ProviderRefused, NotAdmitted) as refused:
        answer = _back(refused.reason)
    except Unavailable:
        answer = _back("provider_unavailable")
    else:
        answer = RedirectResponse("/console/#signed-in", 303)
        answer.set_cookie(
            CODE_COOKIE,
            one_time,
            max_age=int(CODE_LIFE.total_seconds()),
            path=EXCHANGE_PATH,
            secure=desk.is_secure(context, request),
            httponly=True,
            samesite="strict",
        )
    answer.delete_cookie(FLOW_COOKIE, path=f"{EXCHANGE_PATH}/{agency_id}")
    return answer


async def _take(context: ApiContext, request: Request, provider: Record, code: str, state: str, iss: str) -> str:
    """A one-time code for the user the provider's code stands for; raises ProviderRefused, NotAdmitted, Unavailable."""
    agency_id, now, visit = provider["agency_id"], context.clock(), desk.visit_of(request)
    flow = _flow(context, request, agency_id)
    if flow is None or not hmac.compare_digest(flow.state.encode(), state.encode(errors="replace")):
        raise ProviderRefused("expired")
    if from_ms(flow.until_ms) <= now:
        raise ProviderRefused("expired")
    if (iss and iss != provider["issuer"]) or not code or len(code) > MAX_PARAMETER_CHARS:
        raise ProviderRefused("refused")
    async with act(context.database, now) as unit:
        fresh = await sign_in_codes.spend_challenge(
            unit.connection, token_digest(flow.state), now, from_ms(flow.until_ms)
        )
    if not fresh:
        raise ProviderRefused("expired")
    claims = await context.oidc.claims(
        provider,
        await _secret(context, provider),
        code=code,
        redirect_uri=_redirect_uri(context, request, agency_id),
        verifier=flow.verifier,
        nonce=flow.nonce,
        now=now,
    )
    one_time = new_token("qs")
    second = PROVIDER if has_second_factor(provider, claims) else None
    async with act(context.database, now, Scope(agency_id, NOBODY, "admin", visit.address)) as unit:
        user = await admit(unit, provider, claims, visit.address)
        await sign_in_codes.add(
            unit.connection, token_digest(one_time), user, PROVIDER, now, now + CODE_LIFE, {"second_factor": second}
        )
    return one_time


def _flow(context: ApiContext, request: Request, agency_id: uuid.UUID) -> Flow | None:
    try:
        sealed = base64.urlsafe_b64decode(request.cookies.get(FLOW_COOKIE, "")[:MAX_PARAMETER_CHARS])
        return msgspec.json.decode(context.box.open_sealed(SEALED_FLOW, agency_id, sealed), type=Flow)
    except (ValueError, Misconfigured, msgspec.DecodeError):
        return None


async def _secret(context: ApiContext, provider: Record) -> str | None:
    """The client secret: sealed in the database, else in a file, else none."""
    agency_id, sealed = provider["agency_id"], provider["client_secret_sealed"]
    if sealed is not None:
        async with context.database.connection(Scope(agency_id, NOBODY, "admin", "")) as connection:
            return await user_secrets.open_secret(connection, CLIENT, agency_id, sealed, context.box)
    return _secret_in_file(context, provider)


def _secret_in_file(context: ApiContext, provider: Record) -> str | None:
    directory = context.settings.oidc_secrets_dir
    try:
        return (directory / str(provider["agency_id"])).read_text().strip() if directory is not None else None
    except OSError:
        return None


def _back(reason: str) -> Response:
    return RedirectResponse(f"/console/#sign-in-failed={reason}", 303)


@router.post("/auth/oidc/exchange", response_model=TokenView, openapi_extra=ANYONE)
async def exchange(body: ProviderCode, context: Context, request: Request, response: Response) -> dict[str, Any]:
    """Exchange the one-time code in this browser's cookie for tokens; your second factor is asked for here too."""
    digest = token_digest(request.cookies.get(CODE_COOKIE, ""))
    async with context.database.connection() as connection:
        user = await users.by_code(connection, digest)
    if user is None:
        raise NotAuthenticated("There is no sign-in to finish; begin again.")
    async with context.database.connection(desk.scope_of(user, desk.visit_of(request))) as connection:
        detail = await sign_in_codes.peek(connection, digest, PROVIDER, context.clock())
    if detail is None:
        raise NotAuthenticated("This sign-in was finished, or took too long; begin again.")
    proof = Proof(PROVIDER, detail["second_factor"])
    passkey = msgspec.json.encode(body.passkey).decode() if body.passkey is not None else ""
    tokens = await desk.finish(context, request, response, user, proof, otp=body.otp, passkey=passkey, code=digest)
    response.delete_cookie(CODE_COOKIE, path=EXCHANGE_PATH)
    return tokens


# for administrators -----------------------------------------------------------------------------------------------


def _view(context: ApiContext, request: Request, provider: Record) -> Record:
    return {
        **provider,
        "has_secret": provider["client_secret_sealed"] is not None or _secret_in_file(context, provider) is not None,
        "redirect_uri": _redirect_uri(context, request, provider["agency_id"]),
    }


@router.get("/sign-in-provider", response_model=ProviderView, tags=["users"])
async def read_provider(actor: Admin, context: Context, request: Request) -> Record:
    """Your agency's own sign-in."""
    async with context.database.connection(actor.scope) as connection:
        provider = await providers.find(connection, actor.agency_id)
    if provider is None:
        raise NotFound("Your agency has no sign-in of its own.")
    return _view(context, request, provider)


@router.put("/sign-in-provider", response_model=ProviderView, tags=["users"])
async def set_provider(body: ProviderBody, actor: Admin, context: Context, request: Request) -> Record:
    """Set your agency's own sign-in; the provider is asked whether it is one before it is used."""
    context.oidc.check_address(body.issuer)
    if body.enabled:
        await context.oidc.announced(body.issuer)
    values = body.model_dump(exclude={"client_secret"})
    async with act(context.database, context.clock(), actor.scope) as unit:
        before = await providers.find(unit.connection, actor.agency_id)
        if body.client_secret is not None:
            secret = body.client_secret.get_secret_value()
            values["client_secret_sealed"] = await user_secrets.seal(
                unit.connection, CLIENT, actor.agency_id, actor.agency_id, secret, unit.now
            )
        elif before is not None and before["issuer"] != body.issuer:
            values["client_secret_sealed"] = None  # never sent to another provider than it was given for
        provider = await providers.put(unit.connection, actor.agency_id, values, unit.now)
        told = {name: values[name] for name in ("issuer", "provision", "default_role", "enabled", "email_domains")}
        await records.note(unit, actor, "sign_in_provider.set", "agency", actor.agency_id, **told)
    return _view(context, request, provider)


@router.delete("/sign-in-provider", status_code=204, tags=["users"])
async def remove_provider(actor: Admin, context: Context) -> None:
    """Sign in here alone again; sessions that go on are not ended."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        if not await providers.remove(unit.connection, actor.agency_id):
            raise NotFound("Your agency has no sign-in of its own.")
        await records.note(unit, actor, "sign_in_provider.removed", "agency", actor.agency_id)
