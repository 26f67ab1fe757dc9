"""`qorgan outage-sheet`: on paper, whom to see to first while the service cannot see anybody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from core.actions import outage_sheet as action
from core.actions.unit_of_work import Unit, act
from core.clock import utc_now
from core.domain.drill import SELF_AGENCY
from core.errors import Misconfigured, StoreUnavailable
from core.evidence import kept_sheets
from core.evidence.outage_sheet import Sheet, as_pdf, as_text
from core.postgres import agencies, audit, service_outages
from core.postgres.database import Database
from core.sealed_file import Unreadable
from core.settings import Settings
from infra.stores import open_stores
from infra.terminal import load_settings, out

LANGUAGES = ("kk", "ru", "en")


def outage_sheet(
    directory: Annotated[Path, typer.Option("--out", help="Directory that gets a PDF and a text an agency (0600).")],
    agency: Annotated[str | None, typer.Option(help="Name of one agency; else of all.")] = None,
    language: Annotated[str, typer.Option(help="kk, ru or en.")] = "ru",
) -> None:
    """Write the riskiest pairs by district, how to reach them, and who is on duty; also while every store is away."""
    if language not in LANGUAGES:
        raise typer.BadParameter(f"no language {language!r}; there are {', '.join(LANGUAGES)}", param_hint="--language")

    async def work(settings: Settings) -> dict[str, bytes]:
        return await sheets_of(settings, agency, language)

    with open_stores(load_settings()) as settings:
        files = asyncio.run(work(settings))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            target = directory / name
            target.touch(mode=0o600)
            target.chmod(0o600)
            target.write_bytes(data)
    except OSError as error:
        raise Misconfigured(f"{directory} cannot be written: {error.strerror}; choose another with --out.") from None
    out().print(f"{len(files)} files are in {directory}. They name people: destroy them after the outage.")


async def sheets_of(settings: Settings, agency: str | None, language: str) -> dict[str, bytes]:
    """File name → content, of one agency or all of them; from what is kept here while PostgreSQL is away."""
    from core.vault import load_vault

    assert settings.database_url is not None
    url = settings.database_url.get_secret_value()
    vault = load_vault(settings)
    database = Database(url, size=1, application="qorgan-outage-sheet", command_timeout_s=60, vault=vault)
    try:
        async with act(database, utc_now()) as unit:
            sheets = await _made(unit, agency)
    except StoreUnavailable:
        sheets = [one for one in _kept(settings) if agency in {None, one.agency}]
    finally:
        await database.close()
        await vault.aclose()
    files: dict[str, bytes] = {}
    for sheet in sheets:
        files[f"outage-sheet-{sheet.agency_id}.pdf"] = as_pdf(sheet, language)
        files[f"outage-sheet-{sheet.agency_id}.txt"] = as_text(sheet, language).encode()
    return files


async def _made(unit: Unit, agency: str | None) -> list[Sheet]:
    """Sheets as they are now; the audit of each agency says that they were made."""
    wanted = [one["id"] for one in await service_outages.agencies(unit.connection, SELF_AGENCY)]
    if agency is not None:
        wanted = [await agencies.by_name(unit.connection, agency)]
    sheets = []
    for agency_id in wanted:
        sheet, people = await action.make(unit, agency_id, hide_sealed=True)
        if not sheet.pairs and agency is None:
            continue
        await audit.write(
            unit.connection, unit.now, agency_id=agency_id, actor_kind="service", actor_id="qorgan outage-sheet",
            action="outage_sheet.made", subject_kind="agency", subject_id=agency_id, person_ids=people,
        )  # fmt: skip
        sheets.append(sheet)
    return sheets


def _kept(settings: Settings) -> list[Sheet]:
    """The sheets kept on this machine. Raises Misconfigured when there are none."""
    try:
        return kept_sheets.read(settings)
    except FileNotFoundError:
        raise Misconfigured(
            "PostgreSQL is away, and no sheet is kept in this data directory; ask on a machine that runs the api."
        ) from None
    except (OSError, Unreadable) as error:
        raise Misconfigured(f"PostgreSQL is away, and the kept sheets cannot be read: {error}.") from None
