"""The figures as sheets and pictures: CSV for spreadsheets, SVG for print. What is suppressed is an empty cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

WIDTH: Final = 720
ROW: Final = 26
LEFT: Final = 220
BAR: Final = "#4a6fa5"
HIDDEN: Final = "#b9b9b9"
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take for a formula."""


def _sheet(rows: Iterable[Sequence[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    for row in rows:
        writer.writerow([_cell(cell) for cell in row])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return "" if value is None else value


def long_csv(report: Mapping[str, Any]) -> str:
    """Every count, a line each: measure, dimension, value, count."""
    rows: list[Sequence[Any]] = [("measure", "dimension", "value", "count")]
    for name, measure in report["measures"].items():
        rows.append((name, "total", "", measure["total"]))
        rows += [(name, by, value, count) for by, table in measure["by"].items() for value, count in table.items()]
    rows += [("funnel", "step", step, count) for step, count in report["funnel"].items()]
    return _sheet(rows)


def ministry_csv(report: Mapping[str, Any]) -> str:
    """The table that the ministry prints: calls, orders issued, persons held liable, by region; last all together."""
    rows: list[Sequence[Any]] = [("region", "calls", "orders_issued", "held_liable")]
    rows += [
        (line["region"] or "total", line["calls"], line["orders"], line["held_liable"]) for line in report["ministry"]
    ]
    return _sheet(rows)


def times_csv(report: Mapping[str, Any]) -> str:
    """Response times and unprotected gaps: medians and ninetieth percentiles in seconds; region empty: all."""
    rows: list[Sequence[Any]] = [("what", "region", "median_s", "p90_s")]
    rows += [(row["step"], row["region"], row["median_s"], row["p90_s"]) for row in report["response_times"]]
    rows += [("unprotected_gap", row["region"], row["median_s"], row["p90_s"]) for row in report["unprotected_gaps"]]
    return _sheet(rows)


def bars_svg(title: str, counts: Mapping[str, int | None]) -> str:
    """Counts as bars; a suppressed one is a short grey bar with a dash."""
    most = max((count for count in counts.values() if count is not None), default=0) or 1
    height = ROW * len(counts) + 56
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
            f' font-family="sans-serif" font-size="13" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
        ),
        f'<text x="12" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for number, (name, count) in enumerate(counts.items()):
        top = 40 + number * ROW
        fill = HIDDEN if count is None else BAR
        length = 14.0 if count is None else (WIDTH - LEFT - 80) * count / most
        parts += [
            f'<text x="{LEFT - 10}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{top}" width="{length:.1f}" height="{ROW - 8}" fill="{fill}"/>',
            f'<text x="{LEFT + length + 6:.1f}" y="{top + 14}">{"–" if count is None else f"{count:,}"}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def files(report: Mapping[str, Any]) -> dict[str, str]:
    """File name → text of every sheet and picture of a report."""
    measures = report["measures"]
    return {
        "ministry.csv": ministry_csv(report),
        "counts.csv": long_csv(report),
        "times.csv": times_csv(report),
        "funnel.svg": bars_svg("From a call to what came of it", report["funnel"]),
        "calls-by-region.svg": bars_svg("Calls by region", measures["calls"]["by"]["region"]),
        "calls-by-violence.svg": bars_svg("Calls by kind of violence", measures["calls"]["by"]["violence"]),
        "orders-by-month.svg": bars_svg("Orders issued by month", measures["orders"]["by"]["month"]),
        "breaches-by-month.svg": bars_svg("Breaches by month", measures["breaches"]["by"]["month"]),
    }
