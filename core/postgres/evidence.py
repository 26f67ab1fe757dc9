"""What an incident is shown by: read whole from the tables, values plain enough to be written as JSON.

Fixes come from the incident's own copy (`incident_fix`) where there is one, else from history. Devices are those that
either party bore in any configuration of the case, and bears now. Addresses and texts of messages are no evidence and
are not read.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from core.clock import rfc3339
from core.domain.evidence import Fix, Window, window_of
from core.domain.ping import NO_SEQ
from core.postgres import case_log, incidents, panics, reports
from core.postgres.database import Connection
from core.postgres.orders import ORDERS, told, version_row
from core.postgres.people import PEOPLE
from core.postgres.pings import FLAGS_MASK, place_in_log
from core.postgres.sealed_table import SealedTable
from core.postgres.suspensions import SUSPENSIONS

MAX_LINES: Final = 20_000
"""Rows of one kind that a bundle tells at most."""
REPEATS_WITHIN: Final = timedelta(days=90)
LATE_MAX: Final = timedelta(days=7)
"""How much later than its own time a fix may arrive and still be looked for by its arrival."""

Json = dict[str, Any]

PING_COLUMNS: Final = (
    "device_number, live_at, seq, at, received_at, flags, lat, lon, accuracy_m, speed_mps, heading_deg, altitude_m,"
    " battery_pct"
)


@dataclass(frozen=True, slots=True)
class Parties:
    """Whom an incident is about, and where in the log it was decided."""

    incident_id: uuid.UUID
    agency_id: uuid.UUID
    case_id: uuid.UUID | None
    case_number: int | None
    shard: int | None
    victim_id: uuid.UUID | None
    aggressor_id: uuid.UUID | None
    order_ids: tuple[uuid.UUID, ...]
    resolved_at: datetime | None
    window: Window


def plain(value: Any) -> Any:
    """A value as JSON has it: times RFC 3339, ids text, numbers that are none null; what is sealed is left out."""
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, uuid.UUID | date):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items() if not isinstance(each, bytes)}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


async def parties_of(connection: Connection, incident_id: uuid.UUID, now: datetime) -> Parties | None:
    """Whom an incident is about and its window; None when there is no such incident, or none to be seen."""
    row = await connection.fetchrow(
        """
        SELECT i.*, c.number AS case_number, c.shard, told.last_at FROM incident i
        LEFT JOIN protection_case c ON c.id = i.case_id
        CROSS JOIN LATERAL (SELECT max(t.evaluated_at) AS last_at FROM transition t WHERE t.incident_id = i.id) told
        WHERE i.id = $1
        """,
        incident_id,
    )
    if row is None:
        return None
    orders = await connection.fetch(
        "SELECT id, victim_id, aggressor_id FROM protection_order WHERE case_id = $1"
        " AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR victim_id = $3) ORDER BY number",
        row["case_id"],
        row["order_id"],
        row["victim_id"],
    )
    if row["order_id"] is None and row["victim_id"] is None and len(orders) > 1:
        orders = []  # whom it threatened is not said, and others' orders are not shown
    first = orders[0] if orders else None
    return Parties(
        incident_id,
        row["agency_id"],
        row["case_id"],
        row["case_number"],
        row["shard"],
        row["victim_id"] or (first["victim_id"] if first else None),
        row["aggressor_id"] or (first["aggressor_id"] if first else None),
        tuple(each["id"] for each in orders),
        row["resolved_at"],
        window_of(row["occurred_at"], row["opened_at"], row["resolved_at"], row["last_at"], now),
    )


async def device_numbers(connection: Connection, about: Parties) -> dict[int, str]:
    """Number → party of every device that either bore in the case, or bears now."""
    people = {about.victim_id: "victim", about.aggressor_id: "aggressor"}
    numbers: dict[int, str] = {}
    if about.case_id is not None:
        for version in await case_log.configurations_of(connection, about.case_id):
            for person in version.config.get("people", ()):
                party = people.get(uuid.UUID(str(person["id"])))
                for device in person.get("devices", ()) if party else ():
                    numbers[int(device["number"])] = str(party)
    rows = await connection.fetch(
        "SELECT number, person_id FROM device WHERE person_id = ANY ($1::uuid[])",
        [person for person in people if person is not None],
    )
    return numbers | {row["number"]: people[row["person_id"]] for row in rows}


async def fixes_of(connection: Connection, about: Parties) -> list[Fix]:
    """The incident's own copy of the fixes, in the order they were received; empty while there is none."""
    rows = await connection.fetch(
        f"SELECT party, {PING_COLUMNS}, heard FROM incident_fix WHERE incident_id = $1"  # noqa: S608 - our own columns
        " ORDER BY received_at, live_at, device_number, seq",
        about.incident_id,
    )
    return _in_log_order([fix_of(row, row["party"]) for row in rows])


async def history_of(connection: Connection, numbers: Mapping[int, str], since: datetime, until: datetime) -> list[Fix]:
    """What history has of devices (number → party) received or lived in [since, until), in the order of the log."""
    rows = await connection.fetch(
        f"""
        SELECT {PING_COLUMNS}, (SELECT h.heard FROM ping_heard h
            WHERE h.device_number = ping.device_number AND h.live_at = ping.live_at LIMIT 1) AS heard
        FROM ping WHERE role IN (0, 1, 2) AND device_number = ANY ($1::bigint[])
        AND live_at >= $2::timestamptz - $4::interval AND live_at < $3
        AND (live_at >= $2 OR (received_at >= $2 AND received_at < $3))
        """,  # noqa: S608 - our own columns
        list(numbers),
        since,
        until,
        LATE_MAX,
    )
    return _in_log_order([fix_of(row, numbers[row["device_number"]]) for row in rows])


def _in_log_order(fixes: list[Fix]) -> list[Fix]:
    far = (1 << 20, 1 << 20)
    return sorted(fixes, key=lambda each: (each.received_ms, each.place or far, each.at_ms, each.device))


def fix_of(row: Any, party: str) -> Fix:
    """A stored ping (`PING_COLUMNS` and `heard`) as a fix."""

    def told(name: str) -> float | None:
        value = row[name]
        return float(value) if math.isfinite(value) else None

    seq = int(row["seq"])
    return Fix(
        party=party,
        device=int(row["device_number"]),
        live_ms=_ms(row["live_at"]),
        at_ms=_ms(row["at"]),
        received_ms=_ms(row["received_at"]),
        seq=seq if seq > NO_SEQ else None,
        flags=int(row["flags"]) & FLAGS_MASK,
        lat=told("lat"),
        lon=told("lon"),
        accuracy_m=told("accuracy_m"),
        speed_mps=told("speed_mps"),
        heading_deg=told("heading_deg"),
        altitude_m=told("altitude_m"),
        battery_pct=told("battery_pct"),
        place=place_in_log(int(row["flags"])),
        heard=row["heard"],
    )


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


async def copy_fixes(connection: Connection, about: Parties, numbers: Mapping[int, str]) -> int:
    """Copy the window's fixes out of history; what is copied stays as it is. How many were new."""
    status: str = await connection.execute(
        f"""
        INSERT INTO incident_fix (incident_id, agency_id, party, {PING_COLUMNS}, heard)
        SELECT $1, $2, who.party, {", ".join(f"ping.{name}" for name in PING_COLUMNS.split(", "))},
            (SELECT h.heard FROM ping_heard h
             WHERE h.device_number = ping.device_number AND h.live_at = ping.live_at LIMIT 1)
        FROM unnest($3::bigint[], $4::text[]) AS who (number, party)
        JOIN ping ON ping.device_number = who.number
        WHERE ping.role IN (0, 1, 2) AND ping.live_at >= $5::timestamptz - $7::interval AND ping.live_at < $6
        AND (ping.live_at >= $5 OR (ping.received_at >= $5 AND ping.received_at < $6))
        ON CONFLICT DO NOTHING
        """,  # noqa: S608 - our own columns
        about.incident_id,
        about.agency_id,
        list(numbers),
        list(numbers.values()),
        about.window.since,
        about.window.until,
        LATE_MAX,
    )
    return int(status.rpartition(" ")[2])


async def _rows(connection: Connection, query: str, *arguments: Any) -> list[Json]:
    return [plain(dict(row)) for row in await connection.fetch(f"{query} LIMIT {MAX_LINES}", *arguments)]


async def _sealed_rows(connection: Connection, table: SealedTable, query: str, *arguments: Any) -> list[Json]:
    rows = await connection.fetch(f"{query} LIMIT {MAX_LINES}", *arguments)
    return [plain(record) for record in await table.read_strictly(connection, rows)]


async def _versions(connection: Connection, order_ids: list[uuid.UUID]) -> list[Json]:
    rows = await connection.fetch(
        "SELECT order_id, version, at, action, body FROM order_version WHERE order_id = ANY ($1::uuid[])"
        " ORDER BY order_id, version LIMIT $2",
        order_ids,
        MAX_LINES,
    )
    opened = await ORDERS.read_strictly(connection, [version_row(row["body"]) for row in rows])
    return [plain({**row, "body": told(row["body"], body)}) for row, body in zip(rows, opened, strict=True)]


async def gather(connection: Connection, about: Parties, audit: Json) -> Json:
    """Everything but fixes: what `core.evidence.files` makes a bundle of."""
    window, orders = about.window, list(about.order_ids)
    people = [person for person in (about.victim_id, about.aggressor_id) if person is not None]
    incident = await connection.fetchrow("SELECT * FROM incident WHERE id = $1", about.incident_id)
    agency = await connection.fetchrow("SELECT name, time_zone, language FROM agency WHERE id = $1", about.agency_id)
    return {
        "incident": plain({name: value for name, value in dict(incident).items() if name != "subject"}),
        "agency": plain(dict(agency)),
        "window": {"since": rfc3339(window.since), "until": rfc3339(window.until), "cut": window.cut},
        "orders": await _sealed_rows(
            connection, ORDERS, "SELECT * FROM protection_order WHERE id = ANY ($1::uuid[]) ORDER BY number", orders
        ),
        "order_versions": await _versions(connection, orders),
        "zones": await _rows(
            connection,
            "SELECT * FROM zone WHERE order_id = ANY ($1::uuid[]) AND created_at < $3"
            " AND (removed_at IS NULL OR removed_at > $2) ORDER BY id",
            orders, window.since, window.until,
        ),
        "suspensions": await _sealed_rows(
            connection, SUSPENSIONS,
            "SELECT * FROM suspension WHERE order_id = ANY ($1::uuid[]) AND starts_at < $3 AND ends_at > $2"
            " ORDER BY id",
            orders, window.since, window.until,
        ),
        "configurations": [
            {"version": each.version, "entry": f"{each.ms}-{each.n}", "index": each.index, "config": each.config}
            for each in (await case_log.configurations_of(connection, about.case_id) if about.case_id else [])
        ],
        "transitions": [
            {**row["body"], "incident_id": row["incident_id"]}
            for row in await _rows(
                connection,
                "SELECT body, incident_id FROM transition"
                " WHERE case_id = $1 AND evaluated_at >= $2 AND evaluated_at < $3"
                " AND (order_id = ANY ($4::uuid[]) OR incident_id = $5 OR (order_id IS NULL AND"
                " body ->> 'device_id' IN (SELECT id::text FROM device WHERE person_id = ANY ($6::uuid[]))))"
                " ORDER BY evaluated_at, at, id",
                about.case_id, window.since, window.until, orders, about.incident_id, people,
            )
        ],
        "timeline": plain(await incidents.timeline(connection, about.incident_id, MAX_LINES)),
        "deliveries": await _deliveries(connection, about.incident_id),
        "panics": await _panics(connection, about.incident_id),
        "devices": await _devices(connection, about),
        "episode": await _rows(
            connection,
            "SELECT id, type, family, severity, state, occurred_at, resolved_at, outcome FROM incident"
            " WHERE episode_id = $1 AND id <> $2 AND order_id = ANY ($3::uuid[]) ORDER BY opened_at",
            incident["episode_id"], about.incident_id, orders,
        ),
        "false_before": await _rows(
            connection,
            "SELECT id, type, occurred_at, outcome, false_alarm_cause FROM incident WHERE order_id = ANY ($1::uuid[])"
            " AND outcome IN ('false_alarm', 'technical') AND occurred_at >= $2 AND occurred_at < $3 AND id <> $4"
            " ORDER BY occurred_at",
            orders, window.since - REPEATS_WITHIN, window.until, about.incident_id,
        ),
        "finding": plain(await reports.finding(connection, about.agency_id, about.incident_id)),
        "identities": await _identities(connection, about),
        "audit": audit,
    }  # fmt: skip


async def _panics(connection: Connection, incident_id: uuid.UUID) -> list[Json]:
    """Calls for help, with what she wrote; nothing of what her device sent beside it."""
    rows = await connection.fetch(
        "SELECT id, device_id, mode, trigger, at, received_at, lat, lon, accuracy_m, verified, doubt, cancel_asked_at,"
        " note, note_sealed, body, NULL::bytea AS body_sealed FROM panic WHERE incident_id = $1 ORDER BY received_at"
        " LIMIT $2",
        incident_id,
        MAX_LINES,
    )
    return [
        {name: value for name, value in plain(row).items() if name not in ("body", "body_sealed")}
        for row in await panics.open_rows(connection, rows)
    ]


async def _deliveries(connection: Connection, incident_id: uuid.UUID) -> list[Json]:
    """Who was told, by audience and channel, and how each try ended; addresses and texts are not evidence."""
    rows = await _rows(
        connection,
        "SELECT id, audience, recipient, channel, language, template, priority, step, state, attempts, due_at,"
        " created_at, sent_at, updated_at FROM delivery WHERE incident_id = $1 ORDER BY created_at, id",
        incident_id,
    )
    tries = await _rows(
        connection,
        "SELECT delivery_id, attempt, started_at, ended_at, result FROM delivery_attempt"
        " WHERE delivery_id = ANY ($1::uuid[]) ORDER BY delivery_id, attempt",
        [uuid.UUID(row["id"]) for row in rows],
    )
    of: dict[str, list[Json]] = {}
    for each in tries:
        of.setdefault(each.pop("delivery_id"), []).append(each)
    return [{**row, "tries": of.get(row["id"], [])} for row in rows]


async def _devices(connection: Connection, about: Parties) -> list[Json]:
    numbers = await device_numbers(connection, about)
    rows = await _rows(
        connection,
        "SELECT id, number, kind, role, expected_interval_s, battery_pct, battery_hours_left, clock_offset_s, strap,"
        " fitted_at, returned_at, last_seen_at, last_proved_at, status FROM device WHERE number = ANY ($1::bigint[])"
        " ORDER BY number",
        list(numbers),
    )
    return [{**row, "party": numbers[row["number"]]} for row in rows]


async def _identities(connection: Connection, about: Parties) -> Json:
    """Who the two are, as far as is known; only the court's edition gets it."""
    out: Json = {}
    for party, person_id in (("victim", about.victim_id), ("aggressor", about.aggressor_id)):
        record = None if person_id is None else await PEOPLE.find(connection, about.agency_id, person_id)
        identity = {} if record is None else record["identity"] or {}
        out[party] = {"person_id": plain(person_id), **{name: plain(identity[name]) for name in sorted(identity)}}
    return out


async def ids_of(connection: Connection, numbers: Sequence[int]) -> list[str]:
    """Ids of devices by their numbers."""
    rows = await connection.fetch("SELECT id FROM device WHERE number = ANY ($1::bigint[]) ORDER BY number", numbers)
    return [str(row["id"]) for row in rows]
