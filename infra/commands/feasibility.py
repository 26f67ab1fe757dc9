"""`qorgan feasibility`: whether proposed radii can be kept by two ordinary lives, before a judge signs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final
from xml.sax.saxutils import escape

import typer

from core.errors import InvalidInput, Misconfigured
from infra.terminal import out

BAR_CELLS: Final = 40
ON_THE_WAY: Final = "on the way"
SHADES: Final = " ░▒▓█"
DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
REASONS: Final = {
    "smaller_radius": "a smaller radius, or ordinary life alone raises too many alerts",
    "no_radius_bearable": "no radius is borne by these two lives: hours or places have to change, not the radius",
    "places_too_near": "some places are too near to each other for a zone; who gives way, and when, is for the court",
}


def feasibility(
    file: Annotated[Path, typer.Option(help="The plan: places, weekly hours and radii (JSON).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole study as JSON.")] = False,
    svg: Annotated[Path | None, typer.Option(help="File that gets the chart of radii.")] = None,
) -> None:
    """Say how many alerts a week proposed radii would raise, where two lives touch, and what would do instead."""
    from geo.feasibility import read_plan, study

    try:
        values = json.loads(file.read_text())
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise InvalidInput(f"{file} is no JSON.") from None
    if not isinstance(values, dict):
        raise InvalidInput(f"{file} is no plan: it has to be an object.")
    found = study(read_plan(values))
    if svg is not None:
        try:
            svg.write_text(chart(found))
        except OSError as error:
            raise Misconfigured(f"{svg} cannot be written: {error.strerror}.") from None
    if as_json:
        sys.stdout.write(json.dumps(found, ensure_ascii=False) + "\n")
    else:
        out().print(report(found), markup=False, highlight=False)


def report(found: dict[str, Any]) -> str:
    """The study as a page of text."""
    proposed, advice = found["proposed"], found["advice"]
    lines = [
        f"Proposed: alert at {proposed['alert_m']:,.0f} m, legal distance {proposed['legal_m']:,.0f} m",
        (
            f"  {proposed['alerts_a_week']:g} alerts a week from ordinary life ({proposed['alerts_p10']:g} to "
            f"{proposed['alerts_p90']:g}), {proposed['minutes_a_week']:,.0f} minutes a week within it"
        ),
        "",
        "Alerts a week by radius",
        *bars(found),
        "",
        "When (alerts by weekday and hour)",
        *heat(found["hours"]),
    ]
    lines += _section(
        "Where they come from",
        [
            f"{one['alerts_a_week']:6.2f} a week  she: {one['victim'] or ON_THE_WAY}, "
            f"he: {one['aggressor'] or ON_THE_WAY}"
            for one in found["meetings"][:10]
        ],
    )
    lines += _section(
        "Places nearer than the alert radius",
        [
            f"{one['gap_m']:7,.0f} m  her {one['victim']}, his {one['aggressor']}: "
            f"{one['shared_hours_a_week']:g} hours a week at the same time"
            + (", within the legal distance" if one["within_legal"] else "")
            for one in found["overlaps"]
        ],
    )
    lines += _section(
        "His ways past her places",
        [
            f"{one['gap_m']:7,.0f} m  from {one['from']} to {one['to']} past her {one['passes']}, "
            f"{one['times_a_week']} times a week"
            for one in found["routes"]
        ],
    )
    lines += [
        "",
        f"Advice: alert at {advice['alert_m']:,.0f} m, warning at {advice['warning_m']:,.0f} m",
        *(f"  {REASONS[reason]}" for reason in advice["reasons"]),
        *(
            f"  zone about her {zone['properties']['name']}: {zone['properties']['radius_m']:,.0f} m"
            + (", at its hours" if zone["properties"]["schedule"] else ", always")
            for zone in advice["zones"]
        ),
        *(
            f"  no zone about her {one['victim']}: his {one['aggressor']} is {one['gap_m']:,.0f} m away"
            for one in advice["too_near"]
        ),
        "",
        f"Assumed, over {found['weeks']} weeks: " + "; ".join(found["assumptions"]) + ".",
    ]
    return "\n".join(lines)


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def bars(found: dict[str, Any]) -> list[str]:
    """A bar for each radius, as long as its alerts; the proposed one is marked."""
    most = max((line["alerts_a_week"] for line in found["radii"]), default=0) or 1
    lines = []
    for line in found["radii"]:
        cells = round(BAR_CELLS * line["alerts_a_week"] / most)
        mark = "►" if line["radius_m"] == found["proposed"]["alert_m"] else " "
        lines.append(f" {mark}{line['radius_m']:6,.0f} m {'█' * cells}{'' if cells else '·'} {line['alerts_a_week']:g}")
    return lines


def heat(hours: list[list[float]]) -> list[str]:
    """Weekdays by hours, darker where more alerts come."""
    most = max((cell for row in hours for cell in row), default=0)
    lines = ["      0     6     12    18"]
    for day, row in zip(DAYS, hours, strict=True):
        cells = "".join(SHADES[0 if not cell else 1 + min(3, int(4 * cell / most))] for cell in row)
        lines.append(f"  {day} {cells}│")
    return lines


def chart(found: dict[str, Any]) -> str:
    """The radii and their alerts as SVG."""
    width, row, left = 640, 26, 90
    most = max((line["alerts_a_week"] for line in found["radii"]), default=0) or 1
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{row * len(found["radii"]) + 40}"'
            ' font-family="sans-serif" font-size="13" role="img" aria-label="Alerts a week by radius">'
        ),
        f'<text x="{left}" y="20" font-weight="bold">{escape("Alerts a week by radius")}</text>',
    ]
    for number, line in enumerate(found["radii"]):
        top = 32 + number * row
        length = (width - left - 60) * line["alerts_a_week"] / most
        colour = "#b3261e" if line["radius_m"] == found["proposed"]["alert_m"] else "#4a6fa5"
        parts += [
            f'<text x="{left - 8}" y="{top + 14}" text-anchor="end">{line["radius_m"]:,.0f} m</text>',
            f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{row - 8}" fill="{colour}"/>',
            f'<text x="{left + length + 6:.1f}" y="{top + 14}">{line["alerts_a_week"]:g}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"
