"""The recorder on real stores: in order, exactly once, fenced, poison aside."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from core.domain.transition import Transition
from core.redis import keys
from core.redis.engine_store import EngineStore

AGENCY = uuid.UUID(int=7)


class Owner:
    """Says what is owned."""

    def __init__(self, **shards: int) -> None:
        self.tokens = {int(name[1:]): token for name, token in shards.items()}

    def owned(self) -> dict[int, int]:
        return self.tokens


def transition(seq: int) -> Transition:
    return Transition(
        id=uuid.uuid4(), shard=0, entry=f"{seq}-0", kind="proximity", from_state="clear", to_state="breach", at_ms=1,
        evaluated_ms=2, agency_id=AGENCY, case_id=AGENCY, detail={"seq": seq},
    )  # fmt: skip


async def lease(ground: Any, token: int) -> None:
    async with ground.database.connection() as connection:
        await connection.execute("UPDATE lease SET token = $1, holder = 'x' WHERE name = 'geo:0'", token)


async def decide(ground: Any, token: int, *seqs: int) -> None:
    """Commit transitions as the shard's owner would."""
    store = EngineStore(ground.client)
    await store.commit(0, token, f"{max(seqs)}-0", state={}, transitions=[transition(seq) for seq in seqs])


async def applied(ground: Any, how_many: int) -> list[int]:
    async def enough() -> Any:
        seqs = await ground.applied_seqs()
        return seqs if len(seqs) >= how_many else None

    seqs: list[int] = await ground.wait_until(enough, f"{how_many} transitions applied")
    return seqs


async def test_transitions_are_applied_in_order_once_and_trimmed_behind(ground: Any) -> None:
    await lease(ground, 3)
    await ground.recorder(Owner(s0=3)).start()
    for start in range(0, 500, 50):
        await decide(ground, 3, *range(start, start + 50))
    await decide(ground, 3, *range(500, 1000))
    assert await applied(ground, 1000) == list(range(1000))

    async def trimmed() -> bool:
        return await ground.client.xlen(keys.transitions(0)) == 0

    await ground.wait_until(trimmed, "the stream to be trimmed")


async def test_two_recorders_never_both_commit(ground: Any) -> None:
    """One believes that it still owns the shard; whatever it tries, each transition is applied once."""
    await lease(ground, 3)
    stale = ground.recorder(Owner(s0=3))
    await stale.start()
    await decide(ground, 3, *range(10))
    assert await applied(ground, 10) == list(range(10))
    await lease(ground, 4)
    await decide(ground, 4, *range(10, 20))
    await ground.recorder(Owner(s0=4)).start()
    for start in range(20, 60, 5):
        await decide(ground, 4, *range(start, start + 5))
    assert await applied(ground, 60) == list(range(60))
    assert await ground.count("SELECT token FROM log_cursor WHERE name = 'recorder:0'") == 4


async def test_a_stale_recorder_alone_commits_nothing(ground: Any) -> None:
    await lease(ground, 4)
    tried: list[int] = []

    async def apply(unit: Any, transitions: Any) -> None:
        tried.append(len(transitions))

    await ground.recorder(Owner(s0=3), apply).start()
    await decide(ground, 4, 1, 2)

    async def claimed() -> bool:
        return await ground.count("SELECT count(*) FROM log_cursor WHERE name = 'recorder:0'") == 1

    await ground.wait_until(claimed, "the stale recorder to try")
    await ground.recorder(Owner(s0=4)).start()
    assert await applied(ground, 2) == [1, 2]
    assert tried == []


async def test_a_recorder_killed_in_mid_batch_leaves_the_batch_to_the_next(ground: Any) -> None:
    await lease(ground, 3)

    async def apply(unit: Any, transitions: Any) -> None:
        await ground.apply(unit, transitions)
        first._tasks[(0, 3)].cancel()
        await asyncio.sleep(0)

    first = ground.recorder(Owner(s0=3), apply)
    await first.start()
    await decide(ground, 3, 1, 2, 3)
    await ground.wait_until(lambda: first._task.done(), "the first to be gone")
    assert await ground.applied_seqs() == []
    await ground.recorder(Owner(s0=3)).start()
    assert await applied(ground, 3) == [1, 2, 3]


async def test_a_transition_that_cannot_be_applied_is_set_aside_and_the_rest_flows(ground: Any) -> None:
    await lease(ground, 3)

    async def apply(unit: Any, transitions: Any) -> None:
        await ground.apply(unit, transitions)
        if any(item.detail["seq"] == 5 for item in transitions):
            raise RuntimeError("no such thing")

    await ground.recorder(Owner(s0=3), apply).start()
    await decide(ground, 3, *range(10))
    await ground.client.xadd(keys.transitions(0), {"t": b"[{]"})
    await decide(ground, 3, 10)
    assert await applied(ground, 10) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    async with ground.database.connection() as connection:
        rows = await connection.fetch("SELECT reason FROM poison ORDER BY id")
    assert [row["reason"].split(":")[0] for row in rows] == ["RuntimeError", "undecodable"]


async def test_a_shard_gained_later_is_recorded_from_its_cursor(ground: Any) -> None:
    await lease(ground, 3)
    owner = Owner()
    await ground.recorder(owner).start()
    await decide(ground, 3, 1)
    owner.tokens = {0: 3}
    assert await applied(ground, 1) == [1]
    owner.tokens = {}
    await decide(ground, 3, 2)
    owner.tokens = {0: 3}
    assert await applied(ground, 2) == [1, 2]
