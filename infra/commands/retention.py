"""`qorgan retention`: what the rules of retention would erase, and erasing it now."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import typer
from rich.table import Table

from core.clock import utc_now
from core.errors import Misconfigured
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out

retention_app = typer.Typer(help="How long what is kept of people is kept.", no_args_is_help=True)


def _with_database(work: Callable[[Settings, Any], Awaitable[Any]]) -> Any:
    from core.postgres.database import Database

    async def run(settings: Settings) -> Any:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        database = Database(url, size=2, application="qorgan-retention", command_timeout_s=600)
        try:
            return await work(settings, database)
        finally:
            await database.close()

    with open_stores(load_settings()) as settings:
        return asyncio.run(run(settings))


def _room(settings: Settings) -> Any:
    from core.actions.retention import Room

    return Room(settings.victim_ping_days, settings.aggressor_ping_days)


def _show(rows: Sequence[Any]) -> None:
    table = Table("agency", "rule", "what", "rows", "held", "from", "until")
    for row in rows:
        span = [f"{moment:%Y-%m-%d}" if moment is not None else "" for moment in (row.from_at, row.until_at)]
        table.add_row(str(row.agency_id), row.rule, row.kind, f"{row.count:,}", f"{row.held:,}", *span)
    out().print(table)


@retention_app.command("preview")
def preview() -> None:
    """Show what the rules would erase now, by agency and rule; nothing is changed."""

    async def work(settings: Settings, database: Any) -> Any:
        from core.actions import retention

        return await retention.preview(database, _room(settings), utc_now())

    found = _with_database(work)
    if found:
        _show(found)
    else:
        out().print("Nothing is due.")


@retention_app.command("run")
def run() -> None:
    """Apply the rules now, as the service does daily."""

    async def work(settings: Settings, database: Any) -> Any:
        from core.actions import retention
        from core.signing import load_signer

        signer = functools.partial(load_signer, settings)
        return await retention.apply(database, _room(settings), utc_now, signer, started_by="command")

    done = _with_database(work)
    if done.gone:
        _show(done.gone)
    else:
        out().print("Nothing was due.")
    if done.failed:
        raise Misconfigured(f"These rules could not be applied: {', '.join(done.failed)}; the log says why.")
