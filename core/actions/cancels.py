"""Cancelling a panic: what her phone is told is the same whether she was forced or not, what dispatchers see is not.

    right PIN        a dispatcher is asked to close it: a call back with the safe word, or an officer on scene
    duress PIN       duress (see `core.actions.duress`); so is the third wrong PIN in a row
    cannot be read   shown as cancelled; the incident stays as it is, marked `cancel_unverified`, and quiet
    wrong            told to be wrong, twice

Nothing is ever deleted, and no incident ends by it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime

from core.actions import pins
from core.actions.duress import CANCEL_FIELDS, silence, tell_again, turn
from core.actions.panics import audit_press
from core.actions.unit_of_work import Unit, act
from core.clock import Clock, from_ms, rfc3339
from core.domain.panic import CancelIn
from core.domain.pins import Match, Verdict
from core.errors import KeyUnavailable
from core.ids import derived_id
from core.pin_hashes import PinHasher
from core.postgres import incidents as incident_store
from core.postgres import panics as store
from core.postgres import people
from core.postgres import pins as pin_store
from core.postgres.database import Database
from core.postgres.incidents import Row
from core.postgres.pins import Holder

CLOSE_BY = ("call_back_safe_word", "officer_on_scene")
"""How a dispatcher makes sure before closing what was cancelled with the right PIN."""


async def commit_cancel(
    database: Database, clock: Clock, hasher: PinHasher, wish: CancelIn, *, answered: Callable[[], bool],
    timeout_s: float,
) -> bool:  # fmt: skip
    """Carry out a wish to cancel, once; False: her phone is to be told that the PIN is wrong.

    `answered`: whether her phone was told "cancelled" already, so that a wrong PIN can no longer be told to be wrong.
    Raises StoreUnavailable.
    """
    async with database.connection(timeout_s=timeout_s) as connection:
        holder = await pin_store.of_device(connection, wish.device_id)
    match = await pins.compare(hasher, holder, wish.pin)
    if holder is None:
        return True
    try:
        async with act(database, clock(), timeout_s=timeout_s) as unit:
            return await take_cancel(unit, wish, holder, match, answered=answered())
    except KeyUnavailable:  # nobody can be messaged: the boards are
        async with act(database, clock(), timeout_s=timeout_s) as unit:
            return await take_cancel(unit, wish, holder, match, answered=answered(), keyless=True)


async def take_cancel(
    unit: Unit, wish: CancelIn, holder: Holder, match: Match | None, *, answered: bool, keyless: bool = False
) -> bool:
    """The same inside a transaction."""
    cause = wish.id or derived_id("cancel", wish.device_id, wish.panic_id, wish.received_ms)
    line_id = derived_id("timeline", "cancel", cause)
    known = await store.find_of_device(unit.connection, wish.panic_id, wish.device_id)
    if known is not None and (line := await incident_store.line_exists(unit.connection, line_id)) is not None:
        return bool(line["kind"] != "wrong_pin")
    cancelled = known is not None and known["cancel_asked_at"] is not None
    verdict, why = await pins.weigh(unit, holder, match, counts=bool(wish.pin) and not cancelled)
    if known is None:
        if verdict is Verdict.DURESS:
            await pins.press_forced(unit, holder, cause, why, keyless=keyless)
        return answered or verdict is not Verdict.WRONG
    row = await incident_store.lock(unit.connection, known["agency_id"], known["incident_id"])
    assert row is not None
    if verdict is Verdict.WRONG:
        if cancelled:
            return True
        if not answered:
            row["detail"] = {**row["detail"], "wrong_pins": int(row["detail"].get("wrong_pins", 0)) + 1}
            await _write(unit, row, wish, (line_id, "wrong_pin", {}), "panic.cancel_wrong_pin")
            return False
        verdict = Verdict.UNVERIFIED
    # When she asked, not when it was read: her phone has shown it as cancelled since, and nothing done meanwhile.
    await store.ask_cancel(unit.connection, known["id"], max(from_ms(wish.received_ms), known["received_at"]))
    if verdict is Verdict.DURESS:
        await _duress(unit, row, wish, holder, cause, line_id, why, keyless=keyless)
    elif not (cancelled and verdict is Verdict.UNVERIFIED):
        await _asked(unit, row, wish, line_id, verdict, keyless=keyless)
    return True


async def _asked(unit: Unit, row: Row, wish: CancelIn, line_id: uuid.UUID, verdict: Verdict, *, keyless: bool) -> None:
    """A right PIN, or one nobody can check: dispatchers decide."""
    if row["state"] == "resolved" or row["detail"].get("cancel_pin") == verdict:
        return
    line = (line_id, "cancel_asked", {"pin": str(verdict)})
    if row["detail"].get("duress"):
        await _again_under_duress(unit, row, wish, line)
        return
    if _pressed_since(row, wish):
        # She pressed while the PIN was compared, or waited for it: her press stands, as if the PIN had been read first.
        if verdict is Verdict.UNVERIFIED and await pin_store.are_set(unit.connection, row["victim_id"]):
            row["detail"] = {**row["detail"], "cancel_unverified": True}
            row["do_not_call"] = True
            await silence(unit, row)
        await _write(unit, row, wish, line, "panic.cancel_asked")
        return
    detail = {name: value for name, value in row["detail"].items() if name not in CANCEL_FIELDS}
    row["detail"] = {
        **detail, "cancel_asked_at": rfc3339(from_ms(wish.received_ms)), "cancel_pin": str(verdict),
        "close_by": list(CLOSE_BY),
    }  # fmt: skip
    if verdict is Verdict.RIGHT:
        # She says herself that it is over: calling back is how to make sure, unless she cannot hear.
        row["do_not_call"] = row["victim_id"] is not None and await people.is_deaf(unit.connection, row["victim_id"])
        if not keyless:
            await tell_again(unit, row, derived_id("cancelled", line_id), "cancel_asked_dispatcher", {})
    else:
        row["detail"]["cancel_unverified"] = True
        row["do_not_call"] = True
        await silence(unit, row)
    await _write(unit, row, wish, line, "panic.cancel_asked")


def _pressed_since(row: Row, wish: CancelIn) -> bool:
    """Whether somebody pressed again on this incident after she asked to cancel."""
    pressed_at = row["detail"].get("pressed_at")
    return pressed_at is not None and datetime.fromisoformat(pressed_at) > from_ms(wish.received_ms)


async def _again_under_duress(
    unit: Unit, row: Row, wish: CancelIn, line: tuple[uuid.UUID, str, dict[str, str]]
) -> None:
    """What was pressed since the duress PIN appears cancelled again, whatever this PIN was; it stays under duress."""
    if row["detail"].get("cancel_asked_at") or _pressed_since(row, wish):
        return
    row["detail"] = {**row["detail"], "cancel_asked_at": rfc3339(from_ms(wish.received_ms))}
    await _write(unit, row, wish, line, "panic.cancel_asked")


async def _duress(
    unit: Unit, row: Row, wish: CancelIn, holder: Holder, cause: uuid.UUID, line_id: uuid.UUID, why: str, *,
    keyless: bool,
) -> None:  # fmt: skip
    if row["state"] == "resolved":
        await pins.press_forced(unit, holder, cause, why, keyless=keyless)
        return
    line = (line_id, "cancel_asked", {"pin": "duress"})
    if row["detail"].get("duress"):
        await _again_under_duress(unit, row, wish, line)
        return
    at, cause = from_ms(wish.received_ms), derived_id("duress", row["id"])
    await turn(unit, row, at, why, cause, shown=not _pressed_since(row, wish), keyless=keyless)
    await _write(unit, row, wish, line, "panic.cancel_asked")


async def _write(
    unit: Unit, row: Row, wish: CancelIn, line: tuple[uuid.UUID, str, dict[str, str]], action: str
) -> None:
    row["updated_at"] = unit.now
    await incident_store.update_many(unit.connection, [row])
    await audit_press(unit, action, row["agency_id"], wish.device_id, row)
    line_id, kind, data = line
    said = {"panic_id": wish.panic_id, **data}
    await incident_store.add_lines(unit.connection, [(line_id, row["id"], from_ms(wish.received_ms), kind, None, said)])
    unit.emit(row["agency_id"], "incident.updated", incident_store.incident_json(row))
