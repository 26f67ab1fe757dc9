"""`qorgan statistics`: the figures of whole months over every agency, as the ministry prints them."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from core.errors import InvalidInput, Misconfigured
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out


def statistics(
    since: Annotated[str, typer.Option("--from", help="First month, YYYY-MM.")],
    until: Annotated[str, typer.Option("--to", help="Last month, YYYY-MM; it is included.")],
    directory: Annotated[Path, typer.Option("--out", help="Directory that gets JSON, CSV and SVG files.")],
    agency: Annotated[str | None, typer.Option(help="Name of one agency; else of all together.")] = None,
) -> None:
    """Write the figures of whole months without identities, small counts suppressed."""
    from core.domain.statistics_sheets import files

    first, last = month_of(since, "--from"), month_of(until, "--to")

    async def work(settings: Settings) -> dict[str, Any]:
        from core.actions.statistics import report
        from core.postgres import agencies
        from core.postgres.database import Database

        assert settings.database_url is not None
        database = Database(settings.database_url.get_secret_value(), size=1, application="qorgan-statistics")
        try:
            async with database.transaction(isolation="repeatable_read", readonly=True) as connection:
                agency_id = None if agency is None else await agencies.by_name(connection, agency)
                return await report(connection, first, last, agency_id)
        finally:
            await database.close()

    with open_stores(load_settings()) as settings:
        found = asyncio.run(work(settings))
    texts = {"statistics.json": json.dumps(found, ensure_ascii=False, indent=1) + "\n", **files(found)}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text, newline="")
    except OSError as error:
        raise Misconfigured(f"{directory} cannot be written: {error.strerror}; choose another with --out.") from None
    out().print(f"{len(texts)} files are in {directory}; counts below {found['k']} are left out.")


def month_of(text: str, option: str) -> date:
    """The first day of a month; raises InvalidInput."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise InvalidInput(f"{option} {text!r} is no month; write it as 2026-05.") from None
