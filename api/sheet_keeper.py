"""Keeps every agency's outage sheet on this machine, sealed, so that it can be printed while PostgreSQL is away.

The first process of the api writes it every `EVERY_S`, whole or not at all. Nobody of a sealed case is named in it. Who
was erased is in it no longer than until the next writing.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from core.actions import outage_sheet
from core.actions.unit_of_work import act
from core.clock import Clock
from core.domain.drill import SELF_AGENCY
from core.errors import StoreUnavailable
from core.evidence import kept_sheets
from core.evidence.outage_sheet import Sheet
from core.postgres import service_outages
from core.postgres.database import Database
from core.sealed_file import TooBig
from core.service import Loop
from core.settings import Settings

log = structlog.get_logger(__name__)

EVERY_S: Final = 300.0


class SheetKeeper(Loop):
    """Writes the sheets again and again."""

    def __init__(
        self, settings: Settings, database: Database, clock: Clock, index: int = 0, interval_s: float = EVERY_S
    ) -> None:
        super().__init__("sheet_keeper", self.step, interval_s)
        self._settings = settings
        self._database = database
        self._clock = clock
        self._writes = index == 0

    async def step(self) -> None:
        """Write every agency's sheet; what cannot be made now leaves the last."""
        if not self._writes:
            return
        try:
            sheets = await self._sheets()
            await asyncio.to_thread(kept_sheets.write, self._settings, sheets)
        except StoreUnavailable:
            return
        except (OSError, TooBig) as error:
            log.error("outage_sheets_not_kept", error=type(error).__name__)
        except Exception as error:  # beside the panic button: nothing here may end the process
            log.error("outage_sheets_failed", error=type(error).__name__)

    async def _sheets(self) -> list[Sheet]:
        sheets = []
        async with self._database.connection() as connection:
            agencies = await service_outages.agencies(connection, SELF_AGENCY)
        for agency in agencies:
            async with act(self._database, self._clock()) as unit:
                sheet, _ = await outage_sheet.make(unit, agency["id"], hide_sealed=True, staff_names=False)
            if sheet.pairs:
                sheets.append(sheet)
        return sheets
