"""Deliveries on their way out: claim, mark, attempts. Writing new ones is the actions' part.

    queued ──claim──► sending ──mark──► sent
      ▲                  │ ├────mark──► dead         (refused for good, or attempts used up)
      └──────mark────────┘ └─lease over─► claimed again as `abandoned`, under the same id

A claim is fenced by (`leased_by`, `attempts`): a mark that comes after its lease was taken over by another changes
the attempt's row, which tells the truth about it, and not the delivery, which is the other's now.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from core.domain.sealing import Spot
from core.errors import KeyUnavailable
from core.postgres import keys
from core.postgres.devices import DEVICES

BEAT_NAME: Final = "notifier"
"""Under what name senders beat, as `leased_by` names their instance."""
MAX_DETAIL_CHARACTERS: Final = 500
MAX_PROVIDER_ID_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that is ours to send until `leased_until`; `attempt` counts from 1."""

    id: uuid.UUID
    agency_id: uuid.UUID
    incident_id: uuid.UUID | None
    audience: str
    recipient: str
    channel: str
    address: str = field(repr=False)
    secret: str | None = field(repr=False)
    language: str
    template: str
    data: Any
    priority: int
    attempt: int
    due_at: datetime
    created_at: datetime
    address_digest: bytes | None = field(default=None, repr=False)
    """The same for every delivery to one address; None: it was queued plain."""
    erased: bool = False
    """Who it was for was erased meanwhile: there is no address any more."""
    spoilt: bool = False
    """Its address does not open: it was changed, or its key was lost."""
    forgiven: int = 0
    """How many of its attempts do not count."""
    time_zone: str | None = None
    """Its agency's, in which times are told; None: UTC."""


@dataclass(frozen=True, slots=True)
class Mark:
    """How one attempt ended: the state the delivery takes and the attempt's own row (none when `result` is None)."""

    delivery_id: uuid.UUID
    attempt: int
    state: str
    """sent | queued | dead"""
    result: str | None
    """sent | retryable | throttled | permanent; None with `queued`: it was not tried, and the claim is undone"""
    started_at: datetime
    ended_at: datetime
    due_at: datetime | None = None
    """When to try again, with state `queued`."""
    detail: str | None = None
    provider_id: str | None = None
    forgiven: bool = False
    """The attempt does not count."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A delivery that a mark brought to its end."""

    id: uuid.UUID
    agency_id: uuid.UUID
    incident_id: uuid.UUID | None
    channel: str
    audience: str
    template: str
    state: str
    attempts: int
    detail: str | None


_CLAIMABLE: Final = """
    SELECT id, state, attempts, leased_until, updated_at FROM delivery
    WHERE channel = $1 AND state IN ('queued', 'sending')
      AND (
          (state = 'queued' AND due_at <= $2)
          OR (state = 'sending' AND leased_until < $2)
          OR (state = 'sending' AND leased_by <> $6 AND EXISTS (
              SELECT 1 FROM service_beat b
              WHERE b.name = 'notifier' AND b.instance = delivery.leased_by AND b.beat_at < $7
          ))
      )
"""
CLAIM: Final = f"""
WITH urgent AS (
    {_CLAIMABLE}
      AND priority = 0
      AND (address IS NULL OR address <> ALL ($10::text[]))
      AND (address_digest IS NULL OR address_digest <> ALL ($11::bytea[]))
    ORDER BY due_at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
), rest AS (
    {_CLAIMABLE}
      AND priority > 0
      AND (address IS NULL OR address <> ALL ($5::text[]))
      AND (address_digest IS NULL OR address_digest <> ALL ($8::bytea[]))
    ORDER BY priority, due_at
    LIMIT greatest(0, least($9::bigint, $3::bigint - (SELECT count(*) FROM urgent)))
    FOR UPDATE SKIP LOCKED
), due AS (
    SELECT * FROM urgent UNION ALL SELECT * FROM rest
), abandoned AS (
    INSERT INTO delivery_attempt (delivery_id, attempt, started_at, ended_at, result, detail)
    SELECT id, attempts, updated_at, least(leased_until, $2), 'abandoned', 'its sender ended before marking it'
    FROM due WHERE state = 'sending'
    ON CONFLICT (delivery_id, attempt) DO NOTHING
)
UPDATE delivery d
SET state = 'sending', attempts = d.attempts + 1, leased_until = $4, leased_by = $6, updated_at = $2
FROM due WHERE d.id = due.id
RETURNING d.id, d.agency_id, d.incident_id, d.audience, d.recipient, d.channel, d.address, d.secret, d.language,
          d.template, d.data, d.priority, d.attempts AS attempt, d.due_at, d.created_at, d.target_sealed,
          d.address_digest, d.forgiven, (SELECT a.time_zone FROM agency a WHERE a.id = d.agency_id) AS time_zone
"""  # noqa: S608 - of our own words alone


GIVE_BACK: Final = """
UPDATE delivery SET state = 'queued', attempts = attempts - 1, leased_until = NULL, leased_by = NULL, updated_at = $3
WHERE id = ANY ($1::uuid[]) AND state = 'sending' AND leased_by = $2
"""
GIVE_BACK_UNHEARD: Final = """
UPDATE delivery SET state = 'queued', attempts = attempts - 1, leased_until = NULL, leased_by = NULL, updated_at = $4
WHERE channel = $1 AND state = 'sending' AND leased_by = $2 AND id <> ALL ($3::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Passed:
    """Addresses that a claim passes over, plain and as digests: enough is under way to them, or they do not answer."""

    addresses: Sequence[str] = ()
    digests: Sequence[bytes] = ()


NOBODY: Final = Passed()


async def claim_due(
    connection: Any,
    *,
    channel: str,
    now: datetime,
    leased_until: datetime,
    holder: str,
    limit: int,
    limit_rest: int | None = None,
    passed: Passed = NOBODY,
    passed_urgent: Passed = NOBODY,
    dead_before: datetime | None = None,
) -> list[Claimed]:
    """Lease up to `limit` deliveries of a channel that are due, the most urgent first; none twice, whoever asks.
    Of those that are not of priority 0 at most `limit_rest`: the other places are kept for panics.

    A delivery whose former lease has run out, or whose holder gave its last beat before `dead_before`, is claimed
    again; its lost attempt is recorded as `abandoned`. Addresses in `passed`, and for priority 0 in `passed_urgent`,
    are passed over. What does not open is claimed as `spoilt`, and keeps nothing else from going out. Raises
    KeyUnavailable while the key service is away, and gives back what it took.
    """
    rows = await connection.fetch(
        CLAIM, channel, now, limit, leased_until, list(passed.addresses), holder, dead_before, list(passed.digests),
        limit if limit_rest is None else limit_rest, list(passed_urgent.addresses), list(passed_urgent.digests),
    )  # fmt: skip
    try:
        claimed = await _opened(connection, rows)
    except KeyUnavailable:
        await connection.execute(GIVE_BACK, [row["id"] for row in rows], holder, now)
        raise
    claimed.sort(key=lambda delivery: (delivery.priority, delivery.due_at, delivery.created_at))
    return claimed


async def give_back_unheard(
    connection: Any, channel: str, holder: str, known: Sequence[uuid.UUID], now: datetime
) -> None:
    """A claim was made and its answer lost: what a holder has leased on a channel and knows nothing of waits again."""
    await connection.execute(GIVE_BACK_UNHEARD, channel, holder, list(known), now)


async def _opened(connection: Any, rows: Sequence[Any]) -> list[Claimed]:
    """Deliveries with what was sealed of them."""
    sealed = [row for row in rows if row["target_sealed"] is not None]
    targets = await keys.open_each(
        connection, [(Spot("delivery", "target", row["id"]), row["target_sealed"]) for row in sealed]
    )
    by_id = {row["id"]: target for row, target in zip(sealed, targets, strict=True)}
    claimed = []
    for row in rows:
        values = {name: value for name, value in row.items() if name != "target_sealed"}
        target = by_id.get(row["id"])
        if target is keys.SPOILT:
            values |= {"address": "", "secret": None, "spoilt": True}
        elif target is keys.ERASED:
            values |= {"address": "", "secret": None, "erased": True}
        elif target is not None:
            values |= {"address": target["address"], "secret": target["secret"]}
            if target["data"]:
                values["data"] = {**row["data"], **target["data"]}
        claimed.append(Claimed(**values))
    return claimed


ATTEMPTS: Final = """
INSERT INTO delivery_attempt (delivery_id, attempt, started_at, ended_at, result, detail)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[])
ON CONFLICT (delivery_id, attempt)
DO UPDATE SET ended_at = excluded.ended_at, result = excluded.result, detail = excluded.detail
"""

MARK: Final = """
WITH mark AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $9::int[], $10::int[])
        AS m (id, attempt, state, due_at, detail, provider_id, forgiven, untried)
)
UPDATE delivery d
SET state = m.state,
    due_at = coalesce(m.due_at, d.due_at),
    leased_until = NULL,
    leased_by = NULL,
    provider_id = coalesce(m.provider_id, d.provider_id),
    last_error = m.detail,
    sent_at = CASE WHEN m.state = 'sent' THEN $7 ELSE d.sent_at END,
    forgiven = d.forgiven + m.forgiven,
    attempts = d.attempts - m.untried,
    updated_at = $7
FROM mark m
WHERE d.id = m.id AND d.state = 'sending' AND d.attempts = m.attempt AND d.leased_by = $8
RETURNING d.id, d.agency_id, d.incident_id, d.channel, d.audience, d.template, d.state, d.attempts,
          d.last_error AS detail
"""


async def mark(connection: Any, marks: Sequence[Mark], *, holder: str, now: datetime) -> list[Ended]:
    """Write how attempts ended, all in the caller's transaction; returns those that are sent or dead thereby.

    A delivery that is no longer this holder's (lease taken over, cancelled meanwhile) keeps its state.
    """
    ordered = sorted(marks, key=lambda one: one.delivery_id)
    attempts = [one for one in ordered if one.result is not None]
    await connection.execute(
        ATTEMPTS,
        [one.delivery_id for one in attempts],
        [one.attempt for one in attempts],
        [one.started_at for one in attempts],
        [one.ended_at for one in attempts],
        [one.result for one in attempts],
        [_clean(one.detail, MAX_DETAIL_CHARACTERS) for one in attempts],
    )
    rows = await connection.fetch(
        MARK,
        [one.delivery_id for one in ordered],
        [one.attempt for one in ordered],
        [one.state for one in ordered],
        [one.due_at for one in ordered],
        [_clean(one.detail, MAX_DETAIL_CHARACTERS) for one in ordered],
        [_clean(one.provider_id, MAX_PROVIDER_ID_CHARACTERS) for one in ordered],
        now,
        holder,
        [int(one.forgiven) for one in ordered],
        [int(one.result is None and one.state == "queued") for one in ordered],
    )
    return [Ended(**dict(row)) for row in rows if row["state"] in ("sent", "dead")]


def _clean(text: str | None, limit: int) -> str | None:
    """What a provider said, in a form PostgreSQL takes: no NUL, no half surrogate, bounded."""
    if text is None:
        return None
    return text[:limit].replace("\x00", "").encode("utf-8", "replace").decode()


async def hasten(connection: Any, channel: str, digests: Sequence[bytes] | None, now: datetime) -> None:
    """A provider answers again: what waits after failures is due now, but for what it asked to wait with.

    `digests`: of the addresses it is the provider of; None: of all the channel's.
    """
    await connection.execute(
        "UPDATE delivery d SET due_at = $3, updated_at = $3 WHERE channel = $1 AND state = 'queued' AND due_at > $3"
        " AND last_error IS NOT NULL AND ($2::bytea[] IS NULL OR address_digest = ANY ($2)) AND NOT EXISTS ("
        "SELECT FROM delivery_attempt a WHERE a.delivery_id = d.id AND a.attempt = d.attempts"
        " AND a.result = 'throttled')",
        channel,
        list(digests) if digests is not None else None,
        now,
    )


async def add_timeline(connection: Any, rows: Sequence[tuple[uuid.UUID, uuid.UUID, datetime, str, Any]]) -> None:
    """Add timeline lines (id, incident, at, kind, data); an id that is there already adds nothing."""
    await connection.executemany(
        "INSERT INTO timeline (id, incident_id, at, kind, data) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (id) DO NOTHING",
        rows,
    )


async def forget_push_tokens(connection: Any, gone: Sequence[tuple[uuid.UUID, str]], now: datetime) -> None:
    """Clear push tokens the provider no longer knows: (device id, token), each only while it is still that token."""
    rows = await connection.fetch(
        f"SELECT {DEVICES.selected} FROM device WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE",  # noqa: S608
        [device_id for device_id, _ in gone],
    )
    there = {(record["id"], record["push_token"]) for record in await DEVICES.read(connection, rows)}
    await connection.execute(
        "UPDATE device SET push_token = NULL, push_token_sealed = NULL, updated_at = $2 WHERE id = ANY ($1::uuid[])",
        [device_id for device_id, token in gone if (device_id, token) in there],
        now,
    )
