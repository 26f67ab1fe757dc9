"""How users are told when their screens are not enough: one address a channel, sealed with the agency's key.

Of a user's browsers (Web Push) `push_subscription` knows.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from core.domain.sealing import Spot
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.sealed_table import SealedTable
from core.postgres.table import Record

USER_CHANNELS: Final = SealedTable(
    "user_channel",
    "channel",
    ("user_id", "channel", "language", "enabled", "created_at", "updated_at"),
    private=("address",),
)


@dataclass(frozen=True, slots=True)
class Staff:
    """A user who may be told of something."""

    user_id: uuid.UUID
    role: str
    language: str


@dataclass(frozen=True, slots=True)
class StaffAsked:
    """Of whom is asked who may be told: an agency's users, but not who is related to these people or to this case."""

    agency_id: uuid.UUID
    people: tuple[uuid.UUID, ...] = ()
    case_id: uuid.UUID | None = None


async def staff(
    connection: Connection, agency_id: uuid.UUID, people: Sequence[uuid.UUID], case_id: uuid.UUID | None
) -> dict[uuid.UUID, Staff]:
    """An agency's users who may be told of an incident with these people: not who is related to one of them."""
    [found] = await staff_of_each(connection, [StaffAsked(agency_id, tuple(people), case_id)])
    return found


async def staff_of_each(connection: Connection, asked: Sequence[StaffAsked]) -> list[dict[uuid.UUID, Staff]]:
    """The same of many askings, in their order, by one statement; each names two people at most."""
    found: list[dict[uuid.UUID, Staff]] = [{} for _ in asked]
    pairs = [(*one.people, None, None)[:2] for one in asked]
    rows = await connection.fetch(
        "SELECT w.number, s.user_id, s.role, s.language FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[])"
        " WITH ORDINALITY AS w (agency_id, one, other, case_id, number) CROSS JOIN LATERAL"
        " staff_to_tell(w.agency_id, array_remove(ARRAY[w.one, w.other], NULL), w.case_id) AS s"
        " ORDER BY w.number, s.user_id",
        [one.agency_id for one in asked],
        [one for one, _ in pairs],
        [other for _, other in pairs],
        [one.case_id for one in asked],
    )
    for row in rows:
        found[row["number"] - 1][row["user_id"]] = Staff(row["user_id"], row["role"], row["language"])
    return found


async def of_users(connection: Connection, user_ids: Sequence[uuid.UUID]) -> list[Record]:
    """The ways to tell users: user_id, channel, address, language (None: the user's), unique (apart within a channel).

    What does not open is left out, and keeps nobody else from being told.
    """
    wanted = list(user_ids)
    if not wanted:
        return []
    rows = await connection.fetch(
        f"SELECT {USER_CHANNELS.selected} FROM user_channel WHERE user_id = ANY ($1::uuid[]) AND enabled ORDER BY id",  # noqa: S608
        wanted,
    )
    found = [
        {"user_id": row["user_id"], "channel": row["channel"], "address": row["address"], "language": row["language"],
         "unique": None}
        for row in await USER_CHANNELS.read_what_opens(connection, rows)
        if row["address"] is not None
    ]  # fmt: skip
    browsers = await connection.fetch(
        "SELECT id, user_id, target_sealed FROM push_subscription WHERE user_id = ANY ($1::uuid[])"
        " ORDER BY created_at, id",
        wanted,
    )
    targets: list[Any] = await keys.open_each(
        connection, [(Spot("push_subscription", "target", row["id"]), row["target_sealed"]) for row in browsers]
    )
    return found + [
        {"user_id": row["user_id"], "channel": "webpush", "address": json.dumps(target), "language": None,
         "unique": row["id"]}
        for row, target in zip(browsers, targets, strict=True)
        if isinstance(target, dict)
    ]  # fmt: skip


async def channels_of_users(connection: Connection, user_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, set[str]]:
    """By which channels users can be told; no address is opened for it."""
    rows = await connection.fetch(
        "SELECT user_id, channel FROM user_channel WHERE user_id = ANY ($1::uuid[]) AND enabled"
        " UNION SELECT user_id, 'webpush' FROM push_subscription WHERE user_id = ANY ($1::uuid[])",
        list(user_ids),
    )
    found: dict[uuid.UUID, set[str]] = {}
    for row in rows:
        found.setdefault(row["user_id"], set()).add(row["channel"])
    return found


async def delete(connection: Connection, agency_id: uuid.UUID, user_id: uuid.UUID, channel: str) -> bool:
    """Forget a way to tell a user; False where there was none."""
    return bool(
        await connection.fetchval(
            "DELETE FROM user_channel WHERE agency_id = $1 AND user_id = $2 AND channel = $3 RETURNING true",
            agency_id,
            user_id,
            channel,
        )
    )
