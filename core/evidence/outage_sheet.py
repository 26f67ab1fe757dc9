"""The outage sheet as paper: told in a language, set by Typst into a PDF, or as plain text."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast
from zoneinfo import ZoneInfo

import msgspec

from core.domain.outage_sheet import SheetPair, by_district
from core.evidence.outage_words import WORDS

TEMPLATE: Final = Path(__file__).parent / "outage_sheet.typ"


class Sheet(msgspec.Struct, frozen=True):
    """What an agency's sheet says."""

    agency_id: uuid.UUID
    agency: str
    time_zone: str
    made_at: datetime
    pairs: list[SheetPair]
    """The riskiest first."""
    unlisted: int = 0
    duty: list[tuple[str, str, str]] = []
    """(name, role, telephone)"""
    units: list[tuple[str, str]] = []
    """(callsign, status)"""
    copy: bool = False
    """Whether it was kept from before the database went away."""


def content(sheet: Sheet, language: str) -> dict[str, Any]:
    """Everything the sheet says, in words."""
    words = WORDS[language]
    zone = ZoneInfo(sheet.time_zone)

    def at(moment: datetime | None) -> str:
        return moment.astimezone(zone).strftime("%d.%m %H:%M") if moment is not None else words["unknown"]

    def distance(metres: float) -> str:
        if metres < 1000:
            return words["metres"].format(n=round(metres / 10) * 10)
        return words["kilometres"].format(n=f"{metres / 1000:.1f}")

    def last(pair: SheetPair) -> list[str]:
        seconds = pair.reaches_in_s(sheet.made_at)
        if pair.distance_m is None or seconds is None:
            reach = words["never"]
        else:
            how = words["now"] if seconds == 0 else words["in"].format(minutes=max(1, round(seconds / 60)))
            reach = f"{distance(pair.distance_m)}, {at(pair.known_at)}; {how}"
        seen = words["seen"].format(her=at(pair.her_seen_at), him=at(pair.his_seen_at))
        return [" · ".join(part for part in (words[pair.state], words[pair.risk]) if part), reach, seen]

    def row(pair: SheetPair) -> dict[str, Any]:
        secret = words["sealed"] if pair.sealed else ""
        return {
            "state": pair.state,
            "reference": pair.reference,
            "her": secret or pair.her,
            "reach": "" if pair.sealed else pair.reach,
            "him": "" if pair.sealed else pair.him,
            "last": last(pair),
        }

    made = words["copy" if sheet.copy else "made"].format(at=sheet.made_at.astimezone(zone).strftime("%d.%m.%Y %H:%M"))
    return {
        "language": language,
        "words": words,
        "agency": sheet.agency,
        "made": made,
        "duty": [[name, words.get(role, role), phone] for name, role, phone in sheet.duty],
        "units": [[callsign, words.get(status, status)] for callsign, status in sheet.units],
        "districts": [
            {
                "name": words["district"].format(name=name) if name else words["no_district"],
                "rows": [row(pair) for pair in pairs],
            }
            for name, pairs in by_district(sheet.pairs)
        ],
        "more": words["more"].format(n=sheet.unlisted) if sheet.unlisted else "",
    }


def as_pdf(sheet: Sheet, language: str) -> bytes:
    """The sheet as a PDF (A4, across), with Typst's own fonts."""
    return _typeset(sheet, language, "pdf")[0]


def as_pictures(sheet: Sheet, language: str) -> list[bytes]:
    """The sheet as a picture a page."""
    return _typeset(sheet, language, "png")


def _typeset(sheet: Sheet, language: str, form: Any) -> list[bytes]:
    import typst

    parts = {
        "main": TEMPLATE.read_bytes(),
        "content.json": json.dumps(content(sheet, language), ensure_ascii=False).encode(),
    }
    made = int(sheet.made_at.timestamp())
    pages: Any = typst.compile(cast("Any", parts), format=form, ppi=90, ignore_system_fonts=True, timestamp=made)
    return pages if isinstance(pages, list) else [pages]


def as_text(sheet: Sheet, language: str) -> str:
    """The sheet as plain text, for a printer that knows nothing else."""
    said = content(sheet, language)
    words: dict[str, str] = said["words"]
    lines = [f"{words['title']} · {said['agency']}", said["made"], words["secret"], "", words["rule"], ""]
    for name, rows in (("duty", said["duty"]), ("units", said["units"])):
        lines += [f"== {words[name]}", *("   ".join(row) for row in rows), *([] if rows else [words["none"]]), ""]
    for district in said["districts"]:
        lines += [f"== {district['name']}", ""]
        for number, row in enumerate(district["rows"], 1):
            lines += [
                f"[ ] {number}. {row['last'][0]} · {row['last'][1]}",
                f"    {words['reference']}: {row['reference']}",
                f"    {words['her']}: {row['her']}  ({row['reach']})",
                f"    {words['him']}: {row['him']}",
                f"    {row['last'][2]}",
                "",
            ]
    return "\n".join([*lines, said["more"]]).rstrip() + "\n"
