"""The pool, transactions, and the translation of the driver's errors into ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import msgspec

from core.errors import Conflict, StoreUnavailable

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


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def prepare_connection(connection: asyncpg.Connection) -> None:
    """Give a connection our JSON codec: jsonb columns are Python values on both sides."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_json, decoder=msgspec.json.decode, format="text"
    )


class Database:
    """A pool of connections that comes back by itself after PostgreSQL was away."""

    def __init__(
        self, url: str, *, size: int = 10, application: str = "qorgan", command_timeout_s: float = 30.0
    ) -> None:
        self.url = url
        self._size = size
        self._application = application
        self._command_timeout_s = command_timeout_s
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Make the pool; raises StoreUnavailable when PostgreSQL cannot be reached."""
        async with self._opening:
            if self._pool is not None:
                return
            try:
                self._pool = await asyncpg.create_pool(
                    self.url,
                    min_size=1,
                    max_size=self._size,
                    init=prepare_connection,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=self._command_timeout_s,
                    server_settings={"application_name": self._application},
                )
            except AWAY as error:
                raise StoreUnavailable("PostgreSQL cannot be reached; check QORGAN_DATABASE_URL.") from error

    async def close(self) -> None:
        """Close every connection; a second call does nothing."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), 5)
            except (TimeoutError, *AWAY):
                pool.terminate()

    @contextlib.asynccontextmanager
    async def connection(self, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[Any]:
        """A connection outside any transaction, for single statements."""
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
        except AWAY as error:
            raise StoreUnavailable("PostgreSQL does not answer; try again shortly.") from error

    @contextlib.asynccontextmanager
    async def transaction(self, timeout_s: float = CONNECT_TIMEOUT_S) -> AsyncIterator[Any]:
        """A connection inside one transaction: committed when the block ends, rolled back when it raises."""
        async with self.connection(timeout_s) as connection, connection.transaction():
            yield connection

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
