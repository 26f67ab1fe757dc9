"""What happens to a database before anything is served from it: schema, sealing."""

from __future__ import annotations

from core.actions.keys import Progress, seal_leftovers, stay_quiet
from core.clock import utc_now
from core.postgres.database import Database
from core.postgres.migrate import migrate
from core.settings import Settings
from core.vault import load_vault


async def open_database(settings: Settings, progress: Progress = stay_quiet) -> int:
    """Bring the database to the newest schema and seal what an older version left plain; returns its shards.

    Raises Misconfigured, StoreUnavailable: nothing may be served then.
    """
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    vault = load_vault(settings)
    database = Database(url, size=2, application="qorgan-migrate", command_timeout_s=300, vault=vault)
    try:
        shards = await migrate(url, settings.shard_count, utc_now())
        await seal_leftovers(database, utc_now, progress)
    finally:
        await database.close()
        await vault.aclose()
    return shards
