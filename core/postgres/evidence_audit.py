"""The audit's proof for an incident: its rows in their canonical form, and what links each to a signed checkpoint.

Whoever has the checkpoints' public key can repeat it with SHA-256 alone (`core.domain.chain`).
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Final

from core.domain.chain import FORM, genesis
from core.postgres import chain
from core.postgres.database import Connection

ROWS_MAX: Final = 2_000
"""Rows about one incident that a bundle proves."""
LINKS_MAX: Final = 20_000
"""Links between a row and its checkpoint that are written out; of a longer stretch the row stands without them."""
HOW: Final = (
    "row_hash = SHA-256(canonical, UTF-8); chain_hash(n) = SHA-256(chain_hash(n-1) + row_hash(n)); a segment begins"
    " with chain_hash(from_position - 1) and ends with the chain_hash that its checkpoint's line says, which is signed."
)


async def audit_proof(connection: Connection, agency_id: uuid.UUID, subject_ids: Sequence[uuid.UUID]) -> dict[str, Any]:
    """What the audit has about these subjects, as plain JSON; needs a transaction of its own.

    `rows`: position, canonical, row_hash, chain_hash (position null: not linked yet); `segments`: from_position,
    chain_hash_before, row_hashes, checkpoint (its line).
    """
    await chain.text_form(connection)
    found = await connection.fetch(
        "SELECT a.id, l.position, l.row_hash, l.chain_hash FROM audit a LEFT JOIN audit_link l ON l.audit_id = a.id"
        " WHERE a.agency_id = $1 AND a.subject_id = ANY ($2::uuid[]) ORDER BY l.position NULLS LAST, a.id LIMIT $3",
        agency_id,
        list(subject_ids),
        ROWS_MAX,
    )
    forms = await chain.canonical_forms(connection, [row["id"] for row in found])
    rows = [
        {
            "position": row["position"],
            "row_hash": row["row_hash"].hex() if row["row_hash"] else None,
            "chain_hash": row["chain_hash"].hex() if row["chain_hash"] else None,
            "canonical": forms.get(row["id"]),
        }
        for row in found
    ]
    positions = [row["position"] for row in found if row["position"] is not None]
    return {"form": FORM, "how": HOW, "rows": rows, "segments": await _segments(connection, agency_id, positions)}


async def _segments(connection: Connection, agency_id: uuid.UUID, positions: Sequence[int]) -> list[dict[str, Any]]:
    """One stretch a checkpoint, from the first of the rows that it is the next checkpoint of."""
    covers = await connection.fetch(
        "SELECT min(p.position) AS first, c.position AS last, c.line FROM unnest($2::bigint[]) AS p (position)"
        " CROSS JOIN LATERAL (SELECT position, line FROM audit_checkpoint"
        "  WHERE agency_id = $1 AND audit_checkpoint.position >= p.position ORDER BY position, number LIMIT 1) c"
        " GROUP BY c.position, c.line ORDER BY c.position",
        agency_id,
        list(positions),
    )
    out = []
    for cover in covers:
        if cover["last"] - cover["first"] >= LINKS_MAX:
            continue
        links = await connection.fetch(
            "SELECT row_hash FROM audit_link WHERE agency_id = $1 AND position BETWEEN $2 AND $3 ORDER BY position",
            agency_id,
            cover["first"],
            cover["last"],
        )
        before = (
            genesis(agency_id)
            if cover["first"] == 1
            else await chain.hash_at(connection, agency_id, cover["first"] - 1)
        )
        if before is not None:
            out.append(
                {
                    "from_position": cover["first"],
                    "chain_hash_before": before.hex(),
                    "row_hashes": [link["row_hash"].hex() for link in links],
                    "checkpoint": cover["line"],
                }
            )
    return out
