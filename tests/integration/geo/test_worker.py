"""The geo worker on real stores: ownership, evaluation, takeover, poison, configuration and time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from core.domain.log import CONFIGURATION, PINGS, TICK
from core.domain.transition import decode_many
from core.errors import LeaseLost
from core.redis import keys
from core.redis.engine_store import EngineStore
from core.redis.shard_log import START

SHARDS = 4


def owns(worker: Any, how_many: int) -> Any:
    return lambda: len(worker.owned()) == how_many and all(worker.runner(shard).claimed for shard in worker.owned())


async def test_one_worker_owns_every_shard_and_evaluates_what_comes(ground: Any) -> None:
    worker = ground.worker("geo-1")
    await worker.start()
    await ground.wait_until(owns(worker, SHARDS), "all shards")
    for seq in range(20):
        await ground.append(seq % SHARDS, ground.ping(5, seq), ground.ping(6, seq))

    async def all_counted() -> bool:
        return sum([await ground.counted(shard, 5) for shard in range(SHARDS)]) == 20

    await ground.wait_until(all_counted, "all counted")
    live = await ground.client.hgetall(keys.live(0))
    assert sorted(live) == [b"5", b"6"]
    assert await ground.client.zcard(keys.geo(0)) == 2


async def test_a_transition_is_written_at_once_with_the_state_that_made_it(ground: Any) -> None:
    worker = ground.with_settings(state_commit_ms=5000).worker("geo-1")
    await worker.start()
    await ground.wait_until(owns(worker, SHARDS), "all shards")
    entry = await ground.append(2, ground.ping(5, 1), ground.ping(5, 2, battery=ground.ALARM_PCT))
    ((_, fields),) = await ground.wait_until(
        lambda: ground.log.read_raw(keys.transitions(2), START, 10), "the transition", timeout_s=3
    )
    (transition,) = decode_many(fields[b"t"])
    assert (transition.entry, transition.detail["seq"]) == (entry, 2)
    assert await ground.counted(2, 5) == 2
    assert (await ground.client.get(keys.cursor(2))).decode() >= entry


async def test_shards_are_shared_out_fairly_and_given_back_at_once(ground: Any) -> None:
    ground.with_settings(lease_ttl_s=30.0)  # what is given back need not run out first
    first = ground.worker("geo-1")
    await first.start()
    await ground.wait_until(owns(first, SHARDS), "all shards for the only worker")
    await first.stop()
    ground.with_settings(lease_ttl_s=1.0)
    second, third = ground.worker("geo-2"), ground.worker("geo-3")
    await second.start()
    await ground.wait_until(owns(second, SHARDS), "all shards for the successor")
    await third.start()
    await ground.wait_until(owns(third, 2), "half of the shards")
    await ground.wait_until(owns(second, 2), "the other half")
    assert not set(second.owned()) & set(third.owned())
    await third.stop()
    await ground.wait_until(owns(second, SHARDS), "all shards again")


async def test_a_takeover_loses_and_doubles_nothing(ground: Any) -> None:
    """The first owner falls silent mid-stream without giving anything back."""
    first = ground.worker("geo-1")
    await first.start()
    await ground.wait_until(owns(first, SHARDS), "all shards")
    tokens = dict(first.owned())
    for seq in range(300):
        await ground.append(1, ground.ping(5, seq, battery=ground.ALARM_PCT if seq % 10 == 0 else 50))
        if seq == 150:
            _freeze(first)
            second = ground.worker("geo-2")
            await second.start()
    await ground.wait_until(owns(second, SHARDS), "the takeover", timeout_s=5)
    ground.recorder(second)
    await ground.running[-1].start()

    async def done() -> bool:
        return await ground.counted(1, 5) == 300 and len(await ground.applied_seqs()) >= 30

    await ground.wait_until(done, "everything evaluated and applied")
    assert await ground.applied_seqs() == list(range(0, 300, 10))
    assert all(second.owned()[shard] > token for shard, token in tokens.items())


def _freeze(worker: Any) -> None:
    """As kill -9 would: every task of the worker ends at once, nothing is committed or given back."""
    for runner in worker._runners.values():
        runner._task.cancel()
    worker._ownership._tokens.clear()
    worker._ownership._task.cancel()
    worker._task.cancel()


async def test_an_owner_that_was_replaced_writes_nothing_any_more(ground: Any) -> None:
    worker = ground.worker("geo-1")
    await worker.start()
    await ground.wait_until(owns(worker, SHARDS), "all shards")
    stale = dict(worker.owned())[3]
    await ground.client.set(keys.owner(3), stale + 1)
    await ground.append(3, ground.ping(5, 1, battery=ground.ALARM_PCT))
    await ground.wait_until(lambda: worker.owned().get(3) != stale, "the shard to be dropped")
    assert await ground.client.xlen(keys.transitions(3)) <= 1
    store = EngineStore(ground.client)
    with pytest.raises(LeaseLost):
        await store.commit(3, stale, "9-9", state={b"x": b"y"})
    assert await ground.client.hget(keys.state(3), "x") is None
    assert await ground.client.get(keys.cursor(3)) != b"9-9"


async def test_a_poison_entry_is_set_aside_and_the_rest_flows(ground: Any) -> None:
    for seq in range(5):
        await ground.append(0, ground.ping(5, seq))
    await ground.append(0, ground.ping(6, 1), ground.ping(6, 2, battery=ground.POISON_PCT))
    await ground.log.append(0, PINGS, b"not a record")
    await ground.append(0, ground.ping(5, 9, battery=ground.ALARM_PCT))
    worker = ground.worker("geo-1")
    await worker.start()

    async def flowed() -> bool:
        return await ground.counted(0, 5) == 6

    await ground.wait_until(flowed, "what came after the poison")
    assert await ground.counted(0, 6) == 0
    assert await ground.client.xlen(keys.transitions(0)) == 1

    async def set_aside() -> bool:
        return await ground.count("SELECT count(*) FROM poison WHERE source = 'engine:0'") == 2

    await ground.wait_until(set_aside, "two poison rows")


async def test_new_configurations_reach_the_log_once_in_bounded_entries(ground: Any) -> None:
    numbers = await ground.add_cases(1, 250)
    worker = ground.worker("geo-1")
    await worker.start()

    async def known(version: int) -> bool:
        fields = await ground.client.hgetall(keys.state(1))
        return sum(fields.get(b"v%d" % number) == b"%d" % version for number in numbers) >= 250

    await ground.wait_until(lambda: known(1), "all cases")
    await ground.change_cases(numbers[:1])

    async def changed() -> bool:
        return await ground.client.hget(keys.state(1), f"v{numbers[0]}") == b"2"

    await ground.wait_until(changed, "the change", timeout_s=3)
    await worker.stop()
    successor = ground.worker("geo-2")
    await successor.start()
    await ground.wait_until(owns(successor, SHARDS), "the successor")
    await ground.change_cases(numbers[1:2])

    async def changed_again() -> bool:
        return await ground.client.hget(keys.state(1), f"v{numbers[1]}") == b"2"

    await ground.wait_until(changed_again, "the second change", timeout_s=5)
    entries = [e for e in await ground.log.read(1, START, 1000) if e.kind == CONFIGURATION]
    sizes = [entry.payload.count(b'"version"') for entry in entries]
    assert sizes == [100, 100, 50, 1, 1], "each version once, the successor adds none that is known"


async def test_one_bad_case_keeps_no_other_from_its_shard(ground: Any) -> None:
    numbers = await ground.add_cases(1, 20)
    async with ground.database.transaction() as connection:
        await connection.execute(
            "UPDATE protection_case SET config = jsonb_set(config, '{version}', '13'), config_version = 13"
            " WHERE number = $1",
            numbers[3],
        )
        await connection.execute(
            "UPDATE protection_case SET config = jsonb_set(config, '{people}', '7') WHERE number = $1", numbers[7]
        )
    worker = ground.worker("geo-1")
    await worker.start()

    async def known() -> bool:
        fields = await ground.client.hgetall(keys.state(1))
        return sum(b"v%d" % number in fields for number in numbers) == 18

    await ground.wait_until(known, "all but the two")

    async def set_aside() -> bool:
        one = await ground.count("SELECT count(*) FROM poison WHERE source = 'configuration:1'")
        return one == 1 and await ground.count("SELECT count(*) FROM poison WHERE source = 'engine:1'") == 2

    await ground.wait_until(set_aside, "the two set aside")
    loads = worker.runner(1).loads
    await ground.change_cases(numbers[:1])

    async def changed() -> bool:
        return await ground.client.hget(keys.state(1), f"v{numbers[0]}") == b"2"

    await ground.wait_until(changed, "the rest flowing")
    assert worker.runner(1).loads <= loads + 1, "what was refused is not sent again and again"
    await ground.change_cases(numbers[3:4])

    async def mended() -> bool:
        return await ground.client.hget(keys.state(1), f"v{numbers[3]}") == b"14"

    await ground.wait_until(mended, "the case once it was mended")


async def test_time_goes_on_in_the_log_and_is_paused_while_no_ingest_runs(ground: Any) -> None:
    worker = ground.worker("geo-1")
    await worker.start()

    async def ticks(payload: bytes) -> bool:
        return any(e.kind == TICK and e.payload == payload for e in await ground.log.read(0, START, 100))

    await ground.wait_until(lambda: ticks(b"paused"), "a paused tick")
    await ground.client.set(keys.INGEST_BEAT, "1", ex=30)
    await ground.wait_until(lambda: ticks(b""), "a tick that counts")


async def test_state_lost_while_running_is_taken_up_from_the_last_commit(ground: Any, stores: Any) -> None:
    """Every connection to Redis breaks, again and again, while pings come."""
    worker = ground.worker("geo-1")
    await worker.start()
    await ground.wait_until(owns(worker, SHARDS), "all shards")
    for seq in range(100):
        await ground.append(0, ground.ping(5, seq, battery=ground.ALARM_PCT if seq % 25 == 0 else 50))
        if seq % 20 == 10:
            await ground.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0)

    async def all_counted() -> bool:
        return await ground.counted(0, 5) == 100

    await ground.wait_until(all_counted, "all counted, none twice")
    decided = [
        item.detail["seq"]
        for _, fields in await ground.log.read_raw(keys.transitions(0), START, 100)
        for item in decode_many(fields[b"t"])
    ]
    assert sorted(set(decided)) == [0, 25, 50, 75]


async def test_a_store_that_lost_everything_is_filled_again(ground: Any) -> None:
    (number,) = await ground.add_cases(1, 1)
    worker = ground.worker("geo-1")
    await worker.start()

    async def known() -> bool:
        return await ground.client.hget(keys.state(1), f"v{number}") == b"1"

    await ground.wait_until(known, "the case")
    await ground.append(1, ground.ping(5, 1))
    await ground.client.flushall()
    await ground.append(1, ground.ping(5, 2))
    await ground.wait_until(known, "the case again")

    async def counted() -> bool:
        return await ground.counted(1, 5) == 1

    await ground.wait_until(counted, "what came after the loss")
