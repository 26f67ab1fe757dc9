"""The historian on real stores: exactly once, duplicates, poison, trimming, retention."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from core.clock import now_ms, to_ms
from core.domain.log import PINGS
from core.domain.ping import FLAG_EXTRA, FLAG_POSITION, FLAG_PRIMARY, OPEN, SHIFT_STRAP, Role
from core.postgres import pings
from core.redis import keys
from core.redis.shard_log import START

SHARDS = 4


async def start(historian: Any, ground: Any) -> Any:
    await historian.start()
    await ground.wait_until(lambda: len(historian.owned()) == SHARDS, "all shards")
    return historian


async def stored(ground: Any, how_many: int) -> None:
    async def there() -> bool:
        return await ground.pings_stored() >= how_many

    await ground.wait_until(there, f"{how_many} pings in history")
    assert await ground.pings_stored() == how_many


def freeze(historian: Any) -> None:
    """As kill -9 would: nothing more is written or given back."""
    historian._ownership._tokens.clear()
    historian._ownership._task.cancel()
    historian._task.cancel()


async def test_a_ping_is_stored_as_it_was_sent_in_its_days_partition(ground: Any) -> None:
    victim, aggressor = await ground.add_device("victim"), await ground.add_device("aggressor")
    at_ms = now_ms() - 60_000
    await start(ground.historian(), ground)
    await ground.append(0, ground.ping(victim, 41, at_ms=at_ms), ground.ping(aggressor, -1, at_ms=now_ms() + 90_000))
    await stored(ground, 2)
    async with ground.database.connection() as connection:
        hers, his = await connection.fetch("SELECT *, tableoid::regclass::text AS part FROM ping ORDER BY role")
    day = datetime.fromtimestamp(at_ms / 1000, UTC)
    assert hers["part"] == f"ping_victim_{day:%Y%m%d}"
    assert (hers["role"], hers["device_number"], hers["seq"]) == (Role.VICTIM, victim, 41)
    assert (to_ms(hers["live_at"]), to_ms(hers["at"])) == (at_ms, at_ms)
    assert (hers["lat"], hers["lon"], hers["accuracy_m"], hers["battery_pct"]) == (43.2, 76.9, 5.0, 50.0)
    assert math.isnan(hers["speed_mps"])
    assert hers["flags"] & pings.FLAGS_MASK == FLAG_POSITION | FLAG_PRIMARY
    assert pings.place_in_log(hers["flags"]) is not None
    assert his["live_at"] == his["received_at"] < his["at"], "a clock that runs ahead is held to the time of receipt"
    assert his["seq"] < -1
    assert his["part"].startswith("ping_aggressor_")


async def test_duplicates_are_dropped_within_an_entry_between_entries_and_between_shards(ground: Any) -> None:
    device = await ground.add_device("victim")
    at_ms = now_ms() - 1_000
    await start(ground.historian(), ground)
    twice = ground.ping(device, 1, at_ms=at_ms)
    await ground.append(0, twice, twice, ground.ping(device, 2, at_ms=at_ms))
    await stored(ground, 2)
    await ground.append(0, twice, ground.ping(device, 3, at_ms=at_ms))
    await stored(ground, 3)
    await ground.append(2, ground.ping(device, 4, at_ms=at_ms, flags=0), ground.ping(device, 5, at_ms=at_ms))
    await stored(ground, 4)
    assert await ground.count("SELECT count(*) FROM ping WHERE seq = 4") == 0, "only the primary copy is history"


async def test_a_historian_killed_after_its_commit_and_before_trimming_doubles_nothing(ground: Any) -> None:
    device = await ground.add_device("aggressor")
    first = await start(ground.historian("historian-1"), ground)
    for seq in range(50):
        await ground.append(seq % SHARDS, ground.ping(device, seq))
    await stored(ground, 50)
    freeze(first)
    for seq in range(50, 100):
        await ground.append(seq % SHARDS, ground.ping(device, seq))
    second = await start(ground.historian("historian-2"), ground)
    await stored(ground, 100)
    assert second.owned().keys() == set(range(SHARDS))


async def test_a_commit_that_postgres_lost_in_a_crash_is_made_again(ground: Any) -> None:
    """What an asynchronous commit risks: the rows and the cursor of the last moments are gone together."""
    device = await ground.add_device("victim")
    await start(ground.historian(), ground)
    before = await ground.append(1, ground.ping(device, 1))
    await stored(ground, 1)
    await ground.append(1, ground.ping(device, 2))
    await stored(ground, 2)
    async with ground.database.transaction() as connection:
        await connection.execute("UPDATE log_cursor SET entry = $1 WHERE name = 'historian:1'", before)
        await connection.execute("DELETE FROM ping WHERE seq = 2")
    await ground.append(1, ground.ping(device, 3))
    await stored(ground, 3)


async def test_a_historian_whose_lease_was_taken_commits_nothing_more(ground: Any) -> None:
    device = await ground.add_device("victim")
    ground.with_settings(lease_ttl_s=60.0)
    first = await start(ground.historian("historian-1"), ground)
    await ground.append(0, ground.ping(device, 1))
    await stored(ground, 1)
    async with ground.database.connection() as connection:
        await connection.execute(
            "UPDATE lease SET token = token + 1, holder = 'historian-2' WHERE name = 'historian:0'"
        )
    place = await ground.count("SELECT split_part(entry, '-', 1) FROM log_cursor WHERE name = 'historian:0'")
    await ground.append(0, ground.ping(device, 2))
    await ground.append(1, ground.ping(device, 3))
    first._ownership._look.set()
    await stored(ground, 2)
    assert await ground.count("SELECT count(*) FROM ping WHERE seq = 2") == 0
    assert await ground.count("SELECT split_part(entry, '-', 1) FROM log_cursor WHERE name = 'historian:0'") == place
    await ground.wait_until(lambda: 0 not in first.owned(), "the shard to be dropped")


async def test_damaged_entries_are_set_aside_and_the_rest_flows(ground: Any) -> None:
    device = await ground.add_device("victim")
    await ground.append(0, ground.ping(device, 1))
    damaged = await ground.log.append(0, PINGS, b"x" * 65)
    await ground.append(0, ground.ping(device, 2))
    await start(ground.historian(), ground)
    await stored(ground, 2)
    async with ground.database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM poison")
    assert (row["source"], row["entry"]) == ("historian:0", damaged)


async def test_an_entry_that_postgres_refuses_is_set_aside_alone(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    device = await ground.add_device("victim")
    plain = pings.Rows.encode

    def encode(rows: pings.Rows) -> bytes:
        return b"\0\1" + plain(rows)[2:] if (rows.records["seq"] == 13).any() else plain(rows)

    monkeypatch.setattr(pings.Rows, "encode", encode)
    for seq in (12, 13, 14):
        await ground.append(0, ground.ping(device, seq))
    await start(ground.historian(), ground)
    await stored(ground, 2)
    assert await ground.count("SELECT count(*) FROM poison WHERE source = 'historian:0'") == 1


async def test_the_log_is_trimmed_behind_history_and_never_beyond_the_engine(ground: Any) -> None:
    device = await ground.add_device("victim")
    await start(ground.historian(), ground)
    ids = [await ground.append(0, ground.ping(device, seq)) for seq in range(1000)]
    await stored(ground, 1000)

    async def history() -> bool:
        return await ground.client.get(keys.history(0)) == ids[-1].encode()

    await ground.wait_until(history, "history to be known on disk")
    assert await ground.client.xlen(keys.pings(0)) == 1000, "the engine has passed nothing"
    await ground.client.set(keys.cursor(0), ids[600])

    async def trimmed() -> bool:
        return await ground.client.xlen(keys.pings(0)) < 1000

    await ground.wait_until(trimmed, "the log to be trimmed")
    (oldest,) = await ground.log.read(0, START, 1)
    assert oldest.id in ids[1:601]
    assert await ground.client.xlen(keys.pings(0)) >= 400


async def test_what_is_older_than_an_installation_keeps_is_passed_over(ground: Any) -> None:
    victim, aggressor = await ground.add_device("victim"), await ground.add_device("aggressor")
    old_ms = now_ms() - 9 * 86_400_000
    await ground.append(0, ground.ping(victim, 1, at_ms=old_ms), ground.ping(aggressor, 2, at_ms=old_ms))
    await start(ground.historian(), ground)
    await stored(ground, 1)
    assert await ground.count("SELECT role FROM ping") == Role.AGGRESSOR


async def test_beacons_heard_and_what_a_device_says_of_itself_are_kept(ground: Any) -> None:
    device = await ground.add_device("victim")
    flags = FLAG_PRIMARY | FLAG_EXTRA | OPEN << SHIFT_STRAP
    extras = msgspec.json.encode({"1": {"heard": [{"beacon": 9, "rssi_dbm": -70}]}})
    records = ground.ping(device, 1, battery=90), ground.ping(device, 2, battery=40, flags=flags)
    await ground.log.append(0, PINGS, b"".join(records), extras)
    await start(ground.historian(), ground)
    await stored(ground, 2)
    async with ground.database.connection() as connection:
        (heard,) = await connection.fetch("SELECT * FROM ping_heard")
    assert (heard["device_number"], heard["heard"]) == (device, [{"beacon": 9, "rssi_dbm": -70}])

    async def seen() -> Any:
        async with ground.database.connection() as connection:
            return await connection.fetchrow(
                "SELECT battery_pct, strap FROM device WHERE number = $1 AND last_seen_at IS NOT NULL", device
            )

    row = await ground.wait_until(seen, "the device to have been seen")
    assert (row["battery_pct"], row["strap"]) == (40.0, "open")


async def test_a_device_enrolled_while_it_runs_gets_its_own_partition(ground: Any) -> None:
    await start(ground.historian(), ground)
    first = await ground.add_device("other")
    await ground.append(0, ground.ping(first, 1))
    await stored(ground, 1)
    late = await ground.add_device("victim")

    async def learnt() -> bool:
        await ground.append(0, ground.ping(late, now_ms()))
        return await ground.count("SELECT count(*) FROM ping_victim") > 0

    await ground.wait_until(learnt, "the new device's role")
