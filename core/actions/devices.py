"""Devices: registered, enrolled by a code once, fitted to a person, returned, revoked; and gateways."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.records import Asker, change, check_people, claim, insert, note, whose
from core.actions.tasks import tell_copied
from core.actions.unit_of_work import Unit
from core.errors import Conflict, InvalidInput, NotFound
from core.ids import new_token, token_digest
from core.postgres import audit, devices, tokens
from core.postgres.cases import compile_people
from core.postgres.devices import DEVICES
from core.postgres.table import Record

CODE_ALPHABET: Final = "23456789ABCDEFGHJKMNPQRSTVWXYZ"
"""No letter or digit that is easily taken for another when read aloud."""
CODE_CHARS: Final = 12
CODE_GROUP: Final = 4
TOKEN_OVERLAP: Final = timedelta(hours=1)
"""How long the tokens before go on holding beside a new one that was used and not confirmed."""
REUSE_GRACE: Final = timedelta(seconds=10)
"""A request that was under way with the token before says nothing."""
REUSE_ENDS_WITHIN: Final = timedelta(days=1)
"""A replaced token that comes again so soon after a newer one was confirmed ends the newer ones too. Later it is noted
and ends nothing: else whoever has an old backup of her telephone could put it out at any time."""
COPIED_WITHIN: Final = timedelta(days=1)
"""By when somebody should have seen to a device whose token was copied."""


def make_code() -> str:
    """A one-time enrolment code of 58 bits, grouped to be read aloud."""
    code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_CHARS))
    return "-".join(code[start : start + CODE_GROUP] for start in range(0, CODE_CHARS, CODE_GROUP))


def code_digest(code: str) -> bytes:
    """What is stored of a code: however it was spaced or capitalised."""
    return token_digest("".join(letter for letter in code.upper() if letter.isalnum()))


async def register(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any], code_life_s: int
) -> tuple[Record, bool]:
    """The device and whether it is new; a new one bears its `enrolment_code`, which is told only now."""
    if not await claim(unit, asker, DEVICES, record_id, values):
        assert record_id is not None
        return await DEVICES.get(unit.connection, asker.agency_id, record_id), False
    if values.get("person_id") is not None:
        await check_people(unit, asker.agency_id, [values["person_id"]])
    device = await insert(unit, asker, DEVICES, record_id, values)
    if device["person_id"] is not None:
        device = await _set(unit, device, {})
    return {**device, **await _new_code(unit, device["id"], code_life_s)}, True


async def renew_code(unit: Unit, asker: Asker, device_id: uuid.UUID, code_life_s: int) -> Record:
    """A new enrolment code for a device; the earlier one, if unused, no longer holds."""
    device = await DEVICES.get(unit.connection, asker.agency_id, device_id, lock=True)
    if device["status"] == "returned":
        raise Conflict("The device was returned; fit it to a person first.", code="state_forbids")
    await note(unit, asker, "device.code_made", "device", device_id)
    return {"device_id": device_id, **await _new_code(unit, device_id, code_life_s)}


async def _new_code(unit: Unit, device_id: uuid.UUID, code_life_s: int) -> dict[str, Any]:
    code, expires_at = make_code(), unit.now + timedelta(seconds=code_life_s)
    await tokens.add_code(unit.connection, code_digest(code), device_id, unit.now, expires_at)
    return {"enrolment_code": code, "enrolment_expires_at": expires_at}


@dataclass(frozen=True, slots=True)
class KeyOffer:
    """How a device will sign its pings."""

    kind: str
    """ed25519 | hmac"""
    public_key: bytes | None
    """Ed25519: 32 bytes."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolment gives a device."""

    device_id: uuid.UUID
    token: str
    signature_generation: int
    """Of its signing key: an HMAC key derives from it."""


async def enrol(unit: Unit, code: str, address: str | None, offer: KeyOffer | None = None) -> Enrolled:
    """The device's id and its token, told only now; tokens and a signing key it had before no longer hold.

    Raises InvalidInput `enrolment_code_invalid`, the same for a code that is unknown, spent or too old.
    """
    found = await tokens.spend_code(unit.connection, code_digest(code), unit.now)
    if found is None:
        raise InvalidInput("The enrolment code does not hold; ask for a new one.", code="enrolment_code_invalid")
    device_id, agency_id = found["id"], found["agency_id"]
    device = await DEVICES.get(unit.connection, agency_id, device_id, lock=True)
    await tokens.revoke_device_tokens(unit.connection, device_id, unit.now)
    await tokens.forget_replaced(unit.connection, device_id)
    token = new_token("qd")
    await tokens.add_device_token(unit.connection, token_digest(token), device_id, agency_id, unit.now)
    fitted_at = device["fitted_at"] if device["status"] == "active" else unit.now
    generation = device["signature_generation"] + 1
    key = {
        "signature_kind": offer.kind if offer is not None else None,
        "signature_public_key": offer.public_key if offer is not None else None,
        "signature_generation": generation,
    }
    await _set(unit, device, {"status": "active", "fitted_at": fitted_at, **key})
    await _note_own(unit, device_id, agency_id, "device.enrolled", address)
    return Enrolled(device_id, token, generation)


async def rotate_token(
    unit: Unit, device_id: uuid.UUID, agency_id: uuid.UUID, address: str | None
) -> tuple[str, datetime]:
    """A new token for a device that asks with one that holds, and until when those it had hold unless it confirms.

    So nothing is lost between the two: the device stores the new one, uses it (`note_used`), and confirms
    (`confirm_token`). Asking ends nothing yet: the answer may be lost, and she then presses with the old one, days
    later.
    """
    token = new_token("qd")
    await tokens.add_device_token(unit.connection, token_digest(token), device_id, agency_id, unit.now)
    await _note_own(unit, device_id, agency_id, "device.token_rotated", address)
    await tokens.notify_registry(unit.connection)
    return token, unit.now + TOKEN_OVERLAP


async def note_used(unit: Unit, digests: Collection[bytes]) -> Collection[bytes]:
    """Tokens that were asked for came into use: those that their devices had before end after `TOKEN_OVERLAP`. Returns
    those that need no second look: all of them."""
    await tokens.let_earlier_expire(unit.connection, digests, unit.now + TOKEN_OVERLAP)
    return digests


async def confirm_token(
    unit: Unit, device_id: uuid.UUID, agency_id: uuid.UUID, digest: bytes, address: str | None
) -> None:
    """Let this token alone hold from now on. Raises Conflict `state_forbids` when a newer was asked for with it."""
    if await tokens.was_replaced(unit.connection, digest):
        raise Conflict("A newer token was asked for with this one; confirm that.", code="state_forbids")
    ended = await tokens.replace_now(unit.connection, device_id, digest, unit.now)
    if ended:
        await _note_own(unit, device_id, agency_id, "device.token_confirmed", address)
        await tokens.notify_registry(unit.connection)


async def note_reuse(unit: Unit, digests: Collection[bytes]) -> Collection[bytes]:
    """Replaced tokens came again: note each once, make a task, and soon after a confirmation end the newer ones too.

    What was used and never confirmed may be a phone that did not keep it: that ends nothing. Returns those that need no
    second look.
    """
    return [digest for digest in digests if await _note_reuse(unit, digest)]


async def _note_reuse(unit: Unit, digest: bytes) -> bool:
    since = await tokens.replaced_at(unit.connection, digest)
    if since is None:
        return True
    if unit.now < since + REUSE_GRACE:
        return False
    found = await tokens.mark_reused(unit.connection, digest, unit.now)
    if found is None:
        return True
    device_id, agency_id = found["device_id"], found["agency_id"]
    ended = 0
    if found["confirmed"] and unit.now < since + REUSE_ENDS_WITHIN:
        ended = await tokens.revoke_device_tokens(unit.connection, device_id, unit.now)
        await tokens.notify_registry(unit.connection)
    await _note_own(unit, device_id, agency_id, "device.token_reused", None)
    detail = {"device_id": str(device_id), "ended": ended}
    await tell_copied(unit, agency_id, digest.hex(), detail, unit.now + COPIED_WITHIN)
    return True


async def _note_own(unit: Unit, device_id: uuid.UUID, agency_id: uuid.UUID, action: str, address: str | None) -> None:
    await audit.write(
        unit.connection,
        unit.now,
        agency_id=agency_id,
        actor_kind="device",
        actor_id=device_id,
        action=action,
        subject_kind="device",
        subject_id=device_id,
        address=address,
    )


async def change_device(unit: Unit, asker: Asker, device_id: uuid.UUID, values: Mapping[str, Any]) -> Record:
    """Set a device's columns."""
    device = await DEVICES.get(unit.connection, asker.agency_id, device_id, lock=True)
    await change(unit, asker, DEVICES, device_id, values)
    return await _set(unit, device, {})


async def fit(unit: Unit, asker: Asker, device_id: uuid.UUID, person_id: uuid.UUID) -> Record:
    """Put a device on a person; whoever had it before has it no more."""
    device = await DEVICES.get(unit.connection, asker.agency_id, device_id, lock=True)
    await check_people(unit, asker.agency_id, [person_id])
    if device["status"] == "revoked":
        raise Conflict("The device was revoked; enrol it anew first.", code="state_forbids")
    holds = await tokens.has_live_token(unit.connection, device_id, unit.now)
    await note(unit, asker, "device.fitted", "device", device_id, people=[person_id], person_id=str(person_id))
    # What is kept of it is sealed anew: with the key of who wears it now.
    token = {"push_token": device["push_token"]} if device["push_token"] is not None else {}
    return await _set(
        unit,
        device,
        {
            **token,
            "person_id": person_id,
            "fitted_at": unit.now,
            "returned_at": None,
            "status": "active" if holds else "registered",
        },
    )


async def take_back(unit: Unit, asker: Asker, device_id: uuid.UUID) -> Record:
    """Mark a device returned: its tokens end, and its silence is nobody's alarm."""
    device = await DEVICES.get(unit.connection, asker.agency_id, device_id, lock=True)
    await tokens.revoke_device_tokens(unit.connection, device_id, unit.now)
    await tokens.drop_codes(unit.connection, device_id)
    await note(unit, asker, "device.returned", "device", device_id, people=whose(device))
    return await _set(unit, device, {"status": "returned", "returned_at": unit.now})


async def revoke(unit: Unit, asker: Asker, device_id: uuid.UUID) -> Record:
    """End a device's tokens and codes at once; open streams close within a second."""
    device = await DEVICES.get(unit.connection, asker.agency_id, device_id, lock=True)
    count = await tokens.revoke_device_tokens(unit.connection, device_id, unit.now)
    await tokens.drop_codes(unit.connection, device_id)
    await note(unit, asker, "device.revoked", "device", device_id, people=whose(device), tokens=count)
    return await _set(unit, device, {"status": "revoked"})


async def _set(unit: Unit, before: Record, values: Mapping[str, Any]) -> Record:
    """Set columns, then bring cases and registries up to date for who had the device and who has it."""
    device_id, agency_id = before["id"], before["agency_id"]
    await DEVICES.update(unit.connection, agency_id, device_id, {**values, "updated_at": unit.now})
    after = await DEVICES.get(unit.connection, agency_id, device_id)
    if after["person_id"] is None:
        await devices.leave_person(unit.connection, device_id)
    people = {record["person_id"] for record in (before, after)} - {None}
    await compile_people(unit.connection, people, unit.now)
    await devices.touch(unit.connection, device_id)
    await tokens.notify_registry(unit.connection)
    return await DEVICES.get(unit.connection, agency_id, device_id)


async def add_gateway(unit: Unit, asker: Asker, name: str, expires_at: datetime | None) -> str:
    """The token of a new gateway, told only now; raises Conflict when one of its name holds."""
    if await tokens.gateway_name_taken(unit.connection, asker.agency_id, name):
        raise Conflict("A gateway of this name exists; revoke it or choose another.", code="already_exists")
    if expires_at is not None and expires_at <= unit.now:
        raise InvalidInput("expires_at is over.", code="time_invalid")
    token = new_token("qg")
    await tokens.add_gateway_token(unit.connection, token_digest(token), name, asker.agency_id, unit.now, expires_at)
    await note(unit, asker, "gateway.added", "gateway", name=name)
    await tokens.notify_registry(unit.connection)
    return token


async def rotate_gateway(unit: Unit, asker: Asker, name: str, overlap: timedelta) -> tuple[str, datetime]:
    """A new token for a gateway, told only now, and until when the earlier ones hold; raises NotFound when none did."""
    until = unit.now + overlap
    if not await tokens.let_gateway_expire(unit.connection, asker.agency_id, name, unit.now, until):
        raise NotFound("There is no gateway of this name.")
    token = new_token("qg")
    await tokens.add_gateway_token(unit.connection, token_digest(token), name, asker.agency_id, unit.now, None)
    await note(unit, asker, "gateway.rotated", "gateway", name=name)
    await tokens.notify_registry(unit.connection)
    return token, until


async def revoke_gateway(unit: Unit, asker: Asker, name: str) -> None:
    """End a gateway's tokens; raises NotFound when none held."""
    if not await tokens.revoke_gateway(unit.connection, asker.agency_id, name, unit.now):
        raise NotFound("There is no gateway of this name.")
    await note(unit, asker, "gateway.revoked", "gateway", name=name)
    await tokens.notify_registry(unit.connection)
