"""Users of an agency: added, changed, disabled."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Final

from core.actions.unit_of_work import Unit, act
from core.errors import Conflict, InvalidInput
from core.ids import new_id
from core.passwords import PasswordDesk
from core.postgres import agencies, users
from core.postgres.database import Database
from core.postgres.table import Record

ROLES: Final = ("admin", "supervisor", "dispatcher", "officer", "caseworker", "auditor")
MIN_PASSWORD_CHARS: Final = 10
MAX_PASSWORD_CHARS: Final = 256
MAX_USERNAME_CHARS: Final = 100


def check_username(username: str) -> str:
    """The name without blanks around it; raises InvalidInput when nothing or too much is left."""
    name = username.strip()
    if not name or len(name) > MAX_USERNAME_CHARS or not name.isprintable():
        raise InvalidInput(f"A user name has 1 to {MAX_USERNAME_CHARS} printable characters.")
    return name


def check_password(password: str) -> str:
    """The password; raises InvalidInput when it is too short or too long, and never repeats it."""
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise InvalidInput(f"A password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters.")
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
    password_hash: str,
    role: str,
    *,
    user_id: uuid.UUID | None = None,
    **more: Any,
) -> Record:
    """Add a user; raises Conflict `already_exists` when the name is taken, in any agency."""
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
            **more,
        },
    )


async def add_user_by_agency_name(
    database: Database, username: str, password: str, role: str, agency_name: str, now: datetime
) -> Record:
    """Add a user to the agency of this name, which is made if there is none (`qorgan user add`)."""
    check_username(username)
    check_role(role)
    password_hash = PasswordDesk().hash_now(check_password(password))
    async with act(database, now) as unit:
        agency_id = await agencies.get_or_create(unit.connection, agency_name, now)
        return await add_user(unit, agency_id, username, password_hash, role)


async def change_user(unit: Unit, agency_id: uuid.UUID, user_id: uuid.UUID, values: dict[str, Any]) -> Record:
    """Set a user's columns; a new password or being disabled ends her sign-ins."""
    record = await users.USERS.update(unit.connection, agency_id, user_id, values)
    if "password_hash" in values or "role" in values or values.get("disabled_at") is not None:
        await users.revoke_of_user(unit.connection, user_id, unit.now)
    return record
