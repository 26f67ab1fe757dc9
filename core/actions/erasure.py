"""Erasing a person: asked for, confirmed over her safe channel, carried out fourteen days later, for good.

Her data key is destroyed, so that everything sealed with it is unreadable in every copy; what could not be sealed
goes row by row (`erase_person` in the schema). Before that is committed it stands in the erasure ledger, outside the
database. A request may be withdrawn until it is carried out, and waits for as long as anything of hers is held.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from core.actions.unit_of_work import Unit, act
from core.clock import Clock
from core.domain.delivery import PRIORITY_REST, Delivery
from core.domain.sealing import person
from core.erasure_ledger import Erasure, ErasureLedger
from core.errors import Conflict, InvalidInput, Misconfigured, NotFound, StoreUnavailable
from core.ids import derived_id, new_id
from core.postgres import audit, erasures, holds, keys
from core.postgres.cases import compile_people
from core.postgres.database import Database
from core.postgres.people import PEOPLE
from core.redis.client import Client
from core.redis.forgetting import forget
from core.service import Loop

log = structlog.get_logger(__name__)

WAITS: Final = timedelta(days=14)
"""From asking to erasing: time to be heard, and to think better of it."""
CODE_DIGITS: Final = 8
CODE_TRIES: Final = 5
CODE_PAUSE: Final = timedelta(minutes=10)
"""Between two codes: nobody floods her safe channel."""
SAFE_CHANNELS: Final = ("email", "sms")
"""Channels of a safe contact over which a code can be sent."""
REASONS: Final = ("legal_hold", "order", "incident")
"""Why a request waits: she is wanted in court, an order keeps this person away, something is not over."""
TOLD_ON_DEVICES: Final = ("legal_hold",)
"""Of these what a person's own device is told: that an incident is open may be what another pressed."""
BATCH: Final = 20
INTERVAL_S: Final = 30.0
RULE: Final = "request"
"""What the ledger says of a request carried out."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks: a user on a person's behalf, or her own device."""

    kind: str
    """user | device"""
    id: uuid.UUID
    address: str = ""
    """Where the request came from."""
    role: str | None = None
    session_id: uuid.UUID | None = None
    purpose: str | None = None


async def ask(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID) -> dict[str, Any]:
    """A person's request, new or the one that waits; a code goes to her safe contact unless one went just now.

    Raises NotFound; Conflict `person_erased`, `legal_hold`, `safe_contact_missing`, and `state_forbids` for somebody
    whom an order keeps away.
    """
    record = await PEOPLE.get(unit.connection, agency_id, person_id)
    if record["erased"]:
        raise Conflict("The person was erased already.", code="person_erased")
    if await holds.is_held(unit.connection, person_id):
        raise Conflict("What is kept of the person is wanted in court.", code="legal_hold")
    if await erasures.attacks(unit.connection, person_id):
        raise Conflict("An order still keeps this person away from somebody.", code="state_forbids")
    safe = record["safe_contact"] or {}
    if safe.get("channel") not in SAFE_CHANNELS or not safe.get("address"):
        raise Conflict(
            "A code has to reach her: enter a safe contact with an e-mail address or telephone number.",
            code="safe_contact_missing",
        )
    request = await _open_request(unit, who, agency_id, person_id)
    if request["confirmed_at"] is None and request["code_sent_at"] <= unit.now - CODE_PAUSE:
        await _send_code(unit, request, record)
    await _note(unit, who, request, "erasure.asked")
    return await state_of(unit, agency_id, person_id, TOLD_ON_DEVICES if who.kind == "device" else REASONS)


async def _open_request(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID) -> dict[str, Any]:
    found = await erasures.latest(unit.connection, person_id, lock=True)
    if found is None or not _is_open(found):
        values = {
            "id": new_id(), "agency_id": agency_id, "person_id": person_id, "asked_at": unit.now,
            "asked_by": who.id if who.kind == "user" else None, "due_at": unit.now + WAITS, "code_digest": b"",
            "code_sent_at": unit.now - CODE_PAUSE,
        }  # fmt: skip
        await erasures.add(unit.connection, values)
        found = await erasures.latest(unit.connection, person_id, lock=True)
    assert found is not None
    return found


async def _send_code(unit: Unit, request: dict[str, Any], record: dict[str, Any]) -> None:
    code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
    await erasures.change(
        unit.connection,
        request["id"],
        {"code_digest": await _digest(unit, request, code), "code_tries": 0, "code_sent_at": unit.now},
    )
    unit.queue(
        Delivery(
            agency_id=request["agency_id"],
            incident_id=None,
            cause=derived_id("erasure", request["id"], unit.now),
            audience="victim",
            recipient=f"person:{request['person_id']}",
            channel=record["safe_contact"]["channel"],
            address=record["safe_contact"]["address"],
            template="erasure_code",
            language=record["language"],
            private={"code": code},
            priority=PRIORITY_REST,
            person_id=request["person_id"],
        )
    )


async def _digest(unit: Unit, request: dict[str, Any], code: str) -> bytes:
    owner = person(request["person_id"])
    deks = await keys.ensure(unit.connection, {owner: request["agency_id"]}, unit.now)
    return deks[owner].digest("erasure code", f"{request['id']}:{code}")


async def confirm(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID, code: str) -> bool:
    """Whether the code was the one that was sent; a wrong one counts, so commit whatever this says.

    Raises NotFound when nothing waits for a code.
    """
    request = await _waiting(unit, agency_id, person_id)
    if request["confirmed_at"] is not None:
        return True
    if request["code_tries"] >= CODE_TRIES:
        return False
    digits = "".join(letter for letter in code if letter.isdigit())
    if not hmac.compare_digest(await _digest(unit, request, digits), request["code_digest"]):
        await erasures.change(unit.connection, request["id"], {"code_tries": request["code_tries"] + 1})
        await _note(unit, who, request, "erasure.code_wrong")
        return False
    await erasures.change(unit.connection, request["id"], {"confirmed_at": unit.now})
    await _note(unit, who, request, "erasure.confirmed")
    return True


def check_confirmed(held: bool) -> None:
    """Raise InvalidInput `erasure_code_invalid` unless the code held."""
    if not held:
        raise InvalidInput(
            "The code does not hold; look at it again, or ask for a new one.", code="erasure_code_invalid"
        )


async def withdraw(unit: Unit, who: Who, agency_id: uuid.UUID, person_id: uuid.UUID) -> None:
    """Let a request be as if it had never been made. Raises NotFound when none is open."""
    request = await _waiting(unit, agency_id, person_id)
    await erasures.change(unit.connection, request["id"], {"withdrawn_at": unit.now})
    await _note(unit, who, request, "erasure.withdrawn")


async def _waiting(unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID) -> dict[str, Any]:
    await PEOPLE.get(unit.connection, agency_id, person_id)
    request = await erasures.latest(unit.connection, person_id, lock=True)
    if request is None or not _is_open(request):
        raise NotFound("No request to be erased is open.")
    return request


async def state_of(
    unit: Unit, agency_id: uuid.UUID, person_id: uuid.UUID, tell_reasons: Collection[str] = REASONS
) -> dict[str, Any]:
    """A person's latest request as it may be told: its state, moments, and of `tell_reasons` why it waits.

    Raises NotFound when she never made one.
    """
    await PEOPLE.get(unit.connection, agency_id, person_id)
    request = await erasures.latest(unit.connection, person_id)
    if request is None:
        raise NotFound("There is no request to be erased.")
    ends = {"erased": "erased_at", "withdrawn": "withdrawn_at", "lapsed": "lapsed_at", "confirmed": "confirmed_at"}
    state = next((name for name, column in ends.items() if request[column] is not None), "asked")
    if state == "confirmed" and request["held_at"] is not None:
        state = "held"
    reason = request["held_for"] if state == "held" else None
    told = {name: request[name] for name in ("id", "asked_at", "due_at", "confirmed_at")}
    return {"state": state, "held_for": reason if reason in tell_reasons else reason and "other", **told}


def _is_open(request: dict[str, Any]) -> bool:
    return all(request[name] is None for name in ("withdrawn_at", "lapsed_at", "erased_at"))


async def _note(unit: Unit, who: Who, request: dict[str, Any], action: str) -> None:
    await audit.write(
        unit.connection, unit.now, agency_id=request["agency_id"], actor_kind=who.kind, actor_id=who.id, action=action,
        subject_kind="person", subject_id=request["person_id"], address=who.address or None,
        role=who.role, session_id=who.session_id, purpose=who.purpose, person_ids=[request["person_id"]],
    )  # fmt: skip


# carrying out ---------------------------------------------------------------------------------------------------


async def carry_out_due(database: Database, client: Client, ledger: ErasureLedger, now: datetime) -> int:
    """Erase everybody whose request is due and may be carried out; returns how many.

    Each is one transaction: rows, then Redis, then the ledger, then the commit. What fails is tried again, and keeps
    no other from being erased; who stands in the ledger is erased at the next start at the latest.
    """
    async with database.transaction() as connection:
        await erasures.lapse(connection, now)
        found = await erasures.due(connection, now, BATCH)
    erased = 0
    for request_id in found:
        try:
            erased += await _carry_out(database, client, ledger, request_id, now)
        except StoreUnavailable:
            raise
        except Exception as error:  # one that cannot be carried out keeps nobody else waiting
            log.error("erasure_failed", request=str(request_id), error=type(error).__name__)
    return erased


async def _carry_out(
    database: Database, client: Client, ledger: ErasureLedger, request_id: uuid.UUID, now: datetime
) -> bool:
    async with act(database, now) as unit:
        worn = await erasures.worn(unit.connection, request_id)
        done = await erasures.carry_out(unit.connection, request_id, now)
        if done is None:
            return False
        person_id, agency_id = done
        await compile_people(unit.connection, [person_id], now)
        await audit.write(
            unit.connection, now, agency_id=agency_id, actor_kind="service", actor_id="erasure",
            action="person.erased", subject_kind="person", subject_id=person_id, person_ids=[person_id],
            detail={"rule": RULE},
        )  # fmt: skip
        await forget(client, worn, [person_id])
        await asyncio.to_thread(ledger.append, [Erasure(person_id, agency_id, now, RULE)])
    return True


async def apply_ledger(database: Database, client: Client | None, ledger: ErasureLedger, now: datetime) -> int:
    """Erase again whoever stands in the ledger and is there all the same, as after a restored backup; returns how many.

    Who was held since, or is in an incident opened since, was not erased then and waits (SQL `unapplied_erasures`).
    Needs the tables' owner. Raises Misconfigured when the ledger was changed or lacks somebody (`check_whole`),
    StoreUnavailable.
    """
    stated = await asyncio.to_thread(ledger.read)
    await check_whole(database, ledger, stated)
    async with database.connection() as connection:
        there = set(await erasures.unapplied(connection, _lines(stated)))
    for one in {one.person_id: one for one in stated if one.person_id in there}.values():
        async with database.transaction() as connection:
            await erasures.lock_person(connection, one.person_id)
            if not await erasures.unapplied(connection, [(one.person_id, one.at)]):
                continue
            worn = await erasures.worn_by(connection, [one.person_id])
            await erasures.erase(connection, one.person_id, one.at)
            await compile_people(connection, [one.person_id], now)
            await audit.write(
                connection, now, agency_id=one.agency_id, actor_kind="service", actor_id="erasure",
                action="person.erased", subject_kind="person", subject_id=one.person_id, person_ids=[one.person_id],
                detail={"rule": "ledger"},
            )  # fmt: skip
            if client is not None:
                await forget(client, worn, [one.person_id])
    return len(there)


async def check_whole(database: Database, ledger: ErasureLedger, stated: Sequence[Erasure]) -> None:
    """Raise Misconfigured when somebody was erased in the database who does not stand in the ledger.

    Each stands there before her erasure is committed, so this is not the ledger of this database, or an old copy, or
    none: who was erased since the copy, or since a backup that was restored, is then known to nobody.
    """
    async with database.connection() as connection:
        missing = await erasures.erased_besides(connection, [one.person_id for one in stated])
    if missing:
        raise Misconfigured(
            f"The erasure ledger {ledger.path} lacks {len(missing):,} people who are erased in this database; put the"
            " true file in its place, or, if it is lost, say so: `qorgan erasure rebuild` (docs/encryption.md)."
        )


async def rebuild_ledger(database: Database, ledger: ErasureLedger) -> int:
    """Write into the ledger, made if there is none, who is erased in the database and not in it; returns how many.

    For a ledger that is lost: who was erased after a backup that was restored stays unknown. Raises as `apply_ledger`.
    """
    stated = await asyncio.to_thread(ledger.read)
    async with database.connection() as connection:
        missing = await erasures.erased_besides(connection, [one.person_id for one in stated])
    lost = [Erasure(person_id, agency_id, at, "found") for person_id, agency_id, at in missing]
    await asyncio.to_thread(ledger.begin)
    await asyncio.to_thread(ledger.append, lost)
    return len(lost)


async def count_unapplied(database: Database, ledger: ErasureLedger) -> int:
    """How many people stand in the ledger and are there all the same: nothing may be served while there is one.

    Raises Misconfigured when the ledger was changed or lacks somebody (`check_whole`).
    """
    stated = await asyncio.to_thread(ledger.read)
    await check_whole(database, ledger, stated)
    if not stated:
        return 0
    async with database.connection() as connection:
        return len(await erasures.unapplied(connection, _lines(stated)))


async def silence_unapplied(database: Database, ledger: ErasureLedger) -> int:
    """Cancel what waits to be sent to or about people who stand in the ledger and are there all the same."""
    stated = await asyncio.to_thread(ledger.read)
    if not stated:
        return 0
    async with database.transaction() as connection:
        return await erasures.keep_silent(connection, await erasures.unapplied(connection, _lines(stated)))


def _lines(stated: Sequence[Erasure]) -> list[tuple[uuid.UUID, datetime]]:
    return [(one.person_id, one.at) for one in stated]


class ErasureClock(Loop):
    """Carries requests out when they are due; any number of processes may run it."""

    def __init__(self, database: Database, client: Client, ledger: ErasureLedger, clock: Clock) -> None:
        super().__init__("erasure-clock", self._once, INTERVAL_S)
        self._database = database
        self._client = client
        self._ledger = ledger
        self._clock = clock

    async def _once(self) -> None:
        try:
            await carry_out_due(self._database, self._client, self._ledger, self._clock())
        except StoreUnavailable:
            return
        except Exception as error:  # the clock outlives whatever a disk comes up with
            log.error("erasure_failed", error=type(error).__name__)
