"""However many wishes to cancel one device sends, one of them is judged at a time."""

from __future__ import annotations

import asyncio
import uuid
from types import SimpleNamespace
from typing import Any

import pytest

from api import panic_rows
from api.panic_rows import PanicRows
from core.clock import utc_now
from core.domain.panic import CancelIn


def wish(device_id: uuid.UUID) -> CancelIn:
    return CancelIn(id=uuid.uuid4(), panic_id="p", device_id=device_id, received_ms=0, pin="1")


async def test_one_device_s_wishes_take_turns_and_others_are_judged_beside_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    under_way: list[uuid.UUID] = []
    together: set[tuple[uuid.UUID, ...]] = set()
    later: list[asyncio.Task[bool]] = []
    hers, other = uuid.uuid4(), uuid.uuid4()

    async def commit(_database: Any, _clock: Any, _pins: Any, one: CancelIn, **_: Any) -> bool:
        under_way.append(one.device_id)
        together.add(tuple(sorted(under_way)))
        if len(later) < 20:  # another one comes just as this one ends
            later.append(asyncio.create_task(rows.commit_cancel(wish(hers), lambda: True)))
        await asyncio.sleep(0)
        under_way.remove(one.device_id)
        return True

    monkeypatch.setattr(panic_rows, "commit_cancel", commit)
    database: Any = SimpleNamespace(another=lambda **_: None)
    rows = PanicRows(database, utc_now)
    async with asyncio.TaskGroup() as group:
        for device_id in (hers, hers, hers, other):
            group.create_task(rows.commit_cancel(wish(device_id), lambda: True))
    while any(not one.done() for one in later):
        await asyncio.gather(*later)
    assert max(found.count(hers) for found in together) == 1
    assert any(set(found) == {hers, other} for found in together)
    assert not rows._turns
    rows._pins.close()
