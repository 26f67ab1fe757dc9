"""`/v1/me/…`: your own password, authenticator app, recovery codes and passkeys.

Each change wants a recent proof of who you are: a sign-in or `POST /v1/me/confirm` within `QORGAN_CONFIRMED_S`, so that
a session left open gives nobody a way in of his own.
"""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter

from api import sign_in_desk as desk
from api.auth import Actor, AnyUser
from api.deps import ApiContext, Context
from api.schemas.sign_in import (
    Confirmation,
    FactorsView,
    NewPasskey,
    OwnPassword,
    PasskeyName,
    PasskeyView,
    RecoveryCodes,
    TotpBegun,
    TotpCode,
)
from api.sign_in_gate import CODE_TRIES, CODE_WINDOW_S, Bucket
from core.actions import passkeys, records
from core.actions import second_factors as factors
from core.actions import users as user_actions
from core.actions.unit_of_work import Unit, act
from core.errors import InvalidInput, NotAllowed, NotAuthenticated, NotFound
from core.postgres import second_factors, sessions
from core.postgres.table import Record
from core.postgres.users import USERS

router = APIRouter(prefix="/v1/me", tags=["me"])


async def _own(unit: Unit, actor: Actor) -> Record:
    return await USERS.get(unit.connection, actor.agency_id, actor.user_id)


async def _confirmed(unit: Unit, actor: Actor, context: ApiContext) -> Record:
    """The user, who has lately proved who she is; raises NotAllowed `confirmation_required`."""
    if actor.session_id is not None:
        session = await sessions.get(unit.connection, actor.user_id, actor.session_id)
        if (unit.now - session["confirmed_at"]).total_seconds() <= context.settings.confirmed_s:
            return await _own(unit, actor)
    raise NotAllowed("Prove again who you are, then do this.", code="confirmation_required")


async def _whole(unit: Unit, actor: Actor, second_factor: str) -> None:
    """There is a second factor now, proved in this very session."""
    if actor.session_id is not None:
        await sessions.make_whole(unit.connection, actor.session_id, second_factor)


@router.get("/second-factors", response_model=FactorsView)
async def read_factors(actor: AnyUser, context: Context) -> dict[str, Any]:
    """What you have beside your password, and whether your agency wants it."""
    site = desk.passkey_site(context)
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _own(unit, actor)
        have = await factors.factors_of(unit.connection, user)
        kept = await second_factors.passkeys(unit.connection, user["id"])
    return {
        "totp": have.totp,
        "passkeys": kept,
        "recovery_codes": have.recovery_codes,
        "required": have.required,
        "password": user["password_hash"] is not None,
        "passkey_host": site.rp_id if site else None,
    }


@router.post("/confirm/options")
async def confirm_options(actor: AnyUser, context: Context) -> dict[str, Any]:
    """What the browser needs to confirm by one of your passkeys."""
    site = desk.required_site(context)
    async with act(context.database, context.clock(), actor.scope) as unit:
        return await passkeys.request_options_of(unit, await _own(unit, actor), site, context.token_key)


@router.post("/confirm", status_code=204)
async def confirm(body: Confirmation, actor: AnyUser, context: Context) -> None:
    """Prove again who you are: by password, by a code, or by a passkey."""
    session_id = actor.session_id
    if session_id is None or not (body.password or body.otp or body.passkey):
        raise InvalidInput("Give password, otp or passkey, in a session.")
    place = await context.gate.enter([Bucket("confirm", (str(session_id),), CODE_TRIES, CODE_WINDOW_S)])
    password_right = False
    if body.password is not None:
        async with context.database.connection(actor.scope) as connection:
            stored = (await USERS.get(connection, actor.agency_id, actor.user_id))["password_hash"]
        password_right = (await context.passwords.check(body.password.get_secret_value(), stored, known=True)).right
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _own(unit, actor)
        right = password_right or await _proved(unit, user, body, context)
        if right:
            await sessions.confirm(unit.connection, session_id, unit.now)
        else:
            await records.note(unit, actor, "user.confirmation_refused", "user", actor.user_id)
    if not right:
        raise NotAuthenticated("That was not right.", code="second_factor_invalid")
    await context.gate.leave(place)


async def _proved(unit: Unit, user: Record, body: Confirmation, context: ApiContext) -> bool:
    if body.otp is not None:
        return await factors.use_code(unit, user, body.otp, context.box) is not None
    if body.passkey is not None:
        site = desk.required_site(context)
        return await passkeys.check(unit, user, body.passkey, site, context.token_key, alone=False) is None
    return False


@router.put("/password", status_code=204)
async def change_password(body: OwnPassword, actor: AnyUser, context: Context) -> None:
    """Change your own password; your other sessions end."""
    password = user_actions.check_password(body.password.get_secret_value(), actor.username)
    async with act(context.database, context.clock(), actor.scope) as unit:
        await _confirmed(unit, actor, context)  # before the hash is paid for
    password_hash = await context.passwords.hash(password)
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _own(unit, actor)
        await user_actions.change_own_password(unit, user, password_hash, actor.session_id, actor.address)


@router.post("/totp", status_code=201, response_model=TotpBegun)
async def begin_totp(actor: AnyUser, context: Context) -> dict[str, str]:
    """Begin with an authenticator app: its secret, told only now; it counts once `confirm` got a code of it."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        return await factors.begin_totp(unit, user)


@router.post("/totp/confirm", response_model=RecoveryCodes)
async def confirm_totp(body: TotpCode, actor: AnyUser, context: Context) -> dict[str, Any]:
    """Have the app count from now on; answers the recovery codes, told only now."""
    place = await context.gate.enter(context.gate.code_buckets(actor.user_id, "enrolling"))
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        codes = await factors.confirm_totp(unit, user, body.code.strip(), context.box)
        await _whole(unit, actor, "totp")
        await records.note(unit, actor, "user.totp_added", "user", actor.user_id)
    await context.gate.leave(place)
    return {"recovery_codes": codes}


@router.delete("/totp", status_code=204)
async def remove_totp(actor: AnyUser, context: Context) -> None:
    """Remove the authenticator app."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        await factors.remove_totp(unit, user)
        await records.note(unit, actor, "user.totp_removed", "user", actor.user_id)


@router.post("/recovery-codes", response_model=RecoveryCodes)
async def make_recovery_codes(actor: AnyUser, context: Context) -> dict[str, Any]:
    """New recovery codes in place of those before, told only now."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        codes = await factors.new_recovery_codes(unit, user)
        await records.note(unit, actor, "user.recovery_codes_made", "user", actor.user_id)
    return {"recovery_codes": codes}


@router.post("/passkeys/options")
async def passkey_creation_options(actor: AnyUser, context: Context) -> dict[str, Any]:
    """What the browser needs to make a passkey (`navigator.credentials.create`)."""
    site = desk.required_site(context)
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        return await passkeys.creation_options(unit, user, site, context.token_key)


@router.post("/passkeys", status_code=201, response_model=PasskeyView)
async def add_passkey(body: NewPasskey, actor: AnyUser, context: Context) -> Record:
    """Keep a passkey that the browser has made."""
    site = desk.required_site(context)
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        passkey = await passkeys.register(unit, user, body.name, body.credential, site, context.token_key)
        await _whole(unit, actor, "passkey")
        await records.note(unit, actor, "user.passkey_added", "user", actor.user_id, passkey=str(passkey["id"]))
    return passkey


@router.get("/passkeys", response_model=list[PasskeyView])
async def list_passkeys(actor: AnyUser, context: Context) -> list[Record]:
    """Your passkeys."""
    async with context.database.connection(actor.scope) as connection:
        return await second_factors.passkeys(connection, actor.user_id)


@router.patch("/passkeys/{passkey_id}", response_model=PasskeyView)
async def rename_passkey(passkey_id: uuid.UUID, body: PasskeyName, actor: AnyUser, context: Context) -> Record:
    """Call a passkey something else."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        found = await second_factors.rename_passkey(unit.connection, actor.user_id, passkey_id, body.name)
    if found is None:
        raise NotFound("There is no passkey with this id.")
    return found


@router.delete("/passkeys/{passkey_id}", status_code=204)
async def remove_passkey(passkey_id: uuid.UUID, actor: AnyUser, context: Context) -> None:
    """Remove a passkey; what was signed in by it goes on until ended."""
    async with act(context.database, context.clock(), actor.scope) as unit:
        user = await _confirmed(unit, actor, context)
        await factors.remove_passkey(unit, user, passkey_id)
        await records.note(unit, actor, "user.passkey_removed", "user", actor.user_id, passkey=str(passkey_id))
