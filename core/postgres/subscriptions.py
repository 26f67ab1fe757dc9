"""Browsers in which users are told by Web Push: the address and keys a browser gave, sealed with the agency's key.

`core.postgres.user_channels` reads them beside the other ways to tell a user.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import Spot
from core.ids import derived_id
from core.postgres import keys
from core.postgres.database import Connection

MAX_PER_USER: Final = 10
"""Browsers one user may be told in; the oldest gives way."""


def endpoint_digest(endpoint: str) -> bytes:
    """By what a browser's address is found again: it bears a secret of its own, so a plain digest tells nothing."""
    return hashlib.sha256(endpoint.encode()).digest()


async def add(
    connection: Connection, agency_id: uuid.UUID, user_id: uuid.UUID, target: dict[str, Any], now: datetime
) -> uuid.UUID:
    """Keep a browser's address `{"endpoint", "keys"}` for a user; who had it before has it no more. Returns its id."""
    digest = endpoint_digest(target["endpoint"])
    subscription_id = derived_id("push_subscription", user_id, digest.hex())
    sealed = await keys.seal_for(
        connection, None, agency_id, {Spot("push_subscription", "target", subscription_id): target}, now
    )
    await connection.execute("DELETE FROM push_subscription WHERE endpoint_digest = $1", digest)
    await connection.execute(
        "DELETE FROM push_subscription WHERE id IN (SELECT id FROM push_subscription WHERE user_id = $1"
        " ORDER BY created_at DESC, id OFFSET $2)",
        user_id,
        MAX_PER_USER - 1,
    )
    await connection.execute(
        "INSERT INTO push_subscription (id, agency_id, user_id, endpoint_digest, target_sealed, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        subscription_id,
        agency_id,
        user_id,
        digest,
        *sealed.values(),
        now,
    )
    return subscription_id


async def own(connection: Connection, user_id: uuid.UUID) -> list[dict[str, Any]]:
    """A user's browsers: id and since when; not where."""
    rows = await connection.fetch(
        "SELECT id, created_at FROM push_subscription WHERE user_id = $1 ORDER BY created_at, id", user_id
    )
    return [dict(row) for row in rows]


async def remove(connection: Connection, user_id: uuid.UUID, subscription_id: uuid.UUID) -> bool:
    """Forget one of a user's browsers."""
    gone = await connection.fetchval(
        "DELETE FROM push_subscription WHERE id = $1 AND user_id = $2 RETURNING true", subscription_id, user_id
    )
    return bool(gone)


async def retire(connection: Connection, addresses: Sequence[str]) -> None:
    """Forget browsers that their push service no longer knows; `addresses` as deliveries bear them."""
    digests = [endpoint_digest(str(json.loads(address)["endpoint"])) for address in addresses]
    await connection.execute("DELETE FROM push_subscription WHERE endpoint_digest = ANY ($1::bytea[])", digests)
