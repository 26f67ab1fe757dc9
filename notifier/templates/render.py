"""Turns a template's name, a language and facts into words. Fails on whatever is missing; never sends a gap."""

from __future__ import annotations

import functools
import importlib.resources
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Template
from typing import Any, Final

LANGUAGES: Final = ("kk", "ru", "en")
DEFAULT_LANGUAGE: Final = "ru"
TEMPLATES: Final = (
    "incident_dispatcher",
    "incident_victim",
    "panic_contact",
    "welfare_check_dispatcher",
    "device_prompt",
    "erasure_code",
)
SHORT_MAX_CHARACTERS: Final = 134
"""Two text messages of 67 characters beyond the Latin alphabet."""
KILOMETRE_M: Final = 1000.0


class Unrenderable(Exception):  # noqa: N818 - read as a sentence, as in core.errors
    """The template, or a fact it needs, is not there; says which."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is told: a subject line, a body, and a short form."""

    subject: str
    body: str
    short: str


@functools.cache
def catalogue(language: str) -> Mapping[str, Any]:
    """A language's templates and words, as its file has them."""
    source = importlib.resources.files("notifier.templates").joinpath(f"{language}.toml")
    return tomllib.loads(source.read_text("utf-8"))


def language_of(tag: str) -> str:
    """The language we have for a tag such as `kk`, `ru-RU` or `kk_Cyrl_KZ`; the default for any other."""
    language = tag.replace("_", "-").split("-", 1)[0].lower()
    return language if language in LANGUAGES else DEFAULT_LANGUAGE


def render(template: str, language: str, data: Mapping[str, Any], created_at: datetime) -> Text:
    """The text of `template`, from those of the facts `type`, `severity`, `incident_id`, `occurred_at` (RFC 3339),
    `distance_m`, `code` and `exercise` it uses. Times are written in UTC. Raises Unrenderable when it needs one that
    is not there; only `occurred_at`, `distance_m` and `exercise` may be absent."""
    if template not in TEMPLATES:
        raise Unrenderable(f"there is no template {template!r:.60}")
    words = catalogue(language_of(language))
    forms = [Template(words[template][form]) for form in ("subject", "body", "short")]
    used = {name for form in forms for name in form.get_identifiers()}
    facts = {name: FACTS[name](words, data, created_at) for name in used}
    return Text(*(form.substitute(facts).strip() for form in forms))


def _fact(data: Mapping[str, Any], name: str) -> Any:
    value = data.get(name)
    if value is None:
        raise Unrenderable(f"the delivery's data lacks {name}")
    return value


def _word(words: Mapping[str, Any], table: str, data: Mapping[str, Any]) -> str:
    key = _fact(data, table)
    word = words[table].get(key) if isinstance(key, str) else None
    if word is None:
        raise Unrenderable(f"there are no words for {table} {key!r:.60}")
    return str(word)


def _moment(data: Mapping[str, Any], created_at: datetime) -> datetime:
    """When it happened, as far as the data says so; else when it was to be told."""
    try:
        moment = datetime.fromisoformat(data["occurred_at"])
    except (KeyError, TypeError, ValueError):
        return created_at
    return moment if moment.tzinfo is not None else created_at


def _distance(words: Mapping[str, str], distance_m: Any) -> str:
    """A line with the distance, rounded to what a fix can know; empty when there is none."""
    if not isinstance(distance_m, int | float) or isinstance(distance_m, bool) or not math.isfinite(distance_m):
        return ""
    if distance_m < KILOMETRE_M - 5:
        figure = Template(words["metres"]).substitute(figure=f"{round(distance_m / 10) * 10:d}")
    else:
        kilometres = f"{distance_m / KILOMETRE_M:.1f}".replace(".", words["decimal"])
        figure = Template(words["kilometres"]).substitute(figure=kilometres)
    return Template(words["distance"]).substitute(figure=figure)


def _at(_: Mapping[str, Any], data: Mapping[str, Any], created_at: datetime) -> str:
    return _moment(data, created_at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


FACTS: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], datetime], str]]] = {
    "headline": lambda words, data, _: _word(words, "type", data),
    "severity": lambda words, data, _: _word(words, "severity", data),
    "incident": lambda _, data, __: str(_fact(data, "incident_id")),
    "at": _at,
    "distance": lambda words, data, _: _distance(words["words"], data.get("distance_m")),
    "code": lambda _, data, __: str(_fact(data, "code")),
    "exercise": lambda words, data, _: str(words["words"]["exercise"]) if data.get("exercise") else "",
}
"""By placeholder: its words, from a language's words, a delivery's data and the time it was queued."""
