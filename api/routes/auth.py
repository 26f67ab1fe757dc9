"""`/v1/auth`: sign in, stay signed in, sign out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request

from api.auth import Actor, client_address, make_access_token
from api.deps import ApiContext, Context
from api.schemas.access import TokenView
from core.actions import sign_in
from core.actions.unit_of_work import act
from core.actions.users import MAX_PASSWORD_CHARS, MAX_USERNAME_CHARS
from core.errors import InvalidInput, NotAuthenticated
from core.postgres import users
from core.postgres.table import Record

router = APIRouter(prefix="/v1/auth", tags=["auth"])

MAX_TOKEN_CHARS = 500


@router.post("/token", response_model=TokenView)
async def make_token(
    context: Context,
    request: Request,
    grant_type: Annotated[str, Form()] = "password",
    username: Annotated[str, Form(max_length=1000)] = "",
    password: Annotated[str, Form(max_length=1000)] = "",
    refresh_token: Annotated[str, Form(max_length=MAX_TOKEN_CHARS)] = "",
    scope: Annotated[str, Form(max_length=1000)] = "",  # noqa: ARG001 - part of the OAuth2 form; roles say what one may
) -> dict[str, Any]:
    """Sign in by name and password, or go on by a refresh token (`grant_type=refresh_token`), which is spent."""
    address = client_address(request)
    if grant_type == "refresh_token":
        return await _refresh(context, refresh_token)
    if grant_type != "password":
        raise InvalidInput("grant_type is password or refresh_token.")
    context.logins.check(address, username.lower()[:MAX_USERNAME_CHARS])
    return await _sign_in(context, username, password, address)


async def _sign_in(context: ApiContext, username: str, password: str, address: str) -> dict[str, Any]:
    # A name or password that no user can have takes the same road, and the same time, as a wrong one.
    possible = (
        "\x00" not in username and 0 < len(username) <= MAX_USERNAME_CHARS and len(password) <= MAX_PASSWORD_CHARS
    )
    user = None
    if possible:
        async with context.database.connection() as connection:
            user = await users.by_username(connection, username.strip())
    right = await context.passwords.verify(password[:MAX_PASSWORD_CHARS], user["password_hash"] if user else None)
    now = context.clock()
    if user is not None and (not right or user["disabled_at"] is not None):
        async with act(context.database, now) as unit:
            await sign_in.note_refusal(unit, user, address)
    if user is None or not right or user["disabled_at"] is not None:
        raise NotAuthenticated("The user name or the password is wrong.")
    async with act(context.database, now) as unit:
        refresh_token = await sign_in.open_family(unit, user, context.settings.refresh_token_s, address)
    return _tokens(context, user, refresh_token)


async def _refresh(context: ApiContext, token: str) -> dict[str, Any]:
    async with act(context.database, context.clock()) as unit:
        outcome = await sign_in.refresh(unit, token, context.settings.refresh_token_s)
    if isinstance(outcome, NotAuthenticated):
        raise outcome
    user, refresh_token = outcome
    return _tokens(context, user, refresh_token)


def _tokens(context: ApiContext, user: Record, refresh_token: str) -> dict[str, Any]:
    life_s = context.settings.access_token_s
    actor = Actor(user["id"], user["agency_id"], user["role"], user["username"])
    return {
        "access_token": make_access_token(actor, context.token_key, context.clock(), life_s),
        "refresh_token": refresh_token,
        "expires_in": life_s,
    }


@router.post("/logout", status_code=204)
async def end_sign_in(context: Context, refresh_token: Annotated[str, Form(max_length=MAX_TOKEN_CHARS)]) -> None:
    """End the sign-in this refresh token belongs to; access tokens run out by themselves."""
    async with act(context.database, context.clock()) as unit:
        await sign_in.sign_out(unit, refresh_token)
