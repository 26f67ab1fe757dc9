"""On what law an order stands: a catalogue of known grounds with their usual issuer, term and restraints.

A ground that is not here is entered in free words; nothing of it is refused. A known ground fills in what the order
does not say and refuses a term that the law does not know. Laws change: `docs/orders.md` says how an entry is checked
and added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from core.domain.order import Term, read_term
from core.errors import InvalidInput

RESTRAINTS: Final[dict[str, str]] = {
    "no_contact": "not to contact her, by any means",
    "no_approach": "not to come near her",
    "no_search": "not to look for her or follow her",
    "no_visit": "not to visit her or the places she is at",
    "no_residence": "not to live with her",
    "leave_home": "to leave the home they share",
    "no_weapons": "not to buy, keep, bear or use weapons",
    "no_alcohol": "not to drink alcohol or take drugs",
    "treatment": "to take part in a correction or treatment programme",
    "report": "to report to the police",
    "wear_device": "to wear a tracking device",
}
"""Code → meaning. An order may name others in its own words."""


class LegalGround(NamedTuple):
    """A ground the catalogue knows."""

    code: str
    country: str
    """ISO 3166-1 alpha-2."""
    title: dict[str, str]
    law: str
    issuer: str
    term: Term | None
    """The usual term; None: the decision says."""
    shortest: tuple[int, str] | None
    longest: tuple[int, str] | None
    """Bounds of the term (length, unit), both inclusive."""
    restraints: tuple[str, ...]


GROUNDS: Final = (
    LegalGround(
        "kz.protective_order",
        "KZ",
        {"kk": "Қорғау нұсқамасы", "ru": "Защитное предписание", "en": "Protective order of the police"},
        "Law of 4 December 2009 No. 214-IV on the prevention of domestic violence, article 20",
        "internal affairs body",
        Term(30, "day", "service", "same_time"),
        (1, "day"),
        (30, "day"),
        ("no_contact", "no_search", "no_visit", "no_approach"),
    ),
    LegalGround(
        "kz.special_requirements",
        "KZ",
        {
            "kk": "Құқық бұзушының мінез-құлқына қойылатын ерекше талаптар",
            "ru": "Особые требования к поведению правонарушителя",
            "en": "Special requirements on the offender's conduct",
        },
        "Code on Administrative Offences of 5 July 2014, article 54; Law No. 214-IV, article 22",
        "court",
        None,
        (3, "month"),
        (12, "month"),
        ("no_contact", "no_search", "no_visit", "no_weapons", "no_alcohol"),
    ),
    LegalGround(
        "kz.residence_ban",
        "KZ",
        {
            "kk": "Жәбірленушімен бірге тұруға тыйым салу",
            "ru": "Запрет проживать с потерпевшим",
            "en": "Ban on living with the victim",
        },
        "Code on Administrative Offences of 5 July 2014, article 54, as a special requirement by the court",
        "court",
        Term(30, "day", "service", "day_end"),
        (1, "day"),
        (30, "day"),
        ("no_residence", "leave_home"),
    ),
    LegalGround(
        "kz.contact_ban",
        "KZ",
        {
            "kk": "Байланыс жасауға тыйым салу",
            "ru": "Запрет на контакты",
            "en": "Ban on contact",
        },
        "Code on Administrative Offences of 5 July 2014, article 54; Criminal Procedure Code, article 165",
        "court",
        None,
        None,
        (12, "month"),
        ("no_contact", "no_search"),
    ),
    LegalGround(
        "kz.approach_ban",
        "KZ",
        {
            "kk": "Жақындауға тыйым салу",
            "ru": "Запрет на приближение",
            "en": "Ban on approach",
        },
        "Criminal Procedure Code of 4 July 2014, article 165",
        "court",
        None,
        None,
        (12, "month"),
        ("no_approach", "no_visit", "no_search"),
    ),
)
BY_CODE: Final = {ground.code: ground for ground in GROUNDS}

_DAYS: Final = {"day": 1.0, "month": 30.44, "year": 365.25}
"""For comparing terms of different units only."""


def fill_in(row: dict[str, Any]) -> dict[str, Any]:
    """The order's values with what its ground says where it says nothing; raises InvalidInput for a term out of law.

    What the order itself says always stands: restraints named are kept, an end named is no term's.
    """
    ground = BY_CODE.get(row.get("legal_ground") or "")
    if ground is None:
        return row
    row.setdefault("issuer", ground.issuer)
    if not row.get("restraints"):
        row["restraints"] = list(ground.restraints)
    if ground.term is not None and row.get("valid_until") is None:
        row.setdefault("term", msgspec.to_builtins(ground.term))
    check_term(row)
    return row


def check_term(row: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a term that the order's ground does not know."""
    ground = BY_CODE.get(row.get("legal_ground") or "")
    if ground is None or not row.get("term"):
        return
    term = read_term(row["term"])
    days = term.length * _DAYS[term.unit]
    if (ground.shortest and days < ground.shortest[0] * _DAYS[ground.shortest[1]]) or (
        ground.longest and days > ground.longest[0] * _DAYS[ground.longest[1]]
    ):
        least = f"{ground.shortest[0]} {ground.shortest[1]}(s)" if ground.shortest else "none"
        most = f"{ground.longest[0]} {ground.longest[1]}(s)" if ground.longest else "none"
        raise InvalidInput(
            f"{ground.code} holds for {least} to {most}; enter another term, or the ground in your own words.",
            code="order_dates_invalid",
        )


def ground_json(ground: LegalGround) -> dict[str, Any]:
    """A ground as the catalogue shows it."""
    return {
        **ground._asdict(),
        "term": msgspec.to_builtins(ground.term),
        "shortest": None if ground.shortest is None else {"length": ground.shortest[0], "unit": ground.shortest[1]},
        "longest": None if ground.longest is None else {"length": ground.longest[0], "unit": ground.longest[1]},
    }
