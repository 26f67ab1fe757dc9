"""Each rule over rows: what goes when, what stays, what is held, what is written down."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.actions import retention
from core.actions.sealing import seal
from core.ids import new_id
from core.postgres import audit, retention_sweeps
from core.postgres import retention as store
from tests.integration.retention.conftest import ROOM, Land

JUDGED, UNJUDGED, WHOLE = 1095, 1825, 3650


async def judge(land: Land, side: Any, days_ago: float) -> None:
    user_id = new_id()
    async with land.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO app_user (id, agency_id, username, role, created_at) VALUES ($1, $2, $3, 'caseworker', $4)",
            user_id, side.agency_id, f"u{user_id}", land.now,
        )  # fmt: skip
        await connection.execute(
            "INSERT INTO court_outcome (id, agency_id, order_id, decided_at, proceeding, result, recorded_by,"
            " created_at) VALUES ($1, $2, $3, $4, 'administrative', 'fine', $5, $4)",
            new_id(), side.agency_id, side.order_id, land.now - timedelta(days=days_ago), user_id,
        )  # fmt: skip


async def test_an_incident_loses_its_places_and_texts_three_years_after_judgment(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, 10)
    await judge(land, side, 5)
    await land.run(later_days=JUDGED - 6)
    assert await land.count("incident_fix") == 2
    await land.run(later_days=JUDGED - 4)
    assert await land.count("incident_fix") == 0
    (snapshot,) = await land.rows("SELECT log, replay FROM incident_snapshot")
    assert (snapshot["log"], snapshot["replay"]) == (None, None)
    (incident,) = await land.rows("SELECT place, outcome, resolved_at FROM incident")
    assert (incident["place"], incident["outcome"]) == (None, "warned")
    (panic,) = await land.rows("SELECT lat, received_at FROM panic")
    assert panic["lat"] is None
    assert panic["received_at"] is not None
    assert [row["data"] for row in await land.rows("SELECT data FROM timeline")] == [{"by": "x"}]
    assert [row["body"] for row in await land.rows("SELECT body FROM transition")] == [{"p_within": 0.3}]


async def test_without_a_judgment_it_is_five_years_and_a_new_judgment_begins_anew(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, 10)
    await land.run(later_days=UNJUDGED - 11)
    assert await land.count("incident_fix") == 2
    await judge(land, side, -1800)
    await land.run(later_days=UNJUDGED - 9)
    assert await land.count("incident_fix") == 2, "judged shortly before: three years more"
    await land.run(later_days=1800 + JUDGED + 1)
    assert await land.count("incident_fix") == 0


async def test_an_incident_goes_whole_in_the_end_and_one_that_is_open_never(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, 10)
    open_one = await land.incident(side, 10)
    async with land.database.transaction() as connection:
        await connection.execute("UPDATE incident SET state = 'open', resolved_at = NULL WHERE id = $1", open_one)
    await land.run(later_days=WHOLE - 11)
    assert await land.count("incident") == 2
    await land.run(later_days=WHOLE - 9)
    assert [row["id"] for row in await land.rows("SELECT id FROM incident")] == [open_one]
    for table in (
        "timeline",
        "panic",
        "delivery",
        "delivery_attempt",
        "delivery_receipt",
        "transition",
        "incident_snapshot",
    ):
        assert await land.count(table) == 1, table
    assert await land.count("incident_fix") == 2


@pytest.mark.parametrize("column", ["person_id", "case_id", "incident_id"])
async def test_nothing_that_a_court_wants_is_erased(land: Land, column: str) -> None:
    side, other = await land.side("Here"), await land.side("Elsewhere")
    held = await land.incident(side, 10)
    await land.incident(other, 10)
    value = {"person_id": side.him, "case_id": side.case_id, "incident_id": held}[column]
    hold_id = await land.hold(side, column, value)
    await land.run(later_days=WHOLE)
    assert [row["id"] for row in await land.rows("SELECT id FROM incident")] == [held]
    assert await land.count("incident_fix") == 2
    (delivery,) = await land.rows("SELECT data, address FROM delivery")
    assert delivery == {"data": {"text": "come"}, "address": "a@example.org"}
    await land.lift(hold_id)
    await land.run(later_days=WHOLE + 1)
    assert await land.count("incident_fix") == 0
    assert await land.count("incident") == (1 if column == "incident_id" else 0), "a hold that was names its incident"


async def test_what_a_message_said_goes_before_that_it_was_sent(land: Land) -> None:
    side = await land.side("Here", delivery_text_days=10)
    await land.incident(side, 11)
    queued = await land.incident(side, 11)
    async with land.database.transaction() as connection:
        await connection.execute("UPDATE delivery SET state = 'queued' WHERE incident_id = $1", queued)
    await land.run()
    rows = await land.rows("SELECT data, address, state FROM delivery ORDER BY state")
    assert rows == [
        {"data": {"text": "come"}, "address": "a@example.org", "state": "queued"},
        {"data": {}, "address": None, "state": "sent"},
    ]
    assert sorted(str(row["detail"]) for row in await land.rows("SELECT detail FROM delivery_attempt")) == [
        "None", "a@example.org took it",
    ]  # fmt: skip


async def test_decisions_that_opened_nothing_lose_their_places_with_her_fixes(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, 30)
    beside, far = await land.transition(side, 30.01), await land.transition(side, 20)
    await land.run()
    bodies = {row["id"]: row["body"] for row in await land.rows("SELECT id, body FROM transition")}
    assert "victim_position" in bodies[beside], "an incident's window is judged again by it"
    assert bodies[far] == {"p_within": 0.3}
    await land.run(later_days=350)
    assert far not in {row["id"] for row in await land.rows("SELECT id FROM transition")}


async def test_sessions_codes_and_enrolments_go_when_they_are_long_over(land: Land) -> None:
    side, user_id = await land.side("Here"), new_id()
    long_ago = land.now - timedelta(days=100)
    async with land.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO app_user (id, agency_id, username, role, created_at) VALUES ($1, $2, 'u', 'admin', $3)",
            user_id, side.agency_id, long_ago,
        )  # fmt: skip
        for ends_at in (long_ago, land.now):
            session_id = new_id()
            await connection.execute(
                "INSERT INTO user_session (id, agency_id, user_id, created_at, last_seen_at, confirmed_at, expires_at,"
                " method) VALUES ($1, $2, $3, $4, $4, $4, $4, 'password')",
                session_id, side.agency_id, user_id, ends_at,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO refresh_token (digest, user_id, family_id, created_at, expires_at, agency_id)"
                " VALUES ($1, $2, $3, $4, $4, $5)",
                session_id.bytes, user_id, session_id, ends_at, side.agency_id,
            )  # fmt: skip
            await connection.execute(
                "INSERT INTO enrolment (code_digest, device_id, created_at, expires_at)"
                " SELECT $1, id, $2, $2 FROM device WHERE number = $3",
                session_id.bytes, ends_at, side.phone,
            )  # fmt: skip
    await land.run()
    for table in ("user_session", "refresh_token", "enrolment"):
        assert await land.count(table) == 1, table


async def test_agencies_keep_by_their_own_periods(land: Land) -> None:
    short, long = await land.side("Short", incident_fix_unjudged_days=400), await land.side("Long")
    for side in (short, long):
        await land.incident(side, 401)
    await land.run()
    assert {row["agency_id"] for row in await land.rows("SELECT agency_id FROM incident_fix")} == {long.agency_id}
    told = await land.rows("SELECT agency_id FROM retention_erased WHERE kind = 'incident_fix'")
    assert [row["agency_id"] for row in told] == [short.agency_id]


async def test_killed_in_the_middle_the_next_run_goes_on(land: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    side = await land.side("Here")
    for _ in range(5):
        await land.incident(side, 2000)
    monkeypatch.setattr(retention_sweeps, "BATCH", 2)
    steps = 0

    async def go_on() -> bool:
        nonlocal steps
        steps += 1
        if steps == 3:
            raise asyncio.CancelledError
        return True

    with pytest.raises(asyncio.CancelledError):
        await retention.apply(
            land.posts.retention, ROOM, lambda: land.now, lambda: land.signer, started_by="service", go_on=go_on
        )
    assert await land.count("incident_stripped") == 4
    (run,) = await land.rows("SELECT finished_at FROM retention_run")
    assert run["finished_at"] is None
    again = await land.run()
    assert again.failed == []
    assert await land.count("incident_fix") == 0
    (total,) = await land.rows("SELECT sum(count)::int AS n FROM retention_erased WHERE kind = 'incident_fix'")
    assert total["n"] == 10, "each counted once, over both runs"


async def test_what_is_previewed_is_what_is_erased_and_nothing_is_touched_by_looking(land: Land) -> None:
    from core.domain.ping import Role

    side = await land.side("Here")
    await land.incident(side, 2000)
    await land.transition(side, 400)
    await land.fix(Role.VICTIM, side.phone, 9)
    due = await retention.preview(land.database, ROOM, land.now)
    told = {(one.rule, one.count) for one in due}
    assert {("incident_fix_judged", 1), ("transition", 1), ("delivery_text", 1), ("victim_fix", 1)} <= told
    assert await land.count("retention_run") == 0
    assert await land.count("incident_fix") == 2
    await land.run()
    assert await retention.preview(land.database, ROOM, land.now) == []


async def test_what_goes_once_another_rule_has_been_is_previewed_too(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, WHOLE + 10)
    await land.transition(side, WHOLE + 10)
    rules = ("incident_fix_judged", "incident", "transition")
    due = {(one.rule, one.kind): one.count for one in await retention.preview(land.database, ROOM, land.now)}
    assert due["incident", "delivery_attempt"] == 1, "it is stripped and goes, in one run"
    run = await land.run()
    for rule in rules:
        assert {one for one in due if one[0] == rule} <= {(one.rule, one.kind) for one in run.gone}
    by_rule = {(one.rule, one.kind): one.count for one in run.gone}
    assert due["transition", "transition"] == by_rule["transition", "transition"]
    assert await land.count("incident") == 0


async def test_every_step_is_in_the_audit_and_names_nobody(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, 2000)
    await land.run()
    lines = await land.rows("SELECT * FROM audit WHERE action = 'retention.erased'")
    assert {line["detail"]["kind"] for line in lines} >= {"incident_fix", "panic_text", "delivery_text"}
    said = str(lines) + str(await land.rows("SELECT * FROM retention_erased"))
    assert str(side.her) not in said
    assert str(side.him) not in said
    assert all(line["person_ids"] == [] for line in lines)


async def test_one_rule_that_fails_holds_up_no_other(land: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    side = await land.side("Here")
    await land.incident(side, 2000)
    plain = retention_sweeps.sweep_once

    async def stumble(connection: Any, sweep: Any, *arguments: Any) -> Any:
        if sweep.rule == "delivery_text":
            raise RuntimeError("a disk")
        return await plain(connection, sweep, *arguments)

    monkeypatch.setattr(retention_sweeps, "sweep_once", stumble)
    run = await land.run()
    assert run.failed == ["delivery_text"]
    assert await land.count("incident_fix") == 0
    async with land.database.connection() as connection:
        assert await store.last_finished(connection) is None, "it is tried again"


async def test_the_service_runs_once_a_day_in_one_process(land: Land) -> None:
    await land.side("Here")
    moment = land.now

    def clocks(holder: str) -> retention.RetentionClock:
        return retention.RetentionClock(land.posts.retention, ROOM, lambda: land.signer, lambda: moment, holder)

    first, second = clocks("one"), clocks("two")
    await asyncio.gather(first.step(), second.step())
    await first.step()
    assert len(await land.rows("SELECT DISTINCT id FROM retention_run")) == 1
    moment += timedelta(days=1)
    await second.step()
    assert len(await land.rows("SELECT DISTINCT id FROM retention_run WHERE finished_at IS NOT NULL")) == 2


async def test_what_a_restored_backup_brings_back_goes_with_the_next_run(land: Land) -> None:
    side = await land.side("Here")
    await land.incident(side, 2000)
    before = await land.rows("SELECT * FROM incident_fix")
    await land.run()
    async with land.database.transaction() as connection:  # the backup: rows as they were, the record of later gone
        await connection.execute("DELETE FROM incident_stripped")
        await connection.execute("TRUNCATE retention_run, retention_erased")
        names = list(before[0])
        await connection.executemany(
            f"INSERT INTO incident_fix ({', '.join(names)}) VALUES"
            f" ({', '.join(f'${n}' for n in range(1, len(names) + 1))})",
            [tuple(row.values()) for row in before],
        )
    await land.run()
    assert await land.count("incident_fix") == 0


async def test_the_audits_beginning_is_cut_signed_and_the_rest_holds(land: Land) -> None:
    side = await land.side("Here")
    async with land.database.transaction() as connection:
        for days in (4_000, 3_900, 10):
            await audit.write(
                connection, land.now - timedelta(days=days), agency_id=side.agency_id, actor_kind="service",
                actor_id=None, action="order.expired",
            )  # fmt: skip
    await seal(land.posts.sealer, land.now)
    run = await land.run()
    assert run.failed == []
    (cut,) = await land.rows("SELECT agency_id, position FROM audit_cut")
    assert (cut["agency_id"], cut["position"]) == (side.agency_id, 2)
    left = await land.rows("SELECT at FROM audit WHERE action = 'order.expired'")
    assert [row["at"] for row in left] == [land.now - timedelta(days=10)]
    (told,) = await land.rows("SELECT count FROM retention_erased WHERE rule = 'audit'")
    assert told["count"] == 2
