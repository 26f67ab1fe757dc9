"""What is counted, by what, and the coarse attributes of people that are kept for it.

Coarse attributes (sex, a band of ages, a region) are decided when a person is entered and stand in plain columns of
their own. They name nobody, so they stay when she is erased, and the figures of past years stay what they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

UNKNOWN: Final = "unknown"
AGE_BANDS: Final = ((0, "0-13"), (14, "14-17"), (18, "18-24"), (25, "25-34"), (35, "35-44"), (45, "45-59"), (60, "60+"))
SEXES: Final = ("female", "male", UNKNOWN)
VIOLENCE: Final = ("physical", "psychological", "sexual", "economic", "stalking", "threat", "other", UNKNOWN)
INJURY: Final = ("none", "light", "moderate", "serious", "fatal", UNKNOWN)
CHANNELS: Final = ("102", "112", "111", "visit", "app", "other")
RESULTS: Final = ("arrest", "fine", "restraint", "imprisonment", "other_penalty", "acquitted", "closed", "returned")
"""How a court decided."""
HELD_LIABLE: Final = frozenset({"arrest", "fine", "restraint", "imprisonment", "other_penalty"})

MEASURES: Final[dict[str, str | None]] = {
    "calls": None,
    "panics": None,
    "orders": None,
    "orders_served": "orders",
    "breaches": None,
    "violations": "breaches",
    "incidents_resolved": None,
    "false_alarms": "incidents_resolved",
    "court_outcomes": None,
    "held_liable": "court_outcomes",
}
"""Measure → the measure it is part of."""
DIMENSIONS: Final = ("agency", "region", "month", "sex", "age_band", "violence", "injury")
FUNNEL: Final = ("call", "order", "served", "breach", "court", "held_liable")
MINISTRY: Final = ("calls", "orders", "held_liable")
"""The measures of the table that the ministry prints, by region."""

_SEX_WORDS: Final = {
    "f": "female", "female": "female", "w": "female", "ж": "female", "жен": "female", "әйел": "female",
    "m": "male", "male": "male", "м": "male", "муж": "male", "ер": "male", "еркек": "male",
}  # fmt: skip
_CENTURIES: Final = {1: 1800, 2: 1800, 3: 1900, 4: 1900, 5: 2000, 6: 2000}
REGION_CHARS: Final = 60


class Traits(NamedTuple):
    """What is kept of a person for the figures."""

    sex: str
    age_band: str
    region_code: str | None


def traits_of(identity: Mapping[str, Any], year: int) -> Traits:
    """The coarse attributes of an identity as told in `year`: said outright, else read off the number of citizens.

    Kazakhstan's IIN begins with the date of birth; its seventh digit is the century and the sex (odd: male).
    """
    sex, born = UNKNOWN, None
    iin = re.sub(r"\D", "", str(identity.get("iin") or ""))
    if len(iin) == 12 and (mark := int(iin[6])) in _CENTURIES:
        sex, born = ("male" if mark % 2 else "female"), _CENTURIES[mark] + int(iin[:2])
    said = _SEX_WORDS.get(str(identity.get("sex") or "").strip().lower().rstrip("."))
    found = re.match(r"\s*(\d{4})", str(identity.get("birth_year") or identity.get("birth_date") or ""))
    region = identity.get("region")
    return Traits(
        said or sex,
        age_band(year - int(found[1]) if found else None if born is None else year - born),
        str(region)[:REGION_CHARS] if isinstance(region, str) and region.strip() else None,
    )


def age_band(years: int | None) -> str:
    """The band an age falls into; ages nobody has are unknown."""
    if years is None or not 0 <= years <= 120:
        return UNKNOWN
    return next(name for least, name in reversed(AGE_BANDS) if years >= least)
