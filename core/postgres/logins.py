"""As whom the services connect: login roles that row-level security binds, made by the owner for one run.

A login role owns nothing and is a member of one group role (migration 0004). Its password leaves this process only
inside the URL that its target is handed; PostgreSQL is told what it checks the password by, so that no statement and
no log ever bears it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
from collections.abc import AsyncIterator, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from core.errors import Misconfigured, StoreUnavailable
from core.postgres.database import AWAY, CONNECT_TIMEOUT_S, Connection

GROUPS: Final[Mapping[str, str]] = {
    "api": "qorgan_api",
    "device": "qorgan_device",
    "worker": "qorgan_worker",
    "historian": "qorgan_historian",
    "sealer": "qorgan_sealer",
    "retention": "qorgan_retention",
}
"""What a service does → the group role it does it as."""

LEFT_BEHIND_S: Final = 600
"""Roles of a run that nobody has been connected as and that are older than this belonged to one that was killed."""
ITERATIONS: Final = 4096
_NAME: Final = re.compile(r"qorgan_run_[0-9a-f]{16}_[a-z]+")


def scram_verifier(password: str, salt: bytes) -> str:
    """What PostgreSQL keeps of a password (RFC 5803), so that it need not be sent: `SCRAM-SHA-256$…`."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt_text, stored_text, server_text = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${ITERATIONS}:{salt_text}${stored_text}:{server_text}"


def url_as(url: str, user: str, password: str) -> str:
    """The same address for another user."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    query = urlencode(
        [(k, v) for k, v in parse_qsl(parts.query) if k not in {"user", "password", "passfile"}], safe="/"
    )
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{place}", query=query))


async def make_logins(url: str) -> dict[str, str]:
    """Make a login role for each of `GROUPS`; returns their URLs. `url` is the owner's, of a migrated database.

    Raises Misconfigured when the owner may not make roles, StoreUnavailable when PostgreSQL is away.
    """
    run = secrets.token_hex(8)
    made = {kind: (f"qorgan_run_{run}_{kind}", secrets.token_urlsafe(32)) for kind in GROUPS}
    async with _as_owner(url) as connection:
        await _drop_left_behind(connection)
        made_at = int(await connection.fetchval("SELECT extract(epoch FROM now())::bigint"))
        for kind, (name, password) in made.items():
            await _create(connection, kind, name, password)
            await connection.execute(f"COMMENT ON ROLE {name} IS '{made_at}'")
    return {kind: url_as(url, name, password) for kind, (name, password) in made.items()}


async def set_logins(url: str, passwords: Mapping[str, str]) -> list[str]:
    """Make login roles that stay (`qorgan_login_<kind>`), or give those there are these passwords; their names.

    Raises as `make_logins`.
    """
    names = []
    async with _as_owner(url) as connection:
        for kind, password in passwords.items():
            name = f"qorgan_login_{kind}"
            if await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", name):
                await connection.execute(f"ALTER ROLE {name} LOGIN PASSWORD '{_verifier(password)}'")
                await connection.execute(f"GRANT {GROUPS[kind]} TO {name}")
            else:
                await _create(connection, kind, name, password)
            names.append(name)
    return names


def _verifier(password: str) -> str:
    return scram_verifier(password, secrets.token_bytes(16))


async def _create(connection: Connection, kind: str, name: str, password: str) -> None:
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{_verifier(password)}' IN ROLE {GROUPS[kind]}")


@contextlib.asynccontextmanager
async def _as_owner(url: str) -> AsyncIterator[Connection]:
    """A transaction of who may make roles; its refusals in our words."""
    connection = await _connect(url)
    try:
        async with connection.transaction():
            yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise Misconfigured(
            "The user of QORGAN_DATABASE_URL may not make the roles the services connect as; give it CREATEROLE, or "
            "run each target by itself with a QORGAN_DATABASE_URL of its own."
        ) from error
    except asyncpg.UndefinedObjectError as error:
        raise Misconfigured("The database has none of Qorgan's roles; run `qorgan migrate` as its owner.") from error
    finally:
        await connection.close()


async def drop_logins(url: str, logins: Mapping[str, str]) -> None:
    """Drop what `make_logins` made; a PostgreSQL that is away is left alone."""
    with contextlib.suppress(StoreUnavailable, *AWAY):
        connection = await _connect(url)
        try:
            for login in logins.values():
                await _drop(connection, str(urlsplit(login).username))
        finally:
            await connection.close()


async def _connect(url: str) -> Connection:
    try:
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    except AWAY as error:
        raise StoreUnavailable("PostgreSQL cannot be reached; check QORGAN_DATABASE_URL.") from error
    except asyncpg.PostgresError as error:
        raise Misconfigured(f"PostgreSQL refuses the connection: {error}") from error


async def _drop(connection: Connection, name: str) -> None:
    assert _NAME.fullmatch(name)
    with contextlib.suppress(asyncpg.PostgresError):  # in use, or another owner's: left for later
        async with connection.transaction():
            await connection.execute(f"DROP ROLE IF EXISTS {name}")


async def _drop_left_behind(connection: Connection) -> None:
    rows = await connection.fetch(
        """
        SELECT rolname FROM pg_roles r
        WHERE rolname ~ '^qorgan_run_[0-9a-f]{16}_[a-z]+$'
            AND to_timestamp(coalesce(shobj_description(oid, 'pg_authid'), '0')::bigint)
                < now() - make_interval(secs => $1)
            AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.usesysid = r.oid)
        """,
        LEFT_BEHIND_S,
    )
    for row in rows:
        await _drop(connection, row["rolname"])
