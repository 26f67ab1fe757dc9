"""The audit's chain in the database: what is not linked yet, links, checkpoints, and all of it read back to be checked.

No row can be skipped: each bears the id of its transaction, and a pass takes what lies below `pg_snapshot_xmin`, where
every transaction has ended, however long it took. Rows of a database that was dumped and loaded elsewhere bear ids of
another cluster; then everything that has no link is taken once, whatever its id.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from typing import Any, Final, NamedTuple

from core.domain.chain import FORM, NO_AGENCY, Checkpoint
from core.postgres.database import Connection

COLUMNS: Final = (
    "id", "agency_id", "at", "actor_kind", "actor_id", "role", "session_id", "address", "action", "purpose",
    "subject_kind", "subject_id", "person_ids", "detail", "xid",
)  # fmt: skip
"""The columns of a row's canonical form, in its order: all there are."""
_CANONICAL: Final = ", ".join(f"a.{name}" for name in COLUMNS)
# What the text of a value depends on, set for the transaction.
_TEXT_FORM: Final = (
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO, MDY', true),"
    " set_config('bytea_output', 'hex', true), set_config('client_encoding', 'UTF8', true)"
)
# Links in their order, each with its row found by its index: what streams, and sorts nothing.
_PLAN: Final = (
    "SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),"
    " set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)"
)
Sink = Callable[[bytes], Awaitable[None]]


class Head(NamedTuple):
    """Where an agency's chain ends."""

    agency_id: uuid.UUID
    position: int
    chain_hash: bytes


class Mark(NamedTuple):
    """How far the sealer has come: every row of a transaction below is linked."""

    floor_xid: int
    same_cluster: bool
    sealed_at: datetime | None


class Link(NamedTuple):
    """A row's place in its agency's chain."""

    agency_id: uuid.UUID
    position: int
    audit_id: uuid.UUID
    row_hash: bytes
    chain_hash: bytes


async def text_form(connection: Connection) -> None:
    """Have this transaction write values as canonical forms have them."""
    await connection.execute(_TEXT_FORM)


async def waiting(connection: Connection) -> tuple[int, datetime | None]:
    """How many rows are not linked yet (those under way are not known), and since when the oldest waits."""
    row = await connection.fetchrow(
        "SELECT count(*) AS rows, min(at) AS oldest FROM audit a, audit_seal s WHERE a.xid >= s.floor_xid"
        " AND NOT EXISTS (SELECT FROM audit_link l WHERE l.audit_id = a.id)"
    )
    return row["rows"], row["oldest"]


async def is_waiting(connection: Connection) -> bool:
    """Whether something may have to be linked; at first, and after a move to another cluster, always."""
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM audit_seal, pg_control_system() WHERE cluster <> system_identifier)"
            " OR EXISTS (SELECT FROM audit WHERE xid >= (SELECT floor_xid FROM audit_seal)"
            " AND xid < pg_snapshot_xmin(pg_current_snapshot()))"
        )
    )


async def lock_mark(connection: Connection) -> Mark | None:
    """How far sealing has come, held until the transaction ends; None: somebody else seals at this moment."""
    row = await connection.fetchrow(
        "SELECT floor_xid::text::bigint AS floor, sealed_at,"
        " cluster = (SELECT system_identifier FROM pg_control_system()) AS same FROM audit_seal FOR UPDATE SKIP LOCKED"
    )
    return None if row is None else Mark(row["floor"], row["same"], row["sealed_at"])


async def ceiling(connection: Connection) -> int:
    """The oldest transaction that may still commit."""
    return int(await connection.fetchval("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"))


async def unlinked(connection: Connection, mark: Mark, below: int, limit: int) -> list[bytes]:
    """Canonical forms of rows that have no link, by transaction, at most `limit`; `text_form` was called before."""
    span = f"a.xid >= '{int(mark.floor_xid)}'::xid8 AND a.xid < '{int(below)}'::xid8 AND" if mark.same_cluster else ""
    parts: list[bytes] = []

    async def sink(data: bytes) -> None:
        parts.append(data)

    await connection.copy_from_query(
        f"SELECT {_CANONICAL} FROM audit a WHERE {span}"  # noqa: S608 - numbers and names of our own
        f" NOT EXISTS (SELECT FROM audit_link l WHERE l.audit_id = a.id) ORDER BY a.xid, a.id LIMIT {int(limit)}",
        output=sink,
        format="text",
    )
    return b"".join(parts).split(b"\n")[:-1]


async def heads(connection: Connection, agency_ids: Sequence[uuid.UUID] | None = None) -> dict[uuid.UUID, Head]:
    """Where the chains of these agencies, or of all, end; one that has no chain is not among them."""
    rows = await connection.fetch(
        "SELECT w.id, head.position, head.chain_hash FROM (SELECT unnest($1::uuid[]) AS id) w"
        " CROSS JOIN LATERAL (SELECT position, chain_hash FROM audit_link WHERE agency_id = w.id"
        " ORDER BY position DESC LIMIT 1) head",
        await chained(connection) if agency_ids is None else list(agency_ids),
    )
    return {row["id"]: Head(row["id"], row["position"], row["chain_hash"]) for row in rows}


async def hash_at(connection: Connection, agency_id: uuid.UUID, position: int) -> bytes | None:
    """The chain's hash at a position; None: there is no such link."""
    found: bytes | None = await connection.fetchval(
        "SELECT chain_hash FROM audit_link WHERE agency_id = $1 AND position = $2", agency_id, position
    )
    return found


async def chained(connection: Connection) -> list[uuid.UUID]:
    """Every agency that has a chain, in the order of ids, looked up by steps through the index."""
    rows = await connection.fetch(
        "WITH RECURSIVE step AS ((SELECT agency_id FROM audit_link ORDER BY agency_id LIMIT 1) UNION ALL"
        " SELECT (SELECT l.agency_id FROM audit_link l WHERE l.agency_id > step.agency_id ORDER BY l.agency_id LIMIT 1)"
        " FROM step WHERE step.agency_id IS NOT NULL) SELECT agency_id FROM step WHERE agency_id IS NOT NULL"
    )
    return [row["agency_id"] for row in rows]


async def add_links(connection: Connection, links: Sequence[Link]) -> None:
    """Add links."""
    columns: list[list[Any]] = [list(column) for column in zip(*links, strict=True)]
    await connection.execute(
        "INSERT INTO audit_link (agency_id, position, audit_id, row_hash, chain_hash, form)"
        " SELECT agency, place, id, row, chain, $6::smallint FROM"
        " unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bytea[], $5::bytea[]) t (agency, place, id, row, chain)",
        *columns,
        FORM,
    )


async def set_mark(connection: Connection, floor_xid: int, now: datetime) -> None:
    """Sealing has come this far."""
    await connection.execute(
        "UPDATE audit_seal SET floor_xid = $1::text::xid8, sealed_at = $2,"
        " cluster = (SELECT system_identifier FROM pg_control_system())",
        str(floor_xid),
        now,
    )


# checkpoints ------------------------------------------------------------------------------------------------------


async def last_checkpoints(connection: Connection) -> dict[uuid.UUID, str]:
    """The newest checkpoint's line of each agency that has a chain."""
    rows = await connection.fetch(
        "SELECT w.id, last.line FROM (SELECT unnest($1::uuid[]) AS id) w CROSS JOIN LATERAL (SELECT line"
        " FROM audit_checkpoint WHERE agency_id = w.id ORDER BY number DESC LIMIT 1) last",
        await chained(connection),
    )
    return {row["id"]: row["line"] for row in rows}


async def add_checkpoint(connection: Connection, checkpoint: Checkpoint) -> None:
    """Keep a checkpoint for those who ask; the file beside the database is what counts."""
    await connection.execute(
        "INSERT INTO audit_checkpoint (agency_id, number, position, day, hash, line) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT DO NOTHING",
        checkpoint.agency_id,
        checkpoint.number,
        checkpoint.position,
        date.fromisoformat(checkpoint.day) if checkpoint.day else None,
        bytes.fromhex(checkpoint.hash),
        checkpoint.line,
    )


async def checkpoint_lines(
    connection: Connection, agency_id: uuid.UUID, after: int = 0, limit: int | None = None
) -> list[str]:
    """An agency's checkpoints after a number, in order."""
    rows = await connection.fetch(
        "SELECT line FROM audit_checkpoint WHERE agency_id = $1 AND number > $2 ORDER BY number LIMIT $3",
        agency_id,
        after,
        limit,
    )
    return [row["line"] for row in rows]


async def published(connection: Connection, since: date, until: date, limit: int) -> list[dict[str, Any]]:
    """Hashes of the checkpoints that closed these days: nothing of whose, of how much, of when."""
    rows = await connection.fetch(
        "SELECT day, encode(hash, 'hex') AS hash FROM published_checkpoints($1, $2, $3)",
        since,
        until,
        limit,
    )
    return [dict(row) for row in rows]


async def closed_days(connection: Connection, day: date) -> set[uuid.UUID]:
    """Agencies whose chain has a checkpoint that closes this day."""
    rows = await connection.fetch("SELECT agency_id FROM audit_checkpoint WHERE day = $1", day)
    return {row["agency_id"] for row in rows}


async def know_key(connection: Connection, key_id: str, public_key: bytes, now: datetime) -> None:
    """Keep a public key, for those who ask."""
    await connection.execute(
        "INSERT INTO signing_key (key_id, public_key, first_used_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        key_id,
        public_key,
        now,
    )


async def known_keys(connection: Connection) -> list[bytes]:
    """The raw public keys that have signed, oldest first."""
    rows = await connection.fetch("SELECT public_key FROM signing_key ORDER BY first_used_at")
    return [row["public_key"] for row in rows]


# reading it back --------------------------------------------------------------------------------------------------


async def stream(connection: Connection, agency_id: uuid.UUID, after: int, sink: Sink) -> None:
    """Give `sink` the agency's links after a position with their rows, in pieces of lines: see `Follower.take`.

    Needs a transaction of its own: it changes how that one plans and writes.
    """
    await text_form(connection)
    await connection.execute(_PLAN)
    await connection.copy_from_query(
        "SELECT l.position, l.form, encode(l.row_hash, 'hex'), encode(l.chain_hash, 'hex'), l.audit_id,"  # noqa: S608
        f" {_CANONICAL} FROM audit_link l LEFT JOIN audit a ON a.id = l.audit_id"
        f" WHERE l.agency_id = '{uuid.UUID(int=agency_id.int)}' AND l.position > {int(after)} ORDER BY l.position",
        output=sink,
        format="text",
    )


async def canonical_forms(connection: Connection, audit_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Canonical forms of some rows by their ids; `text_form` was called before."""
    if not audit_ids:
        return {}
    parts: list[bytes] = []

    async def sink(data: bytes) -> None:
        parts.append(data)

    wanted = ", ".join(f"'{uuid.UUID(int=one.int)}'" for one in audit_ids)
    await connection.copy_from_query(
        f"SELECT {_CANONICAL} FROM audit a WHERE a.id IN ({wanted})",  # noqa: S608 - ids made anew
        output=sink,
        format="text",
    )
    return {uuid.UUID(line[:36]): line for line in b"".join(parts).decode().splitlines()}


async def agencies(connection: Connection) -> list[uuid.UUID]:
    """Every agency that there is, has rows, or has a chain."""
    rows = await connection.fetch(
        "SELECT id FROM agency UNION SELECT unnest($1::uuid[]) UNION SELECT $2::uuid ORDER BY 1",
        await chained(connection),
        NO_AGENCY,
    )
    return [row["id"] for row in rows]


async def links(connection: Connection, agency_id: uuid.UUID | None) -> int:
    """How many links an agency has; None: all have."""
    return int(
        await connection.fetchval("SELECT count(*) FROM audit_link WHERE $1::uuid IS NULL OR agency_id = $1", agency_id)
    )


async def counts(connection: Connection, agency_id: uuid.UUID) -> tuple[int, int]:
    """(rows, links) of an agency."""
    own = "agency_id IS NULL" if agency_id == NO_AGENCY else "agency_id = $1"
    row = await connection.fetchrow(
        f"SELECT (SELECT count(*) FROM audit WHERE {own}) AS rows,"  # noqa: S608 - a condition of our own
        " (SELECT count(*) FROM audit_link WHERE agency_id = $1) AS links",
        agency_id,
    )
    return row["rows"], row["links"]


async def without_link(connection: Connection, agency_id: uuid.UUID, limit: int) -> list[dict[str, Any]]:
    """Rows of an agency that no link names: their ids, times, and whether the sealer should have linked them."""
    own = "a.agency_id IS NULL" if agency_id == NO_AGENCY else "a.agency_id = $1"
    rows = await connection.fetch(
        f"SELECT a.id, a.at, a.xid < s.floor_xid AS passed, s.sealed_at FROM audit a, audit_seal s WHERE {own}"  # noqa: S608
        " AND $1::uuid IS NOT NULL AND NOT EXISTS (SELECT FROM audit_link l WHERE l.audit_id = a.id)"
        " ORDER BY a.id LIMIT $2",
        agency_id,
        limit,
    )
    return [dict(row) for row in rows]


# cutting by the rule of retention ---------------------------------------------------------------------------------


async def last_cut(connection: Connection, agency_id: uuid.UUID) -> dict[str, Any] | None:
    """The newest cut of an agency's chain: {position, chain_hash, line}."""
    row = await connection.fetchrow(
        "SELECT position, chain_hash, line FROM audit_cut WHERE agency_id = $1 ORDER BY position DESC LIMIT 1",
        agency_id,
    )
    return dict(row) if row is not None else None


async def prefix_end(connection: Connection, agency_id: uuid.UUID, before: datetime, limit: int) -> Head | None:
    """The last link of the prefix all of whose rows are older, at most `limit` long; never the newest link.

    None: there is no such prefix.
    """
    row = await connection.fetchrow(
        """
        WITH beginning AS (
            SELECT l.position, l.chain_hash, a.at FROM audit_link l LEFT JOIN audit a ON a.id = l.audit_id
            WHERE l.agency_id = $1 ORDER BY l.position LIMIT $3)
        SELECT position, chain_hash FROM beginning
        WHERE position < (SELECT max(position) FROM audit_link WHERE agency_id = $1)
            AND position < coalesce((SELECT min(position) FROM beginning WHERE at >= $2), 9223372036854775807)
        ORDER BY position DESC LIMIT 1
        """,
        agency_id,
        before,
        limit,
    )
    return None if row is None else Head(agency_id, row["position"], row["chain_hash"])


async def cut(connection: Connection, head: Head, line: str, now: datetime) -> int:
    """Remove an agency's rows and links up to a position; returns how many rows. For the owner and retention."""
    rows = await connection.fetchval(
        "SELECT cut_audit($1, $2, $3, $4, $5)", head.agency_id, head.position, head.chain_hash, line, now
    )
    return int(rows)
