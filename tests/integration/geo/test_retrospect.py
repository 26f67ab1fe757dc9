"""Late fixes on real stores, and the worker beside an engine that nothing ever interrupted."""

from __future__ import annotations

import asyncio
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from core.clock import now_ms, utc_now
from core.domain.case import Case, CaseDevice, CaseOrder, CasePerson, encode_cases
from core.domain.log import CONFIGURATION, PAST, PINGS, TICK, Entry
from core.domain.past import Want, decode_past
from core.domain.ping import FLAG_BACKLOG, FLAG_POSITION, FLAG_PRIMARY, RECORD_FORMAT
from core.domain.transition import Transition, decode_many
from core.postgres import past
from core.redis import keys
from core.redis.shard_log import START, ShardLog, id_key
from geo import historian, past_feeder, worker
from geo.annals import Annals
from geo.engine import Engine
from geo.worker import GeoWorker

SHARDS = 4
LAT, LON = 43.25, 76.95
NAN = float("nan")


def record(device: int, at_ms: int, east_m: float, *, late: bool = False, accuracy_m: float = 8.0) -> bytes:
    flags = FLAG_PRIMARY | FLAG_POSITION | (FLAG_BACKLOG if late else 0)
    return struct.pack(
        RECORD_FORMAT, device, flags, at_ms, -1, LAT, LON + east_m / 81_150, accuracy_m, NAN, NAN, NAN, NAN, 0
    )


def case(number: int, her: int, him: int) -> Case:
    people = [
        CasePerson(device, uuid.UUID(int=device), role, devices=[CaseDevice(device, uuid.UUID(int=device), kind)])
        for device, role, kind in ((her, "victim", "phone"), (him, "aggressor", "bracelet"))
    ]
    order = CaseOrder(number, uuid.UUID(int=1000 + number), her, him, alert_m=500, warning_m=1500)
    return Case(number, uuid.UUID(int=2000 + number), uuid.UUID(int=7), 1, people, [order])


async def transitions(ground: Any, shard: int) -> list[Transition]:
    """Everything decided for a shard, in order."""
    return [
        item
        for _, fields in await ground.log.read_raw(keys.transitions(shard), START, 10_000)
        for item in decode_many(fields[b"t"])
    ]


def uninterrupted(shard: int, entries: Sequence[Entry]) -> list[Transition]:
    return Engine(shard).process(entries)


@pytest.fixture
def quick(ground: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Short waits, and a log that keeps everything, so that it can be read again from its beginning."""

    async def keep(*_: Any, **__: Any) -> int:
        return 0

    monkeypatch.setattr(ShardLog, "trim", keep)
    monkeypatch.setattr(historian, "QUIET_MOVE_S", 0.05)
    monkeypatch.setattr(past_feeder, "SETTLE_MS", 200)
    monkeypatch.setattr(worker, "PAST_POLL_S", 0.1)
    monkeypatch.setattr(worker, "TICK_S", 0.1)
    return ground


def geo_worker(ground: Any, instance: str, client: Any = None, database: Any = None) -> GeoWorker:
    """A worker with the real engine."""
    made = GeoWorker(ground.settings, database or ground.posts.worker, client or ground.client, instance, utc_now)
    ground.running.append(made)
    return made


async def pair(ground: Any, shard: int, number: int) -> tuple[int, int]:
    """A victim's and an aggressor's device, with an order between them in the shard's log."""
    her, him = await ground.add_device("victim"), await ground.add_device("aggressor")
    await ground.log.append(shard, CONFIGURATION, encode_cases([case(number, her, him)]))
    return her, him


async def upload_visit(ground: Any, shard: int, her: int, him: int) -> int:
    """She reports all along; his backlog of an hour comes at once and shows a visit. When he came within 500 m, ms."""
    end_ms = now_ms() - 1_000
    seconds = range(3_600, 0, -30)
    hers = b"".join(record(her, end_ms - 1000 * second, 0.0, late=True) for second in seconds)
    await ground.append(shard, hers, record(her, end_ms, 0.0))
    east = np.interp([-second for second in seconds], [-2_400, -1_800, -1_200, -600], [9_000.0, 0.0, 0.0, 9_000.0])
    his = [record(him, end_ms - 1000 * second, east[k], late=True) for k, second in enumerate(seconds)]
    await ground.append(shard, *his, record(him, end_ms, 9_000.0))
    return end_ms - 1_833_000


async def retrospective(ground: Any, shard: int, how_many: int = 1) -> list[Transition]:
    async def there() -> bool:
        return sum(each.retrospective for each in await transitions(ground, shard)) >= how_many

    await ground.wait_until(there, "the retrospective transition")
    return [each for each in await transitions(ground, shard) if each.retrospective]


async def test_a_backlog_that_shows_a_visit_is_told_once_as_past(quick: Any) -> None:
    ground = quick
    her, him = await pair(ground, 1, 5)
    await ground.historian().start()
    await geo_worker(ground, "geo-1").start()
    entered_ms = await upload_visit(ground, 1, her, him)
    (told,) = await retrospective(ground, 1)
    assert (told.kind, told.from_state, told.to_state) == ("proximity", "clear", "breach")
    assert told.at_ms == pytest.approx(entered_ms, abs=15_000)
    assert told.detail["closest_m"] < 30
    await upload_visit(ground, 1, her, him)

    async def answered_again() -> bool:
        entries: list[Entry] = await ground.log.read(1, START, 10_000)
        return sum(entry.kind == PAST for entry in entries) >= 2

    await ground.wait_until(answered_again, "the second look")
    await nothing_wanted(ground, [1])
    assert len(await retrospective(ground, 1)) == 1


async def test_a_primary_copy_on_another_shard_is_history_all_the_same(quick: Any) -> None:
    """He is in two cases: of what he uploads, only the other shard's copy becomes history."""
    ground = quick
    her, him = await pair(ground, 1, 5)
    await ground.historian().start()
    await geo_worker(ground, "geo-1").start()
    end_ms = now_ms() - 1_000
    times = range(end_ms - 600_000, end_ms, 20_000)
    await ground.append(1, *(record(her, at_ms, 0.0, late=True) for at_ms in times), record(her, end_ms, 0.0))
    his = [record(him, at_ms, 50.0, late=True) for at_ms in times] + [record(him, end_ms, 9_000.0)]
    copies = [struct.pack("<II", him, struct.unpack_from("<II", one)[1] & ~FLAG_PRIMARY) + one[8:] for one in his]
    await ground.append(1, *copies)
    await ground.append(3, *his)
    (told,) = await retrospective(ground, 1)
    assert told.at_ms == times[0]


async def test_history_that_lags_behind_is_waited_for(quick: Any) -> None:
    ground = quick
    her, him = await pair(ground, 0, 5)
    geo = geo_worker(ground, "geo-1")
    await geo.start()
    await upload_visit(ground, 0, her, him)

    def wanted() -> list[Want]:
        runner = geo.runner(0)
        return runner.wants(10) if runner is not None else []

    await ground.wait_until(wanted, "the want")
    async with ground.database.connection() as connection:
        assert await past.reached_ms(connection, SHARDS) == 0, "history has not begun"
    assert not any(entry.kind == PAST for entry in await ground.log.read(0, START, 10_000))
    await ground.historian().start()
    assert len(await retrospective(ground, 0)) == 1


async def test_history_and_annals_give_the_same_answer(quick: Any) -> None:
    """What PostgreSQL answers to a worker is what a replay's memory answers to its engine."""
    ground = quick
    her, him = await pair(ground, 0, 5)
    await ground.historian().start()
    await upload_visit(ground, 0, her, him)

    async def stored() -> bool:
        return bool(await ground.pings_stored() == 242)

    await ground.wait_until(stored, "all in history")
    annals = Annals()
    for entry in await ground.log.read(0, START, 10_000):
        annals.add(entry)
    end_ms = now_ms()
    for from_ms, to_ms in ((end_ms - 1_500_000, end_ms - 1_400_000), (end_ms - 10 * 86_400_000, end_ms)):
        want = Want(5, 5, from_ms, to_ms, 9, end_ms, (her,), (him,))
        async with ground.database.connection() as connection:
            (answer,) = await past.answers(connection, [want], [9])
        (other,) = decode_past(annals.answer([want]))
        assert len(answer.victim) > 10
        for one, two in ((answer.victim, other.victim), (answer.aggressor, other.aggressor)):
            assert np.sort(one, order="live_ms").tobytes() == two.tobytes()


async def nothing_wanted(ground: Any, shards: Sequence[int]) -> None:
    """Wait until every shard's committed state is at the end of its log and wants nothing."""

    async def settled() -> bool:
        for shard in shards:
            fields = await ground.client.hgetall(keys.state(shard))
            if any(field[:2] in (b"wo", b"wn") for field in fields):
                return False
        return True

    await ground.wait_until(settled, "nothing to be wanted any more", timeout_s=30)


# --- whatever happens, the log decides


async def write_hour(ground: Any, shard: int, seed: int) -> None:
    """An hour of a log, at its times: people wander about each other, fall silent, and upload what they kept."""
    random = np.random.default_rng(seed)
    began_ms = now_ms() - 3_600_000
    numbers = [(await ground.add_device("victim"), await ground.add_device("aggressor")) for _ in range(3)]
    lines: list[tuple[int, str, bytes]] = [
        (began_ms, CONFIGURATION, encode_cases([case(10 * shard + k, *pair) for k, pair in enumerate(numbers)]))
    ]
    spots = {device: float(random.uniform(-2_000, 2_000)) for pair in numbers for device in pair}
    kept: dict[int, list[bytes]] = {device: [] for device in spots}
    silent_until = dict.fromkeys(spots, 0)
    for second in range(20, 3_580, 20):
        at_ms = began_ms + 1000 * second
        payload = b""
        for device in spots:
            spots[device] += float(random.normal(0, 90)) - 0.01 * spots[device]
            accuracy_m = float(random.choice([5.0, 30.0, 600.0], p=[0.8, 0.15, 0.05]))
            if second < silent_until[device]:
                kept[device].append(record(device, at_ms, spots[device], late=True, accuracy_m=accuracy_m))
                continue
            payload += b"".join(kept[device]) + record(device, at_ms, spots[device], accuracy_m=accuracy_m)
            kept[device] = []
            if random.random() < 0.01:
                silent_until[device] = second + int(random.choice([120, 400, 900]))
        if payload:
            lines.append((at_ms, PINGS, payload))
        lines += [(at_ms + 4_500 * k + 1, TICK, b"") for k in range(2)]
    pipeline = ground.client.pipeline(transaction=False)
    for at_ms, kind, body in sorted(lines, key=lambda line: line[0]):
        pipeline.execute_command("XADD", keys.pings(shard), f"{at_ms}-*", "k", kind, "b", body)
    await pipeline.execute()


def freeze(service: Any) -> None:
    """As kill -9 would: nothing more is written or given back."""
    service._ownership._tokens.clear()
    service._ownership._task.cancel()
    service._task.cancel()
    for runner in service._runners.values():
        runner._task.cancel()


async def same_as_uninterrupted(ground: Any, last: GeoWorker, shards: Sequence[int]) -> None:
    """Once all is evaluated: what was decided is what one engine decides that reads the log from end to end."""
    await nothing_wanted(ground, shards)
    await last.stop()
    answered = 0
    for shard in shards:
        told = await transitions(ground, shard)
        cursor = id_key((await ground.client.get(keys.cursor(shard))).decode())
        entries = [entry for entry in await ground.log.read(shard, START, 100_000) if id_key(entry.id) <= cursor]
        expected = uninterrupted(shard, entries)
        assert [each.id for each in told] == [each.id for each in expected]
        assert told == expected
        assert len({each.kind for each in told}) > 1, "the log tells of more than one thing"
        answered += sum(entry.kind == PAST for entry in entries)
    assert answered, "and asked history of some of it"


async def catch_up(ground: Any, shards: Sequence[int], share: float) -> None:
    """Wait until that share of the hour has been evaluated and committed."""

    async def far_enough() -> bool:
        for shard in shards:
            cursor = await ground.client.get(keys.cursor(shard))
            if cursor is None or now_ms() - id_key(cursor.decode())[0] > (1 - share) * 3_600_000:
                return False
        return True

    await ground.wait_until(far_enough, f"{share:.0%} of the hour", timeout_s=60)


@pytest.mark.parametrize("seed", [1, 2])
async def test_owners_that_die_at_any_point_change_nothing_of_what_is_decided(quick: Any, seed: int) -> None:
    ground = quick
    random = np.random.default_rng(seed)
    shards = (0, 1)
    for shard in shards:
        await write_hour(ground, shard, 10 * seed + shard)
    await ground.historian().start()
    workers = [geo_worker(ground, f"geo-{generation}") for generation in range(3)]
    await workers[0].start()
    for generation, share in enumerate(sorted(random.uniform(0, 1, 3).tolist())):
        await catch_up(ground, shards[:1], share)
        if generation:
            freeze(workers[generation - 1])
        if generation < 2:  # shares the shards with the one before, until that dies
            await workers[generation + 1].start()
    last = workers[-1]
    await catch_up(ground, shards, 0.998)
    await same_as_uninterrupted(ground, last, shards)


@pytest.mark.parametrize("away", ["redis", "postgres"])
async def test_a_store_that_is_away_changes_nothing_of_what_is_decided(
    quick: Any, redis_line: Any, postgres_line: Any, away: str
) -> None:
    """The line to one of the stores is cut again and again while the hour is evaluated and history is asked."""
    ground = quick
    shards = (0, 1)
    for shard in shards:
        await write_hour(ground, shard, 30 + shard)
    line = (redis_line if away == "redis" else postgres_line)[0]
    await ground.historian().start()
    last = geo_worker(ground, "geo-1", redis_line[1], postgres_line[1])
    await last.start()
    for share in (0.2, 0.5, 0.8, 0.99):
        await catch_up(ground, shards[:1], share)
        await line.cut()
        await asyncio.sleep(0)
        await ground.append(0, record(9_999, now_ms(), 0.0))
        await line.join()
    await catch_up(ground, shards, 0.998)
    await same_as_uninterrupted(ground, last, shards)
