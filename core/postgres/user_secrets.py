"""Secrets of signing in: a user's one-time-code secret, an agency's secret at its own sign-in. Sealed with its key.

What an older version sealed under the installation's token key (`core.secret_box`) is still read, and is sealed anew
at the next start.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import structlog

from core.domain.sealing import Spot
from core.errors import Misconfigured
from core.postgres import keys
from core.postgres.database import Connection
from core.secret_box import VERSION, SecretBox

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of secret: where it stands, and what it was sealed as under the token key."""

    table: str
    key: str
    """The column that names its row."""
    column: str
    sealed_as: str

    def spot(self, row_id: uuid.UUID) -> Spot:
        """Where the secret of a row stands."""
        return Spot(self.table, self.column, row_id)


TOTP: Final = Kind("user_totp", "user_id", "secret", "one-time-code secret")
CLIENT: Final = Kind("oidc_provider", "agency_id", "client_secret", "client secret")
KINDS: Final = (TOTP, CLIENT)


async def seal(
    connection: Connection, kind: Kind, row_id: uuid.UUID, agency_id: uuid.UUID, secret: str, now: datetime
) -> bytes:
    """A secret sealed with its agency's key."""
    spot = kind.spot(row_id)
    return (await keys.seal_for(connection, None, agency_id, {spot: secret}, now))[spot]


async def open_secret(connection: Connection, kind: Kind, row_id: uuid.UUID, sealed: bytes, box: SecretBox) -> str:
    """A secret in either form. Raises KeyUnavailable; Misconfigured for the older form under another token key."""
    if is_older(sealed):
        return box.open_sealed(kind.sealed_as, row_id, sealed).decode()
    (secret,) = await keys.open_all(connection, [(kind.spot(row_id), sealed)])
    return str(secret)


def is_older(sealed: bytes) -> bool:
    """Whether a secret is sealed under the token key."""
    return sealed[:1] == VERSION


async def seal_older(connection: Connection, kind: Kind, box: SecretBox, limit: int, now: datetime) -> int:
    """Seal at most `limit` secrets of the older form with their agencies' keys; returns how many.

    One that does not open (the token key was replaced) stays: whose it is has it entered anew.
    """
    rows = await connection.fetch(
        f"SELECT {kind.key} AS id, agency_id, {kind.column}_sealed AS sealed FROM {kind.table}"  # noqa: S608
        f" WHERE get_byte({kind.column}_sealed, 0) = $1 ORDER BY 1 LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED",
        VERSION[0],
        limit,
    )
    done = 0
    for row in rows:
        try:
            secret = box.open_sealed(kind.sealed_as, row["id"], row["sealed"]).decode()
        except Misconfigured:
            log.error("secret_does_not_open", table=kind.table, row=str(row["id"]))
            continue
        await connection.execute(
            f"UPDATE {kind.table} SET {kind.column}_sealed = $2 WHERE {kind.key} = $1",  # noqa: S608
            row["id"],
            await seal(connection, kind, row["id"], row["agency_id"], secret, now),
        )
        done += 1
    return done
