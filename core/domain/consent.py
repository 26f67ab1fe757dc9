"""What a person may allow to be told of her, and what of it a hand-over takes: nothing that she did not name.

It is hers to withdraw at any time, and that ends every hand-over under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from core.errors import Conflict, InvalidInput

FIELDS: Final[dict[str, str]] = {
    "name": "her name",
    "phone": "her telephone number",
    "address": "her address",
    "safe_contact": "by which channel and at which hours she can be reached safely",
    "language": "her language",
    "needs": "an interpreter, a sign-language speaker",
    "children": "whether there are children with her",
    "medical": "what a doctor or a responder has to know",
    "order": "the order's paper: reference, issuer, ground, restraints, from when, until when, how it stands",
    "incidents": "what happened in the last 90 days: kinds, times and outcomes, no places",
    "position": "where her device was last, at most a day ago",
}
"""Field → what it is. Her safe word, her contacts and anything of his are none of them."""
IDENTITY_FIELDS: Final = ("name", "phone", "address")

RECIPIENTS: Final = ("contact_centre", "caseworker", "crisis_centre", "prosecutor", "medical", "other")
"""contact_centre: 111 in Kazakhstan, and its like elsewhere."""


def check_usable(consent: Mapping[str, Any], now: datetime) -> None:
    """Raise Conflict `state_forbids` unless the consent holds at this moment."""
    if consent["withdrawn_at"] is not None:
        raise Conflict("She has withdrawn this consent; nothing is handed over.", code="state_forbids")
    if consent["valid_until"] <= now:
        raise Conflict("This consent has run out; ask her again.", code="state_forbids")
    if consent["given_at"] > now:
        raise Conflict("This consent does not hold yet.", code="state_forbids")


def allowed(consent: Mapping[str, Any], asked: Sequence[str] | None) -> list[str]:
    """The fields of a hand-over: those asked for, else all she allows. Raises InvalidInput for one she does not."""
    if not asked:
        return sorted(consent["fields"])
    if beyond := sorted(set(asked) - set(consent["fields"])):
        raise InvalidInput(f"She has not allowed this to be told: {', '.join(beyond)}.")
    return sorted(set(asked))


def package_of(
    fields: Sequence[str],
    person: Mapping[str, Any],
    order: Mapping[str, Any] | None,
    incidents: Sequence[Mapping[str, Any]],
    position: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Exactly these fields; one of which nothing is known is there, and null."""
    identity, hazards = person["identity"] or {}, person["hazards"] or {}
    known: dict[str, Any] = {
        **{name: identity.get(name) for name in IDENTITY_FIELDS},
        "safe_contact": person["safe_contact"],
        "language": person["language"],
        "needs": list(person["needs"]),
        "children": hazards.get("children"),
        "medical": hazards.get("medical"),
        "order": None if order is None else {name: order[name] for name in ORDER_FIELDS},
        "incidents": [dict(one) for one in incidents],
        "position": None if position is None else dict(position),
    }
    return {name: known[name] for name in fields}


ORDER_FIELDS: Final = (
    "reference", "issuer", "legal_ground", "restraints", "issued_at", "served_at", "valid_from", "valid_until",
    "status", "time_zone",
)  # fmt: skip
"""What of an order a hand-over has: nothing of him."""
