"""The management tests' office, and a look at rows as they stand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from core.postgres.database import Database
from tests.integration.management.conftest import client, context, elsewhere, hands, office, open_office

__all__ = ["client", "context", "elsewhere", "hands", "office", "open_office"]


@pytest.fixture
def query(database: Database) -> Callable[..., Awaitable[list[dict[str, Any]]]]:
    """Any rows, as the owner sees them."""

    async def ask(statement: str, *arguments: Any) -> list[dict[str, Any]]:
        async with database.connection() as connection:
            return [dict(row) for row in await connection.fetch(statement, *arguments)]

    return ask
