"""`/v1/auth`: sign in, stay signed in, sign out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from api import sign_in_desk as desk
from api.auth import client_address
from api.deps import ApiContext, Context
from api.schemas.access import TokenView
from api.schemas.sign_in import PasskeyAnswer, PasswordByCode, SignInOptions
from api.who_may import ANYONE
from core.actions import passkeys, sign_in
from core.actions import users as user_actions
from core.actions.sign_in import Proof
from core.actions.unit_of_work import act
from core.errors import InvalidInput, NotAuthenticated
from core.ids import token_digest
from core.postgres import providers, users

router = APIRouter(prefix="/v1/auth", tags=["auth"])

MAX_TOKEN_CHARS = 500


@router.get("/options", response_model=SignInOptions, openapi_extra=ANYONE)
async def read_options(context: Context) -> dict[str, Any]:
    """What a sign-in page may offer: passkeys and for which host, and agencies that sign in by themselves."""
    site = desk.passkey_site(context)
    async with context.database.connection() as connection:
        found = await providers.offered(connection)
    return {"passkey_host": site.rp_id if site else None, "agencies": found}


@router.post("/token", response_model=TokenView, openapi_extra=ANYONE)
async def make_token(
    context: Context,
    request: Request,
    response: Response,
    grant_type: Annotated[str, Form()] = "password",
    username: Annotated[str, Form(max_length=1000)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    otp: Annotated[str, Form(max_length=desk.MAX_CODE_CHARS)] = "",
    passkey: Annotated[str, Form(max_length=passkeys.MAX_CREDENTIAL_CHARS)] = "",
    refresh_token: Annotated[str, Form(max_length=MAX_TOKEN_CHARS)] = "",
    scope: Annotated[str, Form(max_length=1000)] = "",  # noqa: ARG001 - part of the OAuth2 form; roles say what one may
) -> dict[str, Any]:
    """Sign in by name and password, or go on by a refresh token (`grant_type=refresh_token`), which is spent.

    Who has a second factor gives it too, as `otp` (a code of the app, or a recovery code) or `passkey` (JSON); without
    it the answer is 401 `second_factor_required` and names what is possible.
    """
    if grant_type == "refresh_token":
        return await _refresh(context, request, refresh_token)
    if grant_type != "password":
        raise InvalidInput("grant_type is password or refresh_token.")
    user, known = await desk.check_password(context, request, username, password)
    return await desk.finish(context, request, response, user, Proof("password"), otp=otp, passkey=passkey, known=known)


async def _refresh(context: ApiContext, request: Request, token: str) -> dict[str, Any]:
    visit = desk.visit_of(request)
    async with context.database.connection() as connection:
        user = await users.by_refresh_token(connection, token_digest(token))
    if user is None:
        raise NotAuthenticated("The refresh token is not valid; sign in again.")
    async with act(context.database, context.clock(), desk.scope_of(user, visit)) as unit:
        outcome = await sign_in.refresh(unit, user, token, context.token_key, visit, context.settings.refresh_token_s)
    if isinstance(outcome, NotAuthenticated):
        raise outcome
    return desk.tokens_of(context, outcome)


@router.post("/passkey/options", openapi_extra=ANYONE)
async def passkey_options(context: Context) -> dict[str, Any]:
    """What the browser needs to sign in by passkey alone (`navigator.credentials.get`)."""
    return passkeys.request_options(desk.required_site(context), context.token_key, context.clock())


@router.post("/passkey", response_model=TokenView, openapi_extra=ANYONE)
async def sign_in_by_passkey(
    body: PasskeyAnswer, context: Context, request: Request, response: Response
) -> dict[str, Any]:
    """Sign in by a passkey alone: it has verified its user, so it is both factors."""
    site, visit = desk.required_site(context), desk.visit_of(request)
    credential_id = passkeys.credential_id_of(body.credential)
    place = await context.gate.enter(context.gate.address_buckets(visit.address))
    async with context.database.connection() as connection:
        user = await users.by_passkey(connection, credential_id)
    if user is None:
        raise NotAuthenticated("This passkey is not known here.")
    async with act(context.database, context.clock(), desk.scope_of(user, visit)) as unit:
        refused = await passkeys.check(unit, user, body.credential, site, context.token_key, alone=True)
        if refused is not None:
            await sign_in.note_refusal(unit, user, visit.address, "passkey")
    if refused is not None:
        raise NotAuthenticated("The passkey was not accepted.")
    await context.gate.leave(place)
    return await desk.finish(context, request, response, user, Proof("passkey", "passkey"))


@router.post("/password", status_code=204, openapi_extra=ANYONE)
async def set_password_by_code(body: PasswordByCode, context: Context, request: Request, response: Response) -> None:
    """Set your password by the code your administrator gave you; every session of yours ends."""
    visit, password = desk.visit_of(request), body.password.get_secret_value()
    user_actions.check_password(password, body.username)
    place = await context.gate.enter(context.gate.address_buckets(visit.address))
    digest = user_actions.password_code_digest(body.code)
    async with context.database.connection() as connection:
        user = await users.by_code(connection, digest)
    if user is None or user["username"].casefold() != body.username.strip().casefold():
        raise user_actions.wrong_code()
    password_hash = await context.passwords.hash(password)
    async with act(context.database, context.clock(), desk.scope_of(user, visit)) as unit:
        await user_actions.set_password_by_code(unit, user, digest, password_hash, visit)
    await context.gate.leave(place)
    desk.give_known(context, request, response, user)


@router.post("/logout", status_code=204, openapi_extra=ANYONE)
async def end_sign_in(
    context: Context, request: Request, refresh_token: Annotated[str, Form(max_length=MAX_TOKEN_CHARS)]
) -> None:
    """End the session this refresh token belongs to, its access tokens with it."""
    async with context.database.connection() as connection:
        user = await users.by_refresh_token(connection, token_digest(refresh_token))
    if user is None:
        return
    scope = desk.scope_of(user, sign_in.Visit(client_address(request)))
    async with act(context.database, context.clock(), scope) as unit:
        await sign_in.sign_out(unit, refresh_token)
