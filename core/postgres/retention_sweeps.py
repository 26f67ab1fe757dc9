# ruff: noqa: S608 - every statement is of our own words alone
"""What rules erase row by row: which rows are due, and what becomes of them, in bounded steps.

A sweep names the rows that are due by one statement ($1 agency, $2 and $3 moments before which they are due) and what
becomes of them by others over their ids, so that what is previewed is what is erased. Nothing that a legal hold wants
is ever due. `docs/retention.md` says the same in words.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from core.postgres import holds
from core.postgres.database import Connection

BATCH: Final = 500
"""Rows due that one step takes; what hangs on each goes with it."""

_HELD: Final = "is_incident_held({0}.id, {0}.case_id, {0}.victim_id, {0}.aggressor_id)"
_INCIDENT_HELD: Final = _HELD.format("i")
_JUDGED_AT: Final = """
    (SELECT max(c.decided_at) FROM court_outcome c JOIN protection_order o ON o.id = c.order_id
     WHERE c.decided_at >= i.occurred_at AND (o.id = i.order_id OR i.order_id IS NULL AND o.case_id = i.case_id
        AND (i.victim_id IS NULL OR o.victim_id = i.victim_id)))
"""
_IN_KEPT_WINDOW: Final = """
    EXISTS (SELECT FROM incident_snapshot s WHERE s.case_id = t.case_id AND t.evaluated_at >= s.window_from
        AND t.evaluated_at < s.window_until
        AND NOT EXISTS (SELECT FROM incident_stripped d WHERE d.incident_id = s.incident_id))
"""
_DELIVERY_HELD: Final = f"EXISTS (SELECT FROM incident i WHERE i.id = d.incident_id AND {_INCIDENT_HELD})"
_PLACES: Final = "ARRAY['note', 'differs', 'lat', 'lon', 'accuracy_m', 'place', 'aggressor_place', 'district']"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One rule over rows: which are due, and what becomes of what."""

    rule: str
    """A name of core.domain.retention.Periods, less `_days`."""
    due: str
    """SELECT id, at: of $1 agency, due before $2 (and $3, where the rule has a second period)."""
    steps: tuple[tuple[str, str], ...]
    """(kind, statement over $1, ids); the kind "" is not counted."""
    second: str = ""
    """The rule's other period."""


SWEEPS: Final = (
    Sweep(
        "incident_fix_judged",
        f"""
        SELECT i.id, coalesce(j.at, i.resolved_at) AS at FROM incident i
        CROSS JOIN LATERAL (SELECT {_JUDGED_AT} AS at) j
        WHERE i.agency_id = $1 AND i.state = 'resolved' AND i.resolved_at < greatest($2::timestamptz, $3::timestamptz)
        AND CASE WHEN j.at IS NULL THEN i.resolved_at < $3 ELSE greatest(j.at, i.resolved_at) < $2 END
        AND NOT EXISTS (SELECT FROM incident_stripped d WHERE d.incident_id = i.id) AND NOT {_INCIDENT_HELD}
        """,
        (
            ("incident_fix", "DELETE FROM incident_fix WHERE incident_id = ANY ($1)"),
            (
                "incident_snapshot",
                (
                    "UPDATE incident_snapshot SET log = NULL, replay = NULL, next_copy_at = NULL"
                    " WHERE incident_id = ANY ($1)"
                ),
            ),
            ("evidence_export", "DELETE FROM evidence_export WHERE incident_id = ANY ($1)"),
            (
                "incident_place",
                (
                    "UPDATE incident SET place = NULL, hazards = '{}', language = NULL,"
                    " detail = detail - ARRAY['aggressor_place', 'other_places', 'district'] WHERE id = ANY ($1)"
                ),
            ),
            (
                "timeline_text",
                f"UPDATE timeline SET private_sealed = NULL, data = data - {_PLACES} WHERE incident_id = ANY ($1)",
            ),
            (
                "panic_text",
                (
                    "UPDATE panic SET note = NULL, body = NULL, note_sealed = NULL, body_sealed = NULL, lat = NULL,"
                    " lon = NULL, accuracy_m = NULL WHERE incident_id = ANY ($1)"
                ),
            ),
            (
                "transition_place",
                (
                    "UPDATE transition SET body = body - ARRAY['victim_position', 'aggressor_position']"
                    " WHERE incident_id = ANY ($1)"
                ),
            ),
            (
                "",
                (
                    "INSERT INTO incident_stripped (incident_id, agency_id) SELECT id, agency_id FROM incident"
                    " WHERE id = ANY ($1) ON CONFLICT DO NOTHING"
                ),
            ),
        ),
        second="incident_fix_unjudged",
    ),
    Sweep(
        "incident",
        f"""
        SELECT i.id, i.resolved_at AS at FROM incident i JOIN incident_stripped d ON d.incident_id = i.id
        WHERE i.agency_id = $1 AND i.state = 'resolved' AND i.resolved_at < $2 AND NOT {_INCIDENT_HELD}
        AND NOT EXISTS (SELECT FROM legal_hold h WHERE h.incident_id = i.id)
        """,
        (
            (
                "delivery_attempt",
                (
                    "DELETE FROM delivery_attempt WHERE delivery_id IN"
                    " (SELECT id FROM delivery WHERE incident_id = ANY ($1))"
                ),
            ),
            ("delivery", "DELETE FROM delivery WHERE incident_id = ANY ($1)"),
            ("timeline", "DELETE FROM timeline WHERE incident_id = ANY ($1)"),
            ("panic", "DELETE FROM panic WHERE incident_id = ANY ($1)"),
            ("transition", "DELETE FROM transition WHERE incident_id = ANY ($1)"),
            ("incident", "DELETE FROM incident WHERE id = ANY ($1)"),
        ),
    ),
    Sweep(
        "victim_fix",
        f"""
        SELECT t.id, t.evaluated_at AS at FROM transition t WHERE t.agency_id = $1 AND t.evaluated_at < $2
        AND t.incident_id IS NULL AND (t.body ? 'victim_position' OR t.body ? 'aggressor_position')
        AND NOT {_IN_KEPT_WINDOW}
        AND NOT EXISTS (SELECT FROM legal_hold h WHERE h.lifted_at IS NULL AND h.case_id = t.case_id)
        """,
        (
            (
                "transition_place",
                (
                    "UPDATE transition SET body = body - ARRAY['victim_position', 'aggressor_position']"
                    " WHERE id = ANY ($1)"
                ),
            ),
        ),
    ),
    Sweep(
        "transition",
        f"""
        SELECT t.id, t.evaluated_at AS at FROM transition t WHERE t.agency_id = $1 AND t.evaluated_at < $2
        AND t.incident_id IS NULL AND NOT {_IN_KEPT_WINDOW}
        AND NOT EXISTS (SELECT FROM legal_hold h WHERE h.lifted_at IS NULL AND h.case_id = t.case_id)
        """,
        (("transition", "DELETE FROM transition WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "transition",
        "SELECT id, decided_at AS at FROM aggressor_warning WHERE agency_id = $1 AND decided_at < $2",
        (("aggressor_warning", "DELETE FROM aggressor_warning WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "transition",
        "SELECT person_id AS id, max(shown_at) AS at FROM coarse_cell WHERE agency_id = $1"
        " GROUP BY person_id HAVING max(shown_at) < $2",
        (("coarse_cell", "DELETE FROM coarse_cell WHERE person_id = ANY ($1)"),),
    ),
    Sweep(
        "delivery_text",
        f"""
        SELECT d.id, d.created_at AS at FROM delivery d WHERE d.agency_id = $1 AND d.created_at < $2
        AND d.state NOT IN ('queued', 'sending')
        AND (d.data <> '{{}}' OR d.target_sealed IS NOT NULL OR d.address IS NOT NULL) AND NOT {_DELIVERY_HELD}
        """,
        (
            (
                "delivery_text",
                (
                    "UPDATE delivery SET data = '{}', address = NULL, secret = NULL, target_sealed = NULL,"
                    " address_digest = NULL, last_error = NULL, provider_id = NULL, seen_digest = NULL"
                    " WHERE id = ANY ($1)"
                ),
            ),
            ("", "UPDATE delivery_attempt SET detail = NULL WHERE delivery_id = ANY ($1)"),
        ),
    ),
    Sweep(
        "delivery_text",
        "SELECT id, expires_at AS at FROM live_link WHERE agency_id = $1 AND expires_at < $2",
        (("live_link", "DELETE FROM live_link WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "delivery",
        "SELECT id, created_at AS at FROM delivery WHERE agency_id = $1 AND created_at < $2 AND incident_id IS NULL"
        " AND state NOT IN ('queued', 'sending')",
        (
            ("", "DELETE FROM delivery_attempt WHERE delivery_id = ANY ($1)"),
            ("delivery", "DELETE FROM delivery WHERE id = ANY ($1)"),
        ),
    ),
    Sweep(
        "device_notice",
        "SELECT id, at FROM device_prompt WHERE agency_id = $1 AND at < $2",
        (("device_prompt", "DELETE FROM device_prompt WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "device_notice",
        "SELECT id, started_at AS at FROM drill WHERE agency_id = $1 AND started_at < $2",
        (("drill", "DELETE FROM drill WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "device_notice",
        "SELECT outage_id AS id, min(at) AS at FROM outage_word WHERE agency_id = $1 GROUP BY outage_id"
        " HAVING max(at) < $2",
        (("outage_word", "DELETE FROM outage_word WHERE outage_id = ANY ($1)"),),
    ),
    Sweep(
        "sign_in",
        "SELECT id, coalesce(ended_at, expires_at) AS at FROM user_session WHERE agency_id = $1"
        " AND coalesce(ended_at, expires_at) < $2",
        (
            ("refresh_token", "DELETE FROM refresh_token WHERE family_id = ANY ($1)"),
            ("user_session", "DELETE FROM user_session WHERE id = ANY ($1)"),
        ),
    ),
    Sweep(
        "sign_in",
        "SELECT digest AS id, expires_at AS at FROM sign_in_code WHERE agency_id = $1 AND expires_at < $2",
        (("sign_in_code", "DELETE FROM sign_in_code WHERE digest = ANY ($1)"),),
    ),
    Sweep(
        "enrolment",
        "SELECT e.code_digest AS id, coalesce(e.used_at, e.expires_at) AS at FROM enrolment e"
        " JOIN device d ON d.id = e.device_id WHERE d.agency_id = $1 AND coalesce(e.used_at, e.expires_at) < $2",
        (("enrolment", "DELETE FROM enrolment WHERE code_digest = ANY ($1)"),),
    ),
    Sweep(
        "enrolment",
        "SELECT c.id, max(i.expires_at) AS at FROM contact c JOIN contact_invitation i ON i.contact_id = c.id"
        " WHERE c.agency_id = $1 AND c.consented_at IS NULL GROUP BY c.id HAVING max(i.expires_at) < $2",
        (("contact", "DELETE FROM contact WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "export",
        "SELECT id, asked_at AS at FROM evidence_export WHERE agency_id = $1 AND asked_at < $2"
        " AND state IN ('done', 'failed')",
        (("evidence_export", "DELETE FROM evidence_export WHERE id = ANY ($1)"),),
    ),
    Sweep(
        "export",
        "SELECT id, asked_at AS at FROM subject_export WHERE agency_id = $1 AND asked_at < $2",
        (("subject_export", "DELETE FROM subject_export WHERE id = ANY ($1)"),),
    ),
)


STRIPPING: Final = SWEEPS[0]
"""The rule that takes from incidents what says where and who."""
STRIPPED: Final = "incident_stripped"
"""The table of those it has been at."""


@dataclass(frozen=True, slots=True)
class Gone:
    """What one step of a rule erased, or would."""

    agency_id: uuid.UUID
    rule: str
    kind: str
    count: int
    from_at: datetime | None
    until_at: datetime | None
    held: int = 0


async def count_due(
    connection: Connection,
    sweep: Sweep,
    agency_id: uuid.UUID,
    moments: Sequence[datetime],
    strip_moments: Sequence[datetime],
) -> list[Gone]:
    """How many rows of a rule are due when a run comes to it; none, where none is.

    By then the rule that strips incidents (`STRIPPING`, of `strip_moments`) has been, and some rules take what is
    stripped: they are counted as if it had.
    """
    arguments, stripped = list(moments), ""
    if sweep is not STRIPPING and STRIPPED in sweep.due:
        due = STRIPPING.due
        for number in (3, 2):  # its moments stand behind this rule's
            due = due.replace(f"${number}", f"${number + len(moments)}")
        stripped = f"WITH {STRIPPED} AS (SELECT incident_id FROM public.{STRIPPED} UNION SELECT id FROM ({due}) due) "
        arguments += strip_moments
    row = await connection.fetchrow(
        f"{stripped}SELECT count(*) AS count, min(at) AS least, max(at) AS most FROM ({sweep.due}) due",
        agency_id,
        *arguments,
    )
    kind = next(kind for kind, _ in sweep.steps if kind)
    return [Gone(agency_id, sweep.rule, kind, row["count"], row["least"], row["most"])] if row["count"] else []


async def sweep_once(
    connection: Connection, sweep: Sweep, agency_id: uuid.UUID, moments: Sequence[datetime]
) -> list[Gone]:
    """Erase the next rows of a rule that are due, inside the caller's transaction; nothing left: an empty list."""
    await holds.lock(connection)  # no hold is placed between looking and erasing
    rows = await connection.fetch(
        f"SELECT id, at FROM ({sweep.due}) due ORDER BY at LIMIT {BATCH}",
        agency_id,
        *moments,
    )
    if not rows:
        return []
    ids = [row["id"] for row in rows]
    gone = []
    for kind, statement in sweep.steps:
        status: str = await connection.execute(statement, ids)
        count = int(status.rpartition(" ")[2])
        if kind and count:
            gone.append(Gone(agency_id, sweep.rule, kind, count, rows[0]["at"], rows[-1]["at"]))
    return gone or [Gone(agency_id, sweep.rule, sweep.steps[0][0], 0, rows[0]["at"], rows[-1]["at"])]


async def sweep_unheld(connection: Connection, now: datetime) -> list[Gone]:
    """Erase the next copies of fixes whose hold was lifted or ran out."""
    rows = await connection.fetch(
        f"""
        WITH free AS (
            SELECT k.ctid FROM ping_held k WHERE NOT EXISTS (
                SELECT FROM held_fixes($1) h WHERE h.person_id = k.person_id
                AND k.live_at >= h.since AND k.live_at < h.until)
            LIMIT {BATCH * 20}
        ), gone AS (DELETE FROM ping_held WHERE ctid IN (SELECT ctid FROM free) RETURNING agency_id, live_at)
        SELECT agency_id, count(*) AS count, min(live_at) AS least, max(live_at) AS most FROM gone GROUP BY agency_id
        """,
        now,
    )
    return [Gone(row["agency_id"], "held_fix", "ping_held", row["count"], row["least"], row["most"]) for row in rows]
