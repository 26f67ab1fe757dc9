"""What happens to a database before anything is served from it: schema, sealing, erasing again who was erased."""

from __future__ import annotations

import structlog

from core.actions.erasure import apply_ledger, silence_unapplied
from core.actions.keys import Progress, seal_leftovers, stay_quiet
from core.clock import utc_now
from core.erasure_ledger import ledger_path, load_ledger
from core.errors import Misconfigured, StoreUnavailable
from core.postgres.database import Database
from core.postgres.migrate import installed_at, migrate, set_default_agency
from core.redis.client import connect
from core.secret_box import SecretBox
from core.settings import Settings
from core.token_key import load_token_key
from core.vault import load_vault

log = structlog.get_logger(__name__)


async def open_database(settings: Settings, progress: Progress = stay_quiet, *, serve_anyway: bool = False) -> int:
    """Bring the database to the newest schema, erase again whoever stands in the erasure ledger (a backup may have been
    restored), and seal what an older version left plain; returns its shards.

    A new installation whose ledger is required gets an empty one. Raises Misconfigured, StoreUnavailable. With
    `serve_anyway` whatever the ledger is like raises nothing, nor does a key service that is away: the schema is as it
    should be, processes are started then, the api serves panics alone (`api.ledger_gate`), and the next start does the
    rest.
    """
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    vault = load_vault(settings)
    database = Database(url, size=2, application="qorgan-migrate", command_timeout_s=300, vault=vault)
    redis = None
    if settings.redis_url is not None:
        redis = connect(settings.redis_url.get_secret_value(), cluster=settings.redis_cluster)
    try:
        now = utc_now()
        shards = await migrate(url, settings.shard_count, now)
        try:
            await set_default_agency(database, settings.default_agency)
        except Misconfigured as error:
            if not serve_anyway:
                raise
            log.error("default_agency_not_set", reason=error.detail)
        try:
            ledger = load_ledger(settings)
            if settings.ledger == "required" and await installed_at(database) == now:
                ledger.begin()
            await apply_ledger(database, redis, ledger, utc_now())
        except (Misconfigured, StoreUnavailable) as error:
            if not serve_anyway:
                raise
            log.error("ledger_not_applied", reason=error.detail)
        try:
            await seal_leftovers(database, utc_now, progress, SecretBox(load_token_key(settings)))
        except StoreUnavailable as error:
            if not serve_anyway:
                raise
            log.error("leftovers_not_sealed", reason=error.detail)
    finally:
        await database.close()
        await vault.aclose()
        if redis is not None:
            await redis.aclose()
    return shards


async def keep_silent(settings: Settings, database: Database) -> None:
    """Cancel what waits to be sent about people whom a restored backup brought back; the notifier serves all the same.

    A ledger that cannot be read stops no message: the api is closed then (`api.ledger_gate`), and panics are heard.
    """
    if not ledger_path(settings).exists():
        return
    try:
        count = await silence_unapplied(database, load_ledger(settings))
    except (StoreUnavailable, Misconfigured) as error:
        log.error("ledger_not_applied", reason=error.detail)
        return
    if count:
        log.error("messages_about_erased_cancelled", messages=count)
