"""`qorgan erasure`: the ledger of who was erased."""

from __future__ import annotations

import asyncio

import typer

from core.actions.erasure import rebuild_ledger
from core.erasure_ledger import ledger_path, load_ledger
from core.postgres.database import Database
from core.settings import Settings
from core.vault import load_vault
from infra.stores import open_stores
from infra.terminal import load_settings, out

erasure_app = typer.Typer(help="The ledger of who was erased.", no_args_is_help=True)


@erasure_app.command("verify")
def erasure_verify() -> None:
    """Check every line of the erasure ledger."""
    settings = load_settings()
    lines = load_ledger(settings).read()
    out().print(f"{len(lines):,} erasures stand in {ledger_path(settings)}; every line is as it was written.")


@erasure_app.command("rebuild")
def erasure_rebuild() -> None:
    """State that the ledger is lost, or never was: it is written anew from who is erased in the database.

    Who was erased after a backup that was restored stands in no ledger then and stays as that backup has her. Look for
    the true file first.
    """

    async def work(settings: Settings) -> int:
        assert settings.database_url is not None
        url = settings.database_url.get_secret_value()
        database = Database(url, size=1, application="qorgan-erasure", vault=load_vault(settings))
        try:
            return await rebuild_ledger(database, load_ledger(settings))
        finally:
            await database.close()

    with open_stores(load_settings()) as settings:
        count = asyncio.run(work(settings))
    out().print(f"{count:,} erasures were written into {ledger_path(settings)}; now `qorgan migrate`.")
