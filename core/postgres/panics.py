"""Panics as stored, and who pressed."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import PERSON, Owner, Spot, agency, person
from core.errors import KeyUnavailable
from core.key_rings import KeyLost
from core.postgres import keys
from core.postgres.database import Connection
from core.postgres.escalation import CHOSEN

PRIVATE: Final = ("note", "body")
"""Columns that are sealed."""
LOCK_SEED: Final = 7_067_003
"""Seed of the panics' advisory lock keys."""


async def lock_id(connection: Connection, panic_id: uuid.UUID) -> None:
    """Hold off others that bring the same panic until this transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1::uuid::text, $2))", panic_id, LOCK_SEED)


async def find(connection: Connection, panic_id: uuid.UUID, *, words: bool = True) -> dict[str, Any] | None:
    """A panic with its incident's agency and state, and whether somebody is still to be told (`untold`).

    Without `words` it asks for no key, and does not tell what she wrote.
    """
    row = await connection.fetchrow(
        "SELECT p.*, i.state AS incident_state, i.detail ? 'untold' AS untold"
        " FROM panic p JOIN incident i ON i.id = p.incident_id WHERE p.id = $1",
        panic_id,
    )
    if row is None or not words:
        return dict(row) if row is not None else None
    return (await open_rows(connection, [row]))[0]


async def open_rows(connection: Connection, rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Panics (`id`, `note`, `body` and both sealed, at least) with what she wrote; nothing of an erased person's."""
    sealed = [(n, name) for n, row in enumerate(rows) for name in PRIVATE if row[f"{name}_sealed"] is not None]
    opened = await keys.open_all(
        connection, [(Spot("panic", name, rows[n]["id"]), rows[n][f"{name}_sealed"]) for n, name in sealed]
    )
    found = [dict(row) for row in rows]
    for (n, name), value in zip(sealed, opened, strict=True):
        found[n][name] = value or None
    return [{**one, "body": one["body"] or {}} for one in found]


_AS_SHE_MAY_SEE: Final = """
    p.*, i.state AS incident_state, i.acknowledged_at, i.dispatched_at, i.resolved_at,
    (SELECT CASE WHEN bool_or(q.unshown) OR count(q.cancel_asked_at) > 0
        THEN coalesce(min(q.received_at) FILTER (WHERE NOT q.unshown AND q.received_at <= p.received_at
                AND (cancelled.at IS NULL OR q.received_at > cancelled.at)),
            cancelled.at + interval '1 microsecond') END
        FROM panic q CROSS JOIN (SELECT max(c.cancel_asked_at) AS at FROM panic c WHERE c.incident_id = p.incident_id
            AND c.device_id = p.device_id AND NOT c.unshown AND c.received_at < p.received_at) cancelled
        WHERE q.incident_id = p.incident_id AND q.device_id = p.device_id GROUP BY cancelled.at) AS shown_from
"""
"""A panic with its incident's deeds, and from when on her device may know of them (`shown_from`): what was done before
the first press her device knows of, or before the first one after an earlier one was cancelled, is not told: what goes
on while it appears cancelled depends on what the PIN was. None: all of it."""


_OF_WEARER: Final = "p.person_id IS NOT DISTINCT FROM d.person_id"
"""Panics of who wears the device `d` now: what the one before pressed on it is nothing to her."""


async def find_of_device(connection: Connection, client_id: str, device_id: uuid.UUID) -> dict[str, Any] | None:
    """A panic of a device's wearer by the id the client knows it by, with its incident's deeds."""
    row = await connection.fetchrow(
        f"SELECT {_AS_SHE_MAY_SEE} FROM panic p JOIN incident i ON i.id = p.incident_id"  # noqa: S608
        f" JOIN device d ON d.id = p.device_id AND {_OF_WEARER}"
        " WHERE p.device_id = $2 AND (p.id::text = lower($1) OR p.client_id = $1) AND NOT p.unshown"
        " ORDER BY p.received_at DESC LIMIT 1",
        client_id,
        device_id,
    )
    return dict(row) if row is not None else None


async def recent_of_devices(
    connection: Connection, device_ids: Sequence[uuid.UUID], since: datetime, limit: int
) -> list[dict[str, Any]]:
    """Each device's newest panics since then, at most `limit` a device, the oldest first, as `find_of_device` has."""
    rows = await connection.fetch(
        f"SELECT {_AS_SHE_MAY_SEE}"  # noqa: S608
        " FROM device d CROSS JOIN LATERAL (SELECT * FROM panic p"
        f" WHERE p.device_id = d.id AND {_OF_WEARER} AND p.received_at >= $2 AND NOT p.unshown"
        " ORDER BY p.received_at DESC LIMIT $3) p"
        " JOIN incident i ON i.id = p.incident_id WHERE d.id = ANY ($1) ORDER BY p.received_at, p.id",
        device_ids,
        since,
        limit,
    )
    return [dict(row) for row in rows]


async def keep_words(
    connection: Connection, panic_id: uuid.UUID, agency_id: uuid.UUID, sealer_id: uuid.UUID | None,
    words: dict[str, Any], now: datetime,
) -> None:  # fmt: skip
    """Keep what she wrote, `note` and `body`, of a panic that was taken while nothing could be sealed."""
    private = {Spot("panic", name, panic_id): words[name] for name in PRIVATE if words[name]}
    if private:
        sealed = await keys.seal_for(connection, sealer_id, agency_id, private, now)
        by_name = {spot.column: blob for spot, blob in sealed.items()}
        await connection.execute(
            "UPDATE panic SET note_sealed = $2, body_sealed = $3 WHERE id = $1",
            panic_id,
            by_name.get("note"),
            by_name.get("body"),
        )


async def insert(connection: Connection, values: dict[str, Any], sealer_id: uuid.UUID | None) -> None:
    """Add a panic; `values` by column. What she wrote is sealed with the key of `sealer_id`, None: her agency's."""
    private = {Spot("panic", name, values["id"]): values[name] for name in PRIVATE if values[name]}
    sealed = (
        await keys.seal_for(connection, sealer_id, values["agency_id"], private, values["created_at"])
        if private
        else {}
    )
    values = {name: value for name, value in values.items() if name not in PRIVATE}
    values |= {f"{spot.column}_sealed": blob for spot, blob in sealed.items()}
    names = ", ".join(values)
    places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await connection.execute(f"INSERT INTO panic ({names}) VALUES ({places})", *values.values())  # noqa: S608


async def ask_cancel(connection: Connection, panic_id: uuid.UUID, now: datetime) -> bool:
    """Remember that cancelling was asked for; False when it was before."""
    return (
        await connection.fetchval(
            "UPDATE panic SET cancel_asked_at = $2 WHERE id = $1 AND cancel_asked_at IS NULL RETURNING id",
            panic_id,
            now,
        )
        is not None
    )


async def silence_her(
    connection: Connection, incident_id: uuid.UUID, person_id: uuid.UUID | None, now: datetime
) -> None:
    """Cancel what is not sent yet to her phones, and to her contacts of this incident and every other open one.

    Found by indexes alone: how much waits for others must not show in the time that her answer takes.
    """
    await connection.execute(
        "UPDATE delivery SET state = 'cancelled', updated_at = $3 WHERE state IN ('queued', 'sending')"
        " AND audience IN ('victim', 'contact') AND id IN ("
        "SELECT told.id FROM delivery told WHERE told.incident_id IN ("
        "SELECT $1 UNION SELECT i.id FROM incident i WHERE i.victim_id = $2 AND i.state <> 'resolved')"
        " UNION ALL SELECT waiting.id FROM device JOIN delivery waiting ON waiting.recipient = 'device:' || device.id"
        " WHERE device.person_id = $2 AND waiting.state IN ('queued', 'sending'))",
        incident_id,
        person_id,
        now,
    )


_PROTECTING: Final = (
    "SELECT jsonb_agg(to_jsonb(found) ORDER BY found.place) AS orders,"
    " CASE WHEN count(DISTINCT found.case_id) = 1 THEN min(found.case_id::text)::uuid END AS case_id FROM ("
    "SELECT o.id, o.case_id, o.reference, o.aggressor_id, o.victim_id, a.hazards, row_number() OVER ("
    "ORDER BY array_position(ARRAY['extreme', 'high', 'standard'], o.risk_level), o.id) AS place"
    " FROM protection_order o JOIN person a ON a.id = o.aggressor_id"
    " WHERE (o.victim_id = p.id"
    " OR (o.protected_person_ids @> ARRAY[p.id] AND o.protected_person_ids <> '{}'))"
    " AND o.status NOT IN ('revoked', 'expired') ORDER BY place LIMIT 20) found"
)
"""The orders that protect the person `p` and are not revoked or expired, the riskiest first, as JSON."""
_EPISODE: Final = (
    "(SELECT i.episode_id FROM incident i WHERE i.case_id = protecting.case_id AND i.updated_at >= $6"
    " ORDER BY i.updated_at DESC, i.id DESC LIMIT 1)"
)


async def presser(
    connection: Connection,
    device_id: uuid.UUID | None,
    digest: bytes | None,
    now: datetime,
    panic_id: uuid.UUID,
    since: datetime,
    person_id: uuid.UUID | None,
) -> dict[str, Any] | None:
    """The device that pressed, by id or by its token's digest, and whether that token holds; None: nobody's.

    Without a device, but with a person for whom the service itself presses, it is about her (`id` is None).

    In the same round trip it takes the lock on the panic (also where it finds nobody), and brings the orders that
    protect its wearer (`orders`), their one case, where they have one (`case_id`), and the episode of an incident of
    that case that was touched `since` (`episode_id`), and the plan of its agency's escalation of a panic, where it has
    one of its own (`plan`). `closed`: orders protected her once, and none does now.
    """
    row = await connection.fetchrow(
        "SELECT d.id, d.role, p.id AS person_id, coalesce(d.agency_id, p.agency_id) AS agency_id, p.language,"  # noqa: S608
        " p.hazards, p.needs,"
        " pk.person_id IS NOT NULL AS has_key, pk.kek_id, pk.wrapped, ak.kek_id AS agency_kek_id,"
        " ak.wrapped AS agency_wrapped,"
        " t.digest IS NOT NULL AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $3)"
        " AND d.status NOT IN ('revoked', 'returned') AS holds,"
        " t.revoked_at IS NOT NULL OR d.status IN ('revoked', 'returned') AS revoked,"
        " protecting.orders IS NULL"
        " AND EXISTS (SELECT FROM protection_order o WHERE o.victim_id = p.id) AS closed,"
        f" protecting.orders, protecting.case_id, {_EPISODE} AS episode_id, ({CHOSEN.format(what='plan')}) AS plan"
        f" FROM (SELECT pg_advisory_xact_lock(hashtextextended($4::uuid::text, $5)) IS NULL) locked"
        " LEFT JOIN device d ON d.id = coalesce($1, (SELECT device_id FROM bearer_token WHERE digest = $2))"
        " LEFT JOIN bearer_token t ON t.device_id = d.id AND t.digest = $2"
        " LEFT JOIN person p ON p.id = CASE WHEN d.id IS NULL THEN $7::uuid ELSE d.person_id END"
        " LEFT JOIN person_key pk ON pk.person_id = p.id"
        " LEFT JOIN agency_key ak ON ak.agency_id = coalesce(d.agency_id, p.agency_id)"
        f" LEFT JOIN LATERAL ({_PROTECTING}) protecting ON true"
        " CROSS JOIN LATERAL (SELECT coalesce(d.agency_id, p.agency_id) AS agency_id, 'panic' AS type,"
        " 'critical' AS severity) w",
        device_id,
        digest,
        now,
        panic_id,
        LOCK_SEED,
        since,
        person_id,
    )
    if row["id"] is None and row["person_id"] is None:
        return None
    # Read with what is read anyway, so that sealing what she sent asks the database nothing more.
    owners: list[tuple[Owner, str | None, bytes | None]] = []
    if row["has_key"]:
        owners.append((person(row["person_id"]), row["kek_id"], row["wrapped"]))
    if row["agency_wrapped"] is not None:
        owners.append((agency(row["agency_id"]), row["agency_kek_id"], row["agency_wrapped"]))
    lost = await _learn_both(connection, owners)
    return {
        **{name: row[name] for name in ("id", "role", "person_id", "agency_id", "language", "hazards", "needs")},
        "orders": [
            {**order, **{name: uuid.UUID(order[name]) for name in ("id", "case_id", "aggressor_id", "victim_id")}}
            for order in row["orders"] or ()
        ],
        "case_id": row["case_id"],
        "episode_id": row["episode_id"],
        "plan": row["plan"],
        "holds": row["holds"],
        "revoked": row["revoked"],
        "closed": row["closed"],
        "erased": lost or (row["has_key"] and row["wrapped"] is None),
    }


async def _learn_both(connection: Connection, owners: Sequence[tuple[Owner, str | None, bytes | None]]) -> bool:
    """Have both keys at hand; whether hers is lost, so that her agency's has to seal what she sends.

    While the key service is away it leaves it at that: whoever needs a key asks again, and knows what to do without.
    """
    try:
        await keys.learn(connection, owners)
    except KeyUnavailable as error:
        if not isinstance(error.__cause__, KeyLost):
            return False
    else:
        return False
    try:
        await keys.learn(connection, [one for one in owners if one[0].kind == PERSON])
    except KeyUnavailable as error:
        return isinstance(error.__cause__, KeyLost)
    return False


async def default_agency(connection: Connection) -> uuid.UUID | None:
    """The agency that takes panics of which nobody knows whose they are (SQL `default_agency`)."""
    found: uuid.UUID | None = await connection.fetchval("SELECT default_agency()")
    return found


_NOT_OF_A_PIN: Final = "template NOT IN ('cancel_asked_dispatcher', 'duress_dispatcher')"
"""Messages other than those that say what a PIN was: that there is one more, or none, would say it too."""


async def told(connection: Connection, incident_id: uuid.UUID) -> list[dict[str, Any]]:
    """Deliveries of an incident as she may know them: to whom by kind, how far, when; no names, no addresses."""
    return (await told_of(connection, [incident_id])).get(incident_id, [])


async def told_of(connection: Connection, incident_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, list[dict[str, Any]]]:
    """The same by incident."""
    rows = await connection.fetch(
        "SELECT d.* FROM unnest($1::uuid[]) AS wanted (id) CROSS JOIN LATERAL ("  # noqa: S608
        "SELECT incident_id, audience, channel, state, sent_at, seen_at, created_at FROM delivery"
        f" WHERE incident_id = wanted.id AND {_NOT_OF_A_PIN} ORDER BY created_at, id LIMIT 200) d",
        incident_ids,
    )
    found: dict[uuid.UUID, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["incident_id"], []).append(dict(row))
    return found


async def set_aside(connection: Connection, payload: bytes, reason: str, now: datetime) -> None:
    """Keep a record that cannot be taken, sealed as it came (base64)."""
    await connection.execute(
        "INSERT INTO poison (source, entry, reason, body, at) VALUES ('panic', '', $1, $2, $3)",
        reason,
        base64.b64encode(payload).decode(),
        now,
    )
