"""How long what is kept of people is kept: periods an agency sets, named and bounded, and the rules that use them.

Stored as `retention_policy.periods`; what an agency does not set stands at its default here. Unknown names, values out
of bounds and periods that contradict each other are refused. `docs/retention.md` tells an auditor what each erases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any, Final

import msgspec

from core.errors import InvalidInput


class Periods(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agency may set, all in days."""

    victim_fix_days: int = 7
    """Her fixes, and those of devices that are nobody's side, unless she holds them."""
    aggressor_fix_days: int = 90
    """His fixes, after the end of the order they were made under."""
    own_hold_days: int = 365
    """How long what she holds of her own fixes stays held."""
    incident_fix_judged_days: int = 1_095
    """Places, texts and both parties' fixes of an incident, after the last judgment on its order."""
    incident_fix_unjudged_days: int = 1_825
    """The same where no court has judged, after it was resolved."""
    incident_days: int = 3_650
    """A resolved incident with its timeline, panics, deliveries and decisions: what is left of it."""
    transition_days: int = 365
    """Decisions that opened no incident; their places go with her fixes."""
    delivery_text_days: int = 30
    """What a message said and where it went; that it was sent stays."""
    delivery_days: int = 365
    """That a message was sent that belonged to no incident."""
    device_notice_days: int = 90
    """That a wearer was asked to see to a device."""
    sign_in_days: int = 90
    """Sessions, refresh tokens and one-time codes of users, after they ended."""
    enrolment_days: int = 30
    """Codes that enrol devices, after they were used or ran out."""
    export_days: int = 1_095
    """Who asked for evidence and why; the bundle itself is kept for a week."""
    audit_days: int = 3_650
    """The audit, cut at its beginning and signed."""


BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "victim_fix_days": (1, 365),
    "aggressor_fix_days": (0, 1_095),
    "own_hold_days": (30, 1_825),
    "incident_fix_judged_days": (365, 7_300),
    "incident_fix_unjudged_days": (365, 7_300),
    "incident_days": (1_825, 10_950),
    "transition_days": (30, 3_650),
    "delivery_text_days": (1, 365),
    "delivery_days": (30, 3_650),
    "device_notice_days": (7, 730),
    "sign_in_days": (1, 730),
    "enrolment_days": (1, 365),
    "export_days": (90, 7_300),
    "audit_days": (1_825, 10_950),
}
"""Fewest and most days each may have."""
NOT_BELOW: Final = (
    ("incident_days", "incident_fix_unjudged_days"),
    ("delivery_days", "delivery_text_days"),
    ("audit_days", "export_days"),
)
"""(outer, inner): the first must not be shorter than the second."""


def read_periods(values: Mapping[str, Any]) -> Periods:
    """The periods that `values` set over the defaults; raises InvalidInput with the name and value that are wrong."""
    try:
        periods = msgspec.convert(dict(values), Periods)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"The periods cannot be read: {error}.") from None
    for name, (least, most) in BOUNDS.items():
        value = getattr(periods, name)
        if not least <= value <= most:
            raise InvalidInput(f"{name} is {value}; it has to be between {least} and {most} days.")
    for outer, inner in NOT_BELOW:
        if getattr(periods, outer) < getattr(periods, inner):
            raise InvalidInput(
                f"{outer} is {getattr(periods, outer)} and {inner} is {getattr(periods, inner)}; {outer} must not be"
                " the shorter."
            )
    return periods


def check_room(periods: Periods, victim_most_days: int, aggressor_most_days: int) -> None:
    """Raise InvalidInput for a period of positions that the installation has no room for."""
    for name, most in (("victim_fix_days", victim_most_days), ("aggressor_fix_days", aggressor_most_days)):
        value = getattr(periods, name)
        if value > most:
            raise InvalidInput(f"{name} is {value}; this installation keeps positions for at most {most} days.")


def before(now: datetime, days: int) -> datetime:
    """The moment before which a period of days is over."""
    return now - timedelta(days=days)


def first_day_of_hers(today: date, agencies: Iterable[Periods], most_days: int) -> date:
    """The first UTC day of victims' and others' fixes that some agency still shows; earlier ones are dropped."""
    longest = max((periods.victim_fix_days for periods in agencies), default=Periods().victim_fix_days)
    return today - timedelta(days=min(longest, most_days))


def first_day_of_his(
    today: date, agencies: Iterable[Periods], oldest_order_from: datetime | None, most_days: int
) -> date:
    """The first UTC day of aggressors' fixes that some agency still shows.

    `oldest_order_from`: since when the oldest order holds whose fixes are still kept; None: there is none.
    """
    longest = max((periods.aggressor_fix_days for periods in agencies), default=Periods().aggressor_fix_days)
    needed = today - timedelta(days=longest)
    if oldest_order_from is not None:
        needed = min(needed, oldest_order_from.date())
    return max(needed, today - timedelta(days=most_days))
