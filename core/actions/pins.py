"""People's PINs: set, forgotten, tried.

Whether a PIN is right is found outside any transaction (it takes a slow hash), what it means inside one: wrong tries
are counted where her row is locked.
"""

from __future__ import annotations

import uuid

from core.actions.panics import take_panic
from core.actions.records import Asker, note
from core.actions.unit_of_work import Unit
from core.clock import to_ms
from core.domain import pins as domain
from core.domain.panic import PanicIn
from core.domain.pins import Hashes, Match, Verdict
from core.errors import Conflict, TooMany, Unavailable
from core.ids import derived_id
from core.pin_hashes import PinHasher
from core.postgres import people, pins
from core.postgres.pins import Holder


async def compare(hasher: PinHasher, holder: Holder | None, pin: str) -> Match | None:
    """Which of the holder's PINs this equals; None when nobody can say. It takes the same time either way."""
    try:
        match = await hasher.compare(pin, holder.hashes if holder is not None else None)
    except TooMany:
        return None
    return match if holder is not None and holder.hashes is not None else None


async def weigh(unit: Unit, holder: Holder, match: Match | None, *, counts: bool = True) -> tuple[Verdict, str]:
    """What a try of a PIN was, and how it came to be duress; a wrong one is counted if it `counts`."""
    if match is None or holder.person_id is None:
        return Verdict.UNVERIFIED, ""
    kept = await pins.lock(unit.connection, holder.person_id)
    if kept is None or kept.updated_at != holder.updated_at:  # set anew since it was compared
        return Verdict.UNVERIFIED, ""
    if not counts and not (match.pin or match.duress):
        return Verdict.WRONG, ""
    verdict, tries = domain.weigh(match, kept.tries, unit.now, forced=kept.forced)
    if tries != kept.tries:
        await pins.keep_tries(unit.connection, holder.person_id, tries)
    if verdict is not Verdict.DURESS:
        return verdict, ""
    return verdict, "duress_pin" if match.duress else "forced_pin" if match.pin else "third_wrong_pin"


async def press_forced(unit: Unit, holder: Holder, cause: uuid.UUID, why: str, *, keyless: bool = False) -> None:
    """A panic that nobody pressed: a duress PIN was given where no panic of hers is open on that device.

    Dispatchers see it; her device never does. `cause`: the same brought again is the same panic.
    """
    panic = PanicIn(
        id=derived_id("duress", cause), client_id=None, received_ms=to_ms(unit.now), token_digest=None, source="duress",
        device_id=holder.device_id, person_id=holder.person_id, agency_id=holder.agency_id, mode="silent",
    )  # fmt: skip
    await take_panic(unit, panic, keyless=keyless, forced=why)


async def set_first(unit: Unit, holder: Holder, hashes: Hashes) -> bool:
    """Give a person who has none her PINs; False when she has some, which stay."""
    if holder.person_id is None:
        return False
    return await pins.put(unit.connection, holder.person_id, holder.agency_id, hashes, unit.now, anew=False)


async def change(
    unit: Unit, holder: Holder, match: Match | None, hashes: Hashes, *, given: bool, keyless: bool = False
) -> Verdict:
    """Set a person's PINs by her device, which gave the old one if `given`. WRONG: nothing changed; commit anyway.

    Who gave the duress PIN, or guessed, gets what was asked for as it seems: from then on every PIN is duress, until a
    caseworker resets them. Raises Conflict `state_forbids` (nobody wears the device), Unavailable (cannot be checked).
    """
    if holder.person_id is None:
        raise Conflict("Nobody wears this device.", code="state_forbids")
    if not holder.is_set:
        if not await set_first(unit, holder, hashes):
            raise Unavailable("The PINs were set just now; send the old one too.")
        return Verdict.RIGHT
    verdict, why = await weigh(unit, holder, match, counts=given)
    if verdict is Verdict.UNVERIFIED:
        raise Unavailable("The old PIN cannot be checked now; try again.")
    if verdict is Verdict.WRONG:
        return verdict
    forced = verdict is Verdict.DURESS
    await pins.put(unit.connection, holder.person_id, holder.agency_id, hashes, unit.now, forced=forced)
    if forced:
        await press_forced(unit, holder, derived_id("pins", holder.person_id, unit.now), why, keyless=keyless)
    return verdict


async def reset(unit: Unit, asker: Asker, person_id: uuid.UUID) -> None:
    """Forget a person's PINs, so that her device sets new ones; raises NotFound for a person who is not there."""
    await people.PEOPLE.get(unit.connection, asker.agency_id, person_id)
    await pins.drop(unit.connection, asker.agency_id, person_id)
    await note(unit, asker, "person.pins_reset", "person", person_id, people=[person_id])
