"""Handing a person's matter to a caseworker, a contact centre, a prosecutor: with what she consents to, and no more.

A hand-over keeps which fields were handed over, never their values: a package is read anew each time it is opened, in
the giver's name and with her rights, and only while it holds. So a consent withdrawn, a hand-over revoked or run out, a
giver who may no longer see the case, each end it at once; and nothing of her lies about in a second place.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from core.actions.records import Asker, change, check_people, claim, insert, note
from core.actions.unit_of_work import Unit
from core.domain import consent as rules
from core.domain.scope import Scope
from core.errors import Conflict, InvalidInput, NotFound
from core.postgres import handovers as store
from core.postgres.handovers import CONSENTS, HANDOVERS
from core.postgres.orders import ORDERS
from core.postgres.people import PEOPLE
from core.postgres.table import Record

LONGEST_CONSENT: Final = timedelta(days=366)
USUAL_LIFE: Final = timedelta(days=7)
"""How long a hand-over holds that names no end; never longer than the consent."""


async def give_consent(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The consent as recorded, and whether it is new. Raises NotFound (the person), InvalidInput, Conflict."""
    if not await claim(unit, asker, CONSENTS, record_id, values):
        assert record_id is not None
        return await CONSENTS.get(unit.connection, asker.agency_id, record_id), False
    await check_people(unit, asker.agency_id, [values["person_id"]])
    row = {"given_at": unit.now, **values, "fields": sorted(set(values["fields"])), "recorded_by": asker.user_id}
    if row["given_at"] > unit.now:
        raise InvalidInput("given_at lies in the future.", code="time_in_future")
    if not row["given_at"] < row["valid_until"] <= row["given_at"] + LONGEST_CONSENT:
        raise InvalidInput(
            f"A consent holds for at most {LONGEST_CONSENT.days} days from given_at.", code="time_invalid"
        )
    return await insert(unit, asker, CONSENTS, record_id, row), True


async def withdraw(unit: Unit, asker: Asker, consent_id: uuid.UUID) -> Record:
    """End a consent and every hand-over under it. A second time changes nothing. Raises NotFound."""
    before = await CONSENTS.get(unit.connection, asker.agency_id, consent_id, lock=True)
    if before["withdrawn_at"] is not None:
        return before
    after = await change(unit, asker, CONSENTS, consent_id, {"withdrawn_at": unit.now}, "withdrawn")
    await store.revoke_of(unit.connection, asker.agency_id, consent_id, unit.now)
    return after


async def hand_over(
    unit: Unit, asker: Asker, record_id: uuid.UUID | None, values: Mapping[str, Any]
) -> tuple[Record, bool]:
    """The hand-over with its `package`, and whether it is new.

    Raises NotFound (consent, order), Conflict (the consent does not hold), InvalidInput (a field she did not allow).
    """
    if not await claim(unit, asker, HANDOVERS, record_id, values):
        assert record_id is not None
        again = await HANDOVERS.get(unit.connection, asker.agency_id, record_id)
        await _check_holds(unit, again)
        return {**again, "package": await _package(unit, again)}, False
    consent = await CONSENTS.get(unit.connection, asker.agency_id, values["consent_id"], lock=True)
    rules.check_usable(consent, unit.now)
    order_id = values.get("order_id")
    if order_id is not None:
        order = await ORDERS.get(unit.connection, asker.agency_id, order_id)
        if consent["person_id"] not in {order["victim_id"], *order["protected_person_ids"]}:
            raise NotFound("There is no order with this id that protects her.")
    row = {
        "consent_id": consent["id"],
        "person_id": consent["person_id"],
        "to_agency_id": consent["to_agency_id"],
        "order_id": order_id,
        "fields": rules.allowed(consent, values.get("fields")),
        "made_by": asker.user_id,
        "expires_at": _end_of(values.get("expires_at"), consent, unit.now),
    }
    made = await insert(unit, asker, HANDOVERS, record_id, row)
    await note(unit, asker, "handover.made", "person", made["person_id"], fields=made["fields"])
    return {**made, "package": await _package(unit, made)}, True


def _end_of(asked: datetime | None, consent: Record, now: datetime) -> datetime:
    if asked is not None and asked <= now:
        raise InvalidInput("expires_at is over.", code="time_invalid")
    end: datetime = min(asked or now + USUAL_LIFE, consent["valid_until"])
    return end


async def revoke(unit: Unit, asker: Asker, handover_id: uuid.UUID) -> Record:
    """Take a hand-over back. A second time changes nothing. Raises NotFound."""
    before = await HANDOVERS.get(unit.connection, asker.agency_id, handover_id, lock=True)
    if before["revoked_at"] is not None:
        return before
    return await change(unit, asker, HANDOVERS, handover_id, {"revoked_at": unit.now}, "revoked")


async def find(unit: Unit, asker: Asker, handover_id: uuid.UUID) -> Record:
    """A hand-over that the asker's agency gave or was given; raises NotFound."""
    found = await store.find(unit.connection, asker.agency_id, handover_id)
    if found is None:
        raise NotFound("There is no hand-over with this id.")
    return found


def scope_of_giver(handover: Record, asker: Asker) -> Scope:
    """In whose name a package is read: who handed it over, as long as she may see it herself."""
    return Scope(
        agency_id=handover["agency_id"],
        user_id=handover["made_by"],
        role="caseworker",
        address=asker.address,
        purpose="handover",
    )


async def open_package(unit: Unit, asker: Asker, handover: Record) -> dict[str, Any]:
    """What was handed over, as it is now; `unit` acts for `scope_of_giver`. Her agency's audit says who opened it.

    Raises Conflict when it holds no longer.
    """
    held = await HANDOVERS.get(unit.connection, handover["agency_id"], handover["id"], lock=True)
    await _check_holds(unit, held)
    package = await _package(unit, held)
    if held["first_opened_at"] is None and asker.agency_id == held["to_agency_id"]:
        await HANDOVERS.update(unit.connection, held["agency_id"], held["id"], {"first_opened_at": unit.now})
    await note(
        unit,
        # The one who opens it, as the giver's audit names her.
        Scope(held["agency_id"], asker.user_id, asker.role, asker.address, asker.session_id, asker.purpose),
        "handover.opened",
        "person",
        held["person_id"],
        fields=held["fields"],
        by_agency=str(asker.agency_id),
    )
    return package


async def _check_holds(unit: Unit, handover: Record) -> None:
    if handover["revoked_at"] is not None or handover["expires_at"] <= unit.now:
        raise Conflict("This hand-over holds no longer; ask who gave it.", code="state_forbids")
    consent = await CONSENTS.get(unit.connection, handover["agency_id"], handover["consent_id"])
    rules.check_usable(consent, unit.now)


async def _package(unit: Unit, handover: Record) -> dict[str, Any]:
    agency_id, person_id, fields = handover["agency_id"], handover["person_id"], handover["fields"]
    person = await PEOPLE.get(unit.connection, agency_id, person_id)
    order = incidents = position = None
    if "order" in fields and handover["order_id"] is not None:
        order = await ORDERS.get(unit.connection, agency_id, handover["order_id"])
    if "incidents" in fields:
        incidents = await store.incidents_of(unit.connection, agency_id, person_id, unit.now)
    if "position" in fields:
        position = await store.last_position(unit.connection, agency_id, person_id, unit.now)
    return rules.package_of(fields, person, order, incidents or [], position)
