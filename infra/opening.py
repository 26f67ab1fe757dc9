"""What happens to a database before anything is served from it: schema, sealing, erasing again who was erased."""

from __future__ import annotations

from core.actions.erasure import apply_ledger, count_unapplied
from core.actions.keys import Progress, seal_leftovers, stay_quiet
from core.clock import utc_now
from core.erasure_ledger import ledger_path, load_ledger
from core.errors import Misconfigured, StoreUnavailable
from core.postgres.database import Database
from core.postgres.migrate import migrate
from core.redis.client import connect
from core.settings import Settings
from core.vault import load_vault


async def open_database(settings: Settings, progress: Progress = stay_quiet) -> int:
    """Bring the database to the newest schema, seal what an older version left plain, and erase again whoever stands
    in the erasure ledger (a backup may have been restored); returns its shards.

    Raises Misconfigured, StoreUnavailable: nothing may be served then.
    """
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    vault = load_vault(settings)
    database = Database(url, size=2, application="qorgan-migrate", command_timeout_s=300, vault=vault)
    redis = None
    if settings.redis_url is not None:
        redis = connect(settings.redis_url.get_secret_value(), cluster=settings.redis_cluster)
    try:
        shards = await migrate(url, settings.shard_count, utc_now())
        await apply_ledger(database, redis, load_ledger(settings), utc_now())
        await seal_leftovers(database, utc_now, progress)
    finally:
        await database.close()
        await vault.aclose()
        if redis is not None:
            await redis.aclose()
    return shards


async def refuse_unless_applied(settings: Settings, database: Database) -> None:
    """Raise Misconfigured while somebody who stands in the erasure ledger is in the database all the same."""
    if not ledger_path(settings).exists():
        return
    try:
        count = await count_unapplied(database, load_ledger(settings))
    except StoreUnavailable:
        return  # nobody can be shown either; panics are taken all the same
    if count:
        raise Misconfigured(
            f"{count:,} people who were erased are in this database again: a backup was restored. "
            "Run `qorgan migrate` first; it erases them."
        )
