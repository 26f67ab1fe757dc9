"""The report's pictures as SVG: a map without tiles, and what was measured over time. Values in, text out.

Colours differ in lightness as well as in hue, and lines in their strokes, so that a grey print still tells them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from xml.sax.saxutils import escape
from zoneinfo import ZoneInfo

from core.clock import from_ms
from core.domain.evidence import EARTH_M, Fix, within
from core.evidence import tracks
from core.evidence.view import View

HIS: Final = "#9b2226"
HERS: Final = "#1d4e89"
INK: Final = "#222222"
FAINT: Final = "#8a8a8a"
STATE: Final = {"clear": "#e3e6e8", "warning": "#f0c75e", "breach": "#c8553d"}
FONT: Final = "Libertinus Serif"
MAP: Final = (680.0, 560.0)
CHART_WIDTH: Final = 680.0
AROUND_MS: Final = 4 * 60_000
"""How much before and after a breach the map takes into its frame."""
LABELS_MAX: Final = 7
LEFT: Final = 62.0
RIGHT: Final = 14.0

Point = tuple[float, float]
Words = dict[str, Any]


class Canvas:
    """SVG as it is drawn."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        """Raw SVG."""
        self._parts.append(text)

    def line(self, points: Iterable[Point], colour: str, width: float = 1.0, **more: str) -> None:
        """A line through points."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add(
            f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="{width}"'
            f' stroke-linejoin="round" stroke-linecap="round"{_attributes(more)}/>'
        )

    def area(self, points: Iterable[Point], fill: str, **more: str) -> None:
        """A filled polygon."""
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add(f'<polygon points="{joined}" fill="{fill}"{_attributes(more)}/>')

    def box(self, x: float, y: float, width: float, height: float, fill: str, **more: str) -> None:
        """A rectangle."""
        self.add(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}" fill="{fill}"'
            f"{_attributes(more)}/>"
        )

    def dot(self, at: Point, radius: float, fill: str, **more: str) -> None:
        """A disc."""
        self.add(f'<circle cx="{at[0]:.1f}" cy="{at[1]:.1f}" r="{radius:.1f}" fill="{fill}"{_attributes(more)}/>')

    def text(self, at: Point, words: str, size: float = 11.0, anchor: str = "start", colour: str = INK) -> None:
        """Words, on a halo of white."""
        for halo in ('stroke="white" stroke-width="3" stroke-linejoin="round" ', ""):
            self.add(
                f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" font-family="{FONT}" font-size="{size}" text-anchor="{anchor}"'
                f' {halo}fill="{"white" if halo else colour}">{escape(words)}</text>'
            )

    def done(self) -> str:
        """The whole picture."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}"'
            f' width="{self.width:g}" height="{self.height:g}">'
            '<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse"'
            ' patternTransform="rotate(45)">'
            f'<rect width="7" height="7" fill="#f4efe2"/><line x1="0" y1="0" x2="0" y2="7" stroke="{FAINT}"'
            ' stroke-width="1.6"/></pattern><clipPath id="frame">'
            f'<rect x="0.5" y="0.5" width="{self.width - 1:g}" height="{self.height - 1:g}"/></clipPath></defs>'
            + "".join(self._parts)
            + "</svg>"
        )


def _attributes(more: dict[str, str]) -> str:
    return "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())


# The map --------------------------------------------------------------------------------------------------


def map_of(view: View, zone_name: str, words: Words) -> str | None:
    """Both tracks about the breach, radii at the entries, zones; None when no position is known."""
    chosen = _framed(view)
    placed = [fix for fix in chosen if fix.lat is not None and fix.lon is not None]
    rings = [feature["geometry"]["coordinates"][0] for feature in tracks.radii(view)]
    corners = [(fix.lat or 0.0, fix.lon or 0.0) for fix in placed] + [(p[1], p[0]) for ring in rings for p in ring]
    if not corners:
        return None
    canvas = Canvas(*MAP)
    project, scale = _projection(corners)
    canvas.box(0.5, 0.5, MAP[0] - 1, MAP[1] - 1, "#fbfaf7", stroke=FAINT)
    canvas.add('<g clip-path="url(#frame)">')
    for zone in view.data["zones"]:
        _zone(canvas, project, scale, zone)
    for feature in tracks.radii(view):
        ring = [project(lat, lon) for lon, lat in feature["geometry"]["coordinates"][0]]
        legal = feature["properties"]["radius"] == "legal_m"
        canvas.area(
            ring, STATE["breach"], fill_opacity="0.05", stroke=STATE["breach"],
            stroke_width="1.3" if legal else "1", stroke_dasharray="2 3" if legal else "9 4",
        )  # fmt: skip
    for fixes, colour, square in ((view.hers, HERS, True), (view.his, HIS, False)):
        _track(canvas, project, [fix for fix in fixes if fix.lat is not None], colour, square)
    for fixes, colour in ((_framed_of(view, view.hers), HERS), (_framed_of(view, view.his), HIS)):
        _times(canvas, project, fixes, colour, zone_name)
    for entry in tracks.entries(view):
        _entry(canvas, project, scale, entry, words)
    canvas.add("</g>")
    _scale_bar(canvas, scale, words)
    _north(canvas, words)
    return canvas.done()


def _framed(view: View) -> list[Fix]:
    """The fixes that the map's frame is drawn around."""
    return [*_framed_of(view, view.his), *_framed_of(view, view.hers)]


def _framed_of(view: View, fixes: Sequence[Fix]) -> list[Fix]:
    spans = [(since - AROUND_MS, until + AROUND_MS) for since, until in view.breaches]
    return [fix for fix in fixes if not spans or within(fix.live_ms, spans)]


def _projection(corners: Sequence[Point]) -> tuple[Callable[[float, float], Point], float]:
    """(degrees → picture, units a metre): north is up, and a metre is as long in every direction."""
    lats, lons = [c[0] for c in corners], [c[1] for c in corners]
    lat0, lon0 = (min(lats) + max(lats)) / 2, (min(lons) + max(lons)) / 2
    across = EARTH_M * math.radians(max(lons) - min(lons)) * math.cos(math.radians(lat0))
    up = EARTH_M * math.radians(max(lats) - min(lats))
    scale = min((MAP[0] - 70) / max(across, 60.0), (MAP[1] - 70) / max(up, 60.0))

    def project(lat: float, lon: float) -> Point:
        east = EARTH_M * math.radians(lon - lon0) * math.cos(math.radians(lat0))
        return MAP[0] / 2 + east * scale, MAP[1] / 2 - EARTH_M * math.radians(lat - lat0) * scale

    return project, scale


def _zone(canvas: Canvas, project: Callable[[float, float], Point], scale: float, zone: Words) -> None:
    geometry, radius = zone["geometry"], float(zone.get("radius_m") or 0)
    style = {"stroke": INK, "stroke_width": "0.9", "fill_opacity": "0.8"}
    if geometry["type"] == "Point":
        lon, lat = geometry["coordinates"][:2]
        canvas.dot(project(lat, lon), radius * scale, "url(#hatch)", **style)
    elif geometry["type"] == "LineString":
        points = [project(lat, lon) for lon, lat, *_ in geometry["coordinates"]]
        canvas.line(points, FAINT, max(1.5, 2 * radius * scale), stroke_opacity="0.35")
    else:
        shapes = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
        for shape in shapes:
            canvas.area([project(lat, lon) for lon, lat, *_ in shape[0]], "url(#hatch)", **style)


def _track(
    canvas: Canvas, project: Callable[[float, float], Point], fixes: Sequence[Fix], colour: str, square: bool
) -> None:
    last: Point | None = None
    for part in tracks.stretches(fixes):
        points = [project(fix.lat or 0.0, fix.lon or 0.0) for fix in part]
        if last is not None:
            canvas.line([last, points[0]], colour, 1.0, stroke_dasharray="1 5")
        canvas.line(points, colour, 2.4 if not square else 1.8, stroke_opacity="0.85")
        for x, y in points:
            if square:
                canvas.box(x - 2, y - 2, 4, 4, "white", stroke=colour, stroke_width="1")
            else:
                canvas.dot((x, y), 2.0, colour)
        last = points[-1]


def _times(
    canvas: Canvas, project: Callable[[float, float], Point], fixes: Sequence[Fix], colour: str, zone_name: str
) -> None:
    """Civil times along a track, not on top of each other."""
    taken: list[Point] = []
    for fix in fixes[:: max(1, len(fixes) // (LABELS_MAX * 3))]:
        if fix.lat is None or fix.lon is None or len(taken) >= LABELS_MAX:
            continue
        x, y = project(fix.lat, fix.lon)
        if not (20 < x < MAP[0] - 60 and 20 < y < MAP[1] - 12):
            continue
        if all(math.hypot(x - a, y - b) > 52 for a, b in taken):
            taken.append((x, y))
            beside = (x + 9, y + 4) if colour == HIS else (x - 6, y - 9)
            canvas.text(beside, clock(fix.live_ms, zone_name), 10, "start" if colour == HIS else "end", colour)


def _entry(canvas: Canvas, project: Callable[[float, float], Point], scale: float, entry: Words, words: Words) -> None:
    """Where both were taken to be when he entered, how exactly, and how far apart."""
    his, hers = entry.get("aggressor_position"), entry.get("victim_position")
    if his is None or hers is None:
        return
    a, b = project(his["lat"], his["lon"]), project(hers["lat"], hers["lon"])
    canvas.line([a, b], INK, 1.2, stroke_dasharray="5 3")
    for at, colour in ((a, HIS), (b, HERS)):
        canvas.dot(at, 5.5, "none", stroke=colour, stroke_width="2")
    for at, colour, said in ((a, HIS, his), (b, HERS, hers)):
        reach = float(said.get("accuracy_m") or 0) * scale
        if reach > 8:
            canvas.dot(at, reach, colour, fill_opacity="0.08", stroke=colour, stroke_width="0.8")
    if entry.get("distance_m") is not None:
        told = words["metres"].format(m=f"{entry['distance_m']:.0f}")
        canvas.text(((a[0] + b[0]) / 2 + 8, (a[1] + b[1]) / 2), told, 11.5)


def _scale_bar(canvas: Canvas, scale: float, words: Words) -> None:
    metres = max((m for m in (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000) if m * scale <= 190), default=20)
    x, y, length = 18.0, MAP[1] - 18, metres * scale
    canvas.box(x - 8, y - 24, length + 60, 34, "white", fill_opacity="0.85")
    canvas.box(x, y - 5, length / 2, 5, INK)
    canvas.box(x + length / 2, y - 5, length / 2, 5, "white", stroke=INK, stroke_width="0.8")
    canvas.text((x, y - 10), "0", 10, "middle")
    canvas.text((x + length, y - 10), words["metres"].format(m=f"{metres:g}"), 10, "middle")


def _north(canvas: Canvas, words: Words) -> None:
    x, y = MAP[0] - 30, 30.0
    canvas.area([(x, y - 16), (x - 7, y + 10), (x, y + 4), (x + 7, y + 10)], INK)
    canvas.text((x, y + 25), words["north"], 12, "middle")


# Over time ------------------------------------------------------------------------------------------------


def charts_of(view: View, zone_name: str, until_ms: int, words: Words) -> str:
    """Distance with radii and its uncertainty, the states, accuracies, silences; on one axis of civil time."""
    since = view.window.since_ms
    canvas = Canvas(CHART_WIDTH, 560)

    def x_of(ms: float) -> float:
        return LEFT + (CHART_WIDTH - LEFT - RIGHT) * (ms - since) / max(1, until_ms - since)

    _distance(canvas, view, x_of, (24.0, 214.0), words)
    _states(canvas, view, x_of, (258.0, 276.0), until_ms, words)
    _accuracy(canvas, view, x_of, (318.0, 428.0), words)
    _silences(canvas, view, x_of, 466.0, until_ms, words)
    for top, bottom in ((24.0, 214.0), (258.0, 276.0), (318.0, 428.0), (466.0, 514.0)):
        canvas.box(LEFT, top, CHART_WIDTH - LEFT - RIGHT, bottom - top, "none", stroke=FAINT, stroke_width="0.7")
    for ms in time_marks(since, until_ms):
        x = x_of(ms)
        for top, bottom in ((24.0, 214.0), (318.0, 428.0)):
            canvas.line([(x, top), (x, bottom)], FAINT, 0.4, stroke_dasharray="1 4")
        canvas.line([(x, 514), (x, 518)], INK, 0.8)
        canvas.text((x, 531), clock(ms, zone_name), 10.5, "middle")
    canvas.text((LEFT + (CHART_WIDTH - LEFT - RIGHT) / 2, 550), words["axis_time"].format(zone=zone_name), 11, "middle")
    return canvas.done()


def _distance(canvas: Canvas, view: View, x_of: Callable[[float], float], span: Point, words: Words) -> None:
    top, bottom = span
    order = view.data["orders"][0] if view.data["orders"] else {}
    radii = [(name, float(order.get(name) or 0)) for name in ("warning_m", "alert_m", "legal_m")]
    alert = dict(radii)["alert_m"] or 500.0
    most = max([each.distance_m for each in view.apart], default=alert)
    limit = max(1.25 * alert, min(1.1 * most, 2.2 * max(alert, dict(radii)["warning_m"])))

    def y_of(metres: float) -> float:
        return bottom - (bottom - top) * min(max(metres, 0.0), limit) / limit

    canvas.text((LEFT, top - 9), words["chart_distance"], 12)
    for part in _parts(view):
        upper = [(x_of(each.ms), y_of(each.distance_m + 2 * each.sigma_m)) for each in part]
        lower = [(x_of(each.ms), y_of(each.distance_m - 2 * each.sigma_m)) for each in part]
        canvas.area([*upper, *reversed(lower)], HERS, fill_opacity="0.18")
        canvas.line([(x_of(each.ms), y_of(each.distance_m)) for each in part], HERS, 1.4)
    dashes = {"warning_m": "1 4", "alert_m": "9 4", "legal_m": "3 3"}
    for name, metres in radii:
        if 0 < metres <= limit:
            y = y_of(metres)
            canvas.line([(LEFT, y), (CHART_WIDTH - RIGHT, y)], STATE["breach"], 1.1, stroke_dasharray=dashes[name])
    for name, metres in radii:
        if 0 < metres <= limit:
            label = f"{words['radius'][name]} {metres:g}"
            canvas.text((CHART_WIDTH - RIGHT - 4, y_of(metres) - 4), label, 10, "end", STATE["breach"])
    for metres in _ticks(limit):
        canvas.text((LEFT - 6, y_of(metres) + 4), f"{metres:g}", 10, "end")
        canvas.line([(LEFT - 3, y_of(metres)), (LEFT, y_of(metres))], INK, 0.8)


def _parts(view: View) -> list[list[Any]]:
    out: list[list[Any]] = []
    for each in view.apart:
        if not out or each.ms - out[-1][-1].ms > 120_000:
            out.append([])
        out[-1].append(each)
    return out


def _states(
    canvas: Canvas, view: View, x_of: Callable[[float], float], span: Point, until_ms: int, words: Words
) -> None:
    top, bottom = span
    canvas.text((LEFT, top - 9), words["chart_states"], 12)
    for each in view.stays:
        a, b = x_of(each.from_ms), x_of(min(each.to_ms, until_ms))
        canvas.box(a, top, b - a, bottom - top, STATE[each.state])
        name = words["state"][each.state]
        if b - a > 7.5 * len(name):
            canvas.text(((a + b) / 2, bottom - 5), name, 10.5, "middle")


def _accuracy(canvas: Canvas, view: View, x_of: Callable[[float], float], span: Point, words: Words) -> None:
    top, bottom = span

    def y_of(metres: float) -> float:
        return bottom - (bottom - top) * min(1.0, max(0.0, math.log10(max(metres, 1.0)) / 3))

    canvas.text((LEFT, top - 9), words["chart_accuracy"], 12)
    for fixes, colour, square in ((view.hers, HERS, True), (view.his, HIS, False)):
        for fix in fixes:
            if fix.lat is not None:
                at = (x_of(fix.live_ms), y_of(fix.radius_m))
                if square:
                    canvas.box(at[0] - 1.6, at[1] - 1.6, 3.2, 3.2, "none", stroke=colour, stroke_width="0.7")
                else:
                    canvas.dot(at, 1.5, colour)
    for metres in (1, 10, 100, 1000):
        canvas.text((LEFT - 6, y_of(metres) + 4), f"{metres:g}", 10, "end")
        canvas.line([(LEFT - 3, y_of(metres)), (LEFT, y_of(metres))], INK, 0.8)


def _silences(
    canvas: Canvas, view: View, x_of: Callable[[float], float], top: float, until_ms: int, words: Words
) -> None:
    canvas.text((LEFT, top - 9), words["chart_silences"], 12)
    for row, (party, colour) in enumerate((("aggressor", HIS), ("victim", HERS))):
        y = top + 24 * row
        for a, b in view.gaps.get(party, ()):
            left, right = x_of(max(a, view.window.since_ms)), x_of(min(b, until_ms))
            canvas.box(left, y + 4, right - left, 16, "url(#hatch)", stroke=colour, stroke_width="1")
        canvas.text((LEFT - 6, y + 16), words["party_short"][party], 10, "end", colour)


def _ticks(limit: float) -> list[float]:
    step = next(s for s in (50, 100, 200, 250, 500, 1_000, 2_000, 5_000, 10_000, 50_000, 1e9) if limit / s <= 6)
    return [step * k for k in range(int(limit / step) + 1)]


def time_marks(since_ms: int, until_ms: int) -> list[int]:
    """Round moments between two, at most nine."""
    minutes = next(
        m for m in (5, 10, 15, 20, 30, 60, 120, 360, 1_440, 1 << 30) if (until_ms - since_ms) / m / 60_000 <= 9
    )
    step = minutes * 60_000
    return list(range(-(-since_ms // step) * step, until_ms, step))


def clock(ms: int, zone_name: str) -> str:
    """Hours and minutes of a moment in a civil time zone."""
    return f"{in_zone(ms, zone_name):%H:%M}"


def in_zone(ms: int, zone_name: str) -> datetime:
    """A moment in a civil time zone; in UTC when there is no such zone."""
    try:
        return from_ms(ms).astimezone(ZoneInfo(zone_name))
    except (KeyError, ValueError, OSError):
        return from_ms(ms).astimezone(UTC)


def offset(moment: datetime) -> str:
    """How a moment's zone differs from UTC, as in UTC+5."""
    minutes = round((moment.utcoffset() or timedelta()).total_seconds() / 60)
    sign = "+" if minutes >= 0 else "−"
    hours, rest = divmod(abs(minutes), 60)
    return f"UTC{sign}{hours}" + (f":{rest:02}" if rest else "")
