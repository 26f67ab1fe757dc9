"""Signing in and staying signed in: sessions, and the refresh tokens that carry one on, each spent once.

Each refresh spends its token and gives the next one of the session. A token that comes back long after it was spent has
been copied: the session ends, and whoever holds any of it signs in again. Two tabs of one browser may ask at the same
moment, and an answer may be lost on its way: for GRACE after it was spent, and while its successor is unused, the same
token gives the same successor again. The successor is computed from its predecessor (HMAC-SHA256 under a key of the
installation), so nothing but digests is kept.
"""

from __future__ import annotations

import base64
import hmac
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from core.actions.unit_of_work import Unit
from core.errors import NotAuthenticated
from core.ids import new_id, new_token, token_digest
from core.postgres import audit, sessions
from core.postgres.table import Record
from core.postgres.users import USERS

GRACE: Final = timedelta(seconds=10)
"""How long a spent refresh token still gives its successor."""
MAX_USER_AGENT_CHARS: Final = 60


@dataclass(frozen=True, slots=True)
class Visit:
    """From where somebody signs in."""

    address: str = ""
    user_agent: str = ""
    """Browser and system, in two words."""


@dataclass(frozen=True, slots=True)
class Proof:
    """How somebody has proved who she is."""

    method: str
    """password, passkey, provider or code"""
    second_factor: str | None = None
    """totp, recovery, passkey or provider"""
    enrol_only: bool = False
    """Her agency wants a second factor of her role and she has none yet: all she may do is enrol one."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session as its user takes it along."""

    user: Record
    session_id: uuid.UUID
    enrol_only: bool
    refresh_token: str


async def open_session(unit: Unit, user: Record, proof: Proof, visit: Visit, life_s: int) -> Opened:
    """Begin a session of a user who has proved who she is."""
    session_id = new_id()
    expires_at = unit.now + timedelta(seconds=life_s)
    await sessions.add(
        unit.connection,
        {
            "id": session_id,
            "agency_id": user["agency_id"],
            "user_id": user["id"],
            "created_at": unit.now,
            "last_seen_at": unit.now,
            "confirmed_at": unit.now,
            "expires_at": expires_at,
            "address": visit.address or None,
            "user_agent": visit.user_agent[:MAX_USER_AGENT_CHARS] or None,
            "method": proof.method,
            "second_factor": proof.second_factor,
            "enrol_only": proof.enrol_only,
        },
    )
    await note(unit, user, "user.signed_in", visit.address, method=proof.method, second_factor=proof.second_factor)
    token = new_token("qr")
    await sessions.add_token(unit.connection, token_digest(token), user, session_id, unit.now, expires_at)
    return Opened(user, session_id, proof.enrol_only, token)


async def note(unit: Unit, user: Record, action: str, address: str, *, known: bool = True, **detail: Any) -> None:
    """Write into the audit what happened to a user's account; `known`: by herself, else by who knows whom."""
    await audit.write(
        unit.connection,
        unit.now,
        agency_id=user["agency_id"],
        actor_kind="user" if known else "unknown",
        actor_id=user["id"] if known else None,
        action=action,
        subject_kind="user",
        subject_id=user["id"],
        address=address or None,
        detail={name: value for name, value in detail.items() if value is not None},
        role=user["role"] if known else None,
    )


async def note_refusal(unit: Unit, user: Record, address: str, why: str) -> None:
    """Keep that somebody tried to be this user; `why`: password, second_factor, disabled."""
    await note(unit, user, "user.sign_in_refused", address, known=False, why=why)


async def note_unknown(unit: Unit, address: str) -> None:
    """Keep that somebody tried a name that no user has; not the name, which may be a password typed too early."""
    await audit.write(
        unit.connection, unit.now, agency_id=None, actor_kind="unknown", actor_id=None, action="user.sign_in_refused",
        address=address or None, detail={"why": "unknown"},
    )  # fmt: skip


async def refresh(
    unit: Unit, user: Record, token: str, key: bytes, visit: Visit, life_s: int
) -> Opened | NotAuthenticated:
    """The user's session with its next refresh token; or, returned so that what it changed is kept, the error to raise.

    `user`: whom the token was given to. `token_expired` when it is too old, `token_revoked` when its session was
    ended, `credentials_invalid` when it is none of ours.
    """
    found = await sessions.lock_token(unit.connection, token_digest(token))
    if found is None:
        return NotAuthenticated("The refresh token is not valid; sign in again.")
    if found["revoked_at"] is not None:
        return NotAuthenticated("This sign-in was ended; sign in again.", code="token_revoked")
    successor = _successor(token, key)
    if found["used_at"] is not None:
        next_one = await sessions.lock_token(unit.connection, token_digest(successor))
        if next_one is None or next_one["used_at"] is not None or unit.now - found["used_at"] > GRACE:
            await _end_copied(unit, user, found["family_id"], visit)
            return NotAuthenticated("This refresh token was used before; sign in again.", code="token_revoked")
    if found["expires_at"] <= unit.now:
        return NotAuthenticated("The refresh token has expired; sign in again.", code="token_expired")
    present = await USERS.find(unit.connection, user["agency_id"], user["id"])
    if present is None or present["disabled_at"] is not None:
        return NotAuthenticated("This user may not sign in.", code="token_revoked")
    session = await sessions.get(unit.connection, user["id"], found["family_id"])
    if found["used_at"] is None:
        expires_at = unit.now + timedelta(seconds=life_s)
        await sessions.spend_token(unit.connection, found["digest"], unit.now)
        await sessions.add_token(unit.connection, token_digest(successor), present, session["id"], unit.now, expires_at)
        await sessions.see(unit.connection, session["id"], unit.now, expires_at, visit.address or None)
    return Opened(present, session["id"], session["enrol_only"], successor)


async def sign_out(unit: Unit, token: str) -> None:
    """End the session a refresh token belongs to; says nothing of one it does not know."""
    found = await sessions.lock_token(unit.connection, token_digest(token))
    if found is not None:
        await sessions.end(unit.connection, [found["family_id"]], unit.now, "signed_out")


async def _end_copied(unit: Unit, user: Record, session_id: uuid.UUID, visit: Visit) -> None:
    if await sessions.end(unit.connection, [session_id], unit.now, "token_reused"):
        await note(unit, user, "user.token_reused", visit.address, known=False, session=str(session_id))
        unit.emit(user["agency_id"], "notice.token_reused", {"user_id": str(user["id"]), "session_id": str(session_id)})


def _successor(token: str, key: bytes) -> str:
    derived = hmac.digest(key, b"refresh:" + token.encode(), "sha256")
    return "qr_" + base64.urlsafe_b64encode(derived).decode().rstrip("=")
