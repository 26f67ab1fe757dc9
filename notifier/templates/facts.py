"""What stands for a placeholder: a fact of the delivery, in the words, numbers and times of its reader."""

from __future__ import annotations

import math
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from babel.dates import format_datetime, format_time
from babel.numbers import format_decimal
from babel.units import format_unit

from notifier.templates.words import Words

KILOMETRE_M: Final = 1000.0
MINUTE_S: Final = 60
HOUR_S: Final = 3600
DAY_S: Final = 86400
BRIEF_NAME_CHARACTERS: Final = 20
"""What a name may take of a subject or a text message."""
LINK_SCHEMES: Final = ("https://", "http://")
SPACES: Final = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " "})
"""Spaces of typography that would turn a text message of 160 letters into one of 70."""


class Unrenderable(Exception):  # noqa: N818 - read as a sentence, as in core.errors
    """The template, or a fact it needs, is not there; says which."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A delivery's facts and who reads them."""

    words: Words
    data: Mapping[str, Any]
    created_at: datetime
    brief: bool = False
    """Whether they go into a subject or a text message, where a long name is cut."""

    def value(self, placeholder: str) -> str:
        """The words for a placeholder; Unrenderable when what it needs is not there."""
        if placeholder not in PLACEHOLDERS:
            raise Unrenderable(f"nothing is known of the placeholder {placeholder}")
        return PLACEHOLDERS[placeholder](self).translate(SPACES)

    def briefly(self) -> Facts:
        """The same for a subject or a text message."""
        return replace(self, brief=True)

    def need(self, name: str) -> Any:
        """A fact that must be there."""
        value = self.data.get(name)
        if value is None:
            raise Unrenderable(f"the delivery's data lacks {name}")
        return value

    def word(self, group: str, name: str) -> str:
        """The word of `group` that the fact `name` asks for."""
        key = self.need(name)
        if not isinstance(key, str) or not self.words.has(f"{group}.{key}"):
            raise Unrenderable(f"there are no words for {name} {key!r:.60}")
        return self.words.text(f"{group}.{key}")

    def line(self, name: str, **values: str) -> str:
        """An optional line with its values."""
        return fill(self.words.pieces(f"line.{name}"), values)

    @property
    def zone(self) -> tzinfo:
        """The reader's time zone as far as the data says one, else UTC."""
        try:
            return zoneinfo.ZoneInfo(self.data["time_zone"])
        except (KeyError, TypeError, ValueError, OSError):
            return UTC

    def name(self, name: str) -> str:
        """Somebody's name, cut where there is little room."""
        text = " ".join(str(self.need(name)).split())
        if self.brief and len(text) > BRIEF_NAME_CHARACTERS:
            return text[: BRIEF_NAME_CHARACTERS - 1].rstrip() + "…"
        return text


def fill(pieces: tuple[tuple[str, str | None], ...], values: Mapping[str, str]) -> str:
    """A text with its placeholders' values; values are words and never templates themselves."""
    return "".join(before + (values[name] if name is not None else "") for before, name in pieces)


def is_link(value: Any) -> bool:
    """Whether it is an address that a reader can open."""
    return isinstance(value, str) and value.startswith(LINK_SCHEMES)


def duration(words: Words, seconds: float) -> str:
    """A span of time in one unit: `45 seconds`, `5 minutes`, `4 hours`, `7 days`."""
    whole = max(0, round(seconds))
    for limit, unit, size in ((90, "seconds", 1), (90 * MINUTE_S, "minutes", MINUTE_S), (2 * DAY_S, "hours", HOUR_S)):
        if whole < limit:
            return _counted(words, unit, round(whole / size))
    return _counted(words, "days", round(whole / DAY_S))


def _counted(words: Words, unit: str, count: int) -> str:
    return words.plural(f"duration.{unit}", count).replace("{count}", format_decimal(count, locale=words.locale))


def _number(value: Any) -> float | None:
    """A finite number, or None."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None


def _at(facts: Facts) -> str:
    """When it happened, as far as the data says so; else when it was to be told."""
    moment = _moment(facts.data.get("occurred_at")) or facts.created_at
    return str(format_datetime(moment, "long", tzinfo=facts.zone, locale=facts.words.locale))


def _eta(facts: Facts) -> str:
    moment = _moment(facts.need("eta_at"))
    if moment is None:
        raise Unrenderable("eta_at is no time")
    return str(format_time(moment, "short", tzinfo=facts.zone, locale=facts.words.locale))


def _distance(facts: Facts) -> str:
    """A line with the distance, rounded to what a fix can know; empty when there is none."""
    distance_m = _number(facts.data.get("distance_m"))
    if distance_m is None:
        return ""
    if distance_m < KILOMETRE_M - 5:
        unit, figure, form = "length-meter", float(round(distance_m / 10) * 10), "#,##0"
    else:
        unit, figure, form = "length-kilometer", distance_m / KILOMETRE_M, "#,##0.0"
    return facts.line("distance", figure=format_unit(figure, unit, "short", format=form, locale=facts.words.locale))


def _span(facts: Facts, name: str) -> str:
    seconds = _number(facts.data.get(f"{name}_s"))
    return facts.line(name, duration=duration(facts.words, seconds)) if seconds is not None else ""


def _holds(facts: Facts) -> str:
    seconds = _number(facts.need("holds_s"))
    if seconds is None:
        raise Unrenderable("holds_s is no number")
    return duration(facts.words, seconds)


def _devices(facts: Facts) -> str:
    count = _number(facts.data.get("devices"))
    if count is None:
        return ""
    return facts.line("devices", figure=format_decimal(int(count), locale=facts.words.locale))


def _step(facts: Facts) -> str:
    step = _number(facts.data.get("step"))
    return facts.line("step", figure=format_decimal(int(step), locale=facts.words.locale)) if step is not None else ""


def _presses(facts: Facts) -> str:
    """A line when she has pressed more than once."""
    presses = _number(facts.data.get("presses")) or 0
    if presses <= 1:
        return ""
    return facts.line("presses", figure=format_decimal(int(presses), locale=facts.words.locale))


def _do_not_call(facts: Facts) -> str:
    for name in ("duress", "do_not_call"):
        if facts.data.get(name):
            return facts.words.text(f"line.{name}")
    return ""


def _link_line(facts: Facts, line: str, name: str) -> str:
    link = facts.data.get(name)
    return facts.line(line, link=str(link)) if is_link(link) else ""


def _link(facts: Facts) -> str:
    """The page for this reader, else where to say that it was read."""
    for name in ("link", "seen_link"):
        if is_link(facts.data.get(name)):
            return str(facts.data[name])
    raise Unrenderable("the delivery's data lacks link")


def _inviter(facts: Facts) -> str:
    return facts.name("inviter") if facts.data.get("inviter") else facts.words.text("inviter.nobody")


PLACEHOLDERS: Final[Mapping[str, Callable[[Facts], str]]] = {
    "headline": lambda facts: facts.word("type", "type"),
    "advice": lambda facts: facts.word("advice", "type"),
    "severity": lambda facts: facts.word("severity", "severity"),
    "incident": lambda facts: str(facts.need("incident_id")),
    "at": _at,
    "distance": _distance,
    "do_not_call": _do_not_call,
    "presses": _presses,
    "code": lambda facts: str(facts.need("code")),
    "why": lambda facts: facts.word("why", "why"),
    "wanted": lambda facts: facts.word("wanted", "why"),
    "step": _step,
    "waited": lambda facts: _span(facts, "waited"),
    "late": lambda facts: _span(facts, "late"),
    "eta": _eta,
    "callsign": lambda facts: facts.name("callsign"),
    "agency": lambda facts: facts.line("agency", whom=facts.name("agency")) if facts.data.get("agency") else "",
    "inviter": _inviter,
    "holds": _holds,
    "what": lambda facts: facts.word("what", "what") if facts.data.get("what") is not None else "",
    "devices": _devices,
    "link": _link,
    "live": lambda facts: _link_line(facts, "live", "link"),
    "seen": lambda facts: _link_line(facts, "seen", "seen_link"),
}
"""By placeholder: its words. What gives an empty text where a fact is absent stands on a line of its own."""
