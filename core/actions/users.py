"""Users of an agency: added, changed, disabled, helped back in."""

from __future__ import annotations

import base64
import secrets
import uuid
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.sign_in import Visit, note
from core.actions.unit_of_work import Unit, act
from core.domain.password_rules import MAX_CHARS as MAX_PASSWORD_CHARS
from core.domain.password_rules import weakness
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_id, token_digest
from core.passwords import PasswordDesk
from core.postgres import agencies, second_factors, sessions, sign_in_codes, users
from core.postgres.database import Database
from core.postgres.table import Record

ROLES: Final = ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")
MAX_USERNAME_CHARS: Final = 100
CODE_BYTES: Final = 10
SET_PASSWORD: Final = "set_password"  # noqa: S105 - a purpose

__all__ = [
    "MAX_PASSWORD_CHARS",
    "MAX_USERNAME_CHARS",
    "ROLES",
    "add_user",
    "add_user_by_agency_name",
    "change_own_password",
    "change_user",
    "check_password",
    "check_role",
    "check_username",
    "forget_second_factors",
    "make_password_code",
    "password_code_digest",
    "set_password_by_code",
    "wrong_code",
]


def check_username(username: str) -> str:
    """The name without blanks around it; raises InvalidInput when nothing or too much is left."""
    name = username.strip()
    if not name or len(name) > MAX_USERNAME_CHARS or not name.isprintable():
        raise InvalidInput(f"A user name has 1 to {MAX_USERNAME_CHARS} printable characters.")
    return name


def check_password(password: str, username: str = "") -> str:
    """The password; raises InvalidInput `password_weak`, and never repeats it."""
    if (words := weakness(password, username)) is not None:
        told = [{"field": "body.password", "problem": words}]  # as every field that is wrong is told
        raise InvalidInput(words, code="password_weak", errors=told)
    return password


def check_role(role: str) -> str:
    """The role; raises InvalidInput when there is none of that name."""
    if role not in ROLES:
        raise InvalidInput(f"There is no role {role!r}; the roles are {', '.join(ROLES)}.")
    return role


async def add_user(
    unit: Unit,
    agency_id: uuid.UUID,
    username: str,
    password_hash: str | None,
    role: str,
    *,
    user_id: uuid.UUID | None = None,
    **more: Any,
) -> Record:
    """Add a user; without a password she signs in by a code first, or at her agency's provider.

    Raises Conflict `already_exists` when the name is taken, in any agency.
    """
    name = check_username(username)
    if await users.by_username(unit.connection, name) is not None:
        raise Conflict("This user name is taken; choose another.", code="already_exists")
    return await users.USERS.insert(
        unit.connection,
        {
            "id": user_id or new_id(),
            "agency_id": agency_id,
            "username": name,
            "password_hash": password_hash,
            "role": check_role(role),
            "created_at": unit.now,
            "password_set_at": unit.now if password_hash is not None else None,
            **more,
        },
    )


async def add_user_by_agency_name(
    database: Database, username: str, password: str, role: str, agency_name: str, now: datetime
) -> Record:
    """Add a user to the agency of this name, which is made if there is none (`qorgan user add`)."""
    check_username(username)
    check_role(role)
    password_hash = PasswordDesk().hash_now(check_password(password, username))
    async with act(database, now) as unit:
        agency_id = await agencies.get_or_create(unit.connection, agency_name, now)
        return await add_user(unit, agency_id, username, password_hash, role)


async def change_user(unit: Unit, agency_id: uuid.UUID, user_id: uuid.UUID, values: dict[str, Any]) -> Record:
    """Set a user's columns; a new password, another role or being disabled ends her sessions."""
    if "password_hash" in values:
        values = {**values, "password_set_at": unit.now}
    record = await users.USERS.update(unit.connection, agency_id, user_id, values)
    because = {
        "disabled": values.get("disabled_at") is not None,
        "password_changed": "password_hash" in values,
        "role_changed": "role" in values,
    }
    for reason, holds in because.items():
        if holds:
            await sessions.end_of_user(unit.connection, user_id, unit.now, reason)
    return record


async def change_own_password(
    unit: Unit, user: Record, password_hash: str, session_id: uuid.UUID | None, address: str
) -> None:
    """Set a user's password at her own wish; her other sessions end."""
    values = {"password_hash": password_hash, "password_set_at": unit.now}
    await users.USERS.update(unit.connection, user["agency_id"], user["id"], values)
    await sessions.end_of_user(unit.connection, user["id"], unit.now, "password_changed", but=session_id)
    await note(unit, user, "user.password_changed", address)


async def make_password_code(unit: Unit, user: Record, life_s: int) -> tuple[str, datetime]:
    """A code with which the user sets a password, told only now, and until when it holds; her sessions end."""
    if user["disabled_at"] is not None:
        raise Conflict("This user is disabled; enable her first.")
    code = base64.b32encode(secrets.token_bytes(CODE_BYTES)).decode().lower()
    expires_at = unit.now + timedelta(seconds=life_s)
    await sign_in_codes.add(unit.connection, password_code_digest(code), user, SET_PASSWORD, unit.now, expires_at)
    await sessions.end_of_user(unit.connection, user["id"], unit.now, "password_reset")
    return "-".join(code[start : start + 4] for start in range(0, len(code), 4)), expires_at


def password_code_digest(code: str) -> bytes:
    """What a code is found by, however it was typed."""
    plain = "".join(letter for letter in code.lower() if letter.isalnum())
    return token_digest(f"{SET_PASSWORD}:{plain}")


def wrong_code() -> InvalidInput:
    """The error for a code that does not hold."""
    return InvalidInput("The code is wrong, used or expired.", code="sign_in_code_invalid")


async def set_password_by_code(unit: Unit, user: Record, digest: bytes, password_hash: str, visit: Visit) -> None:
    """Set the password of the user a code was made for; raises InvalidInput `sign_in_code_invalid`."""
    if await sign_in_codes.use(unit.connection, digest, SET_PASSWORD, unit.now) is None:
        raise wrong_code()
    await change_user(unit, user["agency_id"], user["id"], {"password_hash": password_hash})
    await note(unit, user, "user.password_set", visit.address, by="code")


async def forget_second_factors(unit: Unit, agency_id: uuid.UUID, user_id: uuid.UUID) -> Record:
    """Forget what a user has beside her password, as she has lost it; her sessions end. Raises NotFound."""
    user = await users.USERS.get(unit.connection, agency_id, user_id)
    await second_factors.remove_all(unit.connection, user_id)
    await sessions.end_of_user(unit.connection, user_id, unit.now, "second_factor_reset")
    return user


async def user_named(database: Database, username: str) -> Record:
    """The user of this name (`qorgan user reset`); raises NotFound."""
    async with database.connection() as connection:
        user = await users.by_username(connection, username.strip())
    if user is None:
        raise NotFound(f"There is no user {username!r}.")
    return user
