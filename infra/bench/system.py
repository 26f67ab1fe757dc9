"""A whole Qorgan for one run: its own stores, its own processes, a seeded agency, and windows to look into it."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from core.clock import utc_now
from core.errors import Misconfigured
from core.postgres.baseline import cursors, pings_in_history
from core.postgres.database import Database
from core.redis import keys
from core.redis.client import connect
from core.settings import Settings
from core.vault import load_vault
from infra.bench.baseline import measure_baselines
from infra.bench.plan import Plan
from infra.bench.receivers import Receivers, listening_receivers
from infra.opening import open_database
from infra.seed import seed
from infra.stores import forget_running, open_stores
from infra.supervisor import Supervisor
from infra.wiring import TARGETS

Tell = Callable[[str], None]
LOG_LINES: Final = 20
"""Lines of the services' log that are shown when a run fails."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the readers of the logs are behind the newest entry, the worst shard, in milliseconds."""

    engine_ms: float
    history_ms: float


@dataclass
class System:
    """A running Qorgan under measurement."""

    settings: Settings
    data_dir: Path
    world: dict[str, Any]
    database_url: str
    redis_url: str
    api_url: str
    stream_url: str
    redis_empty_bytes: int
    baselines: dict[str, float]
    receivers: Receivers
    """Where the agency's messages arrive."""
    restarts: list[str] = field(default_factory=list)
    """Processes that ended while it was measured: a run with any is not worth its figures."""
    _next_pair: int = 0

    def take_pairs(self, count: int) -> list[dict[str, Any]]:
        """Pairs nobody else of this run uses."""
        begin = self._next_pair
        self._next_pair += count
        assert self._next_pair <= len(self.world["pairs"])
        return list(self.world["pairs"][begin : self._next_pair])

    async def dispatcher_token(self) -> str:
        """A fresh access token of the seeded dispatcher."""
        user = self.world["users"]["dispatcher"]
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.post(
                f"{self.api_url}/v1/auth/token",
                data={"grant_type": "password", "username": user["username"], "password": user["password"]},
            )
        if answer.status_code != 200:
            raise BenchFailed(f"The dispatcher could not sign in: {answer.status_code} {answer.text[:200]}")
        return str(answer.json()["access_token"])

    async def lag(self) -> Lag:
        """How far the engine's committed cursors and the historian's are behind the logs now."""
        newest: dict[int, int] = {}
        engine: dict[int, int] = {}
        client = connect(self.redis_url)
        try:
            for shard in range(self.settings.shard_count):
                entries = await client.xrevrange(keys.pings(shard), count=1)
                if entries:
                    newest[shard] = _ms(entries[0][0])
                    engine[shard] = _ms(await client.get(keys.cursor(shard)) or b"0-0")
        finally:
            await client.aclose()
        history = {
            shard: _ms(entry.encode()) for shard, entry in (await cursors(self.database_url, "historian")).items()
        }
        return Lag(
            engine_ms=max((newest[shard] - engine[shard] for shard in newest), default=0),
            history_ms=max((newest[shard] - history.get(shard, 0) for shard in newest), default=0),
        )

    async def redis_bytes(self) -> tuple[int, int, int]:
        """Memory Redis uses; how much of it the logs hold; and how much engine state, live positions and GEO index."""
        client = connect(self.redis_url)
        try:
            used = int((await client.info("memory"))["used_memory"])
            logs = held = 0
            for shard in range(self.settings.shard_count):
                for key in (keys.pings(shard), keys.transitions(shard)):
                    logs += int(await client.memory_usage(key, samples=0) or 0)
                for key in (keys.state(shard), keys.live(shard), keys.geo(shard)):
                    held += int(await client.memory_usage(key, samples=0) or 0)
            return used, logs, held
        finally:
            await client.aclose()

    async def pings_in_history(self) -> int:
        """Rows of the ping table."""
        return await pings_in_history(self.database_url)


def _ms(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


@contextlib.asynccontextmanager
async def whole_system(settings: Settings, plan: Plan, tell: Tell) -> AsyncIterator[System]:
    """Start everything in a directory of its own, measure the baselines while it is quiet, seed, and run.

    Raises Misconfigured when a part does not start. Everything is stopped and removed at the end.
    """
    parent = settings.data_dir.expanduser().resolve() if "data_dir" in settings.model_fields_set else None
    if parent is not None:
        await asyncio.to_thread(parent.mkdir, parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as stack:
        receivers = await stack.enter_async_context(listening_receivers())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="qorgan-bench-", dir=parent)))
        own = settings.model_copy(
            update={
                "data_dir": folder, "database_url": None, "redis_url": None, "host": "127.0.0.1", "port": 0,
                "stream_port": 0, "public_url": None, "public_stream_url": None, "log_level": "warning",
                "log_format": "json", "forbidden_networks": "", **await asyncio.to_thread(receivers.settings, folder),
            }
        )  # fmt: skip
        tell("starting PostgreSQL and Valkey")
        own = stack.enter_context(open_stores(own, attach=False))
        assert own.database_url is not None
        assert own.redis_url is not None
        database_url, redis_url = own.database_url.get_secret_value(), own.redis_url.get_secret_value()
        tell("measuring the bare baselines")
        baselines = await measure_baselines(database_url, redis_url, plan)
        empty = await _used_memory(redis_url)
        await open_database(own)
        tell(f"seeding {plan.pairs:,} pairs")
        world = await _seed(database_url, own, plan.pairs, receivers)
        tell("starting the services")
        restarts: list[str] = []
        supervisor = Supervisor(own, list(TARGETS), log_path=folder / "logs" / "qorgan.log", on_event=restarts.append)
        try:
            await supervisor.start()
            yield System(
                own, folder, world, database_url, redis_url, supervisor.api_url, supervisor.stream_url, empty,
                baselines, receivers, restarts,
            )  # fmt: skip
        except Exception:
            tell(f"the services' log ends: {await asyncio.to_thread(_last_words, folder)}")
            raise
        finally:
            tell("stopping")
            await supervisor.stop()
            forget_running(folder)


async def _used_memory(redis_url: str) -> int:
    client = connect(redis_url)
    try:
        return int((await client.info("memory"))["used_memory"])
    finally:
        await client.aclose()


async def _seed(database_url: str, settings: Settings, pairs: int, receivers: Receivers) -> dict[str, Any]:
    vault = load_vault(settings)
    database = Database(database_url, size=2, application="qorgan-bench", command_timeout_s=300, vault=vault)
    try:
        world = await seed(database, settings, pairs, "Qorgan bench", utc_now())
        await receivers.add_routes(database, uuid.UUID(world["agency"]["id"]))
        return world
    finally:
        await database.close()


def _last_words(folder: Path) -> str:
    """The end of the services' log, for an error."""
    path = folder / "logs" / "qorgan.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return "\n".join(lines[-LOG_LINES:])


class BenchFailed(Misconfigured):
    """A figure could not be measured; the text says which and what the log said last."""
