"""The pool, transactions, and the translation of the driver's errors into ours."""

from __future__ import annotations

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, Literal

import asyncpg
import msgspec

from core.domain.scope import Scope
from core.errors import Conflict, Misconfigured, NotFound, StoreUnavailable
from core.vault import Vault

Connection = asyncpg.Connection
"""What query functions take; actions get one from `Database.transaction`."""

CONNECT_TIMEOUT_S = 5.0
AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.InterfaceError,
)
"""Errors that mean PostgreSQL is away, full, or wants it tried again, rather than that the statement was wrong."""

_ROLE: Final = re.compile("[a-z_]{1,32}")


def _scope_statement(scope: Scope) -> str:
    """The statement that has the transaction it opens with act for `scope`.

    Written out, not with parameters, so that it travels in one message with its BEGIN: ids are made anew from UUIDs and
    a role is a plain word. Raises ValueError for a role that is not.
    """
    if not _ROLE.fullmatch(scope.role):
        raise ValueError("a role is a lower-case word")
    agency, user = uuid.UUID(int=scope.agency_id.int), uuid.UUID(int=scope.user_id.int)
    return f"SELECT act_for('{agency}', '{user}', '{scope.role}');"


class ScopedConnection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    """A connection whose BEGIN says for whom, in the same message: a scope costs no round trip.

    Nothing here is ever set for a whole session, and LISTEN and session locks have connections of their own, so
    nothing has to be reset either when a connection goes back to the pool; an open transaction is still rolled back.
    """

    __slots__ = ("_opening", "kept", "vault")

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._opening = ""
        self.vault: Vault | None = None
        self.kept: dict[str, Any] = {}

    def begin_for(self, scope: Scope | None) -> None:
        """Have the next transaction act for `scope`."""
        self._opening = "" if scope is None else _scope_statement(scope)

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        """As the driver's; a BEGIN takes the scope along."""
        if self._opening and query.startswith("BEGIN"):
            query, self._opening = f"{query.rstrip(';')};{self._opening}", ""
        status: str = await super().execute(query, *args, timeout=timeout)
        return status

    def get_reset_query(self) -> str:
        """Nothing to reset; see above."""
        return ""


_WHO: Final = """
SELECT r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, c.relowner, 'MEMBER') AS unbound,
    EXISTS (SELECT FROM pg_roles g WHERE g.rolname = $1 AND pg_has_role(r.oid, g.oid, 'USAGE')) AS member
FROM pg_roles r LEFT JOIN pg_class c ON c.oid = to_regclass('public.incident') WHERE r.rolname = current_user
"""


async def check_role(connection: asyncpg.Connection, role: str) -> None:
    """Raise Misconfigured unless row-level security binds this connection and it has the rights of a group role."""
    who = await connection.fetchrow(_WHO, role)
    if who["unbound"] is not False:
        raise Misconfigured(
            "This connection to PostgreSQL is one that row-level security does not bind (an owner, a superuser, or the "
            f"schema is missing); give the service a login role of its own, a member of {role}."
        )
    if not who["member"]:
        raise Misconfigured(f"This service's user in PostgreSQL is no member of {role}; grant it that role.")


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Give a connection our JSON codec: jsonb columns are Python values on both sides."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_json, decoder=msgspec.json.decode, format="text"
    )


class _RehearsedError(Exception):
    """Ends a rehearsal's transaction."""


class Database:
    """A pool of connections that comes back by itself after PostgreSQL was away."""

    def __init__(
        self,
        url: str,
        *,
        size: int = 10,
        application: str = "qorgan",
        command_timeout_s: float = 30.0,
        vault: Vault | None = None,
        role: str | None = None,
    ) -> None:
        self.url = url
        self.role = role
        """The group role its connections must have the rights of, and none beyond row-level security; None: any."""
        self.vault = vault
        """Seals and opens what is sealed in rows; every connection bears it (see core.postgres.keys)."""
        self._size = size
        self._application = application
        self._command_timeout_s = command_timeout_s
        self.kept: dict[str, Any] = {}
        """What all its connections remember of rows that hardly ever change; whoever puts it there says how long."""
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    def another(self, *, size: int, application: str, command_timeout_s: float) -> Database:
        """A pool of its own to the same place, as the same role."""
        return Database(
            self.url, size=size, application=application, command_timeout_s=command_timeout_s, vault=self.vault,
            role=self.role,
        )  # fmt: skip

    async def open(self) -> None:
        """Make the pool; raises StoreUnavailable when PostgreSQL cannot be reached, Misconfigured as `check_role`."""
        async with self._opening:
            if self._pool is not None:
                return
            try:
                self._pool = await asyncpg.create_pool(
                    self.url,
                    min_size=1,
                    max_size=self._size,
                    init=self._prepare,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=self._command_timeout_s,
                    server_settings={"application_name": self._application},
                    connection_class=ScopedConnection,
                )
            except AWAY as error:
                raise StoreUnavailable("PostgreSQL cannot be reached; check QORGAN_DATABASE_URL.") from error
            except asyncpg.InvalidAuthorizationSpecificationError as error:
                raise Misconfigured("PostgreSQL refuses the user or the password of the database URL.") from error

    async def _prepare(self, connection: ScopedConnection) -> None:
        await prepare_connection(connection)
        connection.vault = self.vault
        connection.kept = self.kept
        if self.role is not None:
            await check_role(connection, self.role)

    async def close(self) -> None:
        """Close every connection; a second call does nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (TimeoutError, *AWAY):
                pool.terminate()

    @contextlib.asynccontextmanager
    async def connection(
        self, scope: Scope | None = None, *, timeout_s: float = CONNECT_TIMEOUT_S
    ) -> AsyncIterator[Any]:
        """A connection for single statements; with a scope, inside one transaction that acts for it."""
        if scope is not None:
            async with self.transaction(scope, timeout_s=timeout_s) as connection:
                yield connection
            return
        if self._pool is None:
            await self.open()
        assert self._pool is not None
        try:
            async with self._pool.acquire(timeout=timeout_s) as connection:
                yield connection
        except asyncpg.UniqueViolationError as error:
            raise Conflict("It exists already; use the one there is.", code="already_exists") from error
        except asyncpg.ForeignKeyViolationError as error:
            raise Conflict(
                "It refers to something that is not there, or is still referred to.", code="in_use"
            ) from error
        except asyncpg.InsufficientPrivilegeError as error:
            if "violates row-level security" not in str(error):
                raise
            raise NotFound("There is nothing of yours with these ids.") from error
        except AWAY as error:
            raise StoreUnavailable("PostgreSQL does not answer; try again shortly.") from error

    @contextlib.asynccontextmanager
    async def transaction(
        self,
        scope: Scope | None = None,
        *,
        timeout_s: float = CONNECT_TIMEOUT_S,
        isolation: Literal["repeatable_read"] | None = None,
        readonly: bool = False,
    ) -> AsyncIterator[Any]:
        """A connection inside one transaction: committed when the block ends, rolled back when it raises.

        It acts for `scope`, or for nobody. `timeout_s` bounds the wait for a connection.
        """
        async with self.connection(timeout_s=timeout_s) as connection:
            connection.begin_for(scope)
            async with connection.transaction(isolation=isolation, readonly=readonly):
                yield connection

    @contextlib.asynccontextmanager
    async def rehearsal(self, *, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[Any]:
        """A transaction for nobody that is rolled back however its block ends: nothing of it stays."""
        with contextlib.suppress(_RehearsedError):
            async with self.transaction(timeout_s=timeout_s) as connection:
                yield connection
                raise _RehearsedError

    async def listen(self, channel: str, callback: Callable[[str], None], stopping: asyncio.Event) -> None:
        """Call `callback(payload)` on each NOTIFY until `stopping`, on a connection of its own.

        A lost connection is made again; what was missed meanwhile is why every listener also polls. The callback
        gets "" once after each (re)connection, as a sign to look.
        """
        while not stopping.is_set():
            try:
                connection = await asyncpg.connect(self.url, timeout=CONNECT_TIMEOUT_S)
            except AWAY:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), 0.5)
                continue
            try:
                gone = asyncio.Event()
                connection.add_termination_listener(lambda _, gone=gone: gone.set())
                await connection.add_listener(channel, lambda *arguments: callback(arguments[3]))
                callback("")
                waits = [asyncio.create_task(gone.wait()), asyncio.create_task(stopping.wait())]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
            except AWAY:
                continue
            finally:
                with contextlib.suppress(*AWAY):
                    await connection.close(timeout=2)
