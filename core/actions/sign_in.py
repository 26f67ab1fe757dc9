"""Signing in and staying signed in: refresh tokens that are spent once, in families.

Each refresh spends its token and gives the next of the same family. A token that comes back after it was spent has
been copied: the whole family ends, and whoever holds any of it signs in again.
"""

from __future__ import annotations

import uuid
from datetime import timedelta

from core.actions.unit_of_work import Unit
from core.errors import NotAuthenticated
from core.ids import new_id, new_token, token_digest
from core.postgres import audit, users
from core.postgres.table import Record


async def open_family(unit: Unit, user: Record, life_s: int, address: str) -> str:
    """The first refresh token of a sign-in."""
    await audit.write(
        unit.connection,
        unit.now,
        agency_id=user["agency_id"],
        actor_kind="user",
        actor_id=user["id"],
        action="user.signed_in",
        subject_kind="user",
        subject_id=user["id"],
        address=address or None,
    )
    return await _issue(unit, user["id"], new_id(), life_s)


async def note_refusal(unit: Unit, user: Record, address: str) -> None:
    """Keep that somebody tried to be this user."""
    await audit.write(
        unit.connection,
        unit.now,
        agency_id=user["agency_id"],
        actor_kind="unknown",
        actor_id=None,
        action="user.sign_in_refused",
        subject_kind="user",
        subject_id=user["id"],
        address=address or None,
    )


async def refresh(unit: Unit, token: str, life_s: int) -> tuple[Record, str] | NotAuthenticated:
    """The user and her next refresh token; or, returned so that what it changed is kept, the error to raise.

    `token_expired` when it is too old, `token_revoked` when its family was ended, `credentials_invalid` when it is
    none of ours.
    """
    found = await users.lock_refresh_token(unit.connection, token_digest(token))
    if found is None:
        return NotAuthenticated("The refresh token is not valid; sign in again.")
    if found["revoked_at"] is not None:
        return NotAuthenticated("This sign-in was ended; sign in again.", code="token_revoked")
    if found["used_at"] is not None:
        await users.revoke_family(unit.connection, found["family_id"], unit.now)
        return NotAuthenticated("This refresh token was used before; sign in again.", code="token_revoked")
    if found["expires_at"] <= unit.now:
        return NotAuthenticated("The refresh token has expired; sign in again.", code="token_expired")
    user = await users.by_id(unit.connection, found["user_id"])
    if user is None or user["disabled_at"] is not None:
        return NotAuthenticated("This user may not sign in.", code="token_revoked")
    await users.spend_refresh_token(unit.connection, found["digest"], unit.now)
    return user, await _issue(unit, user["id"], found["family_id"], life_s)


async def sign_out(unit: Unit, token: str) -> None:
    """End the sign-in a refresh token belongs to; says nothing of one it does not know."""
    found = await users.lock_refresh_token(unit.connection, token_digest(token))
    if found is not None:
        await users.revoke_family(unit.connection, found["family_id"], unit.now)


async def _issue(unit: Unit, user_id: uuid.UUID, family_id: uuid.UUID, life_s: int) -> str:
    token = new_token("qr")
    expires_at = unit.now + timedelta(seconds=life_s)
    await users.add_refresh_token(unit.connection, token_digest(token), user_id, family_id, unit.now, expires_at)
    return token
